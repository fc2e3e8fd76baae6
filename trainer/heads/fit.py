"""`pulsecode train heads`: fit every head on what the device sees, judge it on other people, draw its reliability."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from edge import quality
from edge.alarms import AlarmLimits
from edge.bundle import LogisticModel, RateModel, ReadoutModel
from edge.readouts import READOUTS as READOUT_NAMES
from firmware_bridge.errors import BadInput
from trainer.bootstrap import Interval, over_people
from trainer.encoder import Encoder
from trainer.heads import quality_head, rate_head, rhythm_head
from trainer.heads.logistic import Examples, auroc, by_person, fit, joined, probabilities
from trainer.heads.observe import Observed, observe, pooled_hops
from trainer.heads.onsets import Onsets, onsets
from trainer.heads.people import AF_DATASET, AF_GROUP, ECTOPY_DATASET, PAIRED, Role, role
from trainer.heads.rate_head import F32, RateRows
from trainer.heads.reliability import RateJudged, draw_rate, draw_reliability, reliability
from trainer.heads.run_file import HEADS, READOUTS, HeadsFile
from trainer.heads.support_fit import fit_support
from trainer.progress import progress_bar
from trainer.recordings import Recording, find_recordings
from trainer.run_folder import RunFolder, write_json
from trainer.stages import file_sha256, load_student
from trainer.windows import WindowConfig, saved_config

Figures = dict[str, float | str]
PLOTS = "plots"


@dataclass(frozen=True)
class Material:
    """The recordings as the device sees them, by what they are for."""

    paired: dict[Role, list[Observed]]
    af: dict[Role, list[Observed]]


def load_encoder(run: Path) -> tuple[Encoder, WindowConfig, str]:
    """A PPG encoder run's model, how its windows were cut, and the SHA-256 of its weights; raises :class:`BadInput`."""
    folder = RunFolder(run)
    encoder, signal = load_student(folder)
    if signal != "ppg":
        raise BadInput(f"run folder {run}: is of an {signal.upper()} encoder; the heads judge a pulse wave")
    config = saved_config(folder.config("encoder").get("windows"))
    if config is None or config.hop != encoder.config.hop:
        raise BadInput(f"run folder {run}: config.json: windows are not those of fixed patches of this version")
    return encoder, config, file_sha256(folder.weights("encoder"))


def gather(recordings: Sequence[Recording], config: WindowConfig, encoder: Encoder, progress: Progress) -> Material:
    """Observe every recording that is for something."""
    chosen = [(r, what) for r in recordings if r.reader is None and (what := role(r)) is not None]
    material = Material({}, {})
    for recording, what in progress.track(chosen, description="what the device sees"):
        part = material.af if recording.dataset == AF_DATASET else material.paired
        part.setdefault(what, []).append(observe(recording, config, encoder))
    paired, af = "BIDMC and Challenge 2015", "MIMIC PERform AF"
    needed: tuple[tuple[str, dict[Role, list[Observed]], Role], ...] = (
        (paired, material.paired, "fit"),
        (paired, material.paired, "calibrate"),
        (paired, material.paired, "judge"),
        (af, material.af, "calibrate"),
        (af, material.af, "judge"),
    )
    for name, part, purpose in needed:
        if not part.get(purpose):
            raise BadInput(f"data folder: no recording of {name} to {purpose}; the heads need all three data sets")
    return material


def fit_quality(material: Material, plots: Path) -> tuple[LogisticModel, Figures]:
    """On train and validation people; judged on test people."""
    names = quality.FEATURES
    known = quality_head.examples([*material.paired["fit"], *material.paired["calibrate"]])
    model = fit(known, names, "BIDMC and Challenge 2015, train and validation people")
    asked = quality_head.examples(material.paired["judge"])
    said = probabilities(model, asked, names)
    curve = reliability(said, asked.labels)
    draw_reliability(plots / "quality.png", "Is the pulse readable? (test people)", {"test people": curve})
    return model, {
        **_area("pulse readable", auroc(said, asked.labels, asked.people), asked, "test people"),
        "pulse readable, calibration error": round(curve.error, 4),
    }


