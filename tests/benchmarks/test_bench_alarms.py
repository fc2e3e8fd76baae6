"""The alarm benchmark on made-up recordings whose truth is known, and its arithmetic on its own."""

import hashlib
import json
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import wfdb
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching

from benchmarks.alarms import beats, challenge, present
from benchmarks.alarms.cases import Case, choose, read_labels
from benchmarks.alarms.intervals import Estimate, per_hour, ratio, wilson
from benchmarks.alarms.measure import Result, measure
from benchmarks.alarms.plot import draw
from benchmarks.alarms.reference import bears_out
from benchmarks.alarms.watch import Alert, Watched, watch
from edge.alarms import AlarmLimits
from edge.bundle import Bundle, LogisticModel, load_bundle, write_bundle
from edge.engines import open_engine
from firmware_bridge.cli import main
from firmware_bridge.errors import BadInput
from trainer.heads.witness import Reference

RATE = 125.0
DELAY = 0.3  # s from R peak to the pulse's steepest point
RHYTHM = LogisticModel({"nrmssd": 60.0}, -6.0, "made up")


def write_heart(path: Path, onsets: np.ndarray, seconds: float, comments: tuple[str, ...] = ()) -> None:
    """A record whose heart beats at ``onsets`` (s): a narrow R peak each, and a pulse :data:`DELAY` later."""
    t = np.arange(round(seconds * RATE)) / RATE
    ecg, ppg = np.zeros_like(t), np.zeros_like(t)
    for onset in onsets:
        near = slice(*np.searchsorted(t, [onset - 0.5, onset + 1.5]))
        ecg[near] += np.exp(-0.5 * ((t[near] - onset) / 0.012) ** 2)
        rise = t[near] - onset - DELAY
        ppg[near] += np.where(rise < 0, np.exp(-0.5 * (rise / 0.05) ** 2), np.exp(-0.5 * (rise / 0.14) ** 2))
    noise = np.random.default_rng(len(onsets)).normal(0, 0.003, (2, len(t)))
    path.parent.mkdir(parents=True, exist_ok=True)
    wfdb.wrsamp(
        path.name, fs=RATE, units=["NU", "mV"], sig_name=["PLETH,", "II,"],
        p_signal=np.stack([ppg + noise[0], ecg + noise[1]], 1), fmt=["16", "16"], comments=list(comments),
        write_dir=str(path.parent),
    )  # fmt: skip


def steady(bpm: float, seconds: float, start: float = -0.9) -> np.ndarray:
    return np.arange(start, seconds - 0.5, 60 / bpm)


