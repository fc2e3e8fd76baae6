"""`pulsecode quantize` from a run folder and a data folder to a bundle that the device loads."""

import json
from pathlib import Path

import damaged_models
import msgspec
import numpy as np
import pytest
import tiny_models
import tiny_run
import wfdb

from edge.bundle import LinearModel, LogisticModel, RateModel, ReadoutModel, load_bundle
from edge.engines import open_engine
from edge.npy import npy_bytes, read_array
from firmware_bridge.cli import main
from quantize import workflow
from quantize.export import Artefact, Method
from quantize.fidelity import gate, judgements
from quantize.plan import Plan
from trainer.encoder import Encoder
from trainer.heads.run_file import HeadsFile
from trainer.stages import file_sha256

RATE = 125


READOUT = ReadoutModel("readouts.npy", ["log_rate"], 25, "made up")
RATE_MODEL = RateModel(LinearModel({"spread": 0.5}, 1.0), LinearModel({}, 2.0), 1.5, 0.9, 10.0, "made up")


def write_heads(folder: Path, quality: LogisticModel, rhythm: LogisticModel, encoder_sha256: str) -> None:
    """A finished heads run."""
    heads = HeadsFile(quality, rhythm, {"pulse readable AUROC": 0.9}, READOUT, RATE_MODEL, encoder_sha256)
    (folder / "heads.json").write_bytes(msgspec.json.encode(heads))
    table = np.full((1, 2 * tiny_models.CONFIG.dim + 1), 0.01, np.float32)
    table[0, -1] = 4.3
    (folder / "readouts.npy").write_bytes(npy_bytes(table))


def write_record(folder: Path, name: str, bpm: float, seconds: float = 50) -> None:
    """A steady heart: R peaks, and a pulse that follows."""
    folder.mkdir(parents=True, exist_ok=True)
    phase = np.arange(round(seconds * RATE)) / RATE * bpm / 60
    ppg = np.sin(2 * np.pi * (phase - 0.3)) + 0.2 * np.sin(4 * np.pi * (phase - 0.3))
    ecg = np.exp(-0.5 * (((phase % 1) - 0.5) / 0.02) ** 2)
    noise = np.random.default_rng(int(bpm)).normal(0, 0.02, (2, len(phase)))
    signals = np.stack([ppg, ecg], 1) + noise.T
    names = {"sig_name": ["PLETH,", "II,"], "units": ["NU", "mV"], "fmt": ["16", "16"]}
    wfdb.wrsamp(name, fs=RATE, p_signal=signals, write_dir=str(folder), **names)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    bpm = 60
    for part, count in (("train", 3), ("validation", 2), ("test", 2)):
        for name in tiny_run.people(part, count):  # type: ignore[arg-type]
            write_record(folder / "bidmc", name, bpm)
            bpm += 4
    for group in ("AF_wfdb", "Non_AF_wfdb"):
        for i in range(2):
            write_record(folder / "mimic_perform_af" / group, f"{group.lower()}{i}", bpm)
            bpm += 4
    return folder


def test_a_run_becomes_a_bundle_that_the_device_loads(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A random encoder judged on seconds of two people would fail the gate: that is the next test.
    monkeypatch.setattr(gate, "LEAST_OVERALL", 0.5)
    monkeypatch.setattr(judgements, "POINTS", 1.0)
    run = tiny_run.write_run(tmp_path / "runs" / "tiny" / "ppg")
    quality, rhythm = LogisticModel({"template": 2.0}, -1.0, "q"), LogisticModel({"nrmssd": 9.0}, -2.0, "r")
    write_heads(run.parent, quality, rhythm, file_sha256(run / "encoder.safetensors"))
    out = tmp_path / "bundle"
    arguments = [str(run), "--out", str(out), "--data", str(data), "--cache", str(tmp_path / "cache"), "--windows", "4"]
    assert (
        main(["quantize", *arguments, "--engines", "litert", "--methods", "static,dynamic", "--method", "static"]) == 0
    )
    printed, narrated = capfd.readouterr()
    assert printed == ""
    assert "litert: static, as asked for" in narrated
    assert "Warning" not in narrated
    assert "INFO" not in narrated
    bundle = load_bundle(out)
    manifest = bundle.manifest
    assert list(manifest.engines) == ["litert"]
    assert manifest.engines["litert"].file == "encoder-static.tflite"
    assert (manifest.quality, manifest.rhythm) == (quality, rhythm)
    assert (manifest.readout, manifest.rate) == (READOUT, RATE_MODEL)
    assert read_array(bundle, READOUT.file).shape == (1, 2 * tiny_models.CONFIG.dim + 1)
    moved = manifest.metrics["heart rate from the embedding, int8 against fp32, mean difference, bpm"]
    assert isinstance(moved, float) and moved < 5
    assert manifest.novelty is not None
    size = tiny_models.CONFIG.codebook_size
    assert read_array(bundle, manifest.novelty.transitions).shape == (size + 1, size)
    assert manifest.metrics["pulse readable AUROC"] == 0.9
    assert manifest.provenance["run"] == "tiny/ppg"
    engine = open_engine(bundle)
    assert engine.step(engine.start(), tiny_models.patches(1, 0)[0]).scores.shape == (size,)
    report = json.loads(bundle.read("fidelity.json"))
    assert {(row["engine"], row["method"]) for row in report["rows"]} == {
        ("litert", method) for method in ("fp32", "static", "dynamic")
    }
    assert report["verdict"].startswith("Shippable") and manifest.metrics["verdict"] == report["verdict"]
    assert report["watched"]["datasets"].keys() == {"bidmc", "mimic_perform_af"}
    shipped = next(row for row in report["rows"] if row["ships"])
    names = [head["name"] for head in shipped["heads"]]
    assert any(name.startswith("AF probe") for name in names) and any("heart rate where" in name for name in names)
    assert shipped["hour"]["hops"] > 200 and shipped["hour"]["others_changed"] == 0


def test_what_int8_damages_is_not_written_and_the_command_fails(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gate in the real command, on weights of three bits."""

    def three_bits(fp32: Artefact, encoder: Encoder, plan: Plan, method: Method) -> Artefact:
        return Artefact("onnx", method, damaged_models.rounded(fp32.model, 3))

    monkeypatch.setattr(workflow, "quantized", three_bits)
    run = tiny_run.write_run(tmp_path / "runs" / "tiny" / "ppg")
    out = tmp_path / "bundle"
    arguments = [str(run), "--out", str(out), "--data", str(data), "--cache", str(tmp_path / "cache"), "--windows", "4"]
    arguments += ["--no-heads", "--engines", "onnx", "--methods", "dynamic"]
    assert main(["quantize", *arguments]) == 1
    last = capfd.readouterr().err.splitlines()[-1]
    kept = tmp_path / "bundle-not-shippable"
    assert last.startswith(f"pulsecode: bundle {out}: not written") and "NOT SHIPPABLE: onnx dynamic: only" in last
    assert not out.exists()
    assert (kept / "fidelity.md").read_text().startswith("**NOT SHIPPABLE: onnx dynamic: only")


def test_heads_of_another_encoder_are_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tiny_run.write_run(tmp_path / "runs" / "tiny" / "ppg")
    model = LogisticModel({}, 0.0, "made up")
    write_heads(run.parent, model, model, "0" * 64)
    assert main(["quantize", str(run), "--out", str(tmp_path / "bundle")]) == 2
    said = capsys.readouterr().err
    assert "heads read another encoder's embedding" in said and "pulsecode train heads --run" in said
    assert len(said.splitlines()) == 1 and not (tmp_path / "bundle").exists()
