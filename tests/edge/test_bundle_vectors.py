"""Known answers: what an engine says here against what it said where the bundle was made; and how large one may be."""

import io
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge.bundle import (
    MAX_ENGINE_BYTES,
    MAX_LITERT_BYTES,
    Bundle,
    EngineFile,
    Manifest,
    check_sizes,
    load_bundle,
    write_bundle,
)
from edge.bundle.vectors import MAX_BYTES, ask, installed
from edge.engines import open_engine
from edge.npy import npy_bytes, read_array
from firmware_bridge.cli import main
from firmware_bridge.errors import BadInput
from quantize.vectors import ANSWERS, PATCHES, known_answers

SHIPPED = load_bundle()
CONTENTS = {name: SHIPPED.read(name) for name in SHIPPED.manifest.files}


@pytest.fixture(scope="module")
def made() -> tuple[Manifest, dict[str, bytes]]:
    """The shipped bundle with vectors whose fp32 is, for want of PyTorch, the other engine."""
    manifest = msgspec.structs.replace(
        SHIPPED.manifest, engines={name: SHIPPED.manifest.engines[name] for name in ("litert", "onnx")}
    )
    engines = {name: open_engine(SHIPPED, name) for name in manifest.engines}
    vectors, files = known_answers(engines["onnx"], engines, manifest.signal, manifest.frontend)
    return msgspec.structs.replace(manifest, vectors=vectors), {**CONTENTS, **files}


def bundle(path: Path, made: tuple[Manifest, dict[str, bytes]], **files: bytes) -> Bundle:
    contents = {**made[1], **{name.replace("_", "-") + ".npy": data for name, data in files.items()}}
    write_bundle(path, made[0], contents)
    return load_bundle(path)


def test_the_engines_here_say_what_they_said_here(tmp_path: Path, made: tuple[Manifest, dict[str, bytes]]) -> None:
    found = bundle(tmp_path / "b", made)
    assert installed(found) == ["litert", "onnx"]
    litert, onnx = (ask(found, name) for name in installed(found))
    assert litert.passed and (litert.same, litert.clear_same) == (litert.hops, litert.clear)
    assert litert.clear > 20 and litert.fp32 >= 0.97 * litert.hops
    assert onnx.fp32 == onnx.same == onnx.hops >= 250
    assert len(np.unique(read_array(found, ANSWERS)[0])) > 50


def test_the_vectors_are_small(made: tuple[Manifest, dict[str, bytes]]) -> None:
    assert len(made[1][PATCHES]) + len(made[1][ANSWERS]) <= MAX_BYTES


def test_an_engine_that_says_something_else_fails(
    tmp_path: Path, made: tuple[Manifest, dict[str, bytes]], capsys: pytest.CaptureFixture[str]
) -> None:
    answers = np.load(io.BytesIO(made[1][ANSWERS]))
    row = made[0].vectors.rows.index("litert") if made[0].vectors else -1
    few, clear, many = answers.copy(), answers.copy(), answers.copy()
    unclear = np.flatnonzero(answers[1] == 0)
    few[row, unclear[:5]] += 1
    clear[row, np.flatnonzero(answers[1])[:5]] += 1
    many[row, unclear[:20]] += 1
    for table, passed in ((few, True), (clear, False), (many, False)):
        path = tmp_path / f"{passed}{len(list(tmp_path.iterdir()))}"
        assert ask(bundle(path, made, vectors_answers=npy_bytes(table)), "litert").passed is passed
        assert main(["bundle", "verify", str(path), "--run", "--json"]) == (0 if passed else 1)
        said = json.loads(capsys.readouterr().out)
        assert [row["passed"] for row in said["answers"]] == [passed, True]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"vectors_patches": npy_bytes(np.zeros((3, 7), np.float32))}, "finite float32 of shape"),
        ({"vectors_patches": npy_bytes(np.zeros((3, 50)))}, "finite float32 of shape"),
        ({"vectors_patches": npy_bytes(np.full((250, 50), np.nan, np.float32))}, "finite float32 of shape"),
        ({"vectors_answers": npy_bytes(np.zeros((2, 250), np.int32))}, "int32 of shape"),
        ({"vectors_answers": b"rubbish"}, "not a plain .npy"),
    ],
)
def test_damaged_vectors_are_one_line(
    tmp_path: Path, made: tuple[Manifest, dict[str, bytes]], files: dict[str, bytes], said: str
) -> None:
    with pytest.raises(BadInput, match=said) as error:
        ask(bundle(tmp_path / "b", made, **files), "litert")
    assert "\n" not in str(error.value)


def test_a_bundle_without_vectors_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_bundle(tmp_path / "b", msgspec.structs.replace(SHIPPED.manifest, vectors=None), CONTENTS)
    assert main(["bundle", "verify", str(tmp_path / "b"), "--run"]) == 2
    assert "holds no test vectors" in capsys.readouterr().err


def test_the_shipped_bundle_brings_its_vectors_and_passes_them() -> None:
    assert SHIPPED.manifest.vectors is not None, "pack the shipped bundle again with `make bundle`"
    found = [ask(SHIPPED, name) for name in installed(SHIPPED)]
    assert {"litert", "onnx"} <= {answer.engine for answer in found}
    assert all(answer.passed for answer in found), "\n".join(map(str, found))


def test_the_shipped_bundle_is_within_its_limits() -> None:
    check_sizes(SHIPPED.manifest, CONTENTS)
    assert len(SHIPPED.read(SHIPPED.manifest.engines["litert"].file)) <= MAX_LITERT_BYTES == 2_000_000
    assert sum(len(SHIPPED.read(e.file)) for e in SHIPPED.manifest.engines.values()) <= MAX_ENGINE_BYTES == 6_000_000


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"litert": 2_000_000, "onnx": 4_000_000}, None),
        ({"litert": 2_000_001}, "litert.bin holds 2.00 MB"),
        ({"litert": 1_000_000, "onnx": 3_000_000, "executorch": 2_000_001}, "litert, onnx, executorch hold 6.00 MB"),
    ],
)
def test_engines_above_the_limits_are_refused(sizes: dict[str, int], said: str | None) -> None:
    engines = {name: EngineFile(f"{name}.bin", "int8") for name in sizes}
    manifest = msgspec.structs.replace(SHIPPED.manifest, engines=engines)
    contents = {f"{name}.bin": bytes(size) for name, size in sizes.items()}
    if said is None:
        check_sizes(manifest, contents)
    else:
        with pytest.raises(BadInput, match=said):
            check_sizes(manifest, contents)
