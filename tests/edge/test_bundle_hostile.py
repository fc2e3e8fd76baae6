"""Bundles made to do harm: nothing outside is read, nothing large is unpacked, nothing ends in a traceback."""

import io
import json
import os
import shutil
import stat
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.bundle import DEFAULT_BUNDLE, MANIFEST, load_bundle
from edge.bundle.checks import leaves
from edge.bundle.files import MAX_BYTES, MAX_MEMBERS
from firmware_bridge.errors import BadInput

CONTENTS = {path.name: path.read_bytes() for path in DEFAULT_BUNDLE.iterdir()}
SMALL = "readouts.npy"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEFAULT_BUNDLE, tmp_path / "bundle"))


def archive(path: Path, extra: list[tuple[zipfile.ZipInfo, bytes]], contents: dict[str, bytes] = CONTENTS) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as file:
        warnings.simplefilter("ignore")  # zipfile warns of the duplicates that are wanted here
        for name, data in contents.items():
            file.writestr(name, data)
        for info, data in extra:
            file.writestr(info, data)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(BadInput) as error:
        load_bundle(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", ["../escape", "/etc/cron.d/x", "a/../../b", "..\\escape", "C:\\x", "C:x"])
def test_a_zip_that_would_leave_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    assert "leaves the bundle" in refusal(archive(tmp_path / "b.zip", [(zipfile.ZipInfo(name), b"x")]))


@pytest.mark.parametrize("name", [MANIFEST, SMALL])
def test_a_name_twice_in_a_zip_is_refused(tmp_path: Path, name: str) -> None:
    """Two readers may take one each."""
    path = archive(tmp_path / "b.zip", [(zipfile.ZipInfo(name), CONTENTS[name])])
    assert "more than once" in refusal(path)


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    assert "symbolic link" in refusal(archive(tmp_path / "b.zip", [(link, b"/etc/passwd")]))


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    contents = {name: data for name, data in CONTENTS.items() if name != SMALL}
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in contents.items():
            file.writestr(name, data)
        with file.open(SMALL, "w", force_zip64=True) as member:
            for _ in range(MAX_BYTES // 2**20 + 1):
                member.write(bytes(2**20))
    (tmp_path / "b.zip").write_bytes(bomb.getvalue())
    assert "a bundle holds" in refusal(tmp_path / "b.zip")


def test_a_zip_of_very_many_entries_is_refused(tmp_path: Path) -> None:
    many = [(zipfile.ZipInfo(f"f{i}"), b"") for i in range(MAX_MEMBERS)]
    assert "entries" in refusal(archive(tmp_path / "b.zip", many))


@pytest.mark.parametrize("name", [MANIFEST, SMALL])
def test_a_link_in_a_folder_is_refused(folder: Path, name: str) -> None:
    (folder.parent / "elsewhere").write_bytes(CONTENTS[name])
    (folder / name).unlink()
    (folder / name).symlink_to(folder.parent / "elsewhere")
    assert f"{name} is a symbolic link" in refusal(folder)


def test_a_linked_folder_within_a_bundle_is_refused(folder: Path) -> None:
    manifest = json.loads(CONTENTS[MANIFEST])
    manifest["files"]["sub/readouts.npy"] = manifest["files"][SMALL]
    (folder / MANIFEST).write_text(json.dumps(manifest))
    (folder.parent / "sub").mkdir()
    (folder.parent / "sub" / SMALL).write_bytes(CONTENTS[SMALL])
    (folder / "sub").symlink_to(folder.parent / "sub")
    assert "sub/readouts.npy is a symbolic link" in refusal(folder)
    (folder / "sub").unlink()
    shutil.copytree(folder.parent / "sub", folder / "sub")
    assert load_bundle(folder).read("sub/readouts.npy") == CONTENTS[SMALL]


def test_the_bundle_itself_may_be_reached_by_a_link(folder: Path) -> None:
    (folder.parent / "link").symlink_to(folder)
    assert load_bundle(folder.parent / "link").digest == load_bundle(folder).digest


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_pipe_or_folder_in_the_place_of_a_file_is_refused(folder: Path, make: Any) -> None:
    (folder / SMALL).unlink()
    make(folder / SMALL)
    assert f"{SMALL} " in refusal(folder)


def test_a_pipe_in_the_place_of_a_bundle_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "no such folder or zip" in refusal(tmp_path / "pipe")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=300))
def test_garbage_in_the_place_of_a_zip_is_one_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "b.zip"
    path.write_bytes(data)
    refusal(path)
    path.write_bytes(b"PK\x03\x04" + data + b"PK\x05\x06" + data[:18].ljust(18, b"\0"))
    refusal(path)


NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(NAMES, min_size=1, max_size=4, unique_by=lambda name: zipfile.ZipInfo(name).filename))
def test_odd_names_in_a_zip_are_read_past_or_refused(tmp_path: Path, names: list[str]) -> None:
    extra = [(zipfile.ZipInfo(name), b"x") for name in names]
    path = archive(tmp_path / "b.zip", extra)
    if any(leaves(info.filename) for info, _ in extra):
        assert "leaves the bundle" in refusal(path)
    else:
        assert load_bundle(path).manifest == load_bundle().manifest


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.dictionaries(st.text(max_size=20), st.text(max_size=64), min_size=1, max_size=3))
def test_no_name_in_files_is_read_that_is_not_plain(tmp_path: Path, files: dict[str, str]) -> None:
    manifest = json.loads(CONTENTS[MANIFEST])
    (tmp_path / MANIFEST).write_text(json.dumps({**manifest, "files": {**manifest["files"], **files}}))
    for name, data in CONTENTS.items():
        if name != MANIFEST:
            (tmp_path / name).write_bytes(data)
    refusal(tmp_path)
