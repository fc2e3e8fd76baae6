"""Weights to int8: to the nearest step, or so that each layer's outputs change least (GPTQ)."""

from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.encoder import Encoder

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I8 = NDArray[np.int8]

Rounding = Literal["gptq", "nearest"]
WEIGHT_LIMIT = 127  # largest code: symmetric, so that a weight can change its sign
DAMPING = 0.01  # of the mean input power, as in the paper


def input_moments(encoder: Encoder, streams: Iterable[F32]) -> dict[str, F64]:
    """Second moments of every linear layer's inputs, (inputs, inputs), by the layer's name, along calibration streams
    of patches, each (hops, hop)."""
    moments: dict[str, F64] = {}

    def observe(name: str, x: torch.Tensor) -> None:
        rows = x.reshape(-1, x.shape[-1]).double()
        moments[name] = moments.get(name, 0.0) + (rows.T @ rows).numpy()

    hooks = [
        module.register_forward_hook(lambda _module, inputs, _output, name=name: observe(name, inputs[0]))
        for name, module in encoder.named_modules()
        if isinstance(module, torch.nn.Linear)
    ]
    try:
        with torch.inference_mode():
            for patches in streams:
                encoder(torch.from_numpy(patches)[None])
    finally:
        for hook in hooks:
            hook.remove()
    return moments


def nearest(weight: F64, scale: F64) -> I8:
    """Each of ``weight`` (outputs, inputs) to the nearest multiple of its row's ``scale`` (outputs,)."""
    return np.clip(np.rint(weight / scale[:, None]), -WEIGHT_LIMIT, WEIGHT_LIMIT).astype(np.int8)


def gptq(weight: F64, scale: F64, moments: F64, *, pin: bool = False) -> I8:
    """As :func:`nearest`, but what rounding one input's weights spoils is made good by the weights of the inputs not
    yet rounded, as far as the inputs go together (Frantar et al., GPTQ, ICLR 2023). ``moments``: (inputs, inputs) of
    :func:`input_moments`; inputs are taken from the strongest to the weakest.

    ``pin``: each row's largest weight keeps the largest code, so that a quantizer that takes the scale from the largest
    weight finds this scale, and these codes, again."""
    largest = np.abs(weight).argmax(1)
    damping = DAMPING * float(np.mean(np.diag(moments)))
    if not damping > 0:  # the layer never saw anything but zeros
        return nearest(weight, scale)
    order = np.argsort(-np.diag(moments))
    inverse = np.linalg.inv(moments[np.ix_(order, order)] + damping * np.eye(len(moments)))
    upper = np.linalg.cholesky(inverse).T
    rest = weight[:, order].copy()
    rounded = np.zeros(weight.shape, np.int8)
    for i, place in enumerate(order):
        column = nearest(rest[:, i : i + 1], scale)[:, 0]
        if pin:
            held = largest == place
            column[held] = np.where(weight[held, place] < 0, -WEIGHT_LIMIT, WEIGHT_LIMIT)
        rounded[:, place] = column
        rest[:, i:] -= np.outer((rest[:, i] - column * scale) / upper[i, i], upper[i, i:])
    return rounded
