"""Conversion: every engine computes what PyTorch computes, and int8 stays close to it, state included."""

import re

import numpy as np
import pytest
import tiny_models
import torch

from edge.engines import load_engine
from quantize import export
from quantize.export import Artefact, TorchStep, encoder_shape, largest_difference
from quantize.methods.activations import observe
from quantize.methods.ranges import static_plan
from trainer.encoder import StepForm, step_mask

CONFIG = tiny_models.CONFIG
ENGINE_NAMES: tuple[export.EngineName, ...] = ("litert", "onnx")


def test_the_reference_is_the_step_form_and_agrees_with_the_window_form() -> None:
    encoder, patches = tiny_models.encoder(), tiny_models.patches(14, 1)
    reference = TorchStep(encoder)
    state = reference.start()
    k, v = encoder.state()
    stepped = []
    with torch.inference_mode():
        for hop, patch in enumerate(patches):
            wanted, _, k, v = StepForm(encoder)(torch.from_numpy(patch)[None], k, v, step_mask(CONFIG.context, hop))
            out = reference.step(state, patch)
            assert np.array_equal(out.scores, wanted[0].numpy())
            stepped.append(out.scores)
        window, _ = encoder(torch.from_numpy(patches)[None])
    assert np.abs(np.stack(stepped) - window[0].numpy()).max() < 1e-5


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_fp32_conversions_equal_torch_in_every_output(engine: export.EngineName) -> None:
    patches = tiny_models.patches(3 * CONFIG.context, 2)
    assert largest_difference(tiny_models.artefact(engine, "fp32"), tiny_models.encoder(), patches) < 1e-5


@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize("method", ["static", "dynamic"])
def test_int8_stays_close_and_holds_no_fp32_weights(engine: export.EngineName, method: export.Method) -> None:
    artefact, encoder = tiny_models.artefact(engine, method), tiny_models.encoder()
    patches = tiny_models.patches(40, 3)
    shape = encoder_shape(CONFIG)
    loaded, reference = load_engine(engine, artefact.model, shape, CONFIG.hop), TorchStep(encoder)
    state, wanted_state = loaded.start(), reference.start()
    cosines, differences, scale = [], [], []
    for patch in patches:
        out, wanted = loaded.step(state, patch), reference.step(wanted_state, patch)
        norms = np.linalg.norm(out.embedding) * np.linalg.norm(wanted.embedding)
        cosines.append(out.embedding @ wanted.embedding / norms)
        differences.append(np.abs(out.scores - wanted.scores).max())
        scale.append(np.ptp(wanted.scores))
    assert min(cosines) > 0.995
    assert max(differences) < 0.1 * np.median(scale)
    assert max(differences) > 0  # it is int8, not fp32 again
    weights = encoder.head.weight[0].detach().numpy().tobytes()
    assert weights in tiny_models.artefact(engine, "fp32").model
    assert weights not in artefact.model


def test_both_dynamic_engines_do_the_same_arithmetic() -> None:
    """Same scales from the same weights, so LiteRT and ONNX agree far better with each other than with fp32."""
    patches = tiny_models.patches(30, 4)
    scores = []
    for name in ENGINE_NAMES:
        engine = load_engine(name, tiny_models.artefact(name, "dynamic").model, encoder_shape(CONFIG), CONFIG.hop)
        state = engine.start()
        scores.append(np.stack([engine.step(state, patch).scores for patch in patches]))
    assert np.mean(scores[0].argmax(1) == scores[1].argmax(1)) > 0.9


def test_litert_calibration_covers_the_extremes() -> None:
    """A range averaged over hops (the quantizer's default) would clip a rare loud hop; ours holds it."""
    encoder = tiny_models.encoder()
    quiet = 0.05 * tiny_models.patches(60, 5)
    loud = quiet.copy()
    loud[30] = tiny_models.patches(1, 6)[0] * 3
    fp32 = tiny_models.artefact("litert", "fp32")
    errors = {}
    for label, stream in (("without", quiet), ("with", loud)):
        plan = static_plan(observe(encoder, stream[None], every=1), "minmax")
        errors[label] = largest_difference(export.quantized(fp32, encoder, plan, "static"), encoder, loud)
    assert errors["with"] < errors["without"] / 3


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_models_hold_no_paths_of_this_machine(engine: export.EngineName) -> None:
    for method in ("fp32", "static", "dynamic"):
        model = tiny_models.artefact(engine, method).model
        assert not re.search(rb"site-packages|/tmp/|\.py\b", model)


def test_exchanged_rings_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """`convert` refuses a converter that hands the rings over in the wrong order."""
    good = tiny_models.artefact("onnx", "fp32").model
    import onnx

    model = onnx.load_from_string(good)
    outputs = model.graph.output
    k, v = next(tensor for tensor in outputs if tensor.name == "k_next"), outputs[3]
    k.name, v.name = "v_next", "k_next"
    monkeypatch.setattr("quantize.onnx.to_onnx", lambda *_: model.SerializeToString())
    with pytest.raises(export.ConversionError, match="differs from PyTorch"):
        export.convert(tiny_models.encoder(), "onnx")


def test_artefact_names_say_method_and_engine() -> None:
    assert Artefact("litert", "static", b"").file == "encoder-static.tflite"
    assert Artefact("onnx", "dynamic", b"").file == "encoder-dynamic.onnx"
