"""The methods: ranges, plans, what each engine makes of them, and which layers are spared."""

from typing import Literal

import numpy as np
import pytest
import tiny_models
import tiny_run
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge.engines import load_engine
from firmware_bridge.errors import BadInput
from quantize import export
from quantize.export import Artefact, EngineName, TorchStep, encoder_shape, quantized
from quantize.folding import folded
from quantize.methods import ranges, sensitivity
from quantize.methods.activations import observe, range_table
from quantize.methods.calibration import balanced, calibration_streams, irregularity, strata
from quantize.methods.ranges import find_range, static_plan
from quantize.methods.simulate import on_grid, rounded_weights, simulated
from quantize.methods.smoothing import smoothed
from quantize.methods.table import METHODS, QUICK, methods_of, offered
from quantize.plan import (
    BLOCK,
    LayerPlan,
    Plan,
    Precision,
    affine,
    is_state,
    layers,
    uniform,
    weight_scales,
    with_precision,
)
from quantize.streams import take_streams
from trainer.encoder import Encoder, EncoderConfig, NormName

CONFIG = tiny_models.CONFIG
ENGINES: tuple[EngineName, ...] = ("litert", "onnx")
CALIBRATIONS: tuple[ranges.Calibration, ...] = ("minmax", "percentile", "mse", "entropy")
VALUES = hnp.arrays(np.float32, st.integers(1, 300), elements=st.floats(-100, 100, width=32))


def error(values: np.ndarray, limits: tuple[float, float]) -> float:
    """Mean squared error of the values on the range's own grid."""
    said = on_grid(torch.from_numpy(values), limits).numpy()
    return float(np.square(values - said).mean())


@given(values=VALUES)
def test_every_range_holds_zero_and_reaches_no_further_than_the_values(values: np.ndarray) -> None:
    widest = find_range(values, "minmax")
    assert widest[0] <= min(0, values.min()) and widest[1] >= max(0, values.max())
    for calibration in CALIBRATIONS:
        low, high = find_range(values, calibration)
        assert widest[0] - 1e-6 <= low <= 0 <= high <= widest[1] + 1e-6


@given(values=VALUES, gain=st.floats(0.01, 100))
def test_zero_has_a_code_of_its_own_and_a_value_on_the_grid_stays(values: np.ndarray, gain: float) -> None:
    """A value in the rings that is rounded again, however often, does not drift."""
    limits = find_range(values * np.float32(gain), "minmax")
    once = on_grid(torch.from_numpy(values), limits)
    assert torch.equal(on_grid(once, limits), once)
    assert float(on_grid(torch.zeros(1), limits)) == 0.0


def test_rare_outliers_are_clipped() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, 200_000).astype(np.float32)
    values[:4] = 40
    reach = {calibration: find_range(values, calibration)[1] for calibration in CALIBRATIONS}
    assert reach["minmax"] == 40
    assert 3 < reach["percentile"] < 20
    assert 3 < reach["entropy"] < 20
    # Squared error weighs them by their square: it gives in where the tail is long, not where it is far.
    tail = rng.standard_t(3, 200_000).astype(np.float32)
    assert error(tail, find_range(tail, "mse")) < 0.8 * error(tail, find_range(tail, "minmax"))


def test_mse_is_the_best_of_its_candidates() -> None:
    values = np.random.default_rng(1).standard_t(3, 50_000).astype(np.float32)
    best = error(values, find_range(values, "mse"))
    low, high = find_range(values, "minmax")
    assert best <= min(error(values, (low * s, high * s)) for s in ranges.SHRINKS) * 1.01


def test_observed_values_are_the_step_forms_own() -> None:
    patches = tiny_models.patches(12, 3)
    seen = observe(tiny_models.encoder(), patches[None], every=1)
    reference = TorchStep(tiny_models.encoder())
    state = reference.start()
    for hop, patch in enumerate(patches):
        out = reference.step(state, patch)
        assert np.allclose(seen["embed"].inputs[hop], patch)
        assert np.allclose(seen["head"].outputs[hop], out.scores, atol=1e-5)
        assert np.allclose(seen["blocks.1.key"].outputs[hop], state.k[1, :, -1].ravel(), atol=1e-5)
    assert list(seen) == list(layers(tiny_models.encoder()))
    assert range_table(seen).count("\n") == len(seen) + 2


def test_sparse_observation_sees_every_age_of_the_context() -> None:
    patches = np.stack([tiny_models.patches(12, seed) for seed in range(6)])
    seen = observe(tiny_models.encoder(), patches, every=6)["embed"].inputs
    assert {
        int(np.flatnonzero((patches[i] == row).all(1))[0]) for row in seen for i in range(6) if row in patches[i]
    } == (set(range(12)))
    assert len(seen) == 12


def build(engine: EngineName, plan: Plan, method: str = "made") -> Artefact:
    return quantized(tiny_models.artefact(engine, "fp32"), tiny_models.encoder(), plan, method)


def plan_of(precision: Precision) -> dict[str, LayerPlan]:
    if precision == "static":
        return static_plan(tiny_models.observed(), "percentile")
    return uniform(tiny_models.encoder(), precision)


