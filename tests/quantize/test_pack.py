"""From a run to a bundle on disk, and what happens to a bundle that was tampered with."""

import json
import shutil
import zipfile
from pathlib import Path

import msgspec
import numpy as np
import pytest
import tiny_models
import tiny_run

from edge.bundle import (
    MANIFEST,
    SCHEMA,
    Bundle,
    LinearModel,
    LogisticModel,
    NoveltyModel,
    RateModel,
    ReadoutModel,
    load_bundle,
)
from edge.engines import load_engine, open_engine
from edge.npy import read_array
from firmware_bridge.errors import BadInput, CheckFailed
from quantize.export import TorchStep, encoder_shape
from quantize.fidelity.figures import Report
from quantize.pack import CARD, pack
from quantize.progress import Steps
from quantize.readout_fidelity import readout_fidelity

ENGINE_FILES = {"litert": "tflite", "onnx": "onnx"}


@pytest.fixture(scope="module")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "tiny"
    pack(tiny_run.outcome(), out)
    return out


@pytest.fixture
def copy(bundle_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_folder, tmp_path / "copy"))


def refusal(path: Path) -> str:
    with pytest.raises(BadInput) as error:
        load_bundle(path)
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith(f"bundle {path}: ")
    return text


def test_the_bundle_runs_like_the_encoder(bundle_folder: Path) -> None:
    bundle = load_bundle(bundle_folder)
    assert set(bundle.manifest.engines) == set(ENGINE_FILES)
    reference = TorchStep(tiny_models.encoder())
    for name in ENGINE_FILES:
        engine = open_engine(bundle, name)
        state, wanted_state = engine.start(), reference.start()
        for patch in tiny_models.patches(20, 50):
            out, wanted = engine.step(state, patch), reference.step(wanted_state, patch)
            norms = np.linalg.norm(out.embedding) * np.linalg.norm(wanted.embedding)
            assert out.embedding @ wanted.embedding / norms > 0.99


def test_the_manifest_says_what_it_is(bundle_folder: Path) -> None:
    manifest = load_bundle(bundle_folder).manifest
    assert manifest.name == "tiny"
    assert manifest.warmup_hops == tiny_models.CONFIG.context + tiny_run.CONFIG.settle_hops
    assert manifest.frontend == tiny_run.CONFIG.frontend("ppg")
    assert set(manifest.files) == {p.name for p in bundle_folder.iterdir()} - {MANIFEST}
    assert manifest.provenance["run"] == "tiny/ppg"
    assert manifest.provenance["data"] == "bidmc, mimic_perform_af"
    assert manifest.provenance["tool.torch"] != "absent"
    for engine in ENGINE_FILES:
        row = next(r for r in tiny_run.outcome().report.rows if (r.engine, r.method) == (engine, _method(engine)))
        assert manifest.metrics[f"{engine}.top1"] == pytest.approx(row.top1.value, abs=1e-5)


def _method(engine: str) -> str:
    return next(a.method for a in tiny_run.outcome().artefacts.values() if a.engine == engine)


def test_the_card_names_data_licences_figures_and_limits(bundle_folder: Path) -> None:
    text = (bundle_folder / CARD).read_text()
    for said in ("ODC-By 1.0", "ODbL", "Pimentel", "Charlton", "Not a medical device", "0.25 (0.2 to 0.3; patients 4)"):
        assert said in text
    assert "Clifford" not in text  # that data set was not used
    assert "$" not in text
    outcome = tiny_run.outcome()
    for part, counts in outcome.material.people.items():
        assert f"| {part.replace('_', ' ')} |" in text
        assert counts == ({"mimic_perform_af": 8} if part == "held_out" else {"bidmc": counts["bidmc"]})


def test_nothing_in_a_bundle_names_this_machine(bundle_folder: Path) -> None:
    here = str(Path(__file__).parents[2]).encode()
    for path in bundle_folder.iterdir():
        content = path.read_bytes()
        assert here not in content
        assert b"/home/" not in content


