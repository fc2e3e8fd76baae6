"""The manifest's structs: what ``manifest.json`` may say. The JSON Schema in the repository is generated from them.

What one field alone decides is in its type here; what takes two fields, or a reader's words, is in
:mod:`edge.bundle.checks`.
"""

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from edge.frontend import FrontendConfig

SCHEMA: Final = 3
MANIFEST: Final = "manifest.json"

Positive = Annotated[float, Meta(gt=0)]
Size = Annotated[int, Meta(ge=1, le=65_536)]
Hops = Annotated[int, Meta(ge=1, le=10_000)]
FileName = Annotated[str, Meta(min_length=1, max_length=200)]


class EncoderShape(Struct, frozen=True, forbid_unknown_fields=True):
    """Shapes of the step graph: rings are (layers, heads, context-1, head_dim). Token at hop n labels patch
    n - ``lookahead``."""

    layers: Size
    heads: Size
    head_dim: Size
    context: Annotated[int, Meta(ge=2, le=10_000)]
    lookahead: Annotated[int, Meta(ge=0, le=2)]
    codebook_size: Size


class EngineFile(Struct, frozen=True, forbid_unknown_fields=True):
    """One engine's artefact: inputs ``patch, k, v, mask`` and outputs ``scores, embedding, k, v`` in that order."""

    file: FileName
    method: str


class NoveltyModel(Struct, frozen=True, forbid_unknown_fields=True):
    """Bigram surprise of the token stream.

    ``transitions``: file of uint8, shape (K+1, K): ``-log P(next | previous)`` in ``1/scale`` nats, the last row for
    no previous token. ``quantiles``: the smoothed score's quantiles at evenly spaced levels 0…1 on the calibration
    subjects named in ``calibrated_on``.
    """

    transitions: FileName
    scale: Positive
    smoothing_hops: Hops
    quantiles: Annotated[list[float], Meta(min_length=2)]
    calibrated_on: str


class LogisticModel(Struct, frozen=True, forbid_unknown_fields=True):
    """``p = sigmoid(weights · features + bias)``; the features are :data:`edge.quality.FEATURES` (is the pulse
    readable?), :data:`edge.rhythm.FEATURES` (is it irregular?) or :data:`edge.support.FEATURES`."""

    weights: dict[str, float]
    bias: float
    calibrated_on: str


class LinearModel(Struct, frozen=True, forbid_unknown_fields=True):
    """``weights · features + bias``."""

    weights: dict[str, float]
    bias: float


class ReadoutModel(Struct, frozen=True, forbid_unknown_fields=True):
    """Linear readouts of the embedding: see :mod:`edge.readouts`.

    ``file``: float32 (len(names), 2 dim + 1), for the mean and the standard deviation over the last ``hops`` hops'
    embeddings and 1. The readout ``log_rate`` is the natural logarithm of the heart rate in bpm.
    """

    file: FileName
    names: list[str]
    hops: Annotated[int, Meta(ge=1, le=1000)]
    calibrated_on: str


class RateModel(Struct, frozen=True, forbid_unknown_fields=True):
    """How far the heart rate may be off: see :mod:`edge.rate`.

    ``interval_error`` and ``readout_error``: logarithm of the error in bpm that the rate from the intervals and the one
    from the embedding exceed in 1 - ``level`` of the cases, from :data:`edge.rate.FEATURES`. ``reach``: so many of it
    on either side held ``level`` of the truths of other people. A rate whose interval reaches further than ``widest``
    bpm on either side is not believed.
    """

    interval_error: LinearModel
    readout_error: LinearModel
    reach: Positive
    level: Annotated[float, Meta(gt=0, lt=1)]
    widest: Positive
    calibrated_on: str


class RespirationModel(Struct, frozen=True, forbid_unknown_fields=True):
    """Respiratory rate: see :mod:`edge.respiration`.

    ``hidden`` (units, :data:`edge.respiration.FEATURES`), ``bias`` and ``output`` (units,): a candidate rate's score
    is ``output · tanh(hidden · features + bias)``. ``evidence``, ``drift`` (octaves) and ``leak`` are the forward
    filter's. ``reach``: so many half-widths of the belief's middle 68 % hold 68 % of the truths; a rate with an error
    above ``max_error`` /min is not valid.
    """

    hidden: list[list[float]]
    bias: list[float]
    output: list[float]
    evidence: Positive
    drift: Positive
    leak: Annotated[float, Meta(gt=0, lt=1)]
    reach: Positive
    max_error: Positive
    calibrated_on: str


class SupportModel(Struct, frozen=True, forbid_unknown_fields=True):
    """How likely an ECG would agree with an alarm that is about to be raised: see :mod:`edge.support`. An alarm with
    less than ``withhold_below`` is not raised (0: every one is)."""

    model: LogisticModel
    withhold_below: Annotated[float, Meta(ge=0, le=1)]


class KnownAnswers(Struct, frozen=True, forbid_unknown_fields=True):
    """Known answers, to prove an engine on the machine it runs on: see :mod:`edge.bundle.vectors`.

    ``patches``: file of float32 (hops, hop), one stream from an empty state. ``answers``: file of int32
    (len(rows), hops), what each of ``rows`` says to it: ``fp32`` (the token of the encoder before quantization),
    ``clear`` (1 where that is at least twice as likely as the next), and a row of tokens for each engine that the
    bundle ships, as it ran on the machine ``made_on``.
    """

    patches: FileName
    answers: FileName
    rows: Annotated[list[str], Meta(min_length=2)]
    made_on: str


# These two stand in the JSON Schema only; edge.bundle.checks holds names to them with better words.
NAME_PATTERN: Final = r"^[A-Za-z0-9_][A-Za-z0-9._+-]*(/[A-Za-z0-9_][A-Za-z0-9._+-]*)*$"
SHA256_PATTERN: Final = r"^[0-9a-f]{64}$"
Sha256 = Annotated[str, Meta(extra_json_schema={"pattern": SHA256_PATTERN})]
Files = Annotated[
    dict[str, Sha256],
    Meta(
        description="Every file of the bundle but the manifest and its signature, with its SHA-256 in hexadecimal.",
        extra_json_schema={"propertyNames": {"pattern": NAME_PATTERN}},
    ),
]
Engines = Annotated[
    dict[str, EngineFile],
    Meta(description="Each engine's artefact, by the engine's name.", extra_json_schema={"minProperties": 1}),
]


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """``manifest.json``."""

    schema: Literal[3]
    name: str
    version: str
    signal: Literal["ppg", "ecg"]
    frontend: FrontendConfig
    encoder: EncoderShape
    warmup_hops: Annotated[int, Meta(ge=0, le=10_000)]
    engines: Engines
    novelty: NoveltyModel | None
    quality: LogisticModel | None
    rhythm: LogisticModel | None
    metrics: dict[str, float | str]
    provenance: dict[str, str]
    licence: str
    files: Files
    readout: ReadoutModel | None = None
    rate: RateModel | None = None
    respiration: RespirationModel | None = None
    vectors: KnownAnswers | None = None
    support: Annotated[
        dict[str, SupportModel] | None, Meta(description="Models of support, by the name of the alarm.")
    ] = None
