"""A result as tables on a terminal, as Markdown for the README, and as JSON."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.alarms import challenge
from benchmarks.alarms.intervals import Estimate
from benchmarks.alarms.measure import Result

NOTHING = "–"


@dataclass(frozen=True)
class Section:
    """One table: the first column names the row; ``notes`` are sentences below it."""

    title: str
    columns: Sequence[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)


def estimate(found: Estimate, scale: float = 1.0, digits: int = 2, unit: str = "") -> str:
    """``0.91 (0.62–0.98)``: value and 95 % interval."""
    if found.value is None:
        return NOTHING
    value = f"{scale * found.value:.{digits}f}{unit}"
    if found.low is None or found.high is None:
        return value
    return f"{value} ({scale * found.low:.{digits}f}–{scale * found.high:.{digits}f})"


def percent(found: Estimate, digits: int = 0) -> str:
    """``91 % (62–98)``."""
    return estimate(found, 100, digits, " %")


def _share(found: Estimate) -> str:
    """``98.1 %``, without its interval."""
    return NOTHING if found.value is None else f"{100 * found.value:.1f} %"


def _of(hits: int, cases: int, share: Estimate) -> str:
    return f"{hits} of {cases}: {percent(share)}" if cases else NOTHING


def _seconds(value: float | None, *, sign: bool = False) -> str:
    return NOTHING if value is None else f"{value:{'+' if sign else ''}.1f} s"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


INTERVAL = (
    f"{_clock(challenge.ALARM_AT - challenge.EVENT_WITHIN)} to {_clock(challenge.ALARM_AT + challenge.ALLOWANCE)}"
)


def _challenge(result: Result) -> Section:
    rows = []
    for row in result.challenge:
        name = row.alarm.replace("_", " ") + ("" if row.claimed else " ¹")
        rows.append(
            [
                f"{name}, {row.part}",
                _of(row.found, row.true, row.sensitivity),
                f"{row.by_five} / {row.raised}" if row.true else NOTHING,
                str(row.ecg_shows) if row.true and row.claimed else NOTHING,
                _seconds(row.delay, sign=True),
                _of(row.false - row.fired, row.false, row.suppression),
                percent(row.elsewhere),
            ]
        )
    shown = [f for f in result.findings if f.interval_end <= challenge.ALARM_AT]
    ours = {row.alarm.replace("_", " "): " or ".join(f"`{name}`" for name in row.ours) for row in result.challenge}
    notes = [
        f"Found: ours was active at some time from {INTERVAL} ({'; '.join(f'{k}: {v}' for k, v in ours.items())}). The "
        f"event lies in the {challenge.EVENT_WITHIN:.0f} s before 5:00, when the bedside monitor alarmed; "
        f"{challenge.ALLOWANCE:.0f} s more are allowed for ours, but {len(shown)} of {len(result.findings)} records "
        "end at 5:00. `by 5:00 / raised`: how many were found by 5:00, and how many by an alarm raised in the "
        "interval (the others were active before it); `delay`: median of those raised, from 5:00. `ECG shows`: true "
        "alarms in which the ECG itself meets our limits there (its rate over 10 s; an R–R interval of "
        f"{result.limits.pause:g} s): what our rules could find at best. `elsewhere`: share of windows of the same "
        "length earlier in the same records with ours active; firing at random would score that.",
        "PLETH only, while the labels are about the ECG: not every true event shows in a pulse wave (asystole in about "
        "8 of 10, extreme tachycardia as a pulse rate ≥ 120 in about a third). `test`: records that the split keeps "
        "from every model of the bundle; the quality index was fitted on the others. "
        "The rules for `pulse_lost`, `brady` and `tachy` were shaped while looking at all of these records: the rows "
        "flatter, `test` too; `irregular` on the calibration half of PERform and on BIDMC without its test people. "
        "Intervals: Wilson, 95 %; "
        "`elsewhere`: bootstrap over records.",
        "¹ Not something this monitor claims to detect: any of the alarms named would do.",
    ]
    columns = (
        "bedside alarm", "true ones found", "by 5:00 / raised", "ECG shows", "delay", "false ones left silent",
        "elsewhere",
    )  # fmt: skip
    return Section("Challenge 2015: true alarms found, false alarms suppressed", columns, rows, notes)


def _alerts(result: Result) -> Section:
    rows = []
    for group in result.groups:
        about = f"{group.group} ({group.records} records, {group.people} people, {group.hours:.1f} h)"
        rows.append([about, "readable", "", "", "", f"{percent(group.readable)} of the time"])
        rows += [
            ["", r.name, str(r.alerts), str(r.records), str(r.borne_out), estimate(r.false_per_hour)]
            for r in result.alerts
            if r.group == group.group
        ]
    notes = [
        "False: not borne out by the ECG at its onset (rate within 5 bpm of the limit or beyond; an R–R interval as "
        "long as the pause; the same rhythm model, on R–R intervals, says irregular). A cuff on the sensor's arm stops "
        "a pulse that the heart goes on with: that counts as false here. BIDMC's rhythms are not labelled. "
        "Irregularity was calibrated on half of PERform's subjects: see the next table for the others. Intervals: "
        "bootstrap over people, 95 %; where there was no event, the exact Poisson limit.",
    ]
    columns = ("who", "alarm", "alerts", "in records", "ECG agrees", "false per hour")
    return Section("False alerts, and time in which the pulse could be read", columns, rows, notes)


def _af(result: Result) -> Section | None:
    af = result.af
    if af is None:
        return None
    rows = [
        [
            "AF",
            _of(af.found, af.af, af.share),
            f"{_seconds(af.delay)} (worst {_seconds(af.worst_delay)})",
            percent(af.active),
            NOTHING,
        ],
        [
            "not AF",
            _of(af.falsely, af.non_af, af.false_share),
            NOTHING,
            percent(af.false_active),
            estimate(af.false_per_hour),
        ],
    ]
    notes = [
        "MIMIC PERform AF, 20 min a subject, the half that irregularity was not calibrated on. `active`: share of "
        "the time in which the pulse could be read. AF is what the subject has; that it shows in every minute is not "
        "known."
    ]
    columns = ("subjects", "with an `irregular` alarm", "median time to the first", "active", "false per hour")
    return Section("Atrial fibrillation", columns, rows, notes)


def _rates(result: Result) -> Section:
    rows = [
        [row.group, row.who, row.missing, "", "", "", ""]
        if row.missing
        else [
            row.group,
            row.who,
            estimate(row.mae),
            percent(row.within),
            percent(row.coverage),
            NOTHING if row.half is None else f"{percent(row.inside)}, ±{row.half:.1f} bpm",
            str(row.windows),
        ]
        for row in result.rates
    ]
    notes = [
        "Truth: 60 over the median R–R interval of the same last 10 s of ECG. Pulsecode speaks at every hop; "
        "NeuroKit2's `ppg_process` was given the last 10 s every 10 s (60 over its median peak interval), `believed`: "
        "where Pulsecode believes its own rate; `all it has`: also where it does not; `beat intervals, good pulse`: "
        "where the quality index believes the pulse, whatever its error's bound. `truths inside`: of the monitor's "
        "own 90 % interval, and its median reach. The bound was fitted on train people and half of PERform, its "
        "reach on validation people and that half; the beat detector was tuned on all of these. In AF the pulse "
        "misses beats that the ECG has. Intervals: bootstrap over people, 95 %."
    ]
    columns = ("data", "who", "mean absolute error, bpm", "within 5 bpm", "has a rate", "truths inside", "windows")
    return Section("Pulse rate", columns, rows, notes)


def _beats(result: Result) -> Section:
    rows = [
        [row.group, row.where, row.who, row.missing, "", ""]
        if row.missing
        else [
            row.group,
            row.where,
            row.who,
            estimate(row.f1, digits=3),
            f"{_share(row.sensitivity)} / {_share(row.ppv)}",
            str(row.beats),
        ]
        for row in result.beats
    ]
    notes = [
        "Against R peaks, within 150 ms after removing each record's median delay. The detector was shaped "
        "while looking at BIDMC, PERform and the Challenge's asystole records. Pulsecode finds beats as they come; "
        "NeuroKit2's `ppg_findpeaks` (Elgendi) sees the whole recording at once. `believed`: where Pulsecode's quality "
        "index does. Much of Challenge 2015 is artefact, in its ECG too."
    ]
    columns = ("data", "where", "who", "F1", "found / right", "R peaks")
    return Section("Pulse beats", columns, rows, notes)


def _quality(result: Result) -> Section:
    rows = [
        [
            row.group,
            estimate(row.auroc, digits=3),
            percent(row.right),
            percent(row.trusted),
            f"{row.examples} of {row.people} people",
        ]
        for row in result.quality
    ]
    notes = [
        "One example every 4 s on the test people, where the index had beats to judge by; which features it has "
        "was decided on a third of all records, some of these among them. Right: the pulse rate is "
        "within 5 bpm of the ECG's. Intervals: bootstrap over people, 95 %."
    ]
    columns = ("test people of", "AUROC", "rate right", "right where believed", "examples")
    return Section("Quality index", columns, rows, notes)


def sections(result: Result) -> list[Section]:
    """Every table that has a row."""
    makers: tuple[Callable[[Result], Section | None], ...] = (_challenge, _alerts, _af, _rates, _beats, _quality)
    found = [make(result) for make in makers]
    return [section for section in found if section is not None and section.rows]


def about(result: Result) -> list[str]:
    """What was run, on what."""
    counts = ", ".join(f"{name} {count}" for name, count in result.recordings.items())
    quick = f" **A quick look: at most {result.limit} recordings of each group.**" if result.limit else ""
    fitted = "; ".join(f"{name}: {on}" for name, on in result.calibrated_on.items())
    return [
        f"Bundle {result.bundle} (`{result.bundle_sha256[:16]}`), engine {result.engine}, through the monitor as it "
        f"is (pause {result.limits.pause:g} s, rates {result.limits.low_rate:g} and {result.limits.high_rate:g} bpm, "
        f"irregular from {result.limits.irregular:g}); commit {result.commit}. Recordings: {counts}; "
        f"{result.hours:g} h of signal in {result.seconds:.0f} s.{quick}",
        f"The bundle's models were fitted on: {fitted}. Test people are those that `trainer/splits.py` keeps "
        "from the encoder and from these models; of a bundle trained otherwise that cannot be said.",
        f"On {result.machine}.",
    ]


def as_json(result: Result) -> bytes:
    """One JSON object."""
    return msgspec.json.encode(result)


def as_markdown(result: Result) -> str:
    """Tables and what they mean, ready for the README."""
    parts = []
    for section in sections(result):
        lines = ["| " + " | ".join(section.columns) + " |", "|---" * len(section.columns) + "|"]
        lines += ["| " + " | ".join(row) + " |" for row in section.rows]
        parts += [f"### {section.title}", "\n".join(lines), *section.notes]
    return "\n\n".join([*parts, *about(result)]) + "\n"


def show(result: Result, console: Console) -> None:
    """The tables on a terminal."""
    for section in sections(result):
        table = Table(title=section.title, title_justify="left", title_style="bold")
        for i, column in enumerate(section.columns):
            table.add_column(column.replace("`", ""), overflow="fold", justify="left" if i < 2 else "right")
        for row in section.rows:
            table.add_row(*row)
        console.print(table)
        for note in section.notes:
            console.print(note.replace("`", ""), style="dim", highlight=False)
        console.print()
    for line in about(result):
        console.print(line.replace("`", "").replace("**", ""), highlight=False)
