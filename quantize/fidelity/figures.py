"""What a fidelity report holds, as it is written to ``fidelity.json``.

:data:`SCHEMA` rises whenever a field changes its meaning or goes; a field that is new has a default.
"""

import msgspec

SCHEMA = 2  # 1 had no schema field, no layers, heads, hour or verdict


class Estimate(msgspec.Struct, frozen=True):
    """A figure with its 95 % interval over people; ``n`` hops (or windows) of ``patients`` people."""

    value: float
    low: float
    high: float
    n: int
    patients: int


class Layer(msgspec.Struct, frozen=True):
    """Signal to quantization noise of one place in the graph, dB: ``10 log10(Σ fp32² / Σ (fp32 - this)²)`` over all
    channels and hops; None where the two do not differ at all."""

    name: str
    sqnr: float | None


class Head(msgspec.Struct, frozen=True):
    """One judgement that rests on the encoder, or (``reads_encoder`` false) only runs beside it.

    ``fp32``, ``int8`` and ``change`` (int8 minus fp32, paired by person) in ``unit``; ``allowed``: how large the
    change may be, either way, for the artefact to ship.
    """

    name: str
    unit: str
    reads_encoder: bool
    fp32: Estimate
    int8: Estimate
    change: Estimate
    allowed: float

    @property
    def within(self) -> bool:
        """Whether the change is small enough to ship."""
        return abs(self.change.value) <= self.allowed


class AlarmChange(msgspec.Struct, frozen=True):
    """An alarm that is not the same. ``fp32`` and ``int8``: when it was active, (start, end) in s since the recording's
    start; None where it was not raised."""

    recording: str
    alarm: str
    fp32: tuple[float, float] | None
    int8: tuple[float, float] | None

    @property
    def seconds(self) -> float | None:
        """How much later (or earlier, below 0) int8 raised it; None where only one of the two did."""
        return None if self.fp32 is None or self.int8 is None else self.int8[0] - self.fp32[0]


class Hour(msgspec.Struct, frozen=True):
    """The whole device pipeline over the same recordings with fp32 and with int8.

    ``alarms_fp32`` and ``alarms_int8``: how many were raised; ``changes``: those that differ in being there or in when;
    ``tokens_changed``: share of hops with another token, readable or not; ``novel_fp32`` and ``novel_int8``: share of
    hops with a novelty p-value below ``novel_below``, ``novel_changed``: on how many of ``hops`` the two disagree about
    that; None for a bundle without a novelty model; ``others_changed``: hops whose quality, beats or irregularity
    differ (these do not read the encoder, so any would be a fault).
    """

    alarms_fp32: int
    alarms_int8: int
    changes: list[AlarmChange]
    tokens_changed: Estimate
    hops: int
    novel_below: float
    novel_fp32: float | None
    novel_int8: float | None
    novel_changed: int | None
    others_changed: int


class Watched(msgspec.Struct, frozen=True):
    """What the pipeline was run over: data set → (people, hours)."""

    hours: float
    datasets: dict[str, tuple[int, float]]


class Roofline(msgspec.Struct, frozen=True):
    """What the machine's one thread reaches on a large product of matrices, in the same run.

    ``int8`` and ``fp32``: billions of operations (two a multiply-add) a second, the best of ``engines``' own, each of
    which is ``{engine: (int8, fp32)}``. ``operations``: of one hop of the encoder.
    """

    int8: float
    fp32: float
    engines: dict[str, tuple[float, float]]
    operations: int


class Row(msgspec.Struct, frozen=True):
    """One engine and method.

    ``top1``: share of hops with fp32's token; ``top1_confident``: the same where fp32's probability is at least
    :data:`quantize.fidelity.agreement.CONFIDENT`, None if nowhere; ``top5``: fp32's token is among the five best;
    ``kl``: mean KL(fp32 ‖ this), nats; ``max_probability_error``: the largest |Δp| of any code at any hop;
    ``cosine_mean``/``cosine_min`` of the embeddings. ``times_fp32``: its time a hop as a share of the same engine's
    fp32; ``roofline``: the time that the machine's best product of matrices in this row's arithmetic would take for a
    hop's operations, as a share of its own. ``layers`` as deployed, ``inner`` from inside the graph (``inner_note``
    says how they were read, or why not). ``ships``: it is what the bundle holds. ``faults``: why it must not ship.
    """

    engine: str
    method: str
    bytes: int
    ms_per_hop: float
    top1: Estimate
    top1_confident: Estimate | None
    top5: Estimate
    kl: float
    max_probability_error: float
    cosine_mean: float
    cosine_min: float
    times_fp32: float | None = None
    roofline: float | None = None
    layers: list[Layer] = []
    inner: list[Layer] = []
    inner_note: str = ""
    heads: list[Head] = []
    hour: Hour | None = None
    ships: bool = False
    faults: list[str] = []

    @property
    def label(self) -> str:
        """``litert static``."""
        return f"{self.engine} {self.method}"

    @property
    def marked(self) -> str:
        """The label, with ✓ if it ships and ✗ if it was to ship and must not."""
        return self.label + (" ✗" if self.ships and self.faults else " ✓" if self.ships else "")


class Pair(msgspec.Struct, frozen=True):
    """Two artefacts beside each other: ``differ``, the share of hops where they say different tokens."""

    first: str
    second: str
    differ: Estimate


class Report(msgspec.Struct, frozen=True):
    """The fidelity of every engine and method of one run. ``judged_on`` says on whose streams; ``watched`` over what
    the device's pipeline ran; ``between``: artefacts compared with one another. ``faults``: why what ships must not."""

    run: str
    signal: str
    judged_on: str
    streams: int
    hops: int
    patients: int
    calibrated_on: str
    machine: str
    torch_ms_per_hop: float
    rows: list[Row]
    roofline: Roofline | None = None
    watched: Watched | None = None
    between: list[Pair] = []
    faults: list[str] = []
    schema: int = SCHEMA

    @property
    def verdict(self) -> str:
        """The first line of every form of the report."""
        if not any(row.ships for row in self.rows):
            return "NOT JUDGED: no artefact was chosen to ship."
        return f"NOT SHIPPABLE: {'; '.join(self.faults)}." if self.faults else "Shippable: every check below passed."
