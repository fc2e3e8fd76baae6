"""`--record`: whole JSON lines, whatever happens to the disk or happened to the file before."""

import json
import os
from pathlib import Path

import pytest

from edge.messages import ErrorLine, TokenLine, encode
from edge.record import Recorder
from firmware_bridge.errors import BadInput

LINES = [TokenLine(0.4 * i, i, 0.5) for i in range(20)]


def recorded(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines_are_appended_and_there_at_once(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    for _ in range(2):
        recorder = Recorder(str(path))
        recorder.write(LINES)
        assert path.read_bytes().endswith(encode(LINES[-1]))
        recorder.close()
    assert [line["id"] for line in recorded(path)] == [*range(20)] * 2


@pytest.mark.parametrize("kept", range(1, len(encode(LINES[0]))))
def test_a_torn_last_line_is_mended(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(encode(LINES[0]) + encode(LINES[1])[:kept])
    recorder = Recorder(str(path))
    recorder.write(LINES[2:3])
    recorder.close()
    assert [line["id"] for line in recorded(path)] == ([0, 2])


def test_a_file_that_is_no_recording_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"\xff\xd8 not ours")
    with pytest.raises(BadInput, match=r"photo\.jpg: holds something other than a recording"):
        Recorder(str(path))
    assert path.read_bytes() == b"\xff\xd8 not ours"


@pytest.mark.parametrize(("name", "word"), [("no/such/folder/r", "No such file"), ("", "directory")])
def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path, name: str, word: str) -> None:
    with pytest.raises(BadInput, match=word):
        Recorder(str(tmp_path / name))


def test_a_full_disk_is_told_and_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk with room for 700 bytes, played: the write is short first, then refused, as a real one does it."""
    path = tmp_path / "r.jsonl"
    recorder = Recorder(str(path))

    room = 700

    class Disk:
        left = room

        def __init__(self, file: object) -> None:
            self.file = file

        def __getattr__(self, name: str) -> object:
            return getattr(self.file, name)

        def write(self, data: memoryview) -> int:
            if not self.left:
                raise OSError(28, os.strerror(28))
            count: int = self.file.write(data[: self.left])  # type: ignore[attr-defined]
            self.left -= count
            return count

    monkeypatch.setattr(recorder, "_file", Disk(recorder._file))
    lines = [*LINES[:3], ErrorLine(1.0, "é" * 20, False)]
    for _ in range(room // sum(len(encode(line)) for line in lines)):
        recorder.write(lines)
    with pytest.raises(BadInput, match="No space left on device"):
        recorder.write(lines)
    recorder.close()
    assert len(recorded(path)) % 4 == 0 and 0 < path.stat().st_size <= room
