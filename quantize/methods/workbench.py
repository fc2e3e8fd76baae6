"""What the methods share, made when the first of them asks for it: activations, the sweep, the fine-tuned students."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from firmware_bridge.block import Signal
from quantize.folding import folded
from quantize.methods.activations import Observed, observe
from quantize.methods.gptq import on_codes
from quantize.methods.ranges import Calibration, static_plan
from quantize.methods.sensitivity import Sweep, sweep
from quantize.methods.smoothing import smoothed
from quantize.plan import Plan, uniform
from quantize.progress import Steps
from quantize.quiet import quiet_libraries
from quantize.streams import Streams
from trainer.encoder import Encoder
from trainer.windows import Windows


@dataclass(frozen=True)
class Recipe:
    """What an artefact is made from: an encoder, and the arithmetic of its layers."""

    encoder: Encoder
    plan: Plan


@dataclass(frozen=True)
class FineTuning:
    """What fine-tuning with rounding needs: ``windows`` (their training and validation people), which ``signal`` the
    encoder reads, and the folder that keeps what was learnt."""

    windows: Windows
    signal: Signal
    folder: Path


class Workbench:
    """``encoder`` (fp32, trained) with streams of training people to ``calibrate`` ranges on, where rare rhythms and
    poor signals have their say, others of them that are ``typical``, and streams of validation people to choose on;
    ``tuning`` is None where nothing may be fine-tuned."""

    def __init__(
        self,
        encoder: Encoder,
        calibrate: Streams,
        typical: Streams,
        choose: Streams,
        steps: Steps,
        tuning: FineTuning | None = None,
    ) -> None:
        self.trained, self.encoder = encoder, folded(encoder)
        self._typical = typical
        self._calibrate, self._choose, self._steps, self._tuning = calibrate, choose, steps, tuning
        self._static: dict[Calibration, Plan] = {}
        self._tuned: dict[str, Recipe] = {}
        self._rounded: dict[tuple[str, ...], Encoder] = {}

    def observed(self, encoder: Encoder) -> dict[str, Observed]:
        """Inputs and outputs of its layers along the calibration streams."""
        advance = self._steps.track("calibration streams", len(self._calibrate))
        return observe(encoder, self._calibrate.patches, advance=advance)

    @cached_property
    def activations(self) -> dict[str, Observed]:
        """Those of :attr:`encoder`."""
        return self.observed(self.encoder)

    def static(self, calibration: Calibration) -> Plan:
        """Every layer static, on ranges found by ``calibration``."""
        if calibration not in self._static:
            self._static[calibration] = static_plan(self.activations, calibration)
        return self._static[calibration]

    @cached_property
    def static_sweep(self) -> Sweep:
        """How sensitive each layer is to the best static plan's arithmetic."""
        return self._swept(self.static("percentile"))

    @cached_property
    def dynamic_sweep(self) -> Sweep:
        """How sensitive each layer is to dynamic int8."""
        return self._swept(uniform(self.encoder, "dynamic"))

    def _swept(self, plan: Plan) -> Sweep:
        advance = self._steps.track("sensitivity of each layer", len(plan))
        return sweep(self.encoder, plan, self._choose, advance)

    def rounded(self, but: tuple[str, ...] = ()) -> Encoder:
        """:attr:`encoder` with the weights of its layers, ``but`` some, on int8 codes chosen together."""
        if but not in self._rounded:
            self._rounded[but] = on_codes(self.encoder, self._typical.patches, but=but)
        return self._rounded[but]

    def smooth(self) -> Recipe:
        """Static, with scales migrated out of the activations."""
        encoder = smoothed(self.trained, self.observed(self.trained))
        return Recipe(encoder, static_plan(self.observed(encoder), "percentile"))

    def tuned(self, name: str, make: Callable[[], Plan]) -> Recipe:
        """The encoder fine-tuned under the plan that ``make`` gives, with the ranges it learnt; once for each ``name``.

        Only where :attr:`tuning` was given."""
        if name not in self._tuned:
            with quiet_libraries():  # torchao speaks of kernels for machines that this is not
                from quantize.methods.qat import fine_tune

            assert self._tuning is not None, "a method that fine-tunes is not offered without the means"
            self._tuned[name] = Recipe(*fine_tune(self.encoder, make(), self._tuning, name, self._steps))
        return self._tuned[name]
