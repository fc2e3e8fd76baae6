"""Fine-tuning with the rounding in the loop: it learns, it is kept, it goes on where it stopped."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import tiny_run
import torch

from quantize.methods import qat
from quantize.methods.ranges import static_plan
from quantize.methods.sensitivity import change, scores_of
from quantize.methods.simulate import rounded_weights, simulated
from quantize.methods.workbench import FineTuning
from quantize.plan import LayerPlan, affine, uniform
from quantize.progress import Steps
from quantize.streams import take_streams
from trainer.encoder import Encoder, EncoderConfig
from trainer.fitting import Interrupted

FIT = replace(qat.FIT, epochs=8, batch=8, lr=3e-4)


@cache
def encoder() -> Encoder:
    """Wide enough for 4-bit blocks."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Encoder(EncoderConfig(dim=32, layers=1, heads=2, mlp=1, context=5, codebook_size=16)).eval()


def plan() -> dict[str, LayerPlan]:
    return uniform(encoder(), "dynamic4")


@pytest.fixture(scope="module")
def tuning(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FineTuning]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(qat, "FIT", FIT)
        yield FineTuning(tiny_run.windows(), "ppg", tmp_path_factory.mktemp("fine-tuned"))


@pytest.fixture(scope="module")
def tuned(tuning: FineTuning) -> tuple[Encoder, dict[str, LayerPlan]]:
    with Steps() as steps:
        return qat.fine_tune(encoder(), plan(), tuning, "int4", steps)


def loss(some: Encoder, arithmetic: dict[str, LayerPlan]) -> float:
    streams = take_streams(tiny_run.windows(), "ppg", "validation", warm=4, limit=9)
    return change(scores_of(encoder(), streams), scores_of(simulated(some, arithmetic), streams)).kl


def test_training_computes_what_the_plan_says_and_gives_it_back() -> None:
    """Before a step is made, torchao's graph and the simulation are the same function."""
    trained, plan = tiny_models.encoder(), static_plan(tiny_models.observed(), "percentile")
    stage = qat.QatStage(trained, plan, FIT, lambda x: x)
    patches = torch.from_numpy(np.stack([tiny_models.patches(20, seed) for seed in (1, 2, 3)]))
    with torch.inference_mode():
        graph, said, fp32 = (form(patches)[0] for form in (stage.student, simulated(trained, plan), trained))
    assert float((graph - said).abs().mean()) < 0.05 * float((said - fp32).abs().mean())
    again, ranges = stage.result(plan)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), trained.parameters(), strict=True))
    for name, layer in plan.items():
        assert layer.input is not None and ranges[name].input is not None
        assert affine(ranges[name].input or (0, 0)) == pytest.approx(affine(layer.input), rel=1e-4)


def test_fine_tuning_lowers_the_loss_and_is_kept(
    tuning: FineTuning, tuned: tuple[Encoder, dict[str, LayerPlan]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert loss(*tuned) < 0.8 * loss(encoder(), plan())
    monkeypatch.delattr(qat, "fit_stage")  # the second time nothing is learnt
    with Steps() as steps:
        same, ranges = qat.fine_tune(encoder(), plan(), tuning, "int4", steps)
    assert ranges == tuned[1]
    assert all(torch.equal(a, b) for a, b in zip(same.parameters(), tuned[0].parameters(), strict=True))


def test_an_interrupted_fine_tuning_goes_on(
    tuning: FineTuning, tuned: tuple[Encoder, dict[str, LayerPlan]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = qat.QatStage.training_step

    def stopped(self: qat.QatStage, batch: tuple[torch.Tensor, ...], index: int) -> torch.Tensor:
        if self.current_epoch == FIT.epochs - 1:
            raise KeyboardInterrupt
        return train(self, batch, index)

    elsewhere = replace(tuning, folder=tmp_path)
    with Steps() as steps:
        monkeypatch.setattr(qat.QatStage, "training_step", stopped)
        with pytest.raises(Interrupted, match="the same command goes on there"):
            qat.fine_tune(encoder(), plan(), elsewhere, "int4", steps)
        monkeypatch.setattr(qat.QatStage, "training_step", train)
        resumed, _ = qat.fine_tune(encoder(), plan(), elsewhere, "int4", steps)
    assert all(torch.equal(a, b) for a, b in zip(resumed.parameters(), tuned[0].parameters(), strict=True))


def test_rounding_lets_the_gradient_through() -> None:
    weight = torch.randn(4, 32, requires_grad=True)
    said = qat.RoundedWeights(plan=LayerPlan("dynamic4"))(weight)
    assert torch.allclose(said, rounded_weights(weight.detach(), LayerPlan("dynamic4")), atol=1e-6)
    said.sum().backward()
    assert weight.grad is not None and torch.equal(weight.grad, torch.ones_like(weight))
