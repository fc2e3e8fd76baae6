"""Whose recordings fit the heads, and whose judge them.

Quality and heart rate learn from the train people of BIDMC and Challenge 2015 and are judged on their test people.
Irregularity, and how far a rate may be off in atrial fibrillation, learn from half of MIMIC PERform AF's subjects; the
other half only judges.
"""

from typing import Literal

from trainer.recordings import Recording
from trainer.splits import in_choosing_half, part_of, person_of

AF_DATASET, AF_GROUP = "mimic_perform_af", "AF_wfdb"
PAIRED = ("bidmc", "challenge2015")
ECTOPY_DATASET = "mitdb"

Role = Literal["fit", "calibrate", "judge"]


def in_first_half(recording: Recording) -> bool:
    """Half of MIMIC PERform AF's subjects, by a hash, to calibrate on."""
    return in_choosing_half(recording.patient)


def role(recording: Recording) -> Role | None:
    """What a recording is for; None for those of other data sets. PERform's first half calibrates."""
    if recording.dataset == AF_DATASET:
        return "calibrate" if in_first_half(recording) else "judge"
    if recording.dataset not in PAIRED:
        return None
    parts: dict[str, Role] = {"train": "fit", "validation": "calibrate", "test": "judge"}
    return parts.get(part_of(recording.dataset, recording.patient))


def kin(recording: Recording) -> str:
    """The person, unique over all data sets; records known to be of one recording have the same."""
    return f"{recording.dataset}/{person_of(recording.dataset, recording.patient)}"
