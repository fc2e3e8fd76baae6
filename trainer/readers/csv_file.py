"""CSV files with a header line and a PPG and an ECG column, one file a recording.

Columns are found by name (:mod:`trainer.readers.channels`). The rate comes from ``FILE.json`` beside ``FILE.csv``
(``{"rate": 125, "patient": "p07"}``), else from a comment (``# rate=125``, ``# patient=p07``) above the header, else
from a time column, whose unit is seconds unless its name says ms, us or ns; it is never guessed. A time column also
shows the gaps. An empty cell or NaN is a missing sample. Without a patient the file's name stands for the person.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from firmware_bridge.errors import BadInput
from trainer.readers.channels import find_pair, simplified
from trainer.recordings import F64, LeftOut, Recording

HEAD = 1 << 16  # bytes at a file's start that tell its columns and rate
TAIL = 1 << 12
RATES = (20.0, 10_000.0)  # Hz; another rate means that the time column is not in the unit it should be in
TIME_NAMES = ("t", "time", "timestamp", "seconds", "time s", "t s", "time sec", "time seconds", "elapsed")
UNITS = {"s": 1.0, "sec": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
MAX_UNEVEN = 0.01  # share of samples that may fall on a grid place already taken
COMMENT = re.compile(r"#\s*(rate|fs|patient|subject)\s*[=:]\s*([^\s,;]+)", re.IGNORECASE)


@dataclass(frozen=True)
class _Layout:
    """What the start of a file says. ``time`` is the time column and its unit in seconds."""

    separator: str
    names: list[str]
    rows: list[list[str]]
    facts: dict[str, str]
    time: tuple[int, float] | None


def _find_time(names: list[str]) -> tuple[int, float] | None:
    for number, name in enumerate(names):
        simple = simplified(name)
        inside = re.search(r"[\[(](.*?)[\])]", name)
        unit = inside.group(1).strip().lower() if inside else simple.rpartition(" ")[2]
        if simple in TIME_NAMES or simple.removesuffix(unit).strip() in TIME_NAMES:
            return number, UNITS.get(unit, 1.0)
    return None


def _layout(file: Path) -> _Layout:
    try:
        with file.open("rb") as stream:
            text = stream.read(HEAD).decode("utf-8-sig", errors="strict" if file.stat().st_size <= HEAD else "ignore")
    except OSError as error:
        raise LeftOut(f"CSV that cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise LeftOut("CSV that is not UTF-8 text") from None
    lines = text.splitlines()
    if file.stat().st_size > HEAD:
        lines.pop()  # cut off in the middle
    facts = {
        found.group(1).lower(): found.group(2)
        for line in lines
        if line.startswith("#") and (found := COMMENT.match(line))
    }
    lines = [line for line in lines if line.strip() and not line.startswith("#")]
    if not lines:
        raise LeftOut("empty CSV", counted=False)
    separator = max(",;\t", key=lines[0].count)
    names = [name.strip().strip('"') for name in lines[0].split(separator)]
    return _Layout(separator, names, [line.split(separator) for line in lines[1:]], facts, _find_time(names))


def _sidecar(file: Path) -> dict[str, str]:
    path = file.with_suffix(".json")
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: not a JSON object with rate and patient ({error})") from None
    if not isinstance(content, dict):
        raise BadInput(f"{path}: not a JSON object with rate and patient")
    return {key: str(content[key]) for key in ("rate", "fs", "patient", "subject") if key in content}


def _seconds(cells: list[str], unit: float) -> F64:
    try:
        return np.array([float(cell) for cell in cells]) * unit
    except ValueError:
        raise LeftOut("CSV whose time column is not in seconds; give the rate in FILE.json") from None


def _last_time(file: Path, layout: _Layout, column: int, unit: float) -> float:
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - TAIL))
        lines = [line for line in stream.read().decode(errors="ignore").splitlines() if line.strip()]
    return float(_seconds([lines[-1].split(layout.separator)[column]], unit)[0])


def _count_rows(file: Path, layout: _Layout) -> int:
    """Lines after the header; comments above it are few and are not worth a second pass."""
    with file.open("rb") as stream:
        breaks = sum(block.count(b"\n") for block in iter(lambda: stream.read(1 << 20), b""))
    return max(0, breaks - 1 - len(layout.facts))


def _rate_of_time(times: F64, rows: int, span: float) -> float:
    """Hz, from the first ``times`` (s), sharpened by the whole file's ``span`` (s) where that shows no gap."""
    steps = np.diff(times)
    if len(steps) < 2 or not (steps > 0).all():
        raise LeftOut("CSV whose time column does not increase")
    neighbours = steps < 1.7 * np.median(steps)
    rate = 1 / float(steps[neighbours].mean())
    whole = (rows - 1) / span
    if abs(whole / rate - 1) < 1e-3:
        rate = whole
    nearest = round(rate)
    # A whole number of Hz, where that moves no sample of the first ones by more than half a period.
    return float(nearest) if nearest and abs(rate / nearest - 1) * len(times) <= 0.5 else rate


