"""Who is learned from, who chooses, who judges: a split by person that never changes."""

import hashlib
from typing import Literal

Part = Literal["train", "validation", "test", "held_out"]
PARTS: tuple[Part, ...] = ("train", "validation", "test", "held_out")

# Never trained on, nor used for any choice: the AF probe is judged on it.
HELD_OUT_DATASETS = frozenset({"mimic_perform_af"})
TRAIN_SHARE, VALIDATION_SHARE = 0.70, 0.15

# Challenge 2015 names no persons, and some of its records are overlapping excerpts of one recording: their R–R
# intervals agree beat by beat over minutes at a constant lag. Each group counts as one person, named by its first.
OVERLAPPING: dict[str, tuple[tuple[str, ...], ...]] = {
    "challenge2015": (
        ("a167l", "a172s"),
        ("a306s", "b308s"),
        ("a310s", "a311l"),
        ("a556s", "a558s", "v557l"),
        ("b528s", "f529l"),
        ("f450s", "v448s"),
        ("f543l", "v540s", "v541l"),
        ("v564s", "f563l"),
        ("t174s", "t175l"),
        ("t357l", "t358s"),
        ("v100s", "v101l", "v102s"),
        ("v354s", "v355l"),
    )
}
_PERSON = {(dataset, name): names[0] for dataset, groups in OVERLAPPING.items() for names in groups for name in names}


def person_of(dataset: str, patient: str) -> str:
    """The same name for all records that are known to be of one recording."""
    return _PERSON.get((dataset, patient), patient)


def part_of(dataset: str, patient: str) -> Part:
    """The part a person belongs to: 70 % train, 15 % validation, 15 % test, by a hash of data set and patient id.

    Every record of a person lands in the same part (:data:`OVERLAPPING`), and adding records moves no one.
    """
    if dataset in HELD_OUT_DATASETS:
        return "held_out"
    digest = hashlib.sha256(f"{dataset}/{person_of(dataset, patient)}".encode()).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    if share < TRAIN_SHARE:
        return "train"
    return "validation" if share < TRAIN_SHARE + VALIDATION_SHARE else "test"


def in_choosing_half(patient: str) -> bool:
    """Half of the held-out people, by a hash, to choose and calibrate on; the other half only judges."""
    return hashlib.sha256(patient.encode()).digest()[0] % 2 == 0
