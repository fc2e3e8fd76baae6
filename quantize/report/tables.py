"""What the fidelity report says, as tables of words; Markdown and HTML only differ in how they draw them."""

from collections.abc import Callable
from dataclasses import dataclass

from quantize.fidelity.figures import AlarmChange, Estimate, Head, Hour, Layer, Report, Row
from quantize.fidelity.gate import LEAST_CONFIDENT, LEAST_OVERALL


@dataclass(frozen=True)
class Table:
    """``rows`` of cells under ``columns``; ``note`` explains them, in one paragraph."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    note: str = ""


def percent(figure: Estimate | None) -> str:
    """``98.1 % (97.6–98.5)``."""
    if figure is None:
        return "–"
    return f"{100 * figure.value:.1f} % ({100 * figure.low:.1f}–{100 * figure.high:.1f})"


def plain(figure: Estimate | None, sign: str = "") -> str:
    """``0.912 (0.831 to 0.972)``."""
    if figure is None:
        return "–"
    value, low, high = (f"{0.0 if abs(x) < 5e-4 else x:{sign}.3f}" for x in (figure.value, figure.low, figure.high))
    return f"{value} ({low} to {high})"


def shipped(report: Report) -> list[Row]:
    """What the bundle holds; every int8 row where nothing was chosen."""
    return [row for row in report.rows if row.ships] or [row for row in report.rows if row.method != "fp32"]


def agreement(rows: list[Row]) -> Table:
    """Every engine and method in one line."""
    columns = [
        "engine",
        "method",
        "ships",
        "same token as fp32",
        "… where fp32 is ≥ 50 % sure",
        "in the five best",
        "KL, nats",
        "largest Δp",
        "cosine mean / min",
        "kB",
        "ms a hop",
        "× its fp32",
        "of the roofline",
    ]
    lines = [
        [
            row.engine,
            row.method,
            _ships(row),
            percent(row.top1),
            percent(row.top1_confident),
            percent(row.top5),
            f"{row.kl:.2g}",
            f"{row.max_probability_error:.2g}",
            f"{row.cosine_mean:.4f} / {row.cosine_min:.4f}",
            f"{row.bytes / 1000:.0f}",
            f"{row.ms_per_hop:.3f}",
            "–" if row.times_fp32 is None else f"{row.times_fp32:.2f}",
            "–" if row.roofline is None else f"{100 * row.roofline:.1f} %",
        ]
        for row in rows
    ]
    return Table("Tokens, size and time", columns, lines)


def _ships(row: Row) -> str:
    if row.ships:
        return "NO" if row.faults else "yes"
    return "" if row.method == "fp32" else "would fail" if row.faults else "could"


def head_table(report: Report) -> Table | None:
    """Every judgement of what ships (of all rows where only some heads were measured), with its paired change."""
    rows = [row for row in shipped(report) if row.heads]
    names: dict[str, Head] = {}
    for row in rows:
        names |= {head.name: head for head in row.heads if head.name not in names}
    if not names:
        return None
    columns = ["head", "fp32", *(f"{row.label}: change" for row in rows), "allowed"]
    lines = []
    for name, head in names.items():
        of_row = [{found.name: found for found in row.heads}.get(name) for row in rows]
        unit = "" if head.unit in ("AUROC", "share") else f", {head.unit}"
        label = f"{name}{unit}" + ("" if head.reads_encoder else " (reads no encoder)")
        changes = ["–" if found is None else plain(found.change, "+") for found in of_row]
        lines.append([label, plain(head.fp32), *changes, f"± {head.allowed:.3g}"])
    note = (
        "Changes are paired by person. “Reads no encoder”: judged by pulse intervals and the wave alone, so int8 "
        "cannot change it; that it did not was measured."
    )
    return Table("Heads", columns, lines, note)


def probe_table(report: Report) -> Table | None:
    """The heads that every row has: what methods that do not ship would have cost."""
    common = [head.name for head in report.rows[0].heads if all(_head(row, head.name) for row in report.rows)]
    if not common:
        return None
    columns = ["engine", "method", *(f"{name}{what}" for name in common for what in ("", ", change from fp32"))]
    lines = []
    for row in report.rows:
        found = [head for name in common if (head := _head(row, name)) is not None]
        lines.append([row.engine, row.method, *(t for h in found for t in (plain(h.int8), plain(h.change, "+")))])
    return Table("AF from the embedding, every method", columns, lines)


def _head(row: Row, name: str) -> Head | None:
    return next((head for head in row.heads if head.name == name), None)


def hour_table(report: Report) -> Table | None:
    """Alarms, tokens and novelty over the recordings that the pipeline ran on."""
    rows = [(row, row.hour) for row in report.rows if row.hour is not None]
    if not rows or report.watched is None:
        return None
    lines = [
        [
            row.label,
            f"{hour.alarms_fp32} / {hour.alarms_int8}",
            str(len(hour.changes)),
            percent(hour.tokens_changed),
            _novel(hour),
            str(hour.others_changed),
        ]
        for row, hour in rows
    ]
    sets = ", ".join(
        f"{name} {people} people, {hours:g} h" for name, (people, hours) in report.watched.datasets.items()
    )
    note = (
        f"The device's whole pipeline over {report.watched.hours:g} h of people that nothing was fitted on ({sets}), "
        "with fp32 and with each engine. Tokens of unreadable signal count too. No alarm rests on the encoder today."
    )
    columns = [
        "engine and method",
        "alarms fp32 / int8",
        "alarms changed",
        "tokens changed",
        f"novelty p < {rows[0][1].novel_below:g}: fp32 / int8; hops changed",
        "hops whose quality, beats or rhythm differ",
    ]
    return Table("Alarms changed", columns, lines, note)


def _novel(hour: Hour) -> str:
    if hour.novel_fp32 is None or hour.novel_int8 is None:
        return "no novelty model"
    return f"{100 * hour.novel_fp32:.2f} % / {100 * hour.novel_int8:.2f} %; {hour.novel_changed} of {hour.hops}"


def change_table(report: Report) -> Table | None:
    """Each alarm that differs."""
    rows = [(row, change) for row in report.rows if row.hour is not None for change in row.hour.changes]
    if not rows:
        return None
    lines = [
        [row.label, change.recording, change.alarm, _span(change.fp32), _span(change.int8), _how(change)]
        for row, change in rows
    ]
    columns = ["engine and method", "recording", "alarm", "fp32, s", "int8, s", "what changed"]
    return Table("Which alarms", columns, lines)


def _span(active: tuple[float, float] | None) -> str:
    return "–" if active is None else f"{active[0]:.1f} to {active[1]:.1f}"


def _how(change: AlarmChange) -> str:
    if change.seconds is None:
        return "only with fp32" if change.int8 is None else "only with int8"
    return f"{change.seconds:+.1f} s" if change.seconds else "ends at another time"


def layer_table(report: Report, layers: Callable[[Row], list[Layer]], title: str) -> Table | None:
    """Signal to quantization noise, dB, by place in the graph."""
    rows = [row for row in report.rows if row.method != "fp32" and layers(row)]
    names = list(dict.fromkeys(layer.name for row in rows for layer in layers(row)))
    if not names:
        return None
    found = [{layer.name: layer.sqnr for layer in layers(row)} for row in rows]
    lines = [
        [row.label, *(_decibel(of.get(name), name in of) for name in names)]
        for row, of in zip(rows, found, strict=True)
    ]
    return Table(title, ["engine and method", *names], lines)


def _decibel(value: float | None, known: bool) -> str:
    return f"{value:.1f}" if value is not None else "equal" if known else "–"


def layer_tables(report: Report) -> list[Table]:
    """As deployed, and from inside the graph where an engine allows it."""
    deployed = layer_table(report, lambda row: row.layers, "Noise by layer, as deployed: signal to noise, dB")
    inner = layer_table(report, lambda row: row.inner, "Noise by layer, inside the graph: signal to noise, dB")
    notes = {row.engine: row.inner_note for row in report.rows if row.inner_note and row.method != "fp32"}
    told = "; ".join(f"{engine}: {note}" for engine, note in notes.items())
    explained = [Table(t.title, t.columns, t.rows, f"{told}." if told else "") for t in [inner] if t is not None]
    return [*([deployed] if deployed is not None else []), *explained]


def between_table(report: Report) -> Table | None:
    """The same method on different engines."""
    if not report.between:
        return None
    lines = [[pair.first, pair.second, percent(pair.differ)] for pair in report.between]
    return Table("Between engines", ["one", "the other", "different tokens"], lines)


def checks(report: Report) -> Table:
    """The gate, for what ships and what could have."""
    lines = [[row.label, _ships(row), "; ".join(row.faults) or "none"] for row in report.rows if row.method != "fp32"]
    note = (
        f"To ship, an artefact says fp32's token at {100 * LEAST_OVERALL:g} % of hops or more, at "
        f"{100 * LEAST_CONFIDENT:g} % of those where fp32 is sure, and no head's figure differs by more than 0.5 "
        "points: 0.005 of an area under the curve or of a share; of an error 0.5 %, or 0.05 bpm where that is more. A "
        "change for the better counts as one. Heads that only run in the pipeline are measured for what ships."
    )
    return Table("The gate", ["engine and method", "ships", "faults"], lines, note)


def tables(report: Report) -> list[Table]:
    """All of them, in the order of reading."""
    found = [
        agreement(report.rows),
        checks(report),
        head_table(report),
        hour_table(report),
        change_table(report),
        *layer_tables(report),
        probe_table(report),
        between_table(report),
    ]
    return [table for table in found if table is not None]


def introduction(report: Report) -> list[str]:
    """What was done, in paragraphs."""
    lines = [
        f"Reference: the fp32 step form in PyTorch ({report.torch_ms_per_hop:.3f} ms a hop, eager). Everything ran hop "
        f"by hop with the engine's own state, as deployed. Judged on {report.judged_on}: {report.streams} stretches, "
        f"{report.hops} hops of {report.patients} patients. Calibrated on {report.calibrated_on}. Brackets: 95 % "
        "bootstrap intervals over patients."
    ]
    times = f"Times: one thread, engines taking turns, on {report.machine}; use them as ratios."
    if report.roofline is not None:
        roof = report.roofline
        times += (
            f" Roofline: {roof.int8:.0f} int8 and {roof.fp32:.0f} fp32 billion operations a second, of a large product "
            f"of matrices on the same thread in the same run ({_each(roof.engines)}); a hop has "
            f"{roof.operations / 1e6:.2f} million, one row at a time, so it is bound by reading weights and by "
            "the engine's own overhead."
        )
    return [*lines, times]


def _each(engines: dict[str, tuple[float, float]]) -> str:
    return ", ".join(f"{engine} {int8:.0f} / {fp32:.0f}" for engine, (int8, fp32) in engines.items())
