"""The window form as an artefact: a stretch of patches at once, for whole recordings on a server or a phone.

The same weights and plan as the step form, whose scores it gives at every hop: its attention is banded and causal.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge.engines import load_engine
from firmware_bridge.errors import BadInput
from quantize.export import (
    WINDOW_OUTPUTS,
    Artefact,
    EngineName,
    TorchStep,
    check,
    encoder_shape,
    one_thread,
    quantized,
    window_patches,
)
from quantize.quiet import quiet_libraries
from trainer.encoder import Encoder

if TYPE_CHECKING:
    from quantize.workflow import Outcome

F32 = NDArray[np.float32]


class NamedWindow(nn.Module):
    """``patches`` (1, patches, hop) → ``scores`` (1, patches, K) and ``embedding`` (1, patches, dim), by name."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, patches: Tensor) -> dict[str, Tensor]:
        return dict(zip(WINDOW_OUTPUTS, self.encoder(patches), strict=True))


def window_runner(artefact: Artefact) -> Callable[[F32], tuple[F32, F32]]:
    """``patches`` (patches, hop) → scores (patches, K), embeddings (patches, dim), by a window artefact; one
    thread, but for ExecuTorch, whose own Python runtime takes what it likes."""
    if artefact.engine == "litert":
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_content=artefact.model, num_threads=1)
        interpreter.allocate_tensors()
        signature = interpreter.get_signature_runner()

        def litert(patches: F32) -> tuple[F32, F32]:
            found = signature(patches=patches[None])
            return found["scores"][0], found["embedding"][0]

        return litert
    if artefact.engine == "executorch":
        with quiet_libraries():  # it tells what it could not read of the processor
            from executorch.runtime import Runtime

            program = Runtime.get().load_program(artefact.model)
            kept = program, program.load_method("forward")  # the method reads the program's memory

        def executorch(patches: F32) -> tuple[F32, F32]:
            found = kept[1].execute([torch.from_numpy(patches[None])])
            return found[0][0].numpy().copy(), found[1][0].numpy().copy()

        return executorch
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(artefact.model, options, providers=["CPUExecutionProvider"])

    def onnx(patches: F32) -> tuple[F32, F32]:
        scores, embeddings = session.run(list(WINDOW_OUTPUTS), {"patches": patches[None]})
        return scores[0], embeddings[0]

    return onnx


def convert_window(encoder: Encoder, engine: EngineName) -> Artefact:
    """fp32 window artefact over :func:`quantize.export.window_patches`, checked against the step form in PyTorch: the
    same scores and embedding at every hop. Raises :class:`quantize.export.ConversionError`."""
    config = encoder.config
    length = window_patches(encoder)
    example = {"patches": torch.zeros(1, length, config.hop)}
    if engine == "litert":
        from quantize.litert import to_litert

        model = to_litert(NamedWindow(encoder), example)
    elif engine == "onnx":
        from quantize.onnx import to_onnx

        model = to_onnx(encoder, example, WINDOW_OUTPUTS)
    else:
        from quantize.executorch import lower_window

        model = lower_window(encoder, length).model
    artefact = Artefact(engine, "fp32", model, "window")
    noise = np.random.default_rng(0).standard_normal((length, config.hop)).astype(np.float32)
    with one_thread():
        reference = TorchStep(encoder)
        state = reference.start()
        stepped = [reference.step(state, patch) for patch in noise]
    scores, embeddings = window_runner(artefact)(noise)
    off = max(
        float(np.abs(scores - np.stack([out.scores for out in stepped])).max()),
        float(np.abs(embeddings - np.stack([out.embedding for out in stepped])).max()),
    )
    check(artefact, off)
    return artefact


def same_tokens(step: Artefact, window: Artefact, encoder: Encoder, stretches: F32) -> float:
    """Share of hops with the same token by both forms of one method, on ``stretches`` (n, hops, hop), where the context
    is full. 1 in fp32; in int8 their ranges may differ (a window's dynamic ones span all its patches)."""
    config = encoder.config
    engine = load_engine(step.engine, step.model, encoder_shape(config), config.hop, label=step.file)
    run, same, length = window_runner(window), [], window_patches(encoder)
    for patches in stretches:
        state = engine.start()
        stepped = np.stack([engine.step(state, patch).scores for patch in patches[:length]])
        agree = stepped.argmax(-1) == run(patches[:length])[0].argmax(-1)
        same.append(agree[config.context - 1 :])
    return float(np.concatenate(same).mean())


def write_windows(folder: Path, outcome: "Outcome") -> list[str]:
    """The window form of every artefact that ships into ``folder``; a line about each.

    Raises :class:`BadInput` where it cannot be written.
    """
    lines = []
    length = window_patches(outcome.run.encoder)
    stretches = outcome.material.judging.patches
    for engine, step in outcome.artefacts.items():
        recipe = outcome.recipes[engine]
        window = quantized(convert_window(recipe.encoder, engine), recipe.encoder, recipe.plan, step.method)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / window.file).write_bytes(window.model)
        except OSError as error:
            raise BadInput(f"--window {folder}: cannot be written ({error.strerror})") from None
        if stretches.shape[1] < length:
            lines.append(f"{folder / window.file}: {length} patches at once")
            continue
        share = same_tokens(step, window, recipe.encoder, stretches)
        lines.append(f"{folder / window.file}: {length} patches at once, the step form's token at {100 * share:.2f} %")
    return lines
