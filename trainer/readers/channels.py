"""Which channel is the PPG and which the ECG, by the names that devices, monitors and data sets give them."""

import re
from collections.abc import Sequence

from firmware_bridge.block import Signal
from trainer.recordings import LeftOut

# In the order of preference. The names are those of simplified(): lower case words, no unit, no device.
NAMES: dict[Signal, tuple[str, ...]] = {
    "ppg": ("ppg", "pleth", "plethysmogram", "photoplethysmogram", "plethysmograph", "bvp", "ppg ir", "ir", "ppg green",
            "green", "ppg red", "red", "ppg1", "ppg 1", "spo2 pleth", "pleth spo2"),
    "ecg": ("ii", "ecg ii", "ecg lead ii", "lead ii", "mlii", "ecg", "ekg", "ekg ii", "ecg mlii", "ecg1", "ecg 1",
            "ecg2", "ecg 2", "v", "ecg v", "v5", "ecg v5", "i", "ecg i", "lead i", "ecg lead i", "iii", "ecg iii",
            "mcl", "mcl1", "avf", "avl", "avr"),
}  # fmt: skip


def simplified(name: str) -> str:
    """``"SNUADC/ECG_II"`` → ``"ecg ii"``, ``"PPG [a.u.]"`` → ``"ppg"``, ``"PLETH,"`` → ``"pleth"``."""
    name = re.sub(r"[\[(].*?[\])]", " ", name.rpartition("/")[2])
    return re.sub(r"[^a-z0-9]+", " ", name.lower()).strip()


def find_signal(names: Sequence[str], signal: Signal) -> int | None:
    """Number of the channel called so, the most preferred name first."""
    simple = [simplified(name) for name in names]
    return next((simple.index(name) for name in NAMES[signal] if name in simple), None)


def find_pair(names: Sequence[str]) -> tuple[int, int]:
    """Numbers of the PPG and of the ECG channel. Raises :class:`LeftOut` where one is missing."""
    ppg, ecg = find_signal(names, "ppg"), find_signal(names, "ecg")
    if ppg is None and ecg is None:
        raise LeftOut("no PPG and no ECG channel", counted=False)
    if ppg is None:
        raise LeftOut("no PPG channel")
    if ecg is None:
        raise LeftOut("no ECG channel")
    return ppg, ecg
