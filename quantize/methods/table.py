"""Every way of making an artefact, in one table: its slug, what it is, which engines have it, and its recipe."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from firmware_bridge.errors import BadInput
from quantize.export import EngineName
from quantize.methods.ranges import Calibration
from quantize.methods.workbench import Recipe, Workbench
from quantize.plan import Precision, uniform, with_precision

EVERYWHERE: tuple[EngineName, ...] = ("litert", "onnx", "executorch")
STORED: tuple[EngineName, ...] = ("litert", "onnx")  # weights stored small and computed wide


@dataclass(frozen=True)
class Method:
    """``make`` gives the recipe for an engine; ``tunes``: it fine-tunes the student, which takes minutes; ``integer``:
    the products are computed with integers, so it may ship: the others are there to compare with."""

    slug: str
    text: str
    make: Callable[[Workbench, EngineName], Recipe]
    engines: tuple[EngineName, ...] = EVERYWHERE
    tunes: bool = False
    integer: bool = True


def _wide(engine: EngineName) -> Precision:
    """How an engine keeps a layer out of int8: weights in 16 bits where it can store them so."""
    return "half" if engine in STORED else "float"


def _uniform(precision: Precision) -> Callable[[Workbench, EngineName], Recipe]:
    return lambda bench, engine: Recipe(bench.encoder, uniform(bench.encoder, precision))


def _static(calibration: Calibration) -> Callable[[Workbench, EngineName], Recipe]:
    return lambda bench, engine: Recipe(bench.encoder, bench.static(calibration))


def _mixed(bench: Workbench, engine: EngineName) -> Recipe:
    plan = uniform(bench.encoder, "dynamic")
    return Recipe(bench.encoder, with_precision(plan, bench.dynamic_sweep.kept, _wide(engine)))


def _gptq(bench: Workbench, engine: EngineName) -> Recipe:
    return Recipe(bench.rounded(), uniform(bench.encoder, "dynamic"))


def _gptq_mixed(bench: Workbench, engine: EngineName) -> Recipe:
    kept = tuple(bench.dynamic_sweep.kept)
    plan = with_precision(uniform(bench.encoder, "dynamic"), kept, _wide(engine))
    return Recipe(bench.rounded(kept), plan)


def _mixed_static(bench: Workbench, engine: EngineName) -> Recipe:
    plan = with_precision(bench.static("percentile"), bench.static_sweep.kept, _wide(engine))
    return Recipe(bench.encoder, plan)


def _qat(bench: Workbench, engine: EngineName) -> Recipe:
    return bench.tuned("static", lambda: bench.static("percentile"))


def _qat_int4(bench: Workbench, engine: EngineName) -> Recipe:
    return bench.tuned("int4", lambda: uniform(bench.encoder, "dynamic4"))


_ALL = (
    Method("fp32", "fp32", _uniform("float"), integer=False),
    Method("fp16", "fp16 weights, fp32 arithmetic", _uniform("half"), STORED, integer=False),
    Method(
        "weight-only", "int8 weights per output channel, fp32 arithmetic", _uniform("weights8"), STORED, integer=False
    ),
    Method("dynamic", "int8 weights, int8 activations on a scale found at every hop", _uniform("dynamic")),
    Method("static", "int8, activations on fixed ranges: lowest to highest seen", _static("minmax")),
    Method("static-percentile", "int8, fixed ranges that hold 99.99 % of the values", _static("percentile")),
    Method("static-mse", "int8, fixed ranges of least squared error", _static("mse")),
    Method("static-entropy", "int8, fixed ranges that lose the least information", _static("entropy")),
    Method("static-smooth", "int8, fixed ranges after scale migration (SmoothQuant)", lambda bench, _: bench.smooth()),
    Method("mixed", "dynamic int8, the most sensitive layers wide", _mixed),
    Method("gptq", "dynamic int8, weights rounded with each other's help (GPTQ)", _gptq),
    Method("gptq-mixed", "dynamic int8, weights by GPTQ, the most sensitive layers wide", _gptq_mixed),
    Method("mixed-static", "int8 on fixed ranges, the most sensitive layers wide", _mixed_static),
    Method("qat", "int8, weights and fixed ranges fine-tuned with the rounding in the loop", _qat, tunes=True),
    Method("int4", "int4 weights by blocks of 32 inputs, int8 activations found at every hop", _uniform("dynamic4")),
    Method("qat-int4", "int4 weights, fine-tuned with the rounding in the loop", _qat_int4, tunes=True),
)
METHODS: dict[str, Method] = {method.slug: method for method in _ALL}
QUICK = ("static-percentile", "dynamic", "mixed", "gptq", "gptq-mixed")


def methods_of(text: str) -> tuple[str, ...]:
    """The slugs that ``quick``, ``all`` or a comma-separated list stands for; raises :class:`BadInput`."""
    if text == "quick":
        return QUICK
    if text == "all":
        return tuple(METHODS)
    slugs = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for slug in slugs:
        if slug not in METHODS:
            raise BadInput(f"method {slug!r}: is unknown; known: {', '.join(METHODS)}")
    return slugs


def offered(engine: EngineName, slugs: Sequence[str]) -> list[Method]:
    """Those of ``slugs`` that ``engine`` has, in the table's order."""
    return [method for method in _ALL if method.slug in slugs and engine in method.engines]
