"""Who is learned from, who chooses, who judges: a split by person that needs no list and never changes."""

import hashlib
from typing import Literal

Part = Literal["train", "validation", "test", "held_out"]
PARTS: tuple[Part, ...] = ("train", "validation", "test", "held_out")

# Never trained on, nor used for any choice: the AF probe is judged on it.
HELD_OUT_DATASETS = frozenset({"mimic_perform_af"})
TRAIN_SHARE, VALIDATION_SHARE = 0.70, 0.15


def part_of(dataset: str, patient: str) -> Part:
    """The part a person belongs to: 70 % train, 15 % validation, 15 % test, by a hash of data set and patient id.

    Every record of a person lands in the same part, and adding records moves no one.
    """
    if dataset in HELD_OUT_DATASETS:
        return "held_out"
    digest = hashlib.sha256(f"{dataset}/{patient}".encode()).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    if share < TRAIN_SHARE:
        return "train"
    return "validation" if share < TRAIN_SHARE + VALIDATION_SHARE else "test"


def in_choosing_half(patient: str) -> bool:
    """Half of the held-out people, by a hash, to choose and calibrate on; the other half only judges."""
    return hashlib.sha256(patient.encode()).digest()[0] % 2 == 0
