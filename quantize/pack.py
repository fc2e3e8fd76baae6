"""A quantized run to a bundle: manifest, engines, fidelity report, model card; written whole or not at all."""

import dataclasses
import os
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from edge.bundle import (
    MANIFEST,
    SCHEMA,
    Bundle,
    EngineFile,
    KnownAnswers,
    LogisticModel,
    Manifest,
    NoveltyModel,
    RateModel,
    ReadoutModel,
    RespirationModel,
    SupportModel,
    check_sizes,
    load_bundle,
    write_bundle,
    write_zip,
)
from edge.engines import Engine, load_engine, open_engine
from edge.npy import npy_bytes
from firmware_bridge.errors import BadInput, CheckFailed
from quantize.export import TorchStep, encoder_shape, one_thread
from quantize.fidelity.figures import Report
from quantize.methods.table import METHODS
from quantize.model_card import card
from quantize.provenance import commit, today, tools
from quantize.report import files as report_files
from quantize.vectors import known_answers
from quantize.workflow import Outcome, warm_up

MAX_BYTES = 8_000_000  # of all files; the engines' own limits are edge.bundle's
CARD = "MODEL_CARD.md"
LICENCE = (
    "Weights: Apache-2.0. Trained on open data under ODC-By 1.0; attribution and the notice for ODbL 1.0 data used in "
    f"evaluation are in {CARD}."
)


def pack(
    outcome: Outcome,
    out: Path,
    *,
    novelty: tuple[NoveltyModel, bytes] | None = None,
    quality: LogisticModel | None = None,
    rhythm: LogisticModel | None = None,
    rate: tuple[ReadoutModel, NDArray[np.float32], RateModel] | None = None,
    respiration: RespirationModel | None = None,
    support: dict[str, SupportModel] | None = None,
    metrics: Mapping[str, float | str] | None = None,
    name: str | None = None,
    max_bytes: int = MAX_BYTES,
    judge: Callable[[Bundle], Report] | None = None,
    anyway: bool = False,
) -> Bundle:
    """Write the bundle ``out`` (a folder, or a zip if it ends in ``.zip``), replacing a bundle that is there.

    ``novelty``: the model and the bytes of the file that it names; ``rate``: the readouts, the table of the file that
    they name, and the model of the heart rate's error; ``metrics``: what is known of all of them, for the manifest and
    the card. ``judge`` completes the fidelity report with what the device says, run from this very bundle; where the
    report then finds faults, the report alone is written, beside ``out``, or with ``anyway`` the bundle, marked so.
    The bundle that was written is read back, verified and run before it takes its place. Raises :class:`BadInput` if
    ``out`` is something else than a bundle, cannot be written, or the bundle is larger than ``max_bytes``;
    :class:`CheckFailed` where ``judge`` found faults.
    """
    check_target(out)
    manifest = msgspec.structs.replace(
        _manifest(outcome, name or out.stem),
        novelty=novelty[0] if novelty else None,
        quality=quality,
        rhythm=rhythm,
        readout=rate[0] if rate else None,
        rate=rate[2] if rate else None,
        respiration=respiration,
        support=support,
    )
    contents = {artefact.file: artefact.model for artefact in outcome.artefacts.values()}
    check_sizes(manifest, contents)
    vectors, files = _known_answers(outcome)
    manifest = msgspec.structs.replace(manifest, vectors=vectors)
    contents |= files
    if novelty is not None:
        contents[novelty[0].transitions] = novelty[1]
    if rate is not None:
        contents[rate[0].file] = npy_bytes(rate[1])
    if judge is not None:
        outcome = dataclasses.replace(outcome, report=judge(Bundle(out, manifest, contents)))
        if outcome.report.faults and not anyway:
            raise CheckFailed(_refused(outcome.report, out))
    manifest = msgspec.structs.replace(manifest, metrics={**_metrics(outcome), **(metrics or {})})
    contents |= report_files(outcome.report)
    contents[CARD] = card(
        manifest,
        outcome.report,
        run=outcome.run.name,
        parameters=sum(parameter.numel() for parameter in outcome.run.encoder.parameters()),
        people=outcome.material.people,
        evaluation=outcome.run.evaluation,
        reasons=outcome.reasons,
        judged=metrics or {},
        tools=tools(),
    ).encode()
    size = sum(map(len, contents.values()))
    if size > max_bytes:
        raise BadInput(
            f"bundle {out}: would hold {size / 1e6:.2f} MB, more than {max_bytes / 1e6:g} MB; "
            "train a smaller encoder, ship fewer engines (--engines litert) or raise --max-mb"
        )
    try:
        bundle = _write(out, manifest, contents)
    except OSError as error:
        raise BadInput(f"bundle {out}: cannot be written ({error.strerror})") from None
    if judge is not None and outcome.report.faults:
        raise CheckFailed(f"bundle {out}: written all the same (--anyway), but {outcome.report.verdict}")
    return bundle


def _refused(report: Report, out: Path) -> str:
    """Keep the report of a bundle that is not written; the line that says so."""
    folder = out.with_name(f"{out.stem}-not-shippable")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in report_files(report).items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise BadInput(f"fidelity report {folder}: cannot be written ({error.strerror})") from None
    return f"bundle {out}: not written (--anyway would). {report.verdict} The report: {folder}"


