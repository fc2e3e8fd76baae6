"""Quantization-aware training: a short fine-tune of the trained student with its rounding in the loop (torchao pt2e).

The teacher is the fp32 student's own distribution over the tokenizer's tokens, since the artefact is to say what the
encoder says; the tokens themselves would pull it towards another encoder. Weights are rounded as every engine rounds
them (:func:`quantize.plan.weight_scales`), activations on ranges that are learnt with the weights (Esser et al.,
Learned Step Size Quantization, ICLR 2020), from calibrated ones on. What comes out is an ordinary encoder and a plan
with its ranges, so that every engine is made from them as always.
"""

import copy
import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.nn import functional
from torchao.quantization.pt2e import (
    FakeQuantizeBase,
    ObserverBase,
    allow_exported_model_train_eval,
)
from torchao.quantization.pt2e.learnable_fake_quantize import LearnableFakeQuantize, enable_range_learning
from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, QuantizationSpec, Quantizer

from firmware_bridge.errors import BadInput
from quantize.methods.simulate import rounded_weights
from quantize.plan import LayerPlan, Plan, Range, affine, layers
from quantize.progress import Steps
from quantize.quiet import quiet_libraries
from trainer.encoder import Encoder
from trainer.fitting import (
    FitConfig,
    Interrupted,
    Selection,
    Stage,
    TensorRows,
    eval_batches,
    fit_stage,
    train_batches,
)
from trainer.phases import PhasedRows
from trainer.run_folder import RunFolder
from trainer.stage2 import Augmentation

if TYPE_CHECKING:
    from quantize.methods.workbench import FineTuning

# Short and gentle: the student is trained, and only has to find its feet on the grid. A few minutes on one core.
FIT = FitConfig(epochs=4, batch=16, lr=2e-4, weight_decay=0.0, warmup=20)
TRAINING_WINDOWS, VALIDATION_WINDOWS = 2000, 200
PHASES = 5  # cuts of each window, spread over a hop
EMBEDDING_WEIGHT = 1.0  # of the embedding's squared error, in shares of its variance, beside the scores' divergence


class CalibratedRange(ObserverBase):  # type: ignore[misc]
    """An observer that has seen enough: it always answers a calibrated range. Codes are signed."""

    def __init__(self, *, low: float, high: float, dtype: torch.dtype, qscheme: torch.qscheme, **_: Any) -> None:
        super().__init__(dtype=dtype)
        self.limits, self.qscheme = (low, high), qscheme

    def forward(self, x: Tensor) -> Tensor:
        return x

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        scale, zero = affine(self.limits)
        return torch.tensor([scale]), torch.tensor([float(zero - 128)])

    def convert(self, model: GraphModule, observer_node: Node) -> None:
        """Not part of training: the engines are made from the plan."""
        raise NotImplementedError


class RoundedWeights(FakeQuantizeBase):  # type: ignore[misc]
    """Weights as the engines round them, on the scales that they have now; the gradient passes straight through
    (Bengio et al. 2013)."""

    def __init__(self, *, plan: LayerPlan, **_: Any) -> None:
        super().__init__()
        self.plan = plan

    def forward(self, x: Tensor) -> Tensor:
        return x + (rounded_weights(x.detach(), self.plan) - x.detach())

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """Not part of training: the engines are made from the plan."""
        raise NotImplementedError


def _weight_spec(plan: LayerPlan) -> QuantizationSpec:
    return QuantizationSpec(torch.int8, RoundedWeights.with_args(plan=plan), quant_min=-127, quant_max=127)


def _activation_spec(limits: Range) -> QuantizationSpec:
    return QuantizationSpec(
        dtype=torch.int8,
        quant_min=-128,
        quant_max=127,
        qscheme=torch.per_tensor_affine,
        observer_or_fake_quant_ctr=LearnableFakeQuantize.with_args(
            observer=CalibratedRange, low=limits[0], high=limits[1], use_grad_scaling=True
        ),
    )


