"""The window form: the step form's scores for a whole stretch at once."""

import numpy as np
import pytest
import tiny_models

from edge.engines import ENGINES
from quantize.export import ENGINE_NAMES, ConversionError, EngineName, quantized
from quantize.plan import uniform
from quantize.window_form import convert_window, same_tokens, window_runner

LENGTH = 2 * tiny_models.CONFIG.context


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_both_forms_say_the_same_tokens(engine: EngineName) -> None:
    if not ENGINES[engine].installed():
        pytest.skip(f"{engine} is not here (pulsecode engines list)")
    encoder = tiny_models.encoder()
    window = convert_window(encoder, engine)
    assert window.file.startswith("encoder-window-fp32.")
    stretches = np.stack([tiny_models.patches(LENGTH, seed) for seed in range(4)])
    assert same_tokens(tiny_models.artefact(engine, "fp32"), window, encoder, stretches) == 1
    int8 = quantized(window, encoder, uniform(encoder, "dynamic"), "dynamic")
    assert len(int8.model) < len(window.model)
    assert int8.form == "window"
    assert same_tokens(tiny_models.artefact(engine, "dynamic"), int8, encoder, stretches) > 0.8
    scores, embeddings = window_runner(int8)(stretches[0])
    assert scores.shape == (LENGTH, tiny_models.CONFIG.codebook_size)
    assert embeddings.shape == (LENGTH, tiny_models.CONFIG.dim)


def test_a_window_that_looks_ahead_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def backwards(_: object) -> object:
        return lambda patches: tuple(out[::-1] for out in window_runner_was(made)(patches))

    made = convert_window(tiny_models.encoder(), "onnx")
    window_runner_was = window_runner
    monkeypatch.setattr("quantize.window_form.window_runner", backwards)
    with pytest.raises(ConversionError, match=r"encoder-window-fp32.onnx: differs from PyTorch"):
        convert_window(tiny_models.encoder(), "onnx")
