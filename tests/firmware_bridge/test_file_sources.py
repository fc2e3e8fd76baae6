"""Recordings as sources: CSV and WFDB, their gaps, and one clear line for each way they can be wrong."""

from pathlib import Path

import numpy as np
import pytest
import wfdb
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.block import Flag, SampleBlock
from firmware_bridge.errors import BadInput
from firmware_bridge.runs import runs
from firmware_bridge.source import SourceUri, open_source
from firmware_bridge.sources.wfdb_record import find_channel, read_channel


def blocks_of(uri: str, signal: str = "ppg") -> list[SampleBlock]:
    source = open_source(uri, "ecg" if signal == "ecg" else "ppg")
    assert not source.live
    return [block for block in source if isinstance(block, SampleBlock)]


def indexed(blocks: list[SampleBlock]) -> dict[int, float]:
    return {block.index + i: float(v) for block in blocks for i, v in enumerate(block.values)}


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 9))
def test_runs_cover_what_is_present_and_nothing_else(present: list[bool], longest: int) -> None:
    found = [*runs(np.array(present, bool), longest)]
    assert [i for a, b in found for i in range(a, b)] == [i for i, p in enumerate(present) if p]
    assert all(0 < b - a <= longest and a // longest == (b - 1) // longest for a, b in found)


# CSV


def write(folder: Path, text: str) -> str:
    path = folder / "rec.csv"
    path.write_text(text)
    return f"file:{path}"


def test_csv_with_a_rate(tmp_path: Path) -> None:
    uri = write(tmp_path, "# a comment\nn,PPG\n" + "".join(f"{i},{i * 1.5}\n" for i in range(100)))
    source = open_source(uri + "?column=ppg&rate=50")
    assert (source.info.rate, source.info.name, source.info.rate_decision) == (50, "PPG", "user")
    blocks = [b for b in source if isinstance(b, SampleBlock)]
    assert indexed(blocks) == {i: i * 1.5 for i in range(100)}
    assert {len(b.values) for b in blocks} == {5}
    assert blocks[0].values.dtype == np.float64


@pytest.mark.parametrize("cell", ["", "NaN", "nan", " "])
def test_csv_empty_cells_are_missing_samples(tmp_path: Path, cell: str) -> None:
    uri = write(tmp_path, f"ppg,x\n1,0\n2,0\n{cell},0\n{cell},0\n5,0\n")
    blocks = blocks_of(uri + "?rate=10")
    assert indexed(blocks) == {0: 1, 1: 2, 4: 5}
    assert (blocks[-1].index, blocks[-1].gap_reason) == (4, "not recorded")
    assert blocks[-1].flags & Flag.LOST_BEFORE


@pytest.mark.parametrize(("rate", "digits"), [(125, 3), (360, 3), (100, 2), (135.14, 4), (64, 6)])
def test_csv_rate_and_gaps_from_the_time_column(tmp_path: Path, rate: float, digits: int) -> None:
    index = [*range(700), *range(760, 2000)]
    uri = write(tmp_path, "time;ppg\n" + "".join(f"{7 + i / rate:.{digits}f};{i}\n" for i in index))
    source = open_source(uri)
    assert source.info.rate_decision == "time column"
    assert source.info.rate == pytest.approx(rate, rel=2e-5)
    assert indexed([b for b in source if isinstance(b, SampleBlock)]) == {i: i for i in index}


def test_csv_time_with_jitter_stays_on_the_grid(tmp_path: Path) -> None:
    jitter = np.random.default_rng(1).uniform(-0.3, 0.3, 900)
    uri = write(tmp_path, "t,ppg\n" + "".join(f"{(i + jitter[i]) / 50:.6f},{i}\n" for i in range(900)))
    blocks = blocks_of(uri)
    assert indexed(blocks) == {i: i for i in range(900)}
    assert open_source(uri).info.rate == pytest.approx(50, rel=1e-3)


def test_an_empty_block_tells_what_is_missing_at_the_end(tmp_path: Path) -> None:
    uri = write(tmp_path, "t,ppg\n0,1\n1,2\n2,3\n3,\n4,\n")
    last = blocks_of(uri)[-1]
    assert (last.index, len(last.values), last.gap_reason) == (5, 0, "not recorded")
    whole = write(tmp_path, "t,ppg\n0,1\n1,2\n2,3\n")
    assert len(blocks_of(whole)[-1].values) == 1
    # The cable of scenario `unplug` is out from 15 to 18 s.
    pulled = blocks_of("sim:unplug?duration=17&rate=100")
    assert (pulled[-2].end, pulled[-1].index, len(pulled[-1].values)) == (1500, 1700, 0)
    assert pulled[-1].gap_reason == "cable pulled"
    assert blocks_of("sim:unplug?duration=15&rate=100")[-1].end == 1500


def test_csv_one_column_needs_no_name_and_takes_empty_lines_as_missing(tmp_path: Path) -> None:
    assert indexed(blocks_of(write(tmp_path, "counts\n3\n\n5\n\n") + "?rate=10")) == {0: 3, 2: 5}


def test_csv_ecg_column(tmp_path: Path) -> None:
    uri = write(tmp_path, "t,ppg,II\n0,1,10\n0.1,2,20\n0.2,3,30\n")
    assert indexed(blocks_of(uri, "ecg")) == {0: 10, 1: 20, 2: 30}


@pytest.mark.parametrize(
    ("text", "query", "line"),
    [
        ("ppg\n1\n2\nabc\n", "?rate=10", "line 4, column 'ppg': 'abc' is not a number"),
        ("t,ppg\n0,1\n0.1,2\n0.2,inf\n", "", "line 4, column 'ppg': 'inf' is not a number"),
        ("ppg\n1\n-1e200\n", "?rate=10", "line 3, column 'ppg': '-1e200' is out of range"),
        ("t,ppg\n0,1\nx,2\n", "", "line 3, column 't': 'x' is not a number"),
        ("t,ppg\n0,1\n,2\n", "", "line 3, column 't': is empty"),
        ("ppg,x\n1,2\n1\n", "?column=x&rate=1", "line 3, column 'x': is missing, the row has 1 of 2 columns"),
        ("ppg,x\n1,2\n", "", "says no rate and has no column t or time; add ?rate="),
        ("a,b\n1,2\n", "?rate=1", "which column is the ppg? Choose with ?column= one of: a, b"),
        ("a,b\n1,2\n", "?rate=1&column=c", "has no column 'c'; its columns: a, b"),
        ("a,b\n1,2\n", "?rate=1&column=a&time=c", "has no column 'c'; its columns: a, b"),
        ("ppg\n1\n", "?rate=ten", "option rate='ten' is not a number"),
        ("ppg\n1\n", "?rate=0", "rate must be above 0"),
        ("ppg\n1\n", "?speed=2", "unknown option 'speed'; known: column, rate, time"),
        ("1,2\n3,4\n", "?rate=1", "line 1 must name the columns"),
        ("ppg\n", "?rate=1", "has a header line and no samples"),
        ("ppg,x\n,1\n", "?rate=1", "column 'ppg' holds no number"),
        ("", "?rate=1", "is empty"),
        ("# only this\n", "?rate=1", "holds nothing but comments"),
        ("t,ppg\n0,1\n", "", "too few rows to find the rate"),
        ("t,ppg\n0,1\n0.1,2\n0.1,3\n", "", "line 4: time does not increase"),
        ("t,ppg\n0,1\n0.1,2\n0.2,3\n0.3,3\n9999999999,4\n", "", "is it in seconds?"),
        ("t,ppg\n0,1\n1,2\n1.2,3\n1.4,2\n3,1\n", "?rate=1", "times are too irregular for 1 Hz"),
    ],
)
def test_csv_bad_input_is_one_line(tmp_path: Path, text: str, query: str, line: str) -> None:
    uri = write(tmp_path, text)
    with pytest.raises(BadInput) as error:
        open_source(uri + query)
    assert line in str(error.value)
    assert "rec.csv" in str(error.value)
    assert "\n" not in str(error.value)


def test_csv_that_is_no_text_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "rec.bin"
    path.write_bytes(b"\x89PNG\r\n\xff\xfe\x00")
    with pytest.raises(BadInput, match="is not a text file"):
        open_source(f"file:{path}?rate=1")
    path.write_bytes(b"ppg\n1\n\x00\x00")
    with pytest.raises(BadInput, match="is not a text file"):
        open_source(f"file:{path}?rate=1")
    with pytest.raises(BadInput, match=r"none\.csv: cannot be read \(No such file"):
        open_source(f"file:{tmp_path / 'none.csv'}?rate=1")
    with pytest.raises(BadInput, match="cannot be read"):
        open_source(f"file:{tmp_path}?rate=1")
    with pytest.raises(BadInput, match="names no file"):
        open_source("file:?rate=1")


# WFDB

RECORD = np.random.default_rng(3).integers(-2000, 2000, (1000, 3)).astype(np.int64)
RECORD[:7, 1] = RECORD[300:320, 1] = -32768


@pytest.fixture
def record(tmp_path: Path) -> Path:
    wfdb.wrsamp(
        "rec", fs=125, units=["mV", "NU", "mV"], sig_name=["V", "pleth, finger", "II"], d_signal=RECORD,
        fmt=["16", "16", "16"], adc_gain=[200.0, 4000.5, 100.0], baseline=[0, -30, 5], comments=["Asystole"],
        write_dir=str(tmp_path),
    )  # fmt: skip
    return tmp_path / "rec"


def test_wfdb_gives_the_stored_integers_and_their_scale(record: Path) -> None:
    source = open_source(f"wfdb:{record}")
    info = source.info
    assert (info.name, info.unit, info.period_ns, info.rate_decision) == ("pleth", "NU", 8_000_000, "header")
    assert (info.scale, info.offset) == (1 / 4000.5, -30)
    blocks = [b for b in source if isinstance(b, SampleBlock)]
    assert blocks[0].values.dtype == np.int32
    assert indexed(blocks) == {i: v for i, v in enumerate(RECORD[:, 1]) if v != -32768}
    assert [(b.index, b.gap_reason) for b in blocks if b.gap_reason] == [(7, "not recorded"), (320, "not recorded")]
    assert all(b.device_us == b.index * 8000 for b in blocks)
    assert max(len(b.values) for b in blocks) == 12


def test_wfdb_picks_the_channel_by_signal_or_by_name(record: Path) -> None:
    assert open_source(f"wfdb:{record}.hea", "ecg").info.name == "II"
    assert indexed(blocks_of(f"wfdb:{record}?ecg=v", "ecg")) == dict(enumerate(RECORD[:, 0]))
    channel = read_channel(record, "ppg", "PLETH")
    assert channel.missing.sum() == 27
    assert channel.comments == ("Asystole",)
    assert np.array_equal(channel.values, RECORD[:, 1])


@pytest.mark.parametrize(
    ("names", "signal", "found"),
    [
        (["RESP,", "PLETH,", "V,", "AVR,", "II,"], "ppg", 1),
        (["RESP,", "PLETH,", "V,", "AVR,", "II,"], "ecg", 4),
        (["PPG, Fingertip PPG", "ECG, lead II", "resp"], "ppg", 0),
        (["PPG, Fingertip PPG", "ECG, lead II", "resp"], "ecg", 1),
        (["MLII", "V5"], "ecg", 0),
        (["aVF", "V2"], "ecg", 1),
        (["III", "aVL"], "ecg", 0),
        (["MCL1"], "ecg", 0),
        (["MLII", "V1"], "ppg", None),
        (["RESP", "ABP"], "ecg", None),
    ],
)
def test_wfdb_channel_names_of_the_open_sets(names: list[str], signal: str, found: int | None) -> None:
    assert find_channel(names, "ecg" if signal == "ecg" else "ppg") == found


def test_wfdb_format_212_and_many_samples_a_frame(tmp_path: Path) -> None:
    values = np.array([[5], [-2048], [7], [-1]] * 10, np.int64)
    wfdb.wrsamp(
        "r", fs=360, units=["NU"], sig_name=["PPG"], d_signal=values, fmt=["212"], adc_gain=[200.0], baseline=[0],
        write_dir=str(tmp_path),
    )  # fmt: skip
    channel = read_channel(tmp_path / "r")
    assert channel.missing.tolist() == [False, True, False, False] * 10
    wfdb.wrsamp(
        "m", fs=50, units=["mV", "NU"], sig_name=["II", "PLETH"], fmt=["16", "16"], adc_gain=[200.0, 200.0],
        baseline=[0, 0], samps_per_frame=[1, 2], e_d_signal=[np.arange(20), np.arange(40)], write_dir=str(tmp_path),
    )  # fmt: skip
    channel = read_channel(tmp_path / "m")
    assert channel.info.rate == 100
    assert channel.values.tolist() == list(range(40))


def test_wfdb_bad_input_is_one_line(record: Path) -> None:
    signals, header = record.with_suffix(".dat"), record.with_suffix(".hea")
    good, head = signals.read_bytes(), header.read_text()

    def refused(line: str, uri: str = f"wfdb:{record}") -> None:
        with pytest.raises(BadInput) as error:
            open_source(uri)
        assert line in str(error.value)
        assert "\n" not in str(error.value)

    refused("has no channel 'ABP'; its channels: V, pleth, II", f"wfdb:{record}?channel=ABP")
    refused("unknown option 'lead'", f"wfdb:{record}?lead=II")
    refused("cannot read", f"wfdb:{record.with_name('other')}")
    refused("names no record", "wfdb:")
    for left in (b"", good[:1001], good[:-2]):
        signals.write_bytes(left)
        refused("cannot be read or is shorter than the header says")
    signals.unlink()
    refused("cannot be read")
    signals.write_bytes(good)
    header.write_text(head.replace("pleth, finger", "resp"))
    refused("has no PLETH or PPG channel; its channels: V, resp, II")
    for nonsense in ("", "hello", "rec 2\nx"):
        header.write_text(nonsense)
        refused("is not a readable WFDB header")
    header.write_bytes(b"\xff\xfe\x00\x01")
    refused("is not a readable WFDB header")


def test_wfdb_without_the_package_says_what_to_install(record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "wfdb", None)
    with pytest.raises(BadInput, match=r"pip install 'pulsecode\[wfdb\]'"):
        open_source(f"wfdb:{record}")


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "ppg"),
    [("bidmc/bidmc01", "PLETH,"), ("challenge2015/v212s", "PLETH"), ("challenge2015/a103l", "PLETH")],
)
def test_wfdb_equals_the_digital_values_of_real_records(shared_data: Path, name: str, ppg: str) -> None:
    path = shared_data / name
    stored = wfdb.rdrecord(str(path), channel_names=[ppg], physical=False).d_signal[:, 0]
    physical = wfdb.rdrecord(str(path), channel_names=[ppg]).p_signal[:, 0]
    source = open_source(f"wfdb:{path}")
    found = indexed([b for b in source if isinstance(b, SampleBlock)])
    assert found == {i: v for i, v in enumerate(stored.tolist()) if v != -32768}
    assert set(found) == set(np.flatnonzero(np.isfinite(physical)).tolist())
    i = max(found)
    assert (found[i] - source.info.offset) * source.info.scale == pytest.approx(physical[i])


@pytest.mark.data
def test_wfdb_without_pleth_lists_what_there_is(shared_data: Path) -> None:
    with pytest.raises(BadInput, match="has no PLETH or PPG channel; its channels: MLII, V1"):
        open_source(f"wfdb:{shared_data / 'mitdb' / '101'}")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("rec.csv", "must start with one of sim:, file:, wfdb:, serial:"),
        ("ftp:x", "must start with one of"),
        ("file:x?rate", "options must read ?key=value"),
    ],
)
def test_source_uris_that_are_none(text: str, line: str) -> None:
    with pytest.raises(BadInput) as error:
        SourceUri.parse(text)
    assert line in str(error.value)