def test_one_changed_byte_in_any_file_is_refused(bundle_folder: Path, tmp_path: Path) -> None:
    names = [p.name for p in bundle_folder.iterdir() if p.name != MANIFEST]
    assert len(names) >= 5
    for name in names:
        copy = Path(shutil.copytree(bundle_folder, tmp_path / name))
        data = bytearray((copy / name).read_bytes())
        data[len(data) // 2] ^= 1
        (copy / name).write_bytes(data)
        assert f"{name} does not match its SHA-256" in refusal(copy)


def test_a_missing_file_is_named(copy: Path) -> None:
    (copy / CARD).unlink()
    assert f"{CARD} is missing" in refusal(copy)


def change_manifest(folder: Path, **changes: object) -> None:
    raw = json.loads((folder / MANIFEST).read_text())
    raw.update(changes)
    (folder / MANIFEST).write_text(json.dumps(raw))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schema": 99}, "schema 99, this version reads 1 to 3; update pulsecode"),
        ({"schema": None}, "schema None"),
        ({"warmup_hops": "soon"}, "warmup_hops: expected `int`"),
        ({"unheard_of": 1}, "unheard_of"),
        ({"engines": {}}, "engines must name at least one engine"),
        ({"engines": {"litert": {"file": "other.tflite", "method": "x"}}}, "listed in files"),
        ({"files": {"../escape": "0" * 64}}, "every file it uses"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(copy: Path, changes: dict[str, object], said: str) -> None:
    change_manifest(copy, **changes)
    assert said in refusal(copy)


@pytest.mark.parametrize("name", ["../escape", "/etc/hostname", "a/../../escape"])
def test_a_path_that_leaves_the_bundle_is_refused(copy: Path, name: str) -> None:
    (copy.parent / "escape").write_bytes(b"secret")
    files = json.loads((copy / MANIFEST).read_text())["files"]
    change_manifest(copy, files={name: "0" * 64, **files})
    assert "leaves the bundle; refused" in refusal(copy)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[]", b"null"])
def test_a_manifest_that_is_not_json_is_refused(copy: Path, content: bytes) -> None:
    (copy / MANIFEST).write_bytes(content)
    assert MANIFEST in refusal(copy)


def test_the_zip_form_is_the_same_bundle_and_always_the_same_file(bundle_folder: Path, tmp_path: Path) -> None:
    zipped = pack(tiny_run.outcome(), tmp_path / "tiny.zip")
    again = pack(tiny_run.outcome(), tmp_path / "again.zip", name="tiny")
    folder = load_bundle(bundle_folder)
    assert zipped.digest == folder.digest == again.digest
    assert (tmp_path / "tiny.zip").read_bytes() == (tmp_path / "again.zip").read_bytes()
    patch = tiny_models.patches(1, 3)[0]
    scores = []
    for bundle in (zipped, folder):
        engine = open_engine(bundle)
        scores.append(engine.step(engine.start(), patch).scores)
    assert np.array_equal(*scores)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.zip", "tiny.zip"]  # nothing half made is left


def test_a_zip_with_one_changed_byte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tiny.zip"
    pack(tiny_run.outcome(), path)
    good = path.read_bytes()
    # In the middle of the largest file's compressed data: its CRC or our checksum must notice.
    largest = max(zipfile.ZipFile(path).infolist(), key=lambda entry: entry.compress_size)
    data = bytearray(good)
    data[largest.header_offset + largest.compress_size // 2] ^= 1
    path.write_bytes(data)
    refusal(path)


def test_models_given_to_pack_are_in_the_bundle(tmp_path: Path) -> None:
    novelty = NoveltyModel("transitions.npy", 16.0, 8, [0.0, 1.0], "four people")
    quality, rhythm = (LogisticModel({"a": w}, 0.5, "c") for w in (1.0, 2.0))
    packed = pack(tiny_run.outcome(), tmp_path / "b", novelty=(novelty, b"table"), quality=quality, rhythm=rhythm,
                  metrics={"novelty held": 0.05})  # fmt: skip
    loaded = load_bundle(packed.path)
    assert (loaded.manifest.novelty, loaded.manifest.quality, loaded.manifest.rhythm) == (novelty, quality, rhythm)
    assert loaded.read("transitions.npy") == b"table"
    assert loaded.manifest.metrics["novelty held"] == 0.05
    text = loaded.read(CARD).decode()
    assert "calibrated on four people" in text
    assert "- novelty held: 0.05" in text


def test_packing_again_replaces_the_bundle_whole(tmp_path: Path) -> None:
    out = tmp_path / "b"
    novelty = NoveltyModel("transitions.npy", 16.0, 8, [0.0, 1.0], "four people")
    pack(tiny_run.outcome(), out, novelty=(novelty, b"table"))
    pack(tiny_run.outcome(), out)
    assert not (out / "transitions.npy").exists()
    load_bundle(out)


def test_pack_never_replaces_what_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "diary.txt").write_text("mine")
    with pytest.raises(BadInput, match="holds no bundle"):
        pack(tiny_run.outcome(), tmp_path)
    with pytest.raises(BadInput, match="is not a bundle"):
        pack(tiny_run.outcome(), tmp_path / "diary.txt")
    assert (tmp_path / "diary.txt").read_text() == "mine"


def test_a_bundle_over_the_limit_is_refused_and_the_old_one_stays(tmp_path: Path) -> None:
    out = tmp_path / "b"
    before = pack(tiny_run.outcome(), out).digest
    with pytest.raises(BadInput, match=r"more than 0\.01 MB; train a smaller encoder"):
        pack(tiny_run.outcome(), out, max_bytes=10_000)
    assert load_bundle(out).digest == before


def test_an_engine_that_contradicts_the_manifest_is_refused(bundle_folder: Path) -> None:
    bundle = load_bundle(bundle_folder)
    shape = msgspec.structs.replace(bundle.manifest.encoder, codebook_size=64)
    bundle.manifest = msgspec.structs.replace(bundle.manifest, encoder=shape)
    with pytest.raises(BadInput, match=r"encoder-\w+\.tflite: output 'scores' has shape"):
        open_engine(bundle, "litert")


def test_the_heads_that_read_the_embedding_come_along(tmp_path: Path) -> None:
    width = 2 * tiny_models.CONFIG.dim + 1
    table = np.random.default_rng(0).normal(size=(1, width)).astype(np.float32)
    readout = ReadoutModel("readouts.npy", ["log_rate"], 6, "made up people")
    rate = RateModel(LinearModel({"spread": 1.0}, 0.0), LinearModel({}, 2.0), 1.5, 0.9, 10.0, "other made up people")
    bundle = pack(tiny_run.outcome(), tmp_path / "with", rate=(readout, table, rate))
    manifest = load_bundle(tmp_path / "with").manifest
    assert (manifest.schema, manifest.readout, manifest.rate) == (SCHEMA, readout, rate)
    assert np.array_equal(read_array(bundle, "readouts.npy"), table)
    card = bundle.read(CARD).decode()
    assert "Heart rate's uncertainty: calibrated on other made up people" in card
    assert "Readout of the embedding (heart rate): calibrated on made up people" in card


def test_int8_moves_a_readout_by_little_and_fp32_not_at_all() -> None:
    outcome = tiny_run.outcome()
    table = np.full((1, 2 * tiny_models.CONFIG.dim + 1), 0.01, np.float32)
    table[0, -1] = 4.3
    reference = TorchStep(outcome.run.encoder)
    artefact = outcome.artefacts["litert"]
    engine = load_engine("litert", artefact.model, encoder_shape(tiny_models.CONFIG), tiny_models.CONFIG.hop)
    with Steps() as steps:
        judging = outcome.material.judging
        name = "heart rate from the embedding, int8 against fp32, mean difference, bpm"
        same = readout_fidelity(reference, reference, table, 6, judging, steps)
        moved = readout_fidelity(reference, engine, table, 6, judging, steps)
    assert same[name] == 0.0
    assert isinstance(moved[name], float) and 0 <= moved[name] < 2


def test_a_bundle_that_fails_its_check_is_refused_or_marked(tmp_path: Path) -> None:
    outcome = tiny_run.outcome()
    failed = msgspec.structs.replace(outcome.report, faults=["litert dynamic: too little"])
    seen: list[Bundle] = []

    def judge(bundle: Bundle) -> Report:
        seen.append(bundle)
        return failed

    out = tmp_path / "tiny"
    with pytest.raises(CheckFailed, match=r"tiny: not written .* NOT SHIPPABLE: litert dynamic: too little"):
        pack(outcome, out, judge=judge)
    assert not out.exists()
    assert (tmp_path / "tiny-not-shippable" / "fidelity.html").is_file()
    with pytest.raises(CheckFailed, match="written all the same"):
        pack(outcome, out, judge=judge, anyway=True)
    bundle = load_bundle(out)
    assert str(bundle.manifest.metrics["verdict"]).startswith("NOT SHIPPABLE")
    for name in (CARD, "fidelity.md", "fidelity.html", "fidelity.json"):
        assert "NOT SHIPPABLE" in bundle.read(name).decode(), name
    # What is judged is what would be written.
    assert all(seen[0].read(e.file) == bundle.read(e.file) for e in bundle.manifest.engines.values())
