"""What int8 changes of judgements and alarms: pairing, paired figures, whose recordings, and the real pipeline."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import synthetic_recordings
from hypothesis import given
from hypothesis import strategies as st

from edge.alarms import Event
from edge.bundle import load_bundle
from edge.engines import Engine, EngineState, StepOutput, open_engine
from edge.npy import read_array
from quantize.fidelity import judgements
from quantize.fidelity.judgements import Both, alarm_changes, heads, hour
from quantize.fidelity.watch import LEAST_STRETCH, Stretch, Watch, judges, paired, stretches, watch
from trainer.recordings import Recording
from trainer.splits import in_choosing_half, part_of

HOP = 0.4
HOPS = 500


def recording(
    name: str, dataset: str = "bidmc", group: str = "bidmc", seconds: float = 480, path: str = "x"
) -> Recording:
    return Recording(dataset, group, name, name, Path(path), 125.0, round(seconds * 125), 0, 1, "II")


def said(seed: int = 0, alarms: list[tuple[str, float, float]] | None = None) -> Watch:
    rng = np.random.default_rng(seed)
    rate = 70 + rng.normal(0, 2, HOPS)
    return Watch(
        t=HOP * np.arange(1, HOPS + 1),
        token=rng.integers(0, 8, HOPS),
        novelty=rng.uniform(0, 1, HOPS),
        rate=rate,
        believed=rng.random(HOPS) < 0.9,
        readout=rate + 3,
        beats_rate=rate,
        sqi=rng.uniform(0, 1, HOPS),
        irregular=rng.uniform(0, 1, HOPS),
        alarms=alarms or [],
    )


def both(name: str, fp32: Watch, int8: Watch, group: str = "bidmc") -> Both:
    return Both(Stretch(recording(name, group=group), HOP * HOPS), fp32, int8, np.full(HOPS, 70.0))


TIMES = st.lists(
    st.tuples(st.sampled_from(["tachy", "brady"]), st.floats(0, 900), st.floats(0, 60)), min_size=0, max_size=6
).map(lambda some: sorted((name, start, start + length) for name, start, length in some))


@given(TIMES)
def test_the_same_alarms_are_no_change(alarms: list[tuple[str, float, float]]) -> None:
    assert alarm_changes("r", said(alarms=alarms), said(alarms=list(alarms))) == []


@given(TIMES, TIMES)
def test_every_alarm_is_the_same_or_in_one_change(
    fp32: list[tuple[str, float, float]], int8: list[tuple[str, float, float]]
) -> None:
    changes = alarm_changes("r", said(alarms=fp32), said(alarms=int8))
    told_fp32 = [(c.alarm, *c.fp32) for c in changes if c.fp32 is not None]
    told_int8 = [(c.alarm, *c.int8) for c in changes if c.int8 is not None]
    same_fp32, same_int8 = list(fp32), list(int8)
    for alarm in told_fp32:
        same_fp32.remove(alarm)
    for alarm in told_int8:
        same_int8.remove(alarm)
    assert sorted(same_fp32) == sorted(same_int8)
    assert all(c.seconds is None or abs(c.seconds) <= judgements.NEAR for c in changes)


def test_moved_missing_and_new_alarms_are_told_apart() -> None:
    fp32 = said(alarms=[("tachy", 10.0, 20.0), ("brady", 100.0, 130.0), ("tachy", 300.0, 310.0)])
    int8 = said(alarms=[("tachy", 12.0, 20.0), ("tachy", 300.0, 310.0), ("pulse_lost", 400.0, 404.0)])
    moved, missing, new = alarm_changes("r", fp32, int8)
    assert (moved.alarm, moved.seconds) == ("tachy", 2.0)
    assert (missing.alarm, missing.fp32, missing.int8, missing.seconds) == ("brady", (100.0, 130.0), None, None)
    assert (new.alarm, new.fp32, new.int8) == ("pulse_lost", None, (400.0, 404.0))


def test_heads_are_their_plain_figures_and_changes_are_paired() -> None:
    pairs = []
    for i in range(6):
        fp32 = said(i)
        pairs.append(both(f"p{i}", fp32, replace(fp32, rate=fp32.rate + 0.3 * np.sign(fp32.rate - 70))))
    found = {head.name: head for head in heads(pairs)}
    error = found["heart rate where believed, MAE, bidmc"]
    wanted = np.mean(np.concatenate([np.abs(b.fp32.rate - 70)[b.fp32.believed] for b in pairs]))
    assert error.fp32.value == pytest.approx(wanted)
    # Every error grows by the same 0.3: the figures vary between people, their paired change does not.
    assert error.fp32.high - error.fp32.low > 0.05
    assert (error.change.value, error.change.low, error.change.high) == pytest.approx((0.3, 0.3, 0.3))
    assert not error.within and error.allowed == pytest.approx(0.05)
    share = found["heart rate believed, share, bidmc"]
    assert share.change.value == 0 and share.within
    assert found["novelty p < 0.05, share"].fp32.value == pytest.approx(
        np.mean(np.concatenate([b.fp32.novelty < 0.05 for b in pairs]))
    )


def test_areas_need_both_kinds_and_say_that_they_read_no_encoder() -> None:
    watches = {name: said(i) for i, name in enumerate("abcd")}
    for name in "ab":
        watches[name] = replace(watches[name], irregular=watches[name].irregular + 1)
    pairs = [both(n, w, w, "AF_wfdb" if n in "ab" else "Non_AF_wfdb") for n, w in watches.items()]
    area = next(head for head in heads(pairs) if head.name.startswith("AF by pulse intervals"))
    assert (area.fp32.value, area.change.value, area.reads_encoder) == (1.0, 0.0, False)
    assert not [head for head in heads(pairs[:2]) if head.name.startswith("AF by pulse intervals")]


def test_the_hour_counts_what_differs() -> None:
    fp32 = said(1, [("tachy", 10.0, 20.0)])
    token = fp32.token.copy()
    token[:50] += 1
    novelty = fp32.novelty.copy()
    novelty[:5] = 0.01
    account = hour([both("a", fp32, replace(fp32, token=token, novelty=novelty, alarms=[])), both("b", fp32, fp32)])
    assert account.tokens_changed.value == pytest.approx(50 / (2 * HOPS))
    assert (account.alarms_fp32, account.alarms_int8, len(account.changes)) == (2, 1, 1)
    assert account.novel_changed == int((fp32.novelty[:5] >= 0.05).sum())
    assert account.others_changed == 0
    worse = replace(fp32, irregular=fp32.irregular + 1e-9)
    assert hour([both("a", fp32, worse)]).others_changed == HOPS


@given(st.integers(1, 40), st.integers(1, 20), st.floats(400, 7200))
def test_an_hour_is_spread_over_people_that_only_judge(tests: int, held_out: int, seconds: float) -> None:
    some = [recording(f"p{i}") for i in range(8 * tests)]
    some += [recording(f"s{i}", "mimic_perform_af", ("AF_wfdb", "Non_AF_wfdb")[i % 2], 1200) for i in range(held_out)]
    chosen = stretches(some, seconds)
    for stretch in chosen:
        r = stretch.recording
        assert part_of(r.dataset, r.patient) == "test" or not in_choosing_half(r.patient)
        assert stretch.seconds <= r.length / r.rate
        assert stretch.seconds >= min(LEAST_STRETCH, r.length / r.rate)
    assert len({stretch.person for stretch in chosen}) == len(chosen)
    for dataset in {r.dataset for r in some if judges(r)}:
        mine = [s.seconds for s in chosen if s.recording.dataset == dataset]
        assert mine
        assert sum(mine) <= seconds + LEAST_STRETCH


def test_alarms_pair_their_onset_with_their_end() -> None:
    onset = Event("tachy", 9.0, None, "high", {})
    end = Event("tachy", 9.0, 21.0, "high", {})
    assert paired([(10.0, onset), (22.0, end), (30.0, onset)], 40.0) == [("tachy", 10.0, 22.0), ("tachy", 30.0, 40.0)]


class Scrambled:
    """An engine that says anything at all."""

    name = "scrambled"

    def __init__(self, real: Engine) -> None:
        self._real, self._rng = real, np.random.default_rng(0)

    def start(self) -> EngineState:
        return self._real.start()

    def step(self, state: EngineState, patch: np.ndarray) -> StepOutput:
        out = self._real.step(state, patch)
        noise = self._rng.normal(0, 5, (2, max(len(out.scores), len(out.embedding)))).astype(np.float32)
        return StepOutput(noise[0, : len(out.scores)], noise[1, : len(out.embedding)])


def test_the_pipeline_runs_and_no_alarm_quality_or_rhythm_reads_the_encoder(tmp_path: Path) -> None:
    """What the report says of them; and what does read it, changes."""
    ppg, ecg = synthetic_recordings.paired_signals(70, 160)
    still = slice(40 * 125, 50 * 125)
    ppg[still] = ppg[still.start]
    ppg += np.random.default_rng(0).normal(0, 0.01, len(ppg))
    synthetic_recordings.write_record(tmp_path, "fast", ppg, ecg)
    stretch = Stretch(recording("fast", path=str(tmp_path / "fast"), seconds=70), 65.0)
    bundle = load_bundle()
    assert bundle.manifest.readout is not None
    table = read_array(bundle, bundle.manifest.readout.file)
    engine = open_engine(bundle)
    a, b = (watch(stretch, bundle, which, table) for which in (engine, Scrambled(engine)))
    assert {name for name, _, _ in a.alarms} >= {"tachy"}
    assert a.t[-1] == pytest.approx(65, abs=HOP)
    account = hour([Both(stretch, a, b, np.full(len(a.t), 160.0))])
    assert account.changes == [] and account.others_changed == 0
    assert account.tokens_changed.value > 0.9
    assert np.nanmax(np.abs(a.readout - b.readout)) > 1
    again = watch(stretch, bundle, engine, table)
    assert np.array_equal(again.token, a.token) and np.array_equal(again.readout, a.readout, equal_nan=True)
