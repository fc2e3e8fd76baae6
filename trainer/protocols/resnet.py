"""A ResNet of PaPaGei-S's shape, trained from scratch on the labels of the task.

Pillai et al., "PaPaGei: Open Foundation Models for Optical Physiological Signals", 2024 (arXiv 2410.20542): 18
pre-activation residual blocks of two convolutions of width 3, 32 filters that double every fourth block, stride 2 at
every second, and 512 outputs. Its three pretraining heads are left out; its published weights are not used here: this
row says what the shape gives on the same data as the others, not what PaPaGei's own pretraining does.
"""

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn
from torch.nn import functional

from firmware_bridge.block import Signal
from trainer.protocols.learning import Budget, Cost, Watch
from trainer.protocols.neural import Neural

BLOCKS, FILTERS, KERNEL = 18, 32, 3
EMBEDDING = 512
DROPOUT = 0.2  # half as published: there it regularises 57,000 hours, here it would leave a short training nothing


class Residual(nn.Module):
    """Norm, ReLU, convolution, twice, beside a shortcut that is max-pooled and padded with zero channels."""

    def __init__(self, width: int, channels: int, stride: int, first: bool) -> None:
        super().__init__()
        self.stride, self.extra = stride, channels - width
        self.before = nn.Identity() if first else nn.Sequential(nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(DROPOUT))
        self.conv1 = nn.Conv1d(width, channels, KERNEL, stride, KERNEL // 2)
        self.between = nn.Sequential(nn.BatchNorm1d(channels), nn.ReLU(), nn.Dropout(DROPOUT))
        self.conv2 = nn.Conv1d(channels, channels, KERNEL, 1, KERNEL // 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv2(self.between(self.conv1(self.before(x))))
        shortcut = functional.max_pool1d(x, self.stride, ceil_mode=True) if self.stride > 1 else x
        return y + functional.pad(shortcut, (0, 0, self.extra // 2, self.extra - self.extra // 2))


class ResNet1D(nn.Module):
    """(batch, signals, hops, hop) → (batch, outputs), for any number of hops; ``decimate`` samples are averaged."""

    def __init__(self, signals: int, outputs: int, decimate: int = 1) -> None:
        super().__init__()
        self.decimate = decimate
        self.stem = nn.Sequential(
            nn.Conv1d(signals, FILTERS, KERNEL, 1, KERNEL // 2), nn.BatchNorm1d(FILTERS), nn.ReLU()
        )
        widths = [FILTERS * 2 ** (block // 4) for block in range(BLOCKS)]
        self.blocks = nn.Sequential(
            *(
                Residual(widths[max(0, block - 1)], widths[block], 2 if block % 2 else 1, first=block == 0)
                for block in range(BLOCKS)
            )
        )
        self.after = nn.Sequential(nn.BatchNorm1d(widths[-1]), nn.ReLU())
        self.embed = nn.Linear(widths[-1], EMBEDDING)
        self.head = nn.Linear(EMBEDDING, outputs)

    def forward(self, x: Tensor) -> Tensor:
        wave = functional.avg_pool1d(x.flatten(2), self.decimate) if self.decimate > 1 else x.flatten(2)
        said: Tensor = self.head(functional.relu(self.embed(self.after(self.blocks(self.stem(wave))).mean(2))))
        return said


def resnet(
    signals: Sequence[Signal], budget: Budget | None = None, *, cost: Cost | None = None, watch: Watch | None = None
) -> Neural:
    """The ResNet on ``signals`` as a method; 5.0 M parameters. A PPG, which the front end limits to 8 Hz, is halved
    to 62.5 Hz: the same wave at half the time, so twice the windows for the budget."""
    return Neural(
        f"ResNet, PaPaGei-S's shape ({' + '.join(signals)})",
        partial(ResNet1D, decimate=1 if "ecg" in signals else 2),
        signals,
        budget or Budget(windows=12_000, lr=1e-3),
        cost=cost,
        watch=watch,
    )