def fit_rhythm(material: Material, readable: LogisticModel, mitdb: Path, plots: Path) -> tuple[LogisticModel, Figures]:
    """On one half of MIMIC PERform AF and of MIT-BIH; judged on the others."""
    names = rhythm_head.FEATURES
    known = rhythm_head.examples(material.af["calibrate"], readable)
    told = f"MIMIC PERform AF, {len(np.unique(known.people))} subjects"
    ectopy, _ = rhythm_head.ectopy_examples(mitdb, first=True)
    if len(ectopy):
        told += f", and R–R intervals of {len(np.unique(ectopy.people))} MIT-BIH records"
        known, weights = joined(known, ectopy)
        model = fit(known, names, told, weights)
    else:
        model = fit(known, names, told)
    asked = rhythm_head.examples(material.af["judge"], readable)
    said = probabilities(model, asked, names)
    curves = {"PERform, the other half": reliability(said, asked.labels)}
    subjects = by_person(said, asked.labels, asked.people)
    metrics: Figures = {
        **_area("irregular (AF)", auroc(said, asked.labels, asked.people), asked, "the other half of MIMIC PERform AF"),
        "irregular (AF), by subject, AUROC": round(subjects.value, 4),
        "irregular (AF), calibration error": round(curves["PERform, the other half"].error, 4),
    }
    others, ectopic = rhythm_head.ectopy_examples(mitdb, first=False)
    if len(others) and others.labels.any() and ectopic.any():
        p = probabilities(model, others, names)
        keep = others.labels | ectopic
        told_apart = auroc(p[keep], others.labels[keep], others.people[keep])
        curves["MIT-BIH, the other half"] = reliability(p, others.labels)
        metrics["AF against ectopy, R–R intervals, AUROC"] = round(told_apart.value, 4)
        metrics["AF against ectopy judged on"] = (
            f"{int(others.labels.sum())} windows in AF and {int(ectopic.sum())} of ectopy, "
            f"{len(np.unique(others.people[keep]))} other records of MIT-BIH"
        )
        falsely = float((p[ectopic] >= AlarmLimits().irregular).mean())
        metrics["ectopy windows said to be irregular, share"] = round(falsely, 4)
    draw_reliability(plots / "irregular.png", "Is it irregular as in AF? (other people)", curves)
    return model, metrics


def fit_heart_rate(
    material: Material, readable: LogisticModel, hops: int, plots: Path
) -> tuple[F32, ReadoutModel, RateModel, Figures]:
    """The readout on train people, its error on them and PERform's first half, the interval's reach on validation
    people and that half; judged on test people and PERform's other half."""
    table = rate_head.fit_readout(material.paired["fit"], readable)

    def rows(*some: Sequence[Observed]) -> RateRows:
        return rate_head.rate_rows([observed for part in some for observed in part], readable, table)

    calibrated_on = (
        "BIDMC and Challenge 2015, train people for the error's bound and validation people for its reach; half of "
        "MIMIC PERform AF for both"
    )
    fitting = rows(material.paired["fit"], material.af["calibrate"])
    model = rate_head.fit_rate(fitting, rows(material.paired["calibrate"], material.af["calibrate"]), calibrated_on)
    judging = rows(material.paired["judge"], material.af["judge"])
    af = np.isin(judging.people, sorted(o.person for o in material.af["judge"] if o.recording.group == AF_GROUP))
    groups = {
        "BIDMC": judging.dataset == PAIRED[0],
        "Challenge 2015": judging.dataset == PAIRED[1],
        "PERform not AF": (judging.dataset == AF_DATASET) & ~af,
        "PERform AF": af,
    }
    metrics: Figures = {}
    judged = {}
    for name, keep in groups.items():
        if keep.any():
            judged[name], found = _judge_rate(name, model, rate_head.of(judging, keep))
            metrics |= found
    draw_rate(plots / "rate.png", model.reach, model.level, judged)
    readout = ReadoutModel(READOUTS, list(READOUT_NAMES), hops, "BIDMC and Challenge 2015, train people")
    return table, readout, model, metrics