def stepped(artefact: Artefact, hops: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Scores (hops, K) and the last state's keys."""
    engine = load_engine(artefact.engine, artefact.model, encoder_shape(CONFIG), CONFIG.hop)
    state = engine.start()
    return np.stack([engine.step(state, patch).scores for patch in tiny_models.patches(hops, 9)]), state.k


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("precision", ["weights8", "dynamic", "dynamic4", "static"])
def test_every_engine_computes_what_the_plan_says(engine: EngineName, precision: Precision) -> None:
    """An engine's scores lie nearer to PyTorch's simulation of the plan than to fp32."""
    plan = plan_of(precision)
    found, _ = stepped(build(engine, plan))
    patches = torch.from_numpy(tiny_models.patches(30, 9))[None]
    outputs = engine == "litert"  # of a static plan, the others round only the state's way out
    only_state = {
        name: layer if outputs or is_state(name) else LayerPlan(layer.precision, layer.input)
        for name, layer in plan.items()
    }
    with torch.inference_mode():
        said = simulated(tiny_models.encoder(), only_state)(patches)[0][0].numpy()
        fp32 = tiny_models.encoder()(patches)[0][0].numpy()
    noise, off = np.abs(said - fp32).mean(), np.abs(found - said).mean()
    assert noise > 0
    assert off < 0.5 * noise


@pytest.mark.parametrize("engine", ENGINES)
def test_static_state_lies_on_a_fixed_grid(engine: EngineName) -> None:
    """What is in the rings after many hops is a code of its layer's one scale: rounding it again changes nothing."""
    plan = plan_of("static")
    _, keys = stepped(build(engine, plan), hops=3 * CONFIG.context)
    for i, ring in enumerate(keys):
        limits = plan[f"blocks.{i}.key"].output
        assert limits is not None
        scale, zero = affine(limits)
        codes = ring / scale + zero
        assert np.abs(codes - np.rint(codes)).max() < 1e-2
        assert codes.min() >= -0.01
        assert codes.max() <= 255.01
        again = on_grid(torch.from_numpy(ring), limits).numpy()
        assert np.allclose(again, ring, atol=1e-5 * scale + 1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_mixed_precision_spares_the_layers_that_it_names(engine: EngineName) -> None:
    encoder = tiny_models.encoder()
    mixed = with_precision(plan_of("dynamic"), ["embed", "head"], "half")
    artefact = build(engine, mixed)
    head, key = (layers(encoder)[name].weight.detach().numpy() for name in ("head", "blocks.0.expand"))
    assert any(some.astype(np.float16).tobytes() in artefact.model for some in (head, head.T))
    for weight in (key, key.T):
        assert weight.astype(np.float16).tobytes() not in artefact.model
        assert np.ascontiguousarray(weight).tobytes() not in artefact.model
    fp32, _ = stepped(tiny_models.artefact(engine, "fp32"))
    near, far = (np.abs(stepped(made)[0] - fp32).mean() for made in (artefact, build(engine, plan_of("dynamic"))))
    assert near < far


@given(bits=st.sampled_from(["dynamic", "dynamic4"]), seed=st.integers(0, 100))
def test_weights_are_rounded_to_their_nearest_code(bits: Precision, seed: int) -> None:
    weight = torch.randn(4, 2 * BLOCK, generator=torch.Generator().manual_seed(seed))
    said = rounded_weights(weight, LayerPlan(bits))
    blocks = weight.reshape(-1, BLOCK) if bits == "dynamic4" else weight
    step = weight_scales(blocks, 4 if bits == "dynamic4" else 8)[:, 0]
    off = (said - weight).abs().reshape(blocks.shape).amax(1)
    assert (off <= step / 2 * 1.001).all()
    assert torch.allclose(rounded_weights(said, LayerPlan(bits)), said, atol=1e-6)


def test_a_plan_that_leaves_a_layer_out_is_refused() -> None:
    plan = plan_of("dynamic")
    del plan["head"]
    with pytest.raises(ValueError, match="says nothing of head"):
        build("onnx", plan)


@pytest.mark.parametrize(("norm", "activation"), [("layer", "gelu"), ("rms", "relu"), ("tanh", "relu")])
def test_folding_and_smoothing_change_nothing_in_fp32_and_every_form_quantizes(
    norm: NormName, activation: Literal["gelu", "relu"]
) -> None:
    config = EncoderConfig(
        dim=32, layers=2, heads=2, mlp=2, context=5, codebook_size=32, norm=norm, activation=activation
    )
    torch.manual_seed(3)
    encoder = Encoder(config).eval()
    for name, parameter in encoder.named_parameters():
        if "norm" in name and name.endswith("weight"):
            torch.nn.init.uniform_(parameter, 0.3, 3.0)
    patches = np.stack([tiny_models.patches(20, seed) for seed in (1, 2)])
    with torch.inference_mode():
        wanted = encoder(torch.from_numpy(patches))
        for same in (smoothed(encoder, observe(encoder, patches)), folded(encoder)):
            for a, b in zip(wanted, same(torch.from_numpy(patches)), strict=True):
                assert torch.allclose(a, b, atol=2e-4)
    bare = folded(encoder)
    fp32 = export.convert(bare, "onnx")
    for plan in (uniform(bare, "dynamic4"), static_plan(observe(bare, patches, every=1), "minmax")):
        made = quantized(fp32, bare, plan, "made")
        engine = load_engine("onnx", made.model, encoder_shape(config), config.hop)
        state = engine.start()
        found = np.stack([engine.step(state, patch).scores for patch in patches[0]])
        assert np.abs(found - wanted[0][0].numpy()).max() < 0.3 * np.ptp(wanted[0][0].numpy())


def test_smoothing_narrows_a_channel_that_is_far_wider() -> None:
    torch.manual_seed(4)
    encoder = Encoder(CONFIG).eval()
    block = encoder.blocks[0]
    with torch.no_grad():
        block.norm_mlp.weight[3] = 50.0
    patches = np.stack([tiny_models.patches(30, seed) for seed in (1, 2)])

    def noise(some: Encoder) -> float:
        plan = with_precision(static_plan(observe(some, patches, every=1), "minmax"), (), "float")
        only = {name: layer if name == "blocks.0.expand" else LayerPlan("float") for name, layer in plan.items()}
        with torch.inference_mode():
            x = torch.from_numpy(patches)
            return float((simulated(some, only, outputs=False)(x)[1] - encoder(x)[1]).square().mean())

    assert noise(smoothed(encoder, observe(encoder, patches))) < noise(encoder) / 2


def test_the_sweep_finds_the_layer_that_was_made_fragile() -> None:
    """A layer with one huge weight in every row loses all the others in int8."""
    torch.manual_seed(5)
    encoder = Encoder(CONFIG).eval()
    victim = layers(encoder)["blocks.1.out"]
    with torch.no_grad():
        victim.weight[:, 0] = 40.0
    streams = take_streams(tiny_run.windows(), "ppg", "validation", warm=4, limit=6)
    seen: list[None] = []
    found = sensitivity.sweep(encoder, uniform(encoder, "dynamic"), streams, lambda: seen.append(None))
    assert found.rows[0].layer == "blocks.1.out"
    assert found.rows[0].without.kl < found.everything.kl
    assert len(seen) == len(found.rows) == len(layers(encoder))
    spared = sum(row.weights for row in found.rows if row.layer in found.kept)
    assert spared <= sensitivity.KEEP_AT_MOST
    assert found.with_kept.kl <= found.everything.kl
    assert sensitivity.change(torch.randn(3, 4, 7), torch.randn(3, 4, 7)).kl > 0


@given(labels=st.lists(st.sampled_from("abcd"), min_size=1, max_size=60), limit=st.integers(1, 40))
def test_strata_take_turns(labels: list[str], limit: int) -> None:
    names = np.array(labels)
    chosen = balanced(names, limit)
    assert len(np.unique(chosen)) == len(chosen) == min(limit, len(labels))
    counts = {name: int((names[chosen] == name).sum()) for name in set(labels)}
    for name, count in counts.items():  # none has two more than another that had one left
        assert all(count <= other + 1 or other == labels.count(less) for less, other in counts.items()), name


def test_irregular_windows_are_told_from_steady_ones() -> None:
    rate, hop = 125.0, 50
    rng = np.random.default_rng(0)

    def ecg(intervals: np.ndarray) -> np.ndarray:
        signal = np.zeros(50 * hop, np.float32)
        for at in np.cumsum(intervals):
            i = int(at * rate)
            if 2 < i < len(signal) - 3:
                signal[i - 2 : i + 3] = (1, 3, 5, 3, 1)
        return signal.reshape(50, hop)

    steady, irregular = ecg(np.full(24, 0.8)), ecg(rng.uniform(0.45, 1.2, 24))
    assert irregularity(steady, rate) < 0.05
    assert irregularity(irregular, rate) > 0.2
    assert np.isnan(irregularity(np.zeros((50, hop), np.float32), rate))


def test_calibration_takes_training_people_of_every_stratum() -> None:
    windows = tiny_run.windows()
    streams = calibration_streams(windows, "ppg", warm=7, limit=8, rate=125.0)
    assert len(streams) == 8
    assert set(streams.patients) <= set(windows.part("train").patients)
    assert len(strata(windows, 125.0)) == len(windows)
    with pytest.raises(BadInput, match="no PPG window of a training person"):
        calibration_streams(windows.take(slice(0, 0)), "ppg", warm=7, limit=8, rate=125.0)


def test_the_table_of_methods_is_whole() -> None:
    assert methods_of("quick") == QUICK and set(methods_of("all")) == set(METHODS)
    assert methods_of("dynamic,int4,dynamic") == ("dynamic", "int4")
    with pytest.raises(BadInput, match="method 'int3': is unknown; known: fp32, fp16"):
        methods_of("dynamic,int3")
    assert [method.slug for method in offered("executorch", ["fp16", "static", "dynamic"])] == ["dynamic", "static"]
    assert all(method.slug == slug and method.text and method.engines for slug, method in METHODS.items())
