"""The rows of the ablation: each changes one thing of the recipe that ships (:mod:`trainer.recipe`)."""

from dataclasses import dataclass, field
from typing import Any, Literal

from firmware_bridge.block import Signal

Overrides = dict[str, Any]


@dataclass(frozen=True)
class Variant:
    """``question``: what is asked; ``name``: this answer. The rest overrides fields of the configurations of the
    windows, stage 1, the student, its augmentation and its objective; ``fit1`` and ``fit2`` those of the two fits.

    ``jitter``: seconds by which stage 1 shifts the ECG against the PPG at most; ``noise``: whether a PPG student meets
    measured noise.

    ``method``: two stages on fixed patches, both at once (``predictability`` as in
    :class:`trainer.single_stage.JointConfig`) or two stages on beats. ``untrained``: the student
    keeps its random weights, a control.

    As in the published code: ``tampered``: the student is taught by a tokenizer whose projection was thrown away;
    ``by_segment``: windows, not people, are dealt to training and validation.
    """

    question: str
    name: str
    signal: Signal = "ppg"
    windows: Overrides = field(default_factory=dict)
    tokenizer: Overrides = field(default_factory=dict)
    student: Overrides = field(default_factory=dict)
    augmentation: Overrides = field(default_factory=dict)
    objective: Overrides = field(default_factory=dict)
    fit1: Overrides = field(default_factory=dict)
    fit2: Overrides = field(default_factory=dict)
    jitter: float = 0.0
    noise: bool = True
    tampered: bool = False
    by_segment: bool = False
    method: Literal["two stages", "one stage", "beats"] = "two stages"
    predictability: float = 0.0
    untrained: bool = False

    @property
    def slug(self) -> str:
        """A folder's name."""
        text = f"{self.question} {self.name}".lower()
        return "-".join("".join(c if c.isalnum() else " " for c in text).split())


def _patch(seconds: float) -> Variant:
    """Patches of another length: the same 20 s windows, 10 s of context, receptive fields and gain in seconds."""
    hop, base = round(125 * seconds), 0.4
    hops = round(2500 / hop)
    look = max(1, round(base / seconds))  # the look-ahead stays at 0.4 s or one patch
    context = round(10 / seconds)
    bands = {"bands": ((max(1, round(2 * base / seconds)), look), (max(1, round(2 * base / seconds)), 0))}
    return Variant(
        "patch length", f"{seconds:g} s",
        windows={"hop": hop, "hops": hops, "stride": hops // 2, "gain_hops": round(9.6 / seconds),
                 "settle_hops": round(2 / seconds)},
        tokenizer={"hop": hop, **bands}, student={"hop": hop, "context": context, "lookahead": look},
    )  # fmt: skip


def _quantizer(question: str, name: str, **fields: object) -> Variant:
    student = {"codebook_size": fields["size"]} if "size" in fields else {}
    return Variant(question, name, tokenizer={"quantizer": fields}, student=student)


BASE = Variant("base", "base")

VARIANTS: tuple[Variant, ...] = (
    BASE,
    Variant("control", "random weights", untrained=True),
    _patch(0.2),
    _patch(0.8),
    _patch(1.0),
    *(_quantizer("codebook size K", str(size), size=size) for size in (64, 2048, 8192)),
    *(_quantizer("code dimension", str(dim), dim=dim) for dim in (8, 128)),
    _quantizer("quantizer", "FSQ", kind="fsq"),
    _quantizer("quantizer", "residual VQ, 2 levels", kind="residual"),
    _quantizer("codebook start", "random, no k-means", kmeans_start=False),
    _quantizer("codebook start", "no revival", revival=False),
    _quantizer("codebook start", "neither", kmeans_start=False, revival=False),
    Variant("teacher and student", "PPG teacher, PPG student", tokenizer={"signals": "ppg"}),
    Variant("teacher and student", "joint teacher, ECG student", signal="ecg"),
    Variant("teacher and student", "ECG teacher, ECG student", signal="ecg", tokenizer={"signals": "ecg"}),
    Variant("teacher and student", "ECG teacher, PPG student", tokenizer={"signals": "ecg"}),
    *(Variant("ECG's share of the loss", str(share), tokenizer={"ecg_weight": share}) for share in (0.1, 0.4)),
    Variant("look-ahead", "0 patches", tokenizer={"bands": ((2, 0), (2, 0))}, student={"lookahead": 0}),
    Variant("look-ahead", "2 patches", tokenizer={"bands": ((2, 1), (2, 1))}, student={"lookahead": 2}),
    Variant("student", "d64, 2 layers", student={"dim": 64, "layers": 2}),
    Variant("student", "d128, 6 layers", student={"dim": 128, "layers": 6}),
    Variant("student", "d256, 8 layers (upper reference)", student={"dim": 256, "layers": 8, "heads": 8}),
    Variant("context", "5 s", student={"context": 13}),
    Variant("context", "20 s", student={"context": 50}),
    *(Variant("norm", name, student={"norm": norm}) for name, norm in (("RMSNorm", "rms"), ("dynamic tanh", "tanh"))),
    Variant("activation", "ReLU", student={"activation": "relu"}),
    Variant("norm and activation", "RMSNorm, ReLU", student={"norm": "rms", "activation": "relu"}),
    Variant("norm and activation", "dynamic tanh, ReLU", student={"norm": "tanh", "activation": "relu"}),
    Variant("synchrony", "ECG and PPG paired as recorded", windows={"align": False}),
    Variant("synchrony", "lag jitter ±0.1 s in the place of alignment", windows={"align": False}, jitter=0.1),
    Variant("synchrony", "lag jitter ±0.1 s on top of alignment", jitter=0.1),
    Variant("objective", "the token alone", objective={"interval_weight": 0.0}),
    Variant("objective", "R-R interval, weight 4", objective={"interval_weight": 4.0}),
    Variant("augmentation", "no measured noise", noise=False),
    Variant("augmentation", "none at all", noise=False, augmentation={"gain": 0.0, "noise": 0.0, "baseline": 0.0}),
    Variant("patches", "one a heartbeat", method="beats"),
    Variant("patches", "one a heartbeat, random weights", method="beats", untrained=True),
    Variant("stages", "both at once", method="one stage"),
    Variant("stages", "both at once, codes that the PPG can tell", method="one stage", predictability=0.1),
    Variant("phases", "1 cut of a window", objective={"phases": 1}),
)
