"""The rows of networks that are trained anew in every fold: supervised rivals, and the encoder with its weights moved.

All by one loop; what each was shown at most stands in its note, what it took in the table's seconds.
"""

from collections.abc import Callable, Sequence

from firmware_bridge.block import Signal
from trainer.protocols import cnn as cnns
from trainer.protocols import finetune as finetunes
from trainer.protocols import learning
from trainer.protocols import resnet as resnets
from trainer.protocols.cnn import cnn
from trainer.protocols.finetune import NAMES, Start, finetune
from trainer.protocols.neural import Neural
from trainer.protocols.protocol import Candidate
from trainer.protocols.resnet import resnet
from trainer.protocols.setting import Setting
from trainer.protocols.task import Task

ABOUT: dict[Start, str] = {
    "tuned": "all weights trained on, lower layers more slowly, from the student's",
    "frozen": "the student's weights as they are under the same pooling and loop",
    "random": "the same network and loop without pretraining",
}


def _row(method: Callable[[], Neural], about: str, key: str) -> Candidate:
    made = method()
    uses = (learning, cnns, resnets, finetunes)
    return Candidate(made.name, method, f"{key} {made.budget}", uses, f"{about}; {made.budget}", slow=True)


def network_rows(signals: Sequence[Signal]) -> Callable[[Setting, Task], list[Candidate]]:
    """Rows for a protocol, on ``signals``: the CNN, the ResNet, and the students of ``signals`` in three ways."""

    def rows(setting: Setting, task: Task) -> list[Candidate]:
        encoders = {signal: setting.students[signal].encoder for signal in signals}
        identity = " ".join(setting.students[signal].identity for signal in signals)

        def tuned(start: Start) -> Candidate:
            return _row(lambda: finetune(encoders, start), ABOUT[start], identity)

        return [
            *(tuned(start) for start in NAMES),
            _row(lambda: cnn(signals), "a plain 1-D CNN of the encoder's size, 0.4 M parameters", ""),
            _row(lambda: resnet(signals), "the published shape of PaPaGei-S, 5.0 M parameters, from scratch", ""),
        ]

    return rows