def _judge_rate(name: str, model: RateModel, rows: RateRows) -> tuple[RateJudged, Figures]:
    bpm, scale = rate_head.chosen(model, rows)
    error = np.abs(bpm - rows.truth)
    half = model.reach * scale
    sure = half <= model.widest

    def mae(keep: NDArray[np.bool_]) -> Interval:
        def mean(at: NDArray[np.int64]) -> float:
            return float(error[at][keep[at]].mean()) if keep[at].any() else float("nan")

        return over_people(mean, rows.people)

    told = f"heart rate, {name}, other people"
    beats, readout = np.abs(rows.beats - rows.truth), np.abs(rows.readout - rows.truth)
    return RateJudged(error, scale, rows.quality), {
        f"{told}: MAE where believed, bpm": _with(mae(sure)),
        f"{told}: believed, share": round(float(sure.mean()), 4),
        f"{told}: MAE of all, bpm": _with(mae(np.ones(len(error), bool))),
        f"{told}: MAE of all, intervals alone, bpm": round(float(beats.mean()), 3),
        f"{told}: MAE of all, embedding alone, bpm": round(float(readout.mean()), 3),
        f"{told}: embedding chosen, share": round(float((bpm != rows.beats).mean()), 4),
        f"{told}: truths inside the {model.level:.0%} interval": _with(
            over_people(lambda at: float((error[at] <= half[at]).mean()), rows.people)
        ),
        f"{told}: half-width, median, bpm": round(float(np.median(half)), 2),
    }


def fit_heads(run: Path, data: Path, plots: Path, progress: Progress) -> tuple[HeadsFile, F32]:
    """Every head of the encoder run ``run``, and the readouts' table."""
    encoder, config, sha256 = load_encoder(run)
    material = gather(find_recordings(data).recordings, config, encoder, progress)
    readable, of_quality = fit_quality(material, plots)
    irregular, of_rhythm = fit_rhythm(material, readable, data / ECTOPY_DATASET, plots)
    table, readout, rate, of_rate = fit_heart_rate(material, readable, pooled_hops(config), plots)
    known, others = _onsets(material, config, encoder, readable, irregular, progress)
    support, of_support = fit_support(known, others, plots)
    metrics = {**of_quality, **of_rhythm, **of_rate, **of_support}
    return HeadsFile(readable, irregular, metrics, readout, rate, sha256, support), table


def _onsets(
    material: Material,
    config: WindowConfig,
    encoder: Encoder,
    readable: LogisticModel,
    irregular: LogisticModel,
    progress: Progress,
) -> tuple[list[Onsets], list[Onsets]]:
    """What the device would alarm at, with the models that were fitted: of the people to fit on, and of the others."""
    warmup = encoder.config.context + config.settle_hops
    everything = [
        (observed, what) for part in (material.paired, material.af) for what, some in part.items() for observed in some
    ]
    known: list[Onsets] = []
    others: list[Onsets] = []
    for observed, what in progress.track(everything, description="where it would alarm"):
        found = onsets(observed, config, warmup_hops=warmup, quality=readable, rhythm=irregular)
        (others if what == "judge" else known).append(found)
    return known, others


def train_heads(run: Path, out: Path, data: Path, console: Console) -> None:
    """Fit the heads of the encoder run ``run`` on the recordings under ``data``; write ``heads.json``,
    ``readouts.npy`` and ``plots`` into ``out``. Raises :class:`BadInput`."""
    try:
        (out / PLOTS).mkdir(parents=True, exist_ok=True)
        with progress_bar(console) as progress:
            heads, table = fit_heads(run, data, out / PLOTS, progress)
        file = io.BytesIO()
        np.save(file, table, allow_pickle=False)
        (out / READOUTS).write_bytes(file.getvalue())
        write_json(out / HEADS, msgspec.to_builtins(heads))
    except OSError as error:
        raise BadInput(f"run folder {out}: cannot be written ({error.strerror})") from None
    for name, value in heads.metrics.items():
        console.print(f"heads: {name}: {value}")


def _with(found: Interval) -> str:
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def _area(name: str, found: Interval, examples: Examples, who: str) -> Figures:
    return {
        f"{name} AUROC": round(found.value, 4),
        f"{name} AUROC, 95 % interval": f"{found.low:.3f} to {found.high:.3f}",
        f"{name} judged on": f"{len(examples)} windows of {found.people} people: {who}",
    }