def in_half(first: bool) -> str:
    """A subject's name that the trainer puts into that half."""
    names = (f"s{i}" for i in range(100))
    return next(n for n in names if (hashlib.sha256(n.encode()).digest()[0] % 2 == 0) == first)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The shipped bundle, but one that believes every pulse: its judging models are not what is tested here."""
    shipped = load_bundle()
    models = {"quality": LogisticModel({}, 5.0, "made up"), "rhythm": RHYTHM}
    manifest = msgspec.structs.replace(shipped.manifest, **models)
    path = tmp_path_factory.mktemp("bench") / "believing"
    write_bundle(path, manifest, {name: shipped.read(name) for name in manifest.files})
    return load_bundle(path)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    stops = np.concatenate([steady(80, 292), steady(80, 330, 304)])
    fast = np.concatenate([steady(80, 270), steady(165, 330, 269.8)])
    hearts = {"stops": stops, "steady": steady(80, 330), "fast": fast, "slow": steady(70, 300)}
    for name, onsets in hearts.items():
        write_heart(folder / "challenge2015" / name, onsets, 300 if name == "slow" else 330)
    (folder / "challenge2015" / "ALARMS.csv").write_text(
        "record,alarm,alarm_is_true,seconds\nstops,Asystole,1,330\nsteady,Asystole,0,330\nfast,Tachycardia,1,330\n"
        "slow,Bradycardia,1,300\n"
    )
    for name, bpm in (("one", 60), ("two", 155)):
        write_heart(folder / "bidmc" / name, steady(bpm, 70), 70)
    rng = np.random.default_rng(0)
    uneven = np.cumsum(rng.uniform(0.45, 1.2, 110)) - 1
    subject = f"<Original Subject ID>: {in_half(False)} "
    write_heart(folder / "mimic_perform_af" / "AF_wfdb" / "af", uneven[uneven < 79], 80, (subject,))
    write_heart(folder / "mimic_perform_af" / "Non_AF_wfdb" / "well", steady(70, 80), 80, (subject,))
    return folder


@pytest.fixture(scope="module")
def judged(bundle: Bundle, data: Path) -> tuple[Result, list[Case]]:
    return measure(bundle, data)


def test_true_alarms_are_found_and_the_quiet_heart_is_left_alone(judged: tuple[Result, list[Case]]) -> None:
    findings = {found.record: found for found in judged[0].findings}
    stops = findings["stops"]
    assert stops.answered
    assert "pulse_lost" in stops.ours
    assert stops.raised is not None and -6 < stops.raised < 0  # the last beat is at 4:51.5, the limit 3 s
    assert 8 < stops.pause < 14
    assert not findings["steady"].ours
    assert findings["steady"].pause < 1.5
    assert "tachy" in findings["fast"].ours
    assert findings["fast"].raised is None  # active since long before 4:50
    assert [findings[name].ecg_shows for name in ("stops", "steady", "fast", "slow")] == [True, False, True, False]
    assert not findings["slow"].answered
    assert findings["slow"].interval_end == 300
    rows = {(row.alarm, row.part): row for row in judged[0].challenge}
    asystole = rows["Asystole", "all"]
    assert (asystole.true, asystole.found, asystole.raised, asystole.by_five, asystole.ecg_shows) == (1,) * 5
    assert (asystole.false, asystole.fired) == (1, 0)
    tachycardia = rows["Tachycardia", "all"]
    assert (tachycardia.found, tachycardia.raised, tachycardia.by_five, tachycardia.delay) == (1, 0, 1, None)
    assert asystole.sensitivity == wilson(1, 1)
    assert asystole.suppression == wilson(1, 1)
    assert asystole.elsewhere.value == 0
    assert rows["Bradycardia", "all"].found == 0
    assert rows["Bradycardia", "all"].false == 0


def test_alerts_are_weighed_by_the_ecg(judged: tuple[Result, list[Case]]) -> None:
    result = judged[0]
    rows = {(row.group, row.name): row for row in result.alerts}
    fast = rows["BIDMC, all", "tachy"]
    assert (fast.alerts, fast.records, fast.borne_out) == (1, 1, 1)  # 155 bpm by the ECG too
    hours = next(g.hours for g in result.groups if g.group == "BIDMC, all")
    assert hours == pytest.approx(140 / 3600, rel=0.02)
    assert fast.false_per_hour.value == 0
    assert fast.false_per_hour.high == pytest.approx(3.689 / hours, rel=0.01)
    assert {row.name for row in result.alerts} >= {"sensor_off", "pulse_lost", "brady", "tachy", "irregular"}
    assert all(row.alerts == 0 for row in result.alerts if row.group == "PERform non-AF")


def test_af_is_judged_on_the_half_it_was_not_calibrated_on(judged: tuple[Result, list[Case]]) -> None:
    af = judged[0].af
    assert af is not None
    assert (af.af, af.found, af.non_af, af.falsely) == (1, 1, 1, 0)
    assert af.delay is not None and 10 < af.delay < 60
    assert af.active.value is not None and 0.2 < af.active.value < 1
    assert af.false_active.value == 0


def test_rate_and_beats_are_those_of_the_heart(judged: tuple[Result, list[Case]]) -> None:
    result, cases = judged
    ours = {row.group: row for row in result.rates if row.who == "Pulsecode"}
    for group in ("BIDMC", "PERform non-AF"):
        assert ours[group].mae.value is not None and ours[group].mae.value < 1
        assert ours[group].within.value == 1
        assert 0.5 < (ours[group].coverage.value or 0) <= 1
    peers = [row for row in result.rates if row.who.startswith("NeuroKit2") and row.group == "BIDMC"]
    assert [row.windows > 0 for row in peers] == [True, True]
    assert peers[1].windows <= peers[0].windows
    for row in result.beats:
        if row.group in ("BIDMC", "PERform non-AF"):
            assert row.f1.value is not None and row.f1.value > 0.98
    steady_case = next(case for case in cases if case.recording.name == "one")
    found = beats.pulse_delay(steady_case.reference.peaks, steady_case.watched.beats)
    assert abs(found - DELAY) < 0.1


def test_the_result_is_told_in_every_way(judged: tuple[Result, list[Case]]) -> None:
    result, cases = judged
    text = present.as_markdown(result)
    decoded = json.loads(present.as_json(result))
    assert decoded["type"] == "bench_alarms"
    assert decoded["bundle_sha256"] == result.bundle_sha256
    assert result.bundle_sha256[:16] in text
    assert "| Asystole, all | 1 of 1: 100 % (21–100) | 1 / 1 | 1 |" in text
    for section in present.sections(result):
        assert f"### {section.title}" in text
        assert {len(row) for row in section.rows} == {len(section.columns)}
    assert draw(result, cases).startswith(b"\x89PNG")


def test_without_the_peer_its_rows_say_so(bundle: Bundle, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "neurokit2", None)
    result, cases = measure(bundle, data, limit=1)
    assert result.recordings == {"bidmc": 1, "challenge2015": 1, "mimic_perform_af": 2}
    missing = {row.missing for row in (*result.rates, *result.beats) if row.who.startswith("NeuroKit2")}
    assert missing == {"not installed"}
    assert "| NeuroKit2 | not installed |" in present.as_markdown(result)
    assert "A quick look: at most 1 recordings" in present.as_markdown(result)
    assert draw(result, cases).startswith(b"\x89PNG")


def test_the_command_writes_its_files(
    bundle: Bundle, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "neurokit2", None)
    arguments = ["bench", "alarms", "--bundle", str(bundle.path), "--data", str(data), "--limit", "1"]
    assert main([*arguments, "--json", "--out", str(tmp_path / "out")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "out" / "alarms.json").read_text())
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"alarms.json", "alarms.md", "alarms.png"}
    assert main(arguments) == 0
    assert "Pulse rate" in capsys.readouterr().out


def test_bad_input_ends_in_one_line(
    bundle: Bundle, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_heart(tmp_path / "elsewhere" / "r", steady(70, 20), 20)
    for arguments, said in (
        (["--bundle", "nowhere"], "bundle nowhere: no such folder or zip"),
        (["--bundle", str(bundle.path), "--data", str(tmp_path / "none")], "no such folder; give --data"),
        (["--bundle", str(bundle.path), "--data", str(tmp_path)], "holds none of bidmc, challenge2015"),
        (["--limit", "0"], "'0' is not a number of recordings"),
    ):
        assert main(["bench", "alarms", *arguments]) == 2
        err = capsys.readouterr().err
        assert said in err
        assert err.count("\n") == 1
    monkeypatch.setitem(sys.modules, "wfdb", None)
    assert main(["bench", "alarms", "--bundle", str(bundle.path), "--data", str(data)]) == 2
    assert "wfdb is not installed; run `pip install 'pulsecode[train]'`" in capsys.readouterr().err
    monkeypatch.undo()
    for_ecg = Bundle(bundle.path, msgspec.structs.replace(bundle.manifest, signal="ecg"), {})
    with pytest.raises(BadInput, match="is for ecg; this benchmark judges a PPG bundle"):
        measure(for_ecg, data)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"record,alarm,alarm_is_true\na,Asystole,1\nb,Asystole,yes\n", r"line 3: needs record, alarm and"),
        (b"name\na\n", r"line 2: needs record"),
        (b"\xff\xfe\x00", "not a CSV text"),
    ],
)
def test_wrong_labels_name_the_line(content: bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        read_labels(tmp_path)
    (tmp_path / "ALARMS.csv").write_bytes(content)
    with pytest.raises(BadInput, match=said):
        read_labels(tmp_path)


def test_a_record_without_a_label_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    write_heart(tmp_path / "challenge2015" / "a", steady(70, 20), 20)
    (tmp_path / "challenge2015" / "ALARMS.csv").write_text("record,alarm,alarm_is_true\nb,Asystole,1\n")
    with pytest.raises(BadInput, match="says nothing of record a"):
        measure(bundle, tmp_path)


def test_a_limit_spreads_over_the_groups(data: Path) -> None:
    assert [r.name for r in choose(data, 1)] == ["one", "fast", "af", "well"]
    assert [r.name for r in choose(data, 2) if r.dataset == "challenge2015"] == ["fast", "stops"]
    assert len(choose(data, None)) == len(choose(data, 99)) == 8


def test_wilson_as_tabulated() -> None:
    # Newcombe, Statistics in Medicine 1998, table I: 81 of 263, 15 of 148, 0 of 20.
    for hits, cases, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        found = wilson(hits, cases)
        assert (found.low, found.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))
    assert wilson(0, 0) == Estimate()


@given(st.integers(0, 500), st.integers(1, 500))
def test_wilson_holds_the_share_and_narrows(hits: int, cases: int) -> None:
    hits = min(hits, cases)
    one, ten = wilson(hits, cases), wilson(10 * hits, 10 * cases)
    assert 0 <= one.low <= one.value <= one.high <= 1  # type: ignore[operator]
    assert ten.high - ten.low < one.high - one.low  # type: ignore[operator]


def test_ratios_pool_and_resample_people() -> None:
    found = ratio([1, 3, 0], [2, 4, 2], ["a", "b", "c"])
    assert found.value == 0.5
    assert found.low is not None and found.high is not None
    assert 0 <= found.low < 0.5 < found.high <= 1
    assert ratio([1, 3], [2, 4], ["a", "a"]) == Estimate(4 / 6)  # one person says nothing of others
    assert ratio([], [], []) == Estimate()
    assert per_hour([0, 0], [1.0, 1.0], ["a", "b"]).high == pytest.approx(3.689 / 2, abs=1e-3)
    assert per_hour([4, 0], [1.0, 1.0], ["a", "b"]).value == 2


times = st.lists(st.floats(0, 10), max_size=12).map(lambda found: np.sort(np.array(found, np.float64)))


@given(times, times)
def test_beats_are_matched_one_to_one_and_as_many_as_can_be(truth: np.ndarray, found: np.ndarray) -> None:
    paired, partner = beats.match(truth, found)
    assert paired.sum() == partner.sum()
    near = np.abs(truth[:, None] - found[None, :]) <= beats.TOLERANCE
    best = (maximum_bipartite_matching(csr_matrix(near)) >= 0).sum() if near.size else 0
    assert paired.sum() == best


@given(st.floats(0.1, 0.9), st.integers(0, 2**32 - 1))
def test_the_delay_is_found_though_longer_than_an_interval(delay: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    peaks = np.cumsum(rng.uniform(0.5, 1.1, 120))
    kept = rng.random(120) > 0.1  # some beats have no pulse
    pulses = peaks[kept] + delay + rng.normal(0, 0.01, int(kept.sum()))
    assert beats.pulse_delay(peaks, np.sort(pulses)) == pytest.approx(delay, abs=0.03)
    assert beats.pulse_delay(peaks, np.zeros(0)) == 0


def test_the_ecg_judges_an_alert_by_what_it_claims() -> None:
    limits = AlarmLimits()
    slow = Reference(np.arange(0, 60, 60 / 38), np.ones(150, bool), 0.4)
    fast = Reference(np.arange(0, 60, 60 / 150), np.ones(150, bool), 0.4)
    pause = Reference(np.concatenate([np.arange(0, 30, 0.8), np.arange(35, 60, 0.8)]), np.ones(150, bool), 0.4)
    uneven = Reference(np.cumsum(np.random.default_rng(1).uniform(0.4, 1.2, 80)), np.ones(150, bool), 0.4)
    said = {
        name: [bears_out(ecg, Alert(name, 34, 36), limits, RHYTHM) for ecg in (slow, fast, pause, uneven)]
        for name in ("brady", "tachy", "pulse_lost", "irregular", "sensor_off")
    }
    assert said == {
        "brady": [True, False, False, False],
        "tachy": [False, True, False, False],
        "pulse_lost": [False, False, True, False],
        "irregular": [False, False, False, True],
        "sensor_off": [False] * 4,
    }
    unreadable = Reference(pause.peaks, np.arange(150) < 70, 0.4)
    assert not bears_out(unreadable, Alert("pulse_lost", 34, 36), limits, RHYTHM)  # no ECG is no pause
    assert not bears_out(uneven, Alert("irregular", 34, 36), limits, None)
    assert np.isnan(slow.rate(2.0))


def test_an_alert_counts_from_when_it_was_told() -> None:
    empty, off = np.zeros(0), np.zeros(0, bool)
    alerts = [Alert("tachy", 20, 40), Alert("brady", 305, 310)]
    t = np.arange(1.0, 51)
    some = Watched(t, t, t, t, off, off, empty, off, empty, alerts, 330.0, 0.4)
    assert some.active(("tachy",), 25, 30) == 25
    assert some.active(("tachy",), 10, 30) == 20
    assert some.active(("tachy",), 40, 50) is None
    assert some.active(("brady", "tachy"), 290, 308) == 305
    assert some.during("tachy").sum() == 20


def test_every_alarm_that_answers_is_one_the_monitor_has() -> None:
    known = {"sensor_off", "pulse_lost", "brady", "tachy", "irregular"}
    assert {name for names in challenge.ANSWERS.values() for name in names} <= known
    assert set(challenge.CLAIMED) <= set(challenge.ANSWERS)


@pytest.mark.data
def test_a_real_record_is_watched_and_its_beats_are_the_hearts(shared_data: Path, bundle: Bundle) -> None:
    recording = next(r for r in choose(shared_data, 2) if r.dataset == "bidmc")
    watched = watch(recording.path, bundle, open_engine(bundle))
    assert watched.seconds == pytest.approx(480, abs=1)
    assert len(watched.t) == int(watched.seconds * RATE) // 50
    assert all(0 <= alert.start <= alert.end <= watched.seconds for alert in watched.alerts)
    assert 60 < 60 * len(watched.beats) / watched.seconds < 150