def _known_answers(outcome: Outcome) -> tuple[KnownAnswers, dict[str, bytes]]:
    run, shape = outcome.run, encoder_shape(outcome.run.encoder.config)
    engines: dict[str, Engine] = {
        name: load_engine(name, artefact.model, shape, run.frontend.hop, label=artefact.file)
        for name, artefact in outcome.artefacts.items()
    }
    with one_thread():
        return known_answers(TorchStep(run.encoder), engines, run.signal, run.frontend)


def check_target(out: Path) -> None:
    """Raise :class:`BadInput` where ``out`` is anything but a bundle, or its folder cannot be written."""
    parent = next(folder for folder in out.absolute().parents if folder.exists())
    if not os.access(parent, os.W_OK):
        raise BadInput(f"bundle {out}: the folder {parent} cannot be written; give another --out")
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).exists():
        raise BadInput(f"bundle {out}: the folder is not empty and holds no bundle; give another --out")
    if out.is_file() and not (zipfile.is_zipfile(out) and MANIFEST in zipfile.ZipFile(out).namelist()):
        raise BadInput(f"bundle {out}: the file is not a bundle; give another --out")


def _manifest(outcome: Outcome, name: str) -> Manifest:
    run = outcome.run
    versions = tools()
    shape = encoder_shape(run.encoder.config)
    return Manifest(
        schema=SCHEMA,
        name=name,
        version=version("pulsecode"),
        signal=run.signal,
        frontend=run.frontend,
        encoder=shape,
        warmup_hops=warm_up(run),
        engines={
            engine: EngineFile(artefact.file, METHODS[artefact.method].text)
            for engine, artefact in outcome.artefacts.items()
        },
        novelty=None,
        quality=None,
        rhythm=None,
        metrics={},
        provenance={
            "run": run.name,
            "data": ", ".join(sorted({name for part in outcome.material.people.values() for name in part})),
            "split": "by person, from a hash (trainer/splits.py); figures from test and held-out people",
            "calibration": outcome.report.calibrated_on,
            "commit": commit(),
            "date": today(),
            **{f"tool.{tool}": found for tool, found in versions.items()},
        },
        licence=LICENCE,
        files={},
    )


def _metrics(outcome: Outcome) -> dict[str, float | str]:
    """The figures a user of the bundle asks first; the rest is in the fidelity files."""
    report = outcome.report
    metrics: dict[str, float | str] = {
        "verdict": report.verdict,
        "judged_on": report.judged_on,
        "judged_hops": report.hops,
        "judged_patients": report.patients,
    }
    for row in report.rows:
        artefact = next(
            (a for a in outcome.artefacts.values() if (a.engine, a.method) == (row.engine, row.method)), None
        )
        if artefact is None:
            continue
        figures = {
            "top1": row.top1,
            "top1_confident": row.top1_confident,
            "top5": row.top5,
            **{f"{head.name}, change": head.change for head in row.heads if head.reads_encoder},
        }
        for key, figure in figures.items():
            if figure is not None:
                metrics[f"{row.engine}.{key}"] = round(figure.value, 5)
                metrics[f"{row.engine}.{key}_95"] = f"{figure.low:.4f} to {figure.high:.4f}"
        metrics[f"{row.engine}.kl_nats"] = round(row.kl, 6)
        metrics[f"{row.engine}.max_probability_error"] = round(row.max_probability_error, 5)
        if row.hour is not None and report.watched is not None:
            metrics[f"{row.engine}.alarms changed in {report.watched.hours:g} h"] = len(row.hour.changes)
    return metrics


def _write(out: Path, manifest: Manifest, contents: dict[str, bytes]) -> Bundle:
    """Write beside ``out``, verify, then exchange: an interruption leaves the old bundle or the new one."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".unfinished-") as room:
        fresh = Path(room) / "bundle"
        write_bundle(fresh, manifest, contents)
        _prove(load_bundle(fresh))
        fresh.chmod(0o755)
        if out.suffix == ".zip":
            zipped = Path(room) / "bundle.zip"
            write_zip(
                zipped, {p.relative_to(fresh).as_posix(): p.read_bytes() for p in fresh.rglob("*") if p.is_file()}
            )
            zipped.replace(out)
        else:
            old = Path(room) / "old"
            if out.exists():
                out.rename(old)
            try:
                fresh.rename(out)
            except BaseException:
                if old.exists():
                    old.rename(out)
                raise
    return load_bundle(out)


def _prove(bundle: Bundle) -> None:
    """Every engine of the bundle runs, and gives the same bits again from the same state."""
    patch = np.sin(np.arange(bundle.manifest.frontend.hop) / 5).astype(np.float32)
    for name in bundle.manifest.engines:
        engine = open_engine(bundle, name)
        first, second = (engine.step(engine.start(), patch).scores for _ in range(2))
        if not np.array_equal(first, second) or not torch.isfinite(torch.from_numpy(first)).all():
            raise RuntimeError(f"engine {name} of {bundle.path} does not repeat itself")