def scan(file: Path, dataset: str, group: str) -> list[Recording]:
    """The recording in ``file``, by its first and last lines. Raises :class:`LeftOut`, :class:`BadInput`."""
    layout = _layout(file)
    ppg, ecg = find_pair(layout.names)
    facts = layout.facts | _sidecar(file)
    given = facts.get("rate", facts.get("fs"))
    rows = _count_rows(file, layout)
    try:
        rate = float(given) if given is not None else None
    except ValueError:
        raise BadInput(f"{file}: rate {given!r} is not a number of Hz") from None
    length = rows
    if layout.time is not None:
        column, unit = layout.time
        try:
            times = _seconds([row[column] for row in layout.rows], unit)
            span = _last_time(file, layout, column, unit) - float(times[0])
        except IndexError:
            raise LeftOut("CSV with rows shorter than its header") from None
        rate = _rate_of_time(times, rows, span) if rate is None else rate
        length = round(span * rate) + 1
    if rate is None:
        raise LeftOut("CSV without a time column or a rate (write it to FILE.json)")
    if not RATES[0] <= rate <= RATES[1]:
        raise LeftOut(f"CSV at {rate:g} Hz: is its time column in seconds?")
    patient = facts.get("patient", facts.get("subject", file.stem))
    return [Recording(dataset, group, file.stem, patient, file, rate, length, ppg, ecg, layout.names[ecg], __name__)]


def read(recording: Recording) -> tuple[F64, F64]:
    """PPG and ECG in the file's units, on a regular grid of ``recording.rate`` where there is a time column."""
    import pandas

    file = recording.path
    try:
        layout = _layout(file)
    except LeftOut as reason:  # it was a recording when it was listed
        raise BadInput(f"recording {file}: cannot be read ({reason})") from None
    columns = [recording.ppg_channel, recording.ecg_channel, *([layout.time[0]] if layout.time else [])]
    try:
        table = pandas.read_csv(
            file, sep=layout.separator, usecols=columns, comment="#", dtype=np.float64, encoding="utf-8-sig",
            skip_blank_lines=len(layout.names) > 1, float_precision="round_trip",
        )  # fmt: skip
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        raise BadInput(f"recording {file}: cannot be read ({' '.join(str(error).split())})") from None
    values = {number: table.iloc[:, place].to_numpy() for place, number in enumerate(sorted(columns))}
    ppg, ecg = values[recording.ppg_channel], values[recording.ecg_channel]
    if layout.time is None:
        return ppg, ecg
    times = values[layout.time[0]] * layout.time[1]
    if not np.isfinite(times).all() or (np.diff(times) < 0).any():
        raise BadInput(
            f"recording {file}: column {layout.names[layout.time[0]]!r} is empty somewhere or runs backwards"
        )
    index = np.round((times - times[0]) * recording.rate).astype(np.int64)
    if (np.diff(index) < 1).mean() > MAX_UNEVEN:
        raise BadInput(f"recording {file}: times are too uneven for {recording.rate:g} Hz; resample it")
    grid = np.full((2, index[-1] + 1), np.nan)
    grid[:, index] = ppg, ecg
    return grid[0], grid[1]