def _weight_of(node: Node) -> Node:
    """The parameter behind a product's weights, rounded or not."""
    weight = node.args[1]
    while isinstance(weight, Node) and weight.op == "call_module":
        weight = weight.args[0]
    assert isinstance(weight, Node), "a linear layer has weights"
    return weight


def _linears(model: GraphModule) -> dict[str, Node]:
    """The exported graph's products by the encoder's names for them."""
    products = [node for node in model.graph.nodes if node.target is torch.ops.aten.linear.default]
    return {str(_weight_of(node).target).removesuffix(".weight"): node for node in products}


class PlanQuantizer(Quantizer):  # type: ignore[misc]
    """Marks what a plan's layers round: weights, and of a static layer inputs and outputs."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def annotate(self, model: GraphModule) -> GraphModule:
        for name, node in _linears(model).items():
            layer = self._plan[name]
            if layer.precision in ("float", "half"):
                continue
            rounded = {node.args[1]: _weight_spec(layer)}
            if layer.input is not None:
                rounded[node.args[0]] = _activation_spec(layer.input)
            node.meta["quantization_annotation"] = QuantizationAnnotation(
                input_qspec_map=rounded,
                output_qspec=None if layer.output is None else _activation_spec(layer.output),
                _annotated=True,
            )
        return model

    def validate(self, model: GraphModule) -> None:
        """What is marked is what every engine has."""


class QatStage(Stage):
    """Batches are ``(patches, …)``. Logged: the divergence from the teacher in training, and on validation with the
    share of hops with its token."""

    def __init__(self, encoder: Encoder, plan: Plan, fit: FitConfig, augment: Callable[[Tensor], Tensor]) -> None:
        super().__init__(fit)
        self.augment = augment
        # In a tuple: it is not trained, and no part of what a checkpoint keeps.
        self._teacher = (copy.deepcopy(encoder).eval().requires_grad_(False),)
        self.student = _prepared(encoder, plan)
        self._names = list(layers(encoder))

    def training_step(self, batch: tuple[Tensor, ...], index: int) -> Tensor:
        patches = self.augment(batch[0])
        with torch.no_grad():
            wanted, wanted_embedding = self._teacher[0](patches)
        scores, embedding = self.student(patches)
        divergence = _divergence(wanted, scores)
        self.note({"train_kl": divergence.detach()}, batch=len(patches))
        noise = (embedding - wanted_embedding).square().mean() / wanted_embedding.var()
        loss: Tensor = divergence + EMBEDDING_WEIGHT * noise
        return loss

    def validation_step(self, batch: tuple[Tensor, ...], index: int) -> None:
        wanted, _ = self._teacher[0](batch[0])
        scores, _ = self.student(batch[0])
        same = (wanted.argmax(-1) == scores.argmax(-1)).float().mean()
        self.note({"val_kl": _divergence(wanted, scores), "val_same_token": same}, batch=len(batch[0]))

    def result(self, plan: Plan) -> tuple[Encoder, dict[str, LayerPlan]]:
        """The fine-tuned encoder and ``plan`` with the ranges that were learnt."""
        encoder = copy.deepcopy(self._teacher[0])
        learnt = self.student.state_dict()
        encoder.load_state_dict({name: learnt[name] for name in encoder.state_dict()})
        found = {}
        for name, node in _linears(self.student).items():
            layer = plan[name]
            if layer.precision == "static":
                output = next(user for user in node.users if user.op == "call_module")
                layer = LayerPlan("static", self._range(node.args[0]), self._range(output))
            found[name] = layer
        return encoder.eval(), {name: found[name] for name in self._names}

    def _range(self, node: Any) -> Range:
        rounding = self.student.get_submodule(str(node.target))
        assert isinstance(rounding, LearnableFakeQuantize), "activations have learnt ranges"
        scale, zero = (float(value) for value in rounding.calculate_qparams())
        return (-128 - zero) * scale, (127 - zero) * scale


def fine_tune(
    encoder: Encoder, plan: Plan, tuning: "FineTuning", name: str, steps: Steps
) -> tuple[Encoder, dict[str, LayerPlan]]:
    """``encoder`` fine-tuned under ``plan``, and the plan with what was learnt; see :data:`FIT`.

    Kept in a run folder of its own under ``tuning.folder``, named by ``name`` and what it depends on: the same call
    again loads it, and after an interruption goes on at its last whole epoch. Raises :class:`Interrupted` on Ctrl-C.
    """
    train = tuning.windows.part("train", gated=False, overlap=True, limit=TRAINING_WINDOWS)
    validation = tuning.windows.part("validation", limit=VALIDATION_WINDOWS)
    if not len(train) or not len(validation):
        raise BadInput("data folder: no windows of training or validation people to fine-tune on; leave qat out")
    fit = replace(FIT, batch=min(FIT.batch, len(train)))
    identity = _identity(encoder, plan, fit, len(train))
    run = RunFolder(tuning.folder / f"qat-{name}-{identity}")
    run.start({"kind": "encoder", "fit": fit.to_dict(), "plan": name, "identity": identity}, resume=True)
    stage = QatStage(encoder, plan, fit, Augmentation())
    if run.weights("encoder").exists():
        run.load_weights("encoder", stage.student)
        return stage.result(plan)
    torch.manual_seed(fit.seed)
    offsets = [round(phase * encoder.config.hop / PHASES) for phase in range(PHASES)]
    rows = PhasedRows((torch.tensor(train.signal(tuning.signal)),), offsets)
    judged = TensorRows(torch.tensor(validation.signal(tuning.signal)))
    try:
        with steps.paused() as console:
            fit_stage(
                stage, run, train_batches(rows, fit), eval_batches(judged, fit.batch), console, f"{name}, fine-tuned",
                ("train_kl", "val_kl", "val_same_token"), Selection("val_kl", "min"),
            )  # fmt: skip
    except Interrupted:
        raise Interrupted(f"stopped; {run.path} keeps what was learnt, and the same command goes on there") from None
    run.save_weights("encoder", stage.student)
    return stage.result(plan)


def _identity(encoder: Encoder, plan: Plan, fit: FitConfig, windows: int) -> str:
    """A digest of all that a fine-tuning starts from."""
    digest = hashlib.sha256(repr((sorted(plan.items()), fit, windows, PHASES)).encode())
    for name, tensor in encoder.state_dict().items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()[:12]


def _divergence(wanted: Tensor, found: Tensor) -> Tensor:
    """Mean KL(wanted ‖ found) of a hop, nats."""
    logs = wanted.log_softmax(-1).flatten(0, -2), found.log_softmax(-1).flatten(0, -2)
    divergence: Tensor = functional.kl_div(logs[1], logs[0], log_target=True, reduction="batchmean")
    return divergence


def _prepared(encoder: Encoder, plan: Plan) -> GraphModule:
    """The encoder's window form with its rounding in it, to be trained."""
    config = encoder.config
    with quiet_libraries():
        batch = torch.export.Dim("batch", min=1, max=4096)
        example = torch.zeros(4, 2 * config.context, config.hop)
        hops = torch.export.Dim("hops", min=2, max=4096)
        # Evaluation mode: a rounding that is learnt under dropout is learnt for other values.
        exported = torch.export.export(
            copy.deepcopy(encoder).eval().requires_grad_(True),
            (example,),
            dynamic_shapes={"patches": {0: batch, 1: hops}},
        )
        model: GraphModule = prepare_qat_pt2e(exported.module(), PlanQuantizer(plan))
        allow_exported_model_train_eval(model)
        model(example)  # the ranges come into being at the first call
        model.apply(enable_range_learning)
    return model
