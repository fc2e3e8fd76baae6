"""Folds, scores, intervals and what a table says of them."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rich.console import Console
from sklearn.linear_model import Ridge as SkRidge
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from firmware_bridge.errors import BadInput
from trainer.bootstrap import over_people
from trainer.protocols.cache import digest, kept
from trainer.protocols.classical import Constant
from trainer.protocols.folds import out_of_fold, person_folds
from trainer.protocols.probe import Probe, ridge_path
from trainer.protocols.protocol import Candidate, Report, judge
from trainer.protocols.scores import Resampling, auroc, balanced_accuracy, draws_of, interval, weighted_mean
from trainer.protocols.setting import Setting
from trainer.protocols.table import as_json, as_markdown, verdicts
from trainer.protocols.task import Task

F64 = NDArray[np.float64]


def a_task(labels: F64, people: NDArray[np.str_], classes: tuple[str, ...] = ()) -> Task:
    """A task whose waves do not matter."""
    kind = "classification" if classes else "regression"
    return Task("toy", kind, np.zeros((len(labels), 1, 1), np.float32), None, labels, people, classes=classes)


def names(index: NDArray[np.int64]) -> NDArray[np.str_]:
    return np.array([f"set/p{i:03d}" for i in index.tolist()])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=4, max_size=20), st.integers(0, 3))
def test_folds_never_split_a_person_and_ask_every_row_once(people: list[tuple[int, bool]], seed: int) -> None:
    index = np.repeat(np.arange(len(people)), [count for count, _ in people])
    labels = np.array([float(sick) for _, sick in people])[index]
    task = a_task(labels, names(index), ("no", "yes"))
    rarest = min((np.array([sick for _, sick in people]) == kind).sum() for kind in (True, False))
    if rarest in (0, 1):
        task = a_task(labels, task.people)
    asked = []
    for learn, ask in person_folds(task, 2, seed):
        assert not set(task.people[learn]) & set(task.people[ask])
        assert len(learn) + len(ask) == len(task)
        if task.classes:
            assert len(np.unique(labels[learn])) == 2
        asked += ask.tolist()
    assert sorted(asked) == list(range(len(task)))


def test_too_few_people_are_refused_in_a_sentence() -> None:
    labels = np.array([0.0, 0.0, 0.0, 1.0])
    with pytest.raises(BadInput, match=r"1 people .*too few for 2 folds"):
        person_folds(a_task(labels, names(np.arange(4)), ("no", "yes")), 2, 0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 8))
def test_weighted_area_and_accuracy_are_scikit_learns(seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    truth = np.concatenate([[True, False], rng.random(40) < 0.4])
    scores = rng.integers(0, levels, 42).astype(np.float64)  # many ties
    weights = rng.integers(0, 4, (3, 42)).astype(np.float64)
    weights[:, :2] = 1
    found = auroc(truth, scores)(weights)
    said = (scores > levels / 2).astype(np.int64)
    accuracy = balanced_accuracy(truth.astype(np.int64), said, 2)(weights)
    for i in range(3):
        assert found[i] == pytest.approx(roc_auc_score(truth, scores, sample_weight=weights[i]))
        assert accuracy[i] == pytest.approx(balanced_accuracy_score(truth, said, sample_weight=weights[i]))


def test_intervals_are_those_of_drawing_people_one_by_one() -> None:
    rng = np.random.default_rng(1)
    index = rng.integers(0, 15, 300)
    values = rng.normal(size=15)[index] + 0.1 * rng.normal(size=300)
    found = interval(Resampling(names(index)).windows(weighted_mean(values)), 15)
    slow = over_people(lambda rows: float(values[rows].mean()), names(index))
    assert found.value == pytest.approx(slow.value)
    assert (found.low, found.high) == pytest.approx((slow.low, slow.high), abs=0.1)


def test_by_person_scores_count_each_person_once() -> None:
    # The one person who is told wrongly has most of the windows: by window that is a disaster, by person one of four.
    index = np.repeat(np.arange(4), [3, 3, 3, 91])
    labels = np.array([0.0, 1.0, 0.0, 1.0])[index]
    p = np.array([0.1, 0.9, 0.2, 0.15])[index]
    task = a_task(labels, names(index), ("no", "yes"))
    drawn = draws_of(task, np.stack([1 - p, p], 1)[None], np.ones(100, bool), Resampling(task.people))
    assert drawn["AUROC by person"][0] == pytest.approx(0.75)
    assert drawn["AUROC"][0] == pytest.approx(roc_auc_score(labels, p))


def test_the_ridge_path_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(30, 50)), rng.normal(70, 9, 30)
    features -= features.mean(0)
    paths, offset = ridge_path(features, labels, np.array([0.5, 100.0]))
    for path, penalty in zip(paths, (0.5, 100.0), strict=True):
        theirs = SkRidge(alpha=penalty).fit(features, labels)
        np.testing.assert_allclose(features @ path + offset, theirs.predict(features), rtol=1e-6)


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path, tmp_path / "cache", {}, None, Console(quiet=True), folds=4, seeds=2)


def signatures(people: int, each: int, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Features by which every person can be recognised, and nothing else."""
    rng = np.random.default_rng(seed)
    index = np.repeat(np.arange(people), each)
    return index, (rng.normal(size=(people, 40))[index] + 0.05 * rng.normal(size=(len(index), 40))).astype(np.float32)


