"""The recipe of what ships. Why it is this one: the ablation (``pulsecode bench ablation``)."""

from rich.console import Console

from firmware_bridge.block import Signal
from firmware_bridge.errors import BadInput
from trainer.fitting import FitConfig
from trainer.noise import NoiseAugmentation, NoiseConfig
from trainer.noise_bank import noise_bank
from trainer.stage2 import Objective
from trainer.stages import DataChoice
from trainer.windows import WindowConfig

# The pulse's arrival after the heartbeat differs by person and by recorder from 0.3 to 1.2 s, and no pulse wave tells
# by how much: unaligned, half of what the joint token says of the ECG cannot be learned from the PPG.
WINDOWS = WindowConfig(align=True)
TOKENIZER_FIT = FitConfig(epochs=24)
STUDENT_FIT = FitConfig(epochs=20, weight_decay=0.1)
OBJECTIVE = Objective(interval_weight=1.0, phases=10)
NOISE = NoiseConfig()


def measured_noise(
    signal: Signal, windows: WindowConfig, choice: DataChoice, console: Console
) -> NoiseAugmentation | None:
    """The noise that a student of ``signal`` meets: measured on the training people's PPG; none for the ECG, and none,
    which is said, where these recordings show no noise to measure."""
    if signal == "ecg":
        return None
    try:
        bank = noise_bank(choice.data, windows, choice.cache, "train", console, excluded=choice.excluded)
    except BadInput as error:
        console.print(f"the student learns without measured noise: {error}", soft_wrap=True)
        return None
    return NoiseAugmentation(bank, windows.frontend("ppg"), NOISE)
