"""`pulsecode bench aarch64` with this machine in the place of the emulated one: what is run, compared and told."""

import dataclasses
import json
import shutil
import stat
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import msgspec
import pytest

from benchmarks.aarch64 import emulator as emulator_module
from benchmarks.aarch64 import measure as measure_module
from benchmarks.aarch64 import present, shell, wheels
from benchmarks.aarch64.emulator import Emulator, prepare
from benchmarks.aarch64.measure import EngineRow, Live, Machine, Result, measure
from edge.bundle import Bundle, load_bundle, write_bundle
from edge.bundle.vectors import Answered
from firmware_bridge.errors import BadInput

VECTORS = Answered("litert", "Linux x86_64", hops=250, same=250, fp32=246, clear=77, clear_same=77, clear_fp32=77)
ROW = EngineRow("litert", VECTORS, tokens=170, same=169, bits=15, probability_error=0.004, events=[], same_events=True)
replace = msgspec.structs.replace


def fake_qemu(path: Path, version: str = "10.0.13") -> Path:
    """A script that takes qemu's arguments and runs the Python of the tests instead of the root's."""
    path.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && {{ echo "qemu-aarch64 version {version}"; exit; }}\n'
        f'[ "$1" = -L ] || exit 9\nshift 3\nexec {sys.executable} "$@"\n'
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def one_engine(tmp_path: Path) -> Bundle:
    shipped = load_bundle()
    engines = {"litert": shipped.manifest.engines["litert"], "executorch": shipped.manifest.engines["litert"]}
    manifest = replace(shipped.manifest, engines=engines, vectors=None)
    write_bundle(tmp_path / "bundle", manifest, {name: shipped.read(name) for name in shipped.manifest.files})
    return load_bundle(tmp_path / "bundle")


def test_a_machine_is_like_itself(tmp_path: Path, one_engine: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_module, "SOURCE", "sim:pause?duration=4")
    monkeypatch.setattr(measure_module, "LIVE_SECONDS", 2)
    (tmp_path / "root" / "etc").mkdir(parents=True)
    (tmp_path / "root" / "etc" / "debian_version").write_text("12.0\n")
    steps: list[str] = []
    there = Emulator(fake_qemu(tmp_path / "qemu"), tmp_path / "root", tmp_path / "site")
    result = measure(one_engine, there, tmp_path, steps.append)
    assert result.passed and result.here == result.there and result.left_out == ["executorch"]
    (row,) = result.engines
    assert row.tokens == row.same == row.bits >= 8 and row.probability_error == 0 and row.same_events
    assert result.live.seconds == pytest.approx(2, abs=0.5) and result.live.balanced
    assert any("litert" in step for step in steps)
    text = present.as_markdown(result)
    assert f"{row.tokens} of {row.tokens} the same" in text and "Not run there: executorch" in text
    assert json.loads(present.as_json(result))["passed"] is True
    assert str(tmp_path) not in text + present.as_json(result).decode()


@pytest.mark.parametrize(
    ("row", "passed"),
    [
        (ROW, True),
        (replace(ROW, vectors=None), True),
        (replace(ROW, same=164), False),
        (replace(ROW, tokens=0, same=0), False),
        (replace(ROW, same_events=False), False),
        (replace(ROW, vectors=dataclasses.replace(VECTORS, same=240)), False),
        (replace(ROW, vectors=dataclasses.replace(VECTORS, clear_same=76)), False),
    ],
)
def test_when_an_engine_may_be_believed(row: EngineRow, passed: bool) -> None:
    machine = Machine("x86_64", "3.11", "glibc", {})
    result = Result("b 1", "0" * 64, "c", "q", "12", "sim:x", machine, machine, [row], [], Live(10.0, True, 24))
    assert row.passed is passed is result.passed
    assert ("**passed**" in present.as_markdown(result)) is passed
    assert not replace(result, engines=[]).passed
    assert not replace(result, live=Live(10.0, False, 24)).passed
    assert not replace(result, live=Live(10.0, True, 0)).passed


def test_a_qemu_that_is_too_old_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="older than 10"):
        prepare(tmp_path / "r", "http://localhost:9", fake_qemu(tmp_path / "qemu", "7.2.0"), print)


def test_a_mirror_that_is_not_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulator_module, "KEYRING", tmp_path)
    monkeypatch.setattr(emulator_module, "need", lambda *_: None)
    with pytest.raises(BadInput, match=r"cannot be fetched .*--mirror") as error:
        emulator_module._release(tmp_path, "http://127.0.0.1:9")
    assert "\n" not in str(error.value)


def test_what_is_missing_names_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shell, "_path", lambda: str(tmp_path))
    with pytest.raises(BadInput, match="sudo apt install debootstrap"):
        shell.need("debootstrap")


def test_a_command_that_fails_ends_in_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"^bench aarch64: the test: second$"):
        shell.run(["sh", "-c", "echo first >&2; echo second >&2; exit 3"], what="the test")
    assert shell.run(["sh", "-c", "echo fine; exit 1"], what="the test", statuses=(0, 1)) == "fine\n"


def test_a_package_index_is_read_by_its_stanzas() -> None:
    index = "Package: a\nFilename: a.deb\nDescription: x\n Package: b\n\nPackage: b\nFilename: b.deb\nSHA256: 12\n"
    assert emulator_module._stanza(index, "b") == {"Package": "b", "Filename": "b.deb", "SHA256": "12"}
    with pytest.raises(BadInput, match="has no package c"):
        emulator_module._stanza(index, "c")


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed (this is no Debian)")
def test_a_package_is_unpacked_over_a_linked_folder(tmp_path: Path) -> None:
    tree, root = tmp_path / "tree", tmp_path / "root"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(
        "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n"
    )
    (tree / "lib").mkdir()
    (tree / "lib" / "libx.so").write_text("x")
    deb = tmp_path / "x.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, deb], check=True, capture_output=True)
    (root / "usr" / "lib").mkdir(parents=True)
    (root / "lib").symlink_to("usr/lib")
    shell.unpack(deb, root)
    assert (root / "lib").is_symlink() and (root / "usr" / "lib" / "libx.so").read_text() == "x"
    assert {path.name for path in root.iterdir()} == {"lib", "usr"}
    deb.write_bytes(b"rubbish")
    with pytest.raises(BadInput, match="is no Debian package"):
        shell.unpack(deb, root)


def test_the_wheels_are_those_that_run_here() -> None:
    wanted = dict(pair.split("==") for pair in wheels.pinned())
    assert set(wanted) == set(wheels.DEVICE)
    assert wanted["numpy"] == version("numpy")


def test_the_emulated_python_sees_nothing_of_this_machine(tmp_path: Path) -> None:
    there = Emulator(tmp_path / "qemu", tmp_path / "root", tmp_path / "site")
    assert "PATH" not in there.environment and "VIRTUAL_ENV" not in there.environment
    assert there.environment["PYTHONPATH"] == str(there.site) and "-P" in there.command(["-c", ""])