@pytest.mark.parametrize("head", ["linear", "boosting"])
def test_a_probe_that_can_only_recognise_people_learns_nothing(head: str) -> None:
    index, features = signatures(24, 12)
    labels = (np.random.default_rng(3).permutation(24) % 2).astype(np.float64)[index]
    task = a_task(labels, names(index), ("no", "yes"))
    said = out_of_fold(lambda: Probe("p", lambda _: features, head), task, 4, 1).predictions[0]
    assert 0.2 < roc_auc_score(labels, said[:, 1]) < 0.8
    np.testing.assert_allclose(said.sum(1), 1)


def test_the_better_method_is_named_and_the_worse_one_loses(setting: Setting) -> None:
    index, noise = signatures(20, 15)
    rng = np.random.default_rng(0)
    labels = 60 + 10 * rng.normal(size=len(index))
    good = np.concatenate([labels[:, None] + rng.normal(size=(len(index), 1)), noise], 1).astype(np.float32)
    holey = good.copy()
    holey[::7, 1] = np.nan  # what could not be measured
    task = a_task(labels, names(index))
    calls = []
    candidates = [
        Candidate("learned", lambda: calls.append(1) or Probe("learned", lambda _: noise)),
        Candidate("informed", lambda: Probe("informed", lambda _: holey)),
        Candidate("constant", Constant),
    ]
    result = judge(task, candidates, "learned", setting)
    rows = {row.method: row for row in result.rows}
    informed = rows["informed"].score("MAE")
    assert informed is not None and informed.difference is not None
    assert informed.verdict == "better" and informed.value.value < 2.0
    assert informed.difference.low <= informed.difference.value <= informed.difference.high
    assert rows["learned"].score("MAE").difference is None
    assert "MAE: it loses to informed" in verdicts(result)[0]
    assert not any("informed" in sentence for sentence in verdicts(result) if "beats" in sentence)

    report = Report("toy", "A toy", "here", {}, ["nothing to remark"], [result])
    text = as_markdown(report)
    assert "| **learned** |" in text and "▲" in text and "300 windows of 20 people" in text
    saved = json.loads(as_json(report), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert saved["results"][0]["rows"][1]["scores"][0]["verdict"] == "better"

    before = len(calls)
    again = judge(task, candidates, "learned", setting)
    assert len(calls) - before == 1  # asked for its module; nothing is fitted twice
    assert again == result


def test_what_is_kept_is_made_once_and_known_by_what_it_was_made_from(tmp_path: Path) -> None:
    made = []

    def make() -> dict[str, NDArray[np.generic]]:
        made.append(1)
        return {"a": np.arange(3), "names": np.array(["x", "yy"])}

    key = digest("one", np.arange(4.0))
    first, second = kept(tmp_path, "kind", key, make), kept(tmp_path, "kind", key, make)
    assert len(made) == 1
    np.testing.assert_array_equal(first["names"], second["names"])
    assert digest("one", np.arange(4.0)) == key
    assert (
        len({key, digest("two", np.arange(4.0)), digest("one", np.arange(4.0) + 1), digest("one", np.arange(4))}) == 4
    )
    file = next((tmp_path / "protocols").iterdir())
    file.write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(BadInput, match=r"cannot be read.*delete that file"):
        kept(tmp_path, "kind", key, make)
