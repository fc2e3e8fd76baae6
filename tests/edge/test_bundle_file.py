"""A bundle as a file: read from a folder or zip alike, and refused in one line whatever is wrong with it."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.bundle import DEFAULT_BUNDLE, LogisticModel, load_bundle
from edge.bundle import files as bundle_files
from edge.quality import QualityIndex
from edge.rhythm import RhythmTracker
from firmware_bridge.errors import BadInput


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEFAULT_BUNDLE, tmp_path / "bundle"))


def zipped(folder: Path) -> Path:
    return Path(shutil.make_archive(str(folder), "zip", folder))


def change(folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    edit(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_folder_and_zip_are_the_same_bundle(folder: Path) -> None:
    one, two = load_bundle(folder), load_bundle(zipped(folder))
    assert one.digest == two.digest and one.manifest == two.manifest
    assert all(one.read(name) == two.read(name) for name in one.manifest.files)


def test_only_the_files_it_names_are_read(folder: Path) -> None:
    """``--bundle /`` must not read a whole disk."""
    with (folder / "huge").open("wb") as file:
        file.truncate(bundle_files.MAX_BYTES * 1000)
    load_bundle(folder)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("edit", "word"),
    [
        (lambda m: m.update(schema=99), "schema 99"),
        (lambda m: m["novelty"].update(smoothing_hops=0), "novelty.smoothing_hops"),
        (lambda m: m["novelty"].update(quantiles=[2.0, 1.0]), "novelty.quantiles"),
        (lambda m: m["novelty"].update(quantiles=[2.0]), "novelty.quantiles"),
        (lambda m: m["novelty"].update(scale=0.0), "novelty.scale"),
        (lambda m: m["files"].update({"../../etc/passwd": "0" * 64}), "leaves the bundle"),
        (lambda m: m["files"].update({"C:\\\\windows": "0" * 64}), "leaves the bundle"),
        (lambda m: m["files"].update({"manifest.json": "0" * 64}), "no name for a file"),
        (lambda m: m["files"].update({"a b": "0" * 64}), "no name for a file"),
        (lambda m: m["files"].update({"x": "0"}), "no SHA-256"),
        (lambda m: m["files"].update({"gone.bin": "0" * 64}), "gone.bin is missing"),
        (lambda m: m.pop("licence"), "licence"),
        (lambda m: m.update(more=1), "more"),
    ],
)
def test_a_manifest_that_makes_no_sense(folder: Path, edit: Any, word: str, packed: bool) -> None:
    change(folder, edit)
    path = zipped(folder) if packed else folder
    with pytest.raises(BadInput, match=str(path)) as error:
        load_bundle(path)
    assert word in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_is_too_large_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_files, "MAX_BYTES", 1_000_000)
    with pytest.raises(BadInput, match="claims"):
        load_bundle(folder)


def test_damage_anywhere_in_a_zip_is_one_line(folder: Path) -> None:
    path = zipped(folder)
    whole = path.read_bytes()
    reference = load_bundle(path)
    refused: list[str] = []
    for at in [*range(0, len(whole), len(whole) // 60), *range(len(whole) - 60, len(whole))]:
        damaged = bytearray(whole)
        damaged[at] ^= 0xFF
        path.write_bytes(damaged)
        try:
            found = load_bundle(path)
        except BadInput as error:
            refused.append(str(error))
        else:  # a time stamp or an attribute: nothing that is read
            assert found.digest == reference.digest
    assert len(refused) > 50 and not any("\n" in line for line in refused)


@pytest.mark.parametrize("content", [b"", b"PK", b"\xff\xfe", b"[" * 100_000])
def test_rubbish_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "b.zip").write_bytes(content)
    (tmp_path / "manifest.json").write_bytes(content)
    for path in (tmp_path / "b.zip", tmp_path):
        with pytest.raises(BadInput):
            load_bundle(path)


def test_an_encrypted_zip_is_one_line(folder: Path) -> None:
    path = zipped(folder)
    data = bytearray(path.read_bytes())
    # General purpose bit 0 of every local and central header: "encrypted".
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            data[info.header_offset + 6] |= 1
    at = 0
    while (at := data.find(b"PK\x01\x02", at)) >= 0:
        data[at + 8] |= 1
        at += 4
    path.write_bytes(data)
    with pytest.raises(BadInput, match="encrypted"):
        load_bundle(path)


def test_weights_for_features_that_nobody_makes_are_refused() -> None:
    model = LogisticModel({"phase_of_the_moon": 1.0}, 0.0, "nobody")
    with pytest.raises(BadInput, match="quality has weights for phase_of_the_moon"):
        QualityIndex(125.0, 50, model)
    with pytest.raises(BadInput, match="rhythm has weights for phase_of_the_moon"):
        RhythmTracker(model)
