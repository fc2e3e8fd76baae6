"""An encoder that computes as a plan says, in PyTorch: for sweeps over many plans, where converting each would take
minutes. The engines' own figures, from their own files, are what is reported in the end."""

import copy

import torch
from torch import Tensor, nn

from quantize.plan import BLOCK, LayerPlan, Plan, Range, affine, layers, weight_scales
from trainer.encoder import Encoder


def rounded_weights(weight: Tensor, plan: LayerPlan) -> Tensor:
    """``weight`` (out, in) as the plan's integers say it."""
    if plan.precision == "half":
        return weight.half().float()
    if plan.precision == "dynamic4" and weight.shape[1] % BLOCK == 0:
        blocks = weight.reshape(-1, BLOCK)
        scale = weight_scales(blocks, 4)
        return (torch.round(blocks / scale) * scale).reshape(weight.shape)
    if plan.precision in ("dynamic", "dynamic4", "static", "weights8"):
        scale = weight_scales(weight)
        return torch.round(weight / scale) * scale
    return weight


def on_grid(x: Tensor, limits: Range) -> Tensor:
    """``x`` on the 256 codes of a fixed range."""
    scale, zero = affine(limits)
    return (torch.clamp(torch.round(x / scale) + zero, 0, 255) - zero) * scale


def on_own_grid(x: Tensor) -> Tensor:
    """Each row of ``x`` on 256 codes over its own range."""
    low, high = x.amin(-1, keepdim=True).clamp(max=0), x.amax(-1, keepdim=True).clamp(min=0)
    scale = ((high - low) / 255).clamp(min=1e-12)
    zero = torch.round(-low / scale)
    return (torch.clamp(torch.round(x / scale) + zero, 0, 255) - zero) * scale


class SimulatedLinear(nn.Module):
    """``nn.Linear`` in a plan's arithmetic. ``outputs``: whether a static layer's output is on a grid too, as in
    engines whose int8 products also give int8."""

    def __init__(self, layer: nn.Linear, plan: LayerPlan, *, outputs: bool) -> None:
        super().__init__()
        self.plan, self.outputs = plan, outputs
        self.weight, self.bias = rounded_weights(layer.weight.detach(), plan), layer.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        plan = self.plan
        if plan.precision in ("dynamic", "dynamic4"):
            x = on_own_grid(x)
        elif plan.precision == "static" and plan.input is not None:
            x = on_grid(x, plan.input)
        y = nn.functional.linear(x, self.weight, self.bias)
        if plan.precision == "static" and self.outputs and plan.output is not None:
            y = on_grid(y, plan.output)
        return y


def simulated(encoder: Encoder, plan: Plan, *, outputs: bool = True) -> Encoder:
    """A copy of ``encoder`` that computes as ``plan`` says."""
    copied = copy.deepcopy(encoder)
    for name, layer in layers(encoder).items():
        parent, _, leaf = name.rpartition(".")
        setattr(copied.get_submodule(parent), leaf, SimulatedLinear(layer, plan[name], outputs=outputs))
    return copied
