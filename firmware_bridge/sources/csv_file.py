"""``file:rec.csv?column=ppg&rate=125`` — a column of a text file with a header line.

The rate is either given or follows from a time column (``t`` or ``time``, seconds), which also shows the gaps; it is
never guessed. An empty cell or NaN is a missing sample.
"""

import csv
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.block import Signal, StreamInfo
from firmware_bridge.errors import BadInput
from firmware_bridge.source import SourceUri
from firmware_bridge.sources.replay import Replay

F64 = NDArray[np.float64]

TIME_NAMES = ("t", "time", "time_s", "time (s)", "time [s]", "seconds")
SIGNAL_NAMES: dict[Signal, tuple[str, ...]] = {"ppg": ("ppg", "pleth", "ir", "bvp"), "ecg": ("ecg", "ii", "mlii")}
MISSING = ("", "nan", "na")
MAX_RATE = 10_000.0
MAX_VALUE = 1e100  # energies are squares, and must stay finite
# Three days at 125 Hz, 256 MiB: a gap that would make a recording longer is a wrong time stamp.
MAX_SAMPLES = 2**25


class Table:
    """A text file as rows of cells under a header; ``lines`` are the rows' line numbers in the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            text = path.read_bytes().decode("utf-8-sig")
        except OSError as error:
            raise BadInput(f"{path}: cannot be read ({error.strerror})") from None
        except UnicodeDecodeError:
            raise BadInput(f"{path}: is not a text file; file: reads CSV with a header line") from None
        if "\0" in text:
            raise BadInput(f"{path}: is not a text file; file: reads CSV with a header line")
        if not text.strip():
            raise BadInput(f"{path}: is empty")
        head = text.lstrip().splitlines()[0]
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count))
        self.rows: list[list[str]] = []
        self.lines: list[int] = []
        try:
            for row in reader:
                if not (row and row[0].startswith("#")):
                    self.rows.append(row or [""])
                    self.lines.append(reader.line_num)
        except csv.Error as error:
            raise BadInput(f"{path}: line {reader.line_num}: {error}") from None
        # In a one-column file an empty line is an empty cell, but not before the header or at the end of the file.
        while self.rows and not any(cell.strip() for cell in self.rows[-1]):
            self.rows.pop()
        while self.rows and not any(cell.strip() for cell in self.rows[0]):
            del self.rows[0], self.lines[0]
        if not self.rows:
            raise BadInput(f"{path}: holds nothing but comments")
        self.names = [name.strip() for name in self.rows.pop(0)]
        del self.lines[0]
        if all(_is_number(name) for name in self.names):
            raise BadInput(f"{path}: line 1 must name the columns, for example `t,ppg`")
        if not self.rows:
            raise BadInput(f"{path}: has a header line and no samples")

    def find(self, name: str) -> int | None:
        """Number of the column called ``name``, case-insensitive."""
        lowered = [n.lower() for n in self.names]
        return lowered.index(name.lower()) if name.lower() in lowered else None

    def column(self, number: int, may_miss: bool) -> F64:
        """A column as numbers, NaN where a cell is empty; raises :class:`BadInput` naming the first bad cell."""
        out = np.empty(len(self.rows))
        name = self.names[number]
        for i, row in enumerate(self.rows):
            if number >= len(row) and len(self.names) > 1:
                raise self._bad(i, name, f"is missing, the row has {len(row)} of {len(self.names)} columns")
            cell = row[number].strip()
            if cell.lower() in MISSING:
                if not may_miss:
                    raise self._bad(i, name, "is empty")
                out[i] = np.nan
            elif _is_number(cell) and abs(float(cell)) <= MAX_VALUE:
                out[i] = float(cell)
            elif _is_number(cell) and np.isfinite(float(cell)):
                raise self._bad(i, name, f"{cell[:40]!r} is out of range")
            else:
                raise self._bad(i, name, f"{cell[:40]!r} is not a number")
        return out

    def _bad(self, row: int, name: str, what: str) -> BadInput:
        return BadInput(f"{self.path}: line {self.lines[row]}, column {name!r}: {what}")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    # Python reads 1_000 as a number; a table that holds it means something else.
    return "_" not in text


def _find_rate(table: Table, times: F64) -> float:
    """The rate of the grid ``times`` lie on, Hz: a straight line through times and counted samples."""
    steps = np.diff(times)
    if len(steps) < 2:
        raise BadInput(f"{table.path}: too few rows to find the rate from the time column; add ?rate=")
    # Printed times are rounded (360 Hz as 0.003, 0.006, 0.008), so the median step tells neighbours from gaps and
    # the mean of the neighbours' steps is the period.
    neighbours = steps < 1.7 * np.median(steps)
    period = steps[neighbours].mean()
    count = np.concatenate(([0.0], np.cumsum(np.where(neighbours, 1, np.round(steps / period)))))
    rate = 1 / float(np.polyfit(count, times - times[0], 1)[0])
    whole = round(rate)
    # A whole number of Hz, where that moves no sample by more than half a period.
    if whole and abs(rate / whole - 1) * (times[-1] - times[0]) * rate <= 0.5:
        return float(whole)
    return rate


def _grid(table: Table, times: F64, rate: float | None) -> tuple[NDArray[np.int64], float]:
    """Sample indices (n,) of ``times`` on a regular grid, and the rate of that grid in Hz."""
    rises = np.diff(times) > 0
    if not rises.all():
        raise BadInput(f"{table.path}: line {table.lines[int(np.argmin(rises)) + 1]}: time does not increase")
    rate = _find_rate(table, times) if rate is None else rate
    index = np.round((times - times[0]) * rate)
    # Again from the middle of all samples' phases, so that the first one's jitter does not shift the rest.
    index = np.round((times - np.median(times - index / rate)) * rate)
    index -= index[0]
    if index[-1] >= MAX_SAMPLES:
        raise BadInput(f"{table.path}: time runs over {times[-1] - times[0]:.0f} s at {rate:g} Hz; is it in seconds?")
    if (np.diff(index) < 1).any():
        line = table.lines[int(np.argmax(np.diff(index) < 1)) + 1]
        raise BadInput(
            f"{table.path}: line {line}: times are too irregular for {rate:g} Hz; "
            "give ?rate= and time=none to ignore them"
        )
    return index.astype(np.int64), rate


def _time_column(table: Table, uri: SourceUri) -> int | None:
    wanted = uri.options.get("time")
    if wanted == "none":
        return None
    if wanted is not None:
        number = table.find(wanted)
        if number is None:
            raise BadInput(f"{table.path}: has no column {wanted!r}; its columns: {', '.join(table.names)}")
        return number
    return next((n for n in map(table.find, TIME_NAMES) if n is not None), None)


def _signal_column(table: Table, uri: SourceUri, signal: Signal, time: int | None) -> int:
    wanted = uri.options.get("column")
    columns = ", ".join(table.names)
    if wanted is not None:
        number = table.find(wanted)
        if number is None:
            raise BadInput(f"{table.path}: has no column {wanted!r}; its columns: {columns}")
        return number
    number = next((n for n in map(table.find, SIGNAL_NAMES[signal]) if n is not None), None)
    if number is not None:
        return number
    others = [n for n in range(len(table.names)) if n != time]
    if len(others) == 1:
        return others[0]
    raise BadInput(f"{table.path}: which column is the {signal}? Choose with ?column= one of: {columns}")


def open_source(uri: SourceUri, signal: Signal) -> Replay:
    """Open a CSV file; options ``column``, ``rate`` (Hz), ``time`` (a column, or ``none``); raises BadInput."""
    uri.allow("column", "rate", "time")
    if not uri.target:
        raise BadInput(f"source {uri.text!r}: names no file (file:rec.csv?column=ppg&rate=125)")
    rate = uri.number("rate", 0) if "rate" in uri.options else None
    if rate is not None and not 0 < rate <= MAX_RATE:
        raise BadInput(f"source {uri.text!r}: rate must be above 0 and at most {MAX_RATE:g} Hz")
    table = Table(Path(uri.target))
    time = _time_column(table, uri)
    number = _signal_column(table, uri, signal, time)
    if time is None and rate is None:
        raise BadInput(f"{table.path}: says no rate and has no column t or time; add ?rate= in Hz")
    values = table.column(number, may_miss=True)
    decision = "user" if rate is not None else "time column"
    if time is not None:
        index, rate = _grid(table, table.column(time, may_miss=False), rate)
        spread = np.full(int(index[-1]) + 1, np.nan)
        spread[index] = values
        values = spread
    if rate is None or np.isnan(values).all():
        raise BadInput(f"{table.path}: column {table.names[number]!r} holds no number")
    info = StreamInfo(
        signal,
        table.names[number],
        period_ns=round(1e9 / rate),
        device=f"file {table.path.name}",
        rate_decision=decision,
    )
    return Replay(info, values, np.isnan(values), "not recorded", stamps=time is not None)
