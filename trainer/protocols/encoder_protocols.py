"""The protocols on real recordings: which tasks, and which rows. A new kind of row is one function more."""

from firmware_bridge.errors import BadInput
from trainer.protocols.methods import (
    SHIPPED,
    TRANSFER,
    constant_rows,
    encoder_rows,
    form_rows,
    hand_made_rows,
    interval_rows,
    together_rows,
    transfer_rows,
)
from trainer.protocols.networks import network_rows
from trainer.protocols.protocol import Candidate, Protocol
from trainer.protocols.setting import Setting
from trainer.protocols.task import Task
from trainer.protocols.tasks_af import atrial_fibrillation
from trainer.protocols.tasks_bidmc import UNSEEN, heart_rate, respiratory_rate


def _seen(setting: Setting, *, bidmc: bool = True) -> list[str]:
    """What the encoder's own training saw of the people it is judged on."""
    excluded = setting.students["ppg"].excluded
    remarks = [f"The encoder's training left out: {', '.join(excluded)}."] if excluded else []
    if not bidmc:
        return remarks
    if "bidmc" in excluded:
        return [*remarks, "So none of the BIDMC people was seen by it, in any way."]
    return [
        "The encoder's self-supervised training saw the signals (never a label) of BIDMC's train part, and its epoch "
        f"was chosen on the validation part; heads are judged on people they never saw. The “{UNSEEN}” columns are the "
        "people whom neither saw."
    ]  # fmt: skip


def _on_af(setting: Setting) -> list[str]:
    return ["No training of the encoder saw a person of MIMIC PERform AF.", *_seen(setting, bidmc=False)]


def _pair(setting: Setting) -> list[str]:
    students = setting.students
    if "ecg" not in students:
        raise BadInput("cross-modal: needs an ECG student's run; give --ecg RUN")
    if students["ecg"].teacher != students["ppg"].teacher:
        raise BadInput(f"run folders {students['ppg'].run} and {students['ecg'].run}: were taught by different "
                       "tokenizers, their tokens do not mean the same; give two students of one tokenizer")  # fmt: skip
    if students["ecg"].windows.hop != students["ppg"].windows.hop:
        raise BadInput(
            f"run folders {students['ppg'].run} and {students['ecg'].run}: have patches of different lengths"
        )
    return [
        "A row X → Y is a linear head learned on the X student's output for some people and asked, as it is, about the "
        "Y student's output for other people. Both students say tokens of one codebook; nothing ties their embeddings "
        f"(“mean+std”) to each other, which is the control. Compared with: {TRANSFER}."
    ]


def _heart(setting: Setting, task: Task) -> list[Candidate]:
    return interval_rows(setting, task) if task.unit == "bpm" else []


BIDMC = Protocol(
    "bidmc",
    "Heart rate and respiratory rate on BIDMC",
    lambda setting: [heart_rate(setting), respiratory_rate(setting)],
    (encoder_rows, hand_made_rows, together_rows, _heart, network_rows(("ppg",)), constant_rows),
    SHIPPED,
    lambda setting: [
        *_seen(setting),
        "The device tells respiratory rate otherwise: see `pulsecode evaluate respiration`.",
    ],
)
AF = Protocol(
    "af",
    "Atrial fibrillation on MIMIC PERform AF",
    lambda setting: [atrial_fibrillation(setting)],
    (encoder_rows, hand_made_rows, together_rows, network_rows(("ppg",)), constant_rows),
    SHIPPED,
    _on_af,
)
FEATURES = Protocol(
    "features",
    "What quantization loses: tokens, quantised codes and continuous features of one encoder",
    lambda setting: [heart_rate(setting), respiratory_rate(setting), atrial_fibrillation(setting)],
    (form_rows, constant_rows),
    SHIPPED,
    lambda setting: [*_seen(setting), "Pooling forgets the order of the hops in every form alike."],
)
CROSS_MODAL = Protocol(
    "cross-modal",
    "Zero-shot across signals: a head learned on ECG, asked about PPG",
    lambda setting: [heart_rate(setting), atrial_fibrillation(setting)],
    (transfer_rows, constant_rows),
    TRANSFER,
    _pair,
)
