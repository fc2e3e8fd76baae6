"""A quantized run to a bundle: manifest, engines, fidelity report, model card; written whole or not at all."""

import io
import os
import tempfile
import zipfile
from collections.abc import Mapping
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
    LogisticModel,
    Manifest,
    NoveltyModel,
    RateModel,
    ReadoutModel,
    RespirationModel,
    load_bundle,
    write_bundle,
)
from edge.engines import open_engine
from firmware_bridge.errors import BadInput
from quantize import report as report_files
from quantize.export import METHOD_TEXT, encoder_shape
from quantize.model_card import card
from quantize.provenance import commit, today, tools
from quantize.workflow import Outcome, warm_up

MAX_BYTES = 2_000_000
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
    metrics: Mapping[str, float | str] | None = None,
    name: str | None = None,
    max_bytes: int = MAX_BYTES,
) -> Bundle:
    """Write the bundle ``out`` (a folder, or a zip if it ends in ``.zip``), replacing a bundle that is there.

    ``novelty``: the model and the bytes of the file that it names; ``rate``: the readouts, the table of the file that
    they name, and the model of the heart rate's error; ``metrics``: what is known of all of them, for the manifest and
    the card. The bundle that was written is read back, verified and run before it takes its place. Raises
    :class:`BadInput` if ``out`` is something else than a bundle, cannot be written, or the bundle is larger than
    ``max_bytes``.
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
        metrics={**_metrics(outcome), **(metrics or {})},
    )
    contents = {artefact.file: artefact.model for artefact in outcome.artefacts.values()}
    if novelty is not None:
        contents[novelty[0].transitions] = novelty[1]
    if rate is not None:
        contents[rate[0].file] = npy_bytes(rate[1])
    contents |= report_files.files(outcome.report)
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
            "train a smaller encoder, ship one engine (--engines litert) or raise --max-mb"
        )
    try:
        return _write(out, manifest, contents)
    except OSError as error:
        raise BadInput(f"bundle {out}: cannot be written ({error.strerror})") from None


def npy_bytes(array: NDArray[np.float32]) -> bytes:
    """An array as the bytes of a ``.npy`` file."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


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
            engine: EngineFile(artefact.file, METHOD_TEXT[artefact.method])
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
            "task_change": row.task_change,
        }
        for key, figure in figures.items():
            if figure is not None:
                metrics[f"{row.engine}.{key}"] = round(figure.value, 5)
                metrics[f"{row.engine}.{key}_95"] = f"{figure.low:.4f} to {figure.high:.4f}"
        metrics[f"{row.engine}.kl_nats"] = round(row.kl, 6)
        metrics[f"{row.engine}.max_probability_error"] = round(row.max_probability_error, 5)
    if report.task_fp32 is not None:
        metrics["task"] = report.task_name
        metrics["task_fp32"] = round(report.task_fp32.value, 5)
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
            _zip(fresh, zipped)
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


def _zip(folder: Path, target: Path) -> None:
    """A zip without times, so that the same bundle is the same file."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix())
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, path.read_bytes())
