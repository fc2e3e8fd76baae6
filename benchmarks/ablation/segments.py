"""The segment-level split of the published code: windows of one person on both sides."""

from dataclasses import fields

import numpy as np

from trainer.splits import TRAIN_SHARE, Part
from trainer.windows import Windows


class SegmentSplit(Windows):
    """The training people's windows dealt at random to a "train" and a "validation" part."""

    def part(self, part: Part, *, gated: bool = True, overlap: bool = False, limit: int | None = None) -> Windows:
        """As :meth:`trainer.windows.Windows.part`; other parts than these two are as they were."""
        if part not in ("train", "validation"):
            return super().part(part, gated=gated, overlap=overlap, limit=limit)
        people = super().part("train", gated=gated, overlap=overlap)
        # By the window's own place, so that the deal is the same whatever subset is asked for.
        share = np.random.default_rng(0).random(len(self.ppg_hops))[people.first]
        chosen = np.flatnonzero((share < TRAIN_SHARE) == (part == "train"))
        if limit is not None and len(chosen) > limit:
            chosen = chosen[np.linspace(0, len(chosen) - 1, limit).round().astype(np.int64)]
        return people.take(chosen)


def by_segment(windows: Windows) -> SegmentSplit:
    """The same windows under the other split."""
    return SegmentSplit(**{field.name: getattr(windows, field.name) for field in fields(Windows)})
