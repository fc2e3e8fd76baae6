"""`pulsecode data fetch` against a web server on this machine that serves a tiny data set and misbehaves on demand."""

import errno
import hashlib
import io
import json
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import wfdb
from rich.console import Console
from synthetic_recordings import paired_signals, write_record

from firmware_bridge.cli import main
from firmware_bridge.errors import BadInput
from trainer.data import download
from trainer.data.fetch import fetch, parse_sums
from trainer.data.fetch_zenodo import RECORD
from trainer.recordings import find_recordings

QUIET = Console(quiet=True)


@dataclass
class Site:
    """What the server serves (path → bytes) and how it misbehaves; ``asked`` is (path, Range header) in order."""

    files: dict[str, bytes] = field(default_factory=dict)
    break_once: dict[str, int] = field(default_factory=dict)  # path → bytes sent before the connection is cut
    status: dict[str, int] = field(default_factory=dict)
    ranges: bool = True
    stall: str = ""  # a path whose bytes never end
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""

    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]


def handler_of(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            asked = self.headers.get("Range")
            site.asked.append((path, asked))
            content = site.files.get(path)
            if path in site.status or content is None:
                self.send_error(site.status.get(path, HTTPStatus.NOT_FOUND))
                return
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and site.ranges else 0
            if start and start >= len(content):
                self.send_error(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
                return
            self.send_response(HTTPStatus.PARTIAL_CONTENT if start else HTTPStatus.OK)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start : start + site.break_once.pop(path, len(content))])
            if path == site.stall:
                self.wfile.flush()
                threading.Event().wait(20)

        def log_message(self, *args: object) -> None:
            pass

    return Handler


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A running server; transfers that broke are tried again at once."""
    monkeypatch.setattr(download, "PAUSES", (0.0, 0.0))
    site = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(site))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_port}/"
    yield site
    server.shutdown()
    server.server_close()
    thread.join()


def publish(site: Site, folder: Path, version: str) -> None:
    """Serve the files of ``folder`` as PhysioNet would, with their checksums."""
    lines = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = file.relative_to(folder).as_posix()
        content = file.read_bytes()
        site.files[f"/{version}/{name}"] = content
        lines.append(f"{hashlib.sha256(content).hexdigest()} {name}\n")
    site.files[f"/{version}/SHA256SUMS.txt"] = "".join(lines).encode()


@pytest.fixture
def bidmc(site: Site, tmp_path: Path) -> Path:
    """Three records of two seconds, one with annotations, with the CSV copy and the documents that BIDMC has."""
    folder = tmp_path / "published"
    for i in (1, 2, 3):
        ppg, ecg = paired_signals(2, 60 + i)
        write_record(folder, f"bidmc0{i}", ppg, ecg)
    wfdb.wrann("bidmc01", "breath", np.array([10, 90]), symbol=['"', '"'], write_dir=str(folder))
    (folder / "RECORDS").write_text("bidmc01\nbidmc02\nbidmc03\n")
    (folder / "LICENSE.txt").write_text("ODC-By 1.0\n")
    (folder / "bidmc_csv").mkdir()
    (folder / "bidmc_csv" / "bidmc_01_Signals.csv").write_text("Time [s],PLETH,II\n0,1,2\n")
    publish(site, folder, "bidmc/1.0.0")
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_whole_data_set_and_again(
    site: Site, bidmc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "data"
    assert main(["data", "fetch", "bidmc", "--out", str(out), "--mirror", site.url]) == 0
    said = capsys.readouterr()
    assert said.out == "" and "9 files fetched" in said.err
    assert names(out / "bidmc") == sorted(
        ["LICENSE.txt", "RECORDS", "SHA256SUMS.txt", "bidmc01.breath"]
        + [f"bidmc0{i}.{end}" for i in (1, 2, 3) for end in ("dat", "hea")]
    )
    for name in names(out / "bidmc"):
        assert (out / "bidmc" / name).read_bytes() == site.files[f"/bidmc/1.0.0/{name}"]
    assert [r.patient for r in find_recordings(out).recordings] == ["bidmc01", "bidmc02", "bidmc03"]

    site.asked.clear()
    (out / "bidmc" / "bidmc02.dat").write_bytes(b"somebody's edit")
    fetch("bidmc", out, QUIET, mirror=site.url)
    assert site.paths() == ["/bidmc/1.0.0/SHA256SUMS.txt", "/bidmc/1.0.0/bidmc02.dat"]
    assert (out / "bidmc" / "bidmc02.dat").read_bytes() == (bidmc / "bidmc02.dat").read_bytes()


def test_some_records(site: Site, bidmc: Path, tmp_path: Path) -> None:
    fetch("bidmc", tmp_path / "d", QUIET, records=["bidmc03"], mirror=site.url)
    assert [r.name for r in find_recordings(tmp_path / "d").recordings] == ["bidmc03"]
    with pytest.raises(BadInput, match=r"--records bidmc30: no such record .* did you mean bidmc03"):
        fetch("bidmc", tmp_path / "d", QUIET, records=["bidmc30"], mirror=site.url)


def test_a_corrupted_file_is_never_kept(site: Site, bidmc: Path, tmp_path: Path) -> None:
    content = site.files["/bidmc/1.0.0/bidmc02.dat"]
    site.files["/bidmc/1.0.0/bidmc02.dat"] = bytes([content[0] ^ 1]) + content[1:]
    with pytest.raises(BadInput, match=r"bidmc02\.dat: is not what was published \(sha256 differs\)") as error:
        fetch("bidmc", tmp_path / "d", QUIET, mirror=site.url)
    assert "\n" not in str(error.value)
    assert not [name for name in names(tmp_path / "d") if "bidmc02.dat" in name]
    site.files["/bidmc/1.0.0/bidmc02.dat"] = content
    fetch("bidmc", tmp_path / "d", QUIET, mirror=site.url)
    assert (tmp_path / "d" / "bidmc" / "bidmc02.dat").read_bytes() == content


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_transfer_goes_on(site: Site, bidmc: Path, tmp_path: Path, ranges: bool) -> None:
    site.ranges = ranges
    site.break_once["/bidmc/1.0.0/bidmc01.dat"] = 700
    fetch("bidmc", tmp_path / "d", QUIET, mirror=site.url)
    tries = [asked for path, asked in site.asked if path.endswith("bidmc01.dat")]
    assert tries == [None, "bytes=700-"]
    assert (tmp_path / "d" / "bidmc" / "bidmc01.dat").read_bytes() == (bidmc / "bidmc01.dat").read_bytes()


@pytest.mark.parametrize("left", ["beginning", "other", "whole", "longer"])
def test_what_an_earlier_run_left(site: Site, bidmc: Path, tmp_path: Path, left: str) -> None:
    content = (bidmc / "bidmc01.dat").read_bytes()
    folder = tmp_path / "d" / "bidmc"
    folder.mkdir(parents=True)
    part = {"beginning": content[:300], "other": b"x" * 300, "whole": content, "longer": content + b"x"}[left]
    (folder / ".bidmc01.dat.part").write_bytes(part)
    fetch("bidmc", tmp_path / "d", QUIET, records=["bidmc01"], mirror=site.url)
    assert (folder / "bidmc01.dat").read_bytes() == content
    assert not list(folder.glob(".*"))
    tries = [asked for path, asked in site.asked if path.endswith("bidmc01.dat")]
    assert tries[0] == f"bytes={len(part)}-"
    assert len(tries) == (1 if left == "beginning" else 2)


@pytest.mark.parametrize(
    ("status", "path", "message"),
    [
        (404, "bidmc01.dat", r"bidmc01\.dat: no such file on the server \(404\)"),
        (404, "SHA256SUMS.txt", r"SHA256SUMS\.txt: no such file on the server"),
        (403, "bidmc01.hea", r"bidmc01\.hea: access is restricted \(403\)"),
        (503, "bidmc01.dat", r"bidmc01\.dat: the server answers 503 .*; tried 3 times"),
    ],
)
def test_what_the_server_refuses(site: Site, bidmc: Path, tmp_path: Path, status: int, path: str, message: str) -> None:
    site.status[f"/bidmc/1.0.0/{path}"] = status
    with pytest.raises(BadInput, match=message):
        fetch("bidmc", tmp_path / "d", QUIET, mirror=site.url)


def test_no_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mirror = "http://127.0.0.1:1/"
    assert main(["data", "fetch", "mitdb", "--out", str(tmp_path), "--mirror", mirror]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be reached (Connection refused); is there a network?" in line


def test_a_full_disk(site: Site, bidmc: Path, tmp_path: Path) -> None:
    folder = tmp_path / "d" / "bidmc"
    folder.mkdir(parents=True)
    (folder / ".bidmc01.dat.part").symlink_to("/dev/full")  # where every write ends with ENOSPC
    with pytest.raises(BadInput, match=r"bidmc01\.dat: the disk is full; make room"):
        fetch("bidmc", tmp_path / "d", QUIET, records=["bidmc01"], mirror=site.url)
    assert errno.ENOSPC in download.FULL and not (folder / "bidmc01.dat").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{'0' * 64} ../../evil", "names a file outside the data set"),
        (f"{'0' * 64} /etc/passwd", "names a file outside the data set"),
        ("<html>", "line 1 is no checksum"),
        ("", "lists no file"),
    ],
)
def test_checksums_that_cannot_be_used(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        parse_sums(text, "http://x/SHA256SUMS.txt")


def test_names_and_mirrors_that_make_no_sense(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"data set 'bidcm': unknown; known: bidmc, challenge-2015"):
        fetch("bidcm", tmp_path, QUIET)
    with pytest.raises(BadInput, match=r"--mirror ftp://x: must be a URL"):
        fetch("bidmc", tmp_path, QUIET, mirror="ftp://x")


def test_records_in_folders_and_of_segments(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "published"
    ppg, ecg = paired_signals(2, 60)
    write_record(folder / "p00", "seg_0001", ppg, ecg)
    write_record(folder / "p00", "seg_0002", ppg, ecg)
    (folder / "p00" / "rec.hea").write_text(f"rec/2 2 125 {2 * len(ppg)}\nseg_0001 {len(ppg)}\nseg_0002 {len(ppg)}\n")
    (folder / "p01").mkdir()
    (folder / "p01" / "other name.edf").write_bytes(b"edf")
    publish(site, folder, "some-set/2.1")
    site.files["/some-set/2.1/p01/other%20name.edf"] = site.files.pop("/some-set/2.1/p01/other name.edf")
    fetch("some-set/2.1", tmp_path / "d", QUIET, records=["rec"], mirror=site.url)
    assert names(tmp_path / "d" / "some-set") == [
        "SHA256SUMS.txt", "p00/rec.hea", "p00/seg_0001.dat", "p00/seg_0001.hea", "p00/seg_0002.dat", "p00/seg_0002.hea"
    ]  # fmt: skip
    fetch("some-set/2.1", tmp_path / "d", QUIET, mirror=site.url)
    assert "p01/other name.edf" in names(tmp_path / "d" / "some-set")


def test_perform_af_from_zenodo(site: Site, tmp_path: Path) -> None:
    listed = []
    for name, group in (("mimic_perform_af", "af"), ("mimic_perform_non_af", "non_af")):
        folder = tmp_path / group
        ppg, ecg = paired_signals(2, 60)
        write_record(folder, f"{name}_001", ppg, ecg)
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for file in sorted(folder.iterdir()):
                archive.write(file, f"{name}_wfdb/{file.name}")
            archive.writestr("../../LICENSE.txt", "ODbL")
        site.files[f"/records/{RECORD}/files/{name}_wfdb.zip"] = packed.getvalue()
        listed.append({"key": f"{name}_wfdb.zip", "checksum": f"md5:{hashlib.md5(packed.getvalue()).hexdigest()}"})
    site.files[f"/api/records/{RECORD}"] = json.dumps({"files": listed}).encode()
    fetch("mimic-perform-af", tmp_path / "d", QUIET, mirror=site.url)
    listing = find_recordings(tmp_path / "d")
    assert [(r.dataset, r.group) for r in listing.recordings] == [
        ("mimic_perform_af", "AF_wfdb"),
        ("mimic_perform_af", "Non_AF_wfdb"),
    ]
    assert (tmp_path / "d" / "mimic_perform_af" / "AF_wfdb" / "LICENSE.txt").read_text() == "ODbL"
    archive_path = f"/records/{RECORD}/files/mimic_perform_af_wfdb.zip"
    site.files[archive_path] = site.files[archive_path][:-1] + b"x"
    with pytest.raises(BadInput, match=r"is not what was published \(md5 differs\)"):
        fetch("mimic-perform-af", tmp_path / "e", QUIET, mirror=site.url)


def test_ctrl_c_keeps_what_was_fetched(site: Site, bidmc: Path, tmp_path: Path) -> None:
    site.stall = "/bidmc/1.0.0/bidmc01.dat"
    site.files[site.stall] += bytes(10)  # what the server promises and does not send
    site.break_once[site.stall] = 400
    out = tmp_path / "d"
    command = [sys.executable, "-c", "from firmware_bridge.cli import main; raise SystemExit(main())", "data", "fetch"]
    with subprocess.Popen([*command, "bidmc", "--out", str(out), "--mirror", site.url], stderr=subprocess.PIPE) as run:
        part = out / "bidmc" / ".bidmc01.dat.part"
        while not ((out / "bidmc" / "bidmc03.dat").exists() and part.exists()):
            assert run.poll() is None
            threading.Event().wait(0.02)
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=20)
    assert run.returncode == 130
    assert b"files are there; the same command goes on" in said and b"Traceback" not in said
    assert not (out / "bidmc" / "bidmc01.dat").exists()
