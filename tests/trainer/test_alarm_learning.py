"""Alarms: nothing after 5:00 speaks, nothing judged was learned from, and thresholds are the best there are."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_recordings import paired_signals, write_record

from firmware_bridge.errors import BadInput
from trainer.protocols.alarm_features import measure_all
from trainer.protocols.alarm_learning import (
    Head,
    best_threshold,
    challenge_score,
    dealt_folds,
    judge_alarms,
    thresholds,
)
from trainer.protocols.alarms import alarm_draws
from trainer.protocols.scores import Resampling
from trainer.protocols.tasks_alarms import alarms, before_alarm, read_labels
from trainer.recordings import find_recordings
from trainer.windows import WindowConfig

COUNT = 3


def records(n: int = 90, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of which the first tells the truth, but in kind 1 with its sign turned; kinds; truth."""
    rng = np.random.default_rng(seed)
    kinds, truth = rng.integers(0, COUNT, n), rng.random(n) < 0.4
    x = rng.normal(0, 1, (n, 4)).astype(np.float32)
    x[:, 0] += 3 * (truth - 0.5) * np.where(kinds == 1, -1, 1)
    return x, kinds, truth


def nothing() -> None:
    pass


bools = st.lists(st.booleans(), min_size=1, max_size=40)


@given(bools, st.integers(0, 99))
def test_the_score_is_the_challenges(truth_list: list[bool], seed: int) -> None:
    truth = np.array(truth_list)
    said = np.random.default_rng(seed).random(len(truth)) < 0.5
    tp, tn = (truth & said).sum(), (~truth & ~said).sum()
    fp, fn = (~truth & said).sum(), (truth & ~said).sum()
    assert challenge_score(truth, said) == pytest.approx((tp + tn) / (tp + tn + fp + 5 * fn))
    assert challenge_score(truth, truth) == 1


@given(bools, st.integers(0, 99))
def test_no_threshold_is_better_than_the_best(truth_list: list[bool], seed: int) -> None:
    truth = np.array(truth_list)
    p = np.round(np.random.default_rng(seed).random(len(truth)), 1)
    best = challenge_score(truth, p >= best_threshold(p, truth))
    assert all(challenge_score(truth, p >= t) <= best for t in np.linspace(0, 1.0, 21))


@given(st.lists(st.integers(0, 4), min_size=5, max_size=80), st.integers(2, 5), st.integers(0, 9))
def test_every_stratum_is_dealt_evenly(strata: list[int], folds: int, seed: int) -> None:
    fold = dealt_folds(np.array(strata), folds, seed)
    for stratum in set(strata):
        sizes = np.bincount(fold[np.array(strata) == stratum], minlength=folds)
        assert sizes.max() - sizes.min() <= 1


def test_kinds_with_few_alarms_share_a_threshold() -> None:
    truth = np.array([True, False] * 15 + [True] * 3)
    kinds = np.array([0] * 30 + [1] * 3)
    p = np.where(truth, 0.9, 0.7)
    found = thresholds(p, truth, kinds, 2)
    assert found[0] == pytest.approx(0.8)
    assert found[1] == pytest.approx(0.8)


@pytest.mark.parametrize("head", ["linear", "boosting"])
def test_what_a_kind_alone_means_is_learned(head: Head) -> None:
    x, kinds, truth = records(180)
    p, said = judge_alarms(x, kinds, truth, head, COUNT, 3, 0, nothing)
    assert (p[truth].mean() - p[~truth].mean()) > 0.4
    known = challenge_score(truth, said)
    blind, let = judge_alarms(x[:, :0], kinds, truth, "kind alone", COUNT, 3, 0, nothing)
    assert known > challenge_score(truth, let)
    assert np.isfinite(blind).all()


