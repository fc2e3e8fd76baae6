"""What a quantizer is made of. ``size`` and ``dim`` always say how many tokens there are and how long a code is."""

import math
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Literal, get_args

Kind = Literal["ema", "fsq", "residual"]


@dataclass(frozen=True)
class QuantizerConfig:
    """A quantizer of ``size`` tokens whose codes are ``dim`` numbers long.

    ``ema`` and ``residual``: ``start_after`` training batches k-means starts the codebook (before, vectors pass
    unchanged), unless ``kmeans_start`` is off: then it starts at once from random codes. A code whose moving count
    falls below ``dead_share`` of the mean count is revived, unless ``revival`` is off. ``residual`` has ``levels``
    codebooks. ``fsq``: ``fsq_levels`` are the steps of each number of a code, or empty to take those nearest to
    ``size``; both ``size`` and ``dim`` then follow from them.

    Raises ValueError on an unknown kind or impossible levels.
    """

    size: int = 512
    dim: int = 32
    decay: float = 0.98
    commitment: float = 0.25
    cosine: bool = True
    start_after: int = 30
    pool: int = 16384
    kmeans_steps: int = 15
    dead_share: float = 0.1
    kind: Kind = "ema"
    kmeans_start: bool = True
    revival: bool = True
    levels: int = 2
    fsq_levels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"quantizer kind must be {', '.join(get_args(Kind))}, not {self.kind!r}")
        if self.levels < 1:
            raise ValueError(f"quantizer levels must be at least 1, not {self.levels}")
        object.__setattr__(self, "fsq_levels", tuple(self.fsq_levels))  # JSON has lists
        if self.kind == "fsq":
            levels = self.steps
            if min(levels) < 2:
                raise ValueError(f"quantizer fsq_levels must be at least 2 each, not {list(levels)}")
            object.__setattr__(self, "size", math.prod(levels))
            object.__setattr__(self, "dim", len(levels))

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps of each number of an ``fsq`` code."""
        return self.fsq_levels or choose_levels(self.size)


def choose_levels(size: int) -> tuple[int, ...]:
    """Steps between 5 and 8 a dimension whose product is nearest to ``size`` in ratio, fewest dimensions first.

    The paper's advice is at least five steps (Mentzer et al. 2023, section 4.1); its tables use no more than eight.
    """
    most = max(1, math.ceil(math.log(max(size, 5), 5)))
    found = [some for n in range(1, most + 1) for some in combinations_with_replacement((8, 7, 6, 5), n)]
    return min(found, key=lambda some: (abs(math.log(math.prod(some) / size)), len(some), some))
