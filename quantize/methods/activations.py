"""What flows into and out of each layer along real streams: what static ranges are found from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quantize.plan import layers
from trainer.encoder import Encoder

F32 = NDArray[np.float32]

EVERY = 6  # hops; neighbours tell the same
BATCH = 16


@dataclass(frozen=True)
class Observed:
    """One layer's ``inputs`` (hops, in) and ``outputs`` (hops, out) before the activation function, float32."""

    inputs: F32
    outputs: F32


def observe(
    encoder: Encoder, patches: F32, *, every: int = EVERY, advance: Callable[[], None] = lambda: None
) -> dict[str, Observed]:
    """Inputs and outputs of every layer along ``patches`` (streams, hops, hop); ``advance`` is called for each stream.

    Taken from the window form, which computes what the step form computes, from an empty context on. Every
    ``every``-th hop counts, staggered, so that every age of the context is seen.
    """
    found: dict[str, tuple[list[F32], list[F32]]] = {name: ([], []) for name in layers(encoder)}
    first = 0

    def listen(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
            for values, kept in zip((given[0], made), found[name], strict=True):
                kept += [stream[(first + i) % every :: every].numpy().copy() for i, stream in enumerate(values)]

        return hook

    handles = [module.register_forward_hook(listen(name)) for name, module in layers(encoder).items()]
    try:
        with torch.inference_mode():
            for first in range(0, len(patches), BATCH):
                some = torch.from_numpy(patches[first : first + BATCH])
                encoder(some)
                for _ in range(len(some)):
                    advance()
    finally:
        for handle in handles:
            handle.remove()
    return {name: Observed(np.concatenate(given), np.concatenate(made)) for name, (given, made) in found.items()}


def range_table(observed: Mapping[str, Observed]) -> str:
    """Markdown: how far each layer's input channels reach, and by how much the widest exceeds the median channel.

    A ratio far above 10 is what scale migration (SmoothQuant) is made for.
    """
    lines = [
        "| layer | input, lowest to highest | widest channel / median | output, lowest to highest |",
        "|---|---|---|---|",
    ]
    for name, seen in observed.items():
        reach = np.abs(seen.inputs).max(0)
        ratio = reach.max() / max(float(np.median(reach)), 1e-12)
        lines.append(
            f"| {name} | {seen.inputs.min():.2f} to {seen.inputs.max():.2f} | {ratio:.1f} | "
            f"{seen.outputs.min():.2f} to {seen.outputs.max():.2f} |"
        )
    return "\n".join(lines) + "\n"
