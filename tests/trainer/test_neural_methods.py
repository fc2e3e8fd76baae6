"""The networks as methods: they learn, keep to their budget, never touch what they must not, and repeat themselves."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.encoder import Encoder, EncoderConfig
from trainer.protocols.cnn import cnn
from trainer.protocols.finetune import AttentiveStatistics, Tuned, finetune, groups
from trainer.protocols.learning import Budget, Cost, Target, stopping_rows
from trainer.protocols.neural import Neural, stacked
from trainer.protocols.resnet import ResNet1D, resnet
from trainer.protocols.task import Task

HOPS, HOP = 10, 50
SMALL = EncoderConfig(hop=HOP, dim=16, layers=2, heads=2, mlp=2, context=HOPS, codebook_size=8)


def rates_task(kind: str = "regression", people: int = 12, each: int = 8) -> Task:
    """Sines of 40 to 180 a minute, each person around a rate of their own; as classes: slow or fast."""
    rng = np.random.default_rng(1)
    own = np.repeat(np.linspace(55, 165, people), each)
    bpm = own + rng.uniform(-15, 15, len(own))
    t = np.arange(HOPS * HOP) / 125.0
    wave = 1.4 * np.sin(2 * np.pi * bpm[:, None] / 60 * t + rng.uniform(0, 6, (len(own), 1)))
    patches = (wave + rng.normal(0, 0.1, wave.shape)).reshape(-1, HOPS, HOP).astype(np.float32)
    who = np.array([f"x/{i // each:02d}" for i in range(len(own))])
    if kind == "regression":
        return Task("rate", "regression", patches, patches[:, :, ::-1].copy(), bpm, who, unit="bpm")
    return Task("fast", "classification", patches, None, (bpm > 140).astype(float), who, classes=("slow", "fast"))


def halves(task: Task) -> tuple[np.ndarray, np.ndarray]:
    persons, which = np.unique(task.people, return_inverse=True)
    assert len(persons) > 3
    return np.flatnonzero(which % 2 == 0), np.flatnonzero(which % 2 == 1)


def encoder(seed: int = 0) -> Encoder:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Encoder(SMALL).eval()


def fitted(method: Neural, task: Task, rows: np.ndarray, seed: int = 0) -> Neural:
    torch.manual_seed(seed)
    method.fit(task, rows)
    return method


def test_the_cnn_learns_a_rate_for_people_it_never_saw_and_the_same_again() -> None:
    task = rates_task()
    learn, ask = halves(task)
    budget = Budget(windows=1_800, batch=32, lr=3e-3, checks=6)
    said = fitted(cnn(("ppg",), budget), task, learn).predict(task, ask)
    constant = np.abs(task.labels[ask] - np.median(task.labels[learn])).mean()
    assert said.shape == (len(ask),)
    assert np.abs(said - task.labels[ask]).mean() < 0.3 * constant
    again = fitted(cnn(("ppg",), budget), task, learn).predict(task, ask)
    assert np.array_equal(said, again)


def test_what_is_asked_about_was_not_looked_at() -> None:
    task = rates_task()
    learn, ask = halves(task)
    budget = Budget(windows=600, batch=32, checks=2)
    said = fitted(cnn(("ppg",), budget), task, learn).predict(task, ask[:5])
    assert task.ppg is not None
    spoiled = task.ppg.copy()
    spoiled[ask[5:]] = 9.0
    labels = task.labels.copy()
    labels[ask] = -1e6
    other = Task(task.name, task.kind, spoiled, task.ecg, labels, task.people, unit="bpm")
    assert np.array_equal(fitted(cnn(("ppg",), budget), other, learn).predict(other, ask[:5]), said)


def test_probabilities_of_rare_classes_and_two_signals() -> None:
    task = rates_task("classification")
    learn, ask = halves(task)
    said = fitted(cnn(("ppg",), Budget(windows=1_200, batch=32, lr=3e-3, checks=6)), task, learn).predict(task, ask)
    assert said.shape == (len(ask), 2)
    assert np.allclose(said.sum(1), 1)
    fast = task.labels[ask] == 1
    assert said[fast, 1].mean() > said[~fast, 1].mean() + 0.4
    with pytest.raises(ValueError, match="no ecg"):
        stacked(task, ask, ("ppg", "ecg"))


def test_the_resnet_has_the_published_size_and_takes_any_length() -> None:
    network = ResNet1D(2, 3).eval()
    assert 4.9e6 < sum(p.numel() for p in network.parameters()) < 5.1e6
    for hops in (9, 10):
        assert network(torch.randn(2, 2, hops, HOP)).shape == (2, 3)
    task = rates_task(people=8, each=4)
    learn, ask = halves(task)
    method = fitted(resnet(("ppg", "ecg"), Budget(windows=32, batch=8, checks=2)), task, learn)
    assert np.isfinite(method.predict(task, ask)).all()


@pytest.mark.parametrize("start", ["tuned", "frozen", "random"])
def test_fine_tuning_moves_what_it_should_and_never_the_encoder_it_was_given(start: str) -> None:
    task = rates_task()
    learn, ask = halves(task)
    given_encoder, cost = encoder(), Cost()
    before = {name: value.clone() for name, value in given_encoder.state_dict().items()}
    budget = Budget(windows=640, batch=32, checks=4)
    method = fitted(finetune({"ppg": given_encoder}, start, budget, cost=cost), task, learn)  # type: ignore[arg-type]
    assert all(torch.equal(before[name], value) for name, value in given_encoder.state_dict().items())
    network = method.solved()[1]
    assert isinstance(network, Tuned)
    after = network.encoders[0].state_dict()
    moved = not torch.equal(before["blocks.1.query.weight"], after["blocks.1.query.weight"])
    assert moved == (start != "frozen")
    assert np.isfinite(method.predict(task, ask)).all()
    assert cost.fits == 1
    assert 0 < cost.windows <= budget.windows
    assert cost.cpu_seconds > 0
    assert "1 fits" in str(cost)


def test_every_weight_that_speaks_is_in_one_group_and_lower_layers_move_less() -> None:
    network = Tuned({"ppg": encoder()}, 1, frozen=False)
    made = groups(network, "tuned", 1e-3)
    ids = [id(p) for group in made for p in group["params"]]
    spoken = {id(p) for name, p in network.named_parameters() if ".head." not in name or not name.startswith("enc")}
    assert len(ids) == len(set(ids))
    assert set(ids) == spoken
    rates = [group["lr"] for group in made]
    assert rates == sorted(rates, reverse=True)
    assert len(set(rates)) == len(rates)


def test_attentive_statistics_start_as_mean_and_deviation() -> None:
    x = torch.randn(3, 7, 5)
    pooled = AttentiveStatistics(5)(x)
    assert torch.allclose(pooled[:, :5], x.mean(1), atol=1e-6)
    assert torch.allclose(pooled[:, 5:], x.std(1, correction=0), atol=1e-4)


def test_training_ends_when_the_stopping_people_gain_nothing() -> None:
    task = rates_task()
    learn, _ = halves(task)
    shuffled = Task(
        "noise", "regression", task.ppg, None, np.random.default_rng(0).permutation(task.labels), task.people
    )
    method = fitted(cnn(("ppg",), Budget(windows=6_000, batch=32, checks=60, patience=3)), shuffled, learn)
    losses = [entry["stop_loss"] for entry in method.history]
    assert method.cost.windows < 6_000
    assert int(np.argmin(losses)) == len(losses) - 1 - 3


@given(st.lists(st.integers(1, 6), min_size=2, max_size=30), st.integers(0, 99))
def test_people_are_set_aside_whole_and_never_all(sizes: list[int], seed: int) -> None:
    people = np.repeat([f"p{i}" for i in range(len(sizes))], sizes)
    labels = np.arange(len(people), dtype=float) % 5
    aside = stopping_rows(people, labels, seed)
    assert 0 < aside.sum() < len(people)
    for person in np.unique(people):
        assert len(np.unique(aside[people == person])) == 1


def test_a_single_person_is_trained_on_without_stopping() -> None:
    assert not stopping_rows(np.array(["a/1"] * 5), np.zeros(5), 0).any()


@given(st.floats(-1e3, 1e3), st.floats(0.1, 1e3))
def test_a_target_reads_back_what_it_wrote(middle: float, spread: float) -> None:
    labels = middle + spread * np.linspace(-1, 1, 9)
    task = Task("t", "regression", None, None, labels, np.array(["a/1"] * 9))
    target = Target.of(task, np.arange(9))
    assert np.allclose(target.decode(target.encode(labels)[:, None]), labels, atol=1e-3 * spread + 1e-4 * abs(middle))
