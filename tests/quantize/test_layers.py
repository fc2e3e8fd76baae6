"""Signal to noise by layer: the decibels are right, and the tensors inside the graphs are the right ones."""

from dataclasses import replace

import damaged_models
import numpy as np
import pytest
import tiny_models
import torch
from hypothesis import given
from hypothesis import strategies as st

from edge.engines import load_engine
from quantize.export import Artefact, EngineName, TorchStep, convert, encoder_shape
from quantize.fidelity.layers import Noise, Probe, deployed_layers, inner_layers
from trainer.encoder import Encoder

STREAMS = np.stack([tiny_models.patches(20, seed) for seed in (3, 4)])
WARM = 6
PLACES = [f"block {i} {what}" for i in (1, 2) for what in ("after attention", "hidden", "output")]


@given(st.floats(1e-4, 1.0), st.integers(0, 1000))
def test_noise_in_decibels(share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = Noise()
    signals = rng.normal(0, 2, (50, 64))
    for signal in signals:
        wrong = rng.normal(0, 1, 64)
        wrong *= share * np.linalg.norm(signal) / np.linalg.norm(wrong)
        noise.add({"here": signal, "absent": signal}, {"here": signal + wrong})
    layers = {layer.name: layer.sqnr for layer in noise.layers()}
    assert layers == {"here": pytest.approx(-20 * np.log10(share), abs=0.02)}


def test_no_difference_has_no_decibels() -> None:
    noise = Noise()
    noise.add({"here": np.ones(3)}, {"here": np.ones(3)})
    assert noise.layers()[0].sqnr is None


def variant(norm: str, activation: str) -> Encoder:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return Encoder(replace(tiny_models.CONFIG, norm=norm, activation=activation)).eval()


@pytest.mark.parametrize(("norm", "activation"), [("layer", "gelu"), ("rms", "gelu"), ("tanh", "relu")])
def test_the_probe_sees_what_flows_between_layers(norm: str, activation: str) -> None:
    """Each place, carried on by hand, gives what comes after it."""
    encoder = variant(norm, activation)
    probe = Probe(encoder)
    state = probe.step.start()
    out = probe.step.step(state, STREAMS[0, 0])
    values = {name: torch.from_numpy(value.astype(np.float32)) for name, value in probe.values.items()}
    assert sorted(values) == sorted(PLACES)
    with torch.no_grad():
        for i, block in enumerate(encoder.blocks, 1):
            after = values[f"block {i} after attention"]
            assert torch.allclose(block._activation(block.expand(block.norm_mlp(after))), values[f"block {i} hidden"])
            out_of = after + block.contract(values[f"block {i} hidden"])
            assert torch.allclose(out_of, values[f"block {i} output"], atol=1e-6)
        assert np.allclose(encoder.norm(values["block 2 output"]), out.embedding, atol=1e-6)
    probe.close()
    probe.values.clear()
    probe.step.step(state, STREAMS[0, 1])
    assert not probe.values, "the hooks are gone"


@pytest.mark.parametrize("engine", ["litert", "onnx"])
def test_inside_a_graph_every_place_is_found(engine: EngineName) -> None:
    everything_is_found(tiny_models.encoder(), tiny_models.artefact(engine, "fp32"))


def test_other_norms_and_activations_are_found_too() -> None:
    encoder = variant("tanh", "relu")
    everything_is_found(encoder, convert(encoder, "onnx"))


def everything_is_found(encoder: Encoder, fp32: Artefact) -> None:
    layers, note = inner_layers(encoder, fp32.engine, fp32.model, fp32.model, STREAMS, WARM)
    assert note
    assert [layer.name for layer in layers] == PLACES
    assert all(layer.sqnr is None or layer.sqnr > 90 for layer in layers)


def test_noise_enters_where_it_was_put() -> None:
    """A second block whose MLP is damaged: nothing before it is noisy, everything after it is."""
    encoder, fp32 = tiny_models.encoder(), tiny_models.artefact("onnx", "fp32")
    model = damaged_models.shaken(fp32.model, "blocks.1.contract.weight", 0.05)
    inner, _ = inner_layers(encoder, "onnx", fp32.model, model, STREAMS, WARM)
    found = {layer.name: layer.sqnr or 999 for layer in inner}
    assert min(found[place] for place in PLACES if place != "block 2 output") > 90
    assert found["block 2 output"] < 40
    engine = load_engine("onnx", model, encoder_shape(encoder.config), encoder.config.hop)
    deployed = {layer.name: layer.sqnr or 999 for layer in deployed_layers(encoder, engine, STREAMS, WARM)}
    assert min(deployed[f"block {i} {what}"] for i in (1, 2) for what in ("key", "value")) > 90
    assert max(deployed["embedding"], deployed["scores"]) < 40


def test_an_engine_that_keeps_its_tensors_says_so() -> None:
    encoder = tiny_models.encoder()
    layers, note = inner_layers(encoder, "executorch", b"", b"", STREAMS, WARM)
    assert layers == [] and "executorch" in note
    itself = deployed_layers(encoder, TorchStep(encoder), STREAMS, WARM)
    assert [layer.sqnr for layer in itself] == [None] * 6, "fp32 against itself has no noise"
