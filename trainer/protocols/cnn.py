"""The supervised baseline: a plain 1-D CNN of about the encoder's size, trained from scratch on the labels alone."""

from collections.abc import Sequence

from torch import Tensor, nn

from firmware_bridge.block import Signal
from trainer.protocols.learning import Budget, Cost, Watch
from trainer.protocols.neural import Neural, pooled

# (channels, kernel, stride): 16-fold decimation in all, a view of 1.8 s at 125 Hz before the pooling.
LAYERS = ((32, 15, 4), (64, 7, 2), (128, 7, 2), (192, 5, 2), (192, 5, 1))
DROPOUT = 0.3


class ConvNet(nn.Module):
    """(batch, signals, hops, hop) → (batch, outputs), for any number of hops."""

    def __init__(self, signals: int, outputs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = signals
        for channels, kernel, stride in LAYERS:
            layers += [
                nn.Conv1d(width, channels, kernel, stride, kernel // 2, bias=False),
                nn.BatchNorm1d(channels),
                nn.ReLU(),
            ]
            width = channels
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Dropout(DROPOUT), nn.Linear(2 * width, outputs))

    def forward(self, x: Tensor) -> Tensor:
        said: Tensor = self.head(pooled(self.body(x.flatten(2))))
        return said


def cnn(
    signals: Sequence[Signal], budget: Budget | None = None, *, cost: Cost | None = None, watch: Watch | None = None
) -> Neural:
    """The CNN on ``signals`` as a method; 0.38 M parameters."""
    return Neural(
        f"CNN ({' + '.join(signals)})",
        ConvNet,
        signals,
        budget or Budget(windows=20_000, lr=3e-3),
        cost=cost,
        watch=watch,
    )