def test_labels_of_the_judged_fold_do_not_reach_its_prediction() -> None:
    x, kinds, truth = records()
    fold = dealt_folds(2 * kinds + truth, 3, 0)
    first = np.flatnonzero(fold == 0)
    # Swapping truths within a kind keeps the strata, hence the folds, and everything that is learned from.
    one, other = (first[(kinds[first] == 0) & (truth[first] == value)][0] for value in (True, False))
    turned = x.copy()
    turned[[one, other]] = x[[other, one]]
    p, said = judge_alarms(x, kinds, truth, "linear", COUNT, 3, 0, nothing)
    q, let = judge_alarms(turned, kinds, truth, "linear", COUNT, 3, 0, nothing)
    assert p[one] == q[other]
    assert p[other] == q[one]
    assert said[one] == let[other]


def test_metrics_on_alarms_that_can_be_counted_by_hand() -> None:
    truth = np.array([True, True, False, False, False])
    said = np.array([[True, False, False, True, False]])
    p = np.array([[0.9, 0.2, 0.1, 0.6, 0.3]])
    found = alarm_draws(truth, p, said, Resampling(np.array(list("abcde")), draws=50))
    assert found["TPR"][0] == pytest.approx(1 / 2)
    assert found["TNR"][0] == pytest.approx(2 / 3)
    assert found["score"][0] == pytest.approx(3 / (3 + 1 + 5))
    assert found["AUROC"][0] == pytest.approx(4 / 6)


@pytest.fixture(scope="module")
def challenge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four records: two that go on after the alarm (one of them in noise and gaps), one that ends at it, one short."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    ppg, ecg = paired_signals(330, 80)
    ppg += rng.normal(0, 0.02, len(ppg))
    late_ppg, late_ecg = ppg.copy(), ecg.copy()
    late_ppg[37500:], late_ecg[37500:] = np.nan, rng.normal(0, 5, len(ecg) - 37500)
    # A gap that reaches over the alarm must not be bridged to what comes after it.
    for wave in (ppg, late_ppg):
        wave[37480:37520] = np.nan
    target = folder / "challenge2015"
    write_record(target, "a1l", ppg, ecg)
    write_record(target, "a2l", late_ppg, late_ecg)
    write_record(target, "a3s", ppg[:37500], ecg[:37500])
    write_record(target, "short", ppg[:30000], ecg[:30000])
    return folder


def test_nothing_after_the_alarm_is_seen(challenge: Path) -> None:
    config = WindowConfig()
    found = {r.name: r for r in find_recordings(challenge).recordings}
    heard = [before_alarm(found[name], config) for name in ("a1l", "a2l", "a3s")]
    # Records are stored in 16 bits, each with a scale of its own.
    for ppg, ecg in heard[1:]:
        assert ppg.shape == (50, 50)
        assert np.allclose(ppg, heard[0][0], atol=0.02)
        assert np.allclose(ecg, heard[0][1], atol=0.02)
    with pytest.raises(BadInput, match="ends before its alarm"):
        before_alarm(found["short"], config)


def test_alarms_of_a_list_and_lists_that_cannot_be_used(challenge: Path, tmp_path: Path) -> None:
    file = challenge / "challenge2015" / "ALARMS.csv"
    file.write_text("record,alarm,alarm_is_true,seconds\na1l,Asystole,1,330\na3s,Tachycardia,0,300\n")
    found = alarms(challenge, tmp_path, WindowConfig())
    assert found.kinds.tolist() == [0, 2]
    assert found.task.labels.tolist() == [1, 0]
    tables = measure_all(found.task.signal("ppg"), found.task.signal("ecg"), 125.0)
    assert {len(table) for table in tables.values()} == {2}
    file.write_text("record,alarm,alarm_is_true\na1l,Hiccup,1\n")
    with pytest.raises(BadInput, match="needs the columns"):
        read_labels(file)
    with pytest.raises(BadInput, match="cannot be read"):
        read_labels(tmp_path / "none.csv")


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.floats(0.0, 3.0))
def test_measures_stand_any_wave(seed: int, size: float) -> None:
    wave = (size * np.random.default_rng(seed).normal(0, 1, (2, 50, 50))).astype(np.float32)
    tables = measure_all(wave, wave[::-1].copy(), 125.0)
    assert not any(np.isinf(table).any() for table in tables.values())
