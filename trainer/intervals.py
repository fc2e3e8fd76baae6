"""What the teacher's ECG knows of rhythm: the R-R interval that a pulse wave has just shown.

An auxiliary target for stage 2. The joint token says what one patch looks like; how far apart the beats were, and
whether that changed, is spread over patches, and nothing in the token asks for it. The ECG has it for nothing.
"""

import numpy as np
from numpy.typing import NDArray

from trainer.gating import r_peaks

# The pulse leaves the heart at R and reaches the finger 0.2 to 0.6 s later: an interval counts as shown when so long
# has passed since the R peak that ends it.
ARRIVAL_SECONDS = 0.6
INTERVAL_RANGE = (0.25, 2.0)  # s: 240 to 30 bpm


def interval_targets(
    ecg: NDArray[np.float32], offsets: list[int], rate: float, *, hops: int | None = None
) -> NDArray[np.float32]:
    """Natural logarithm of the last R-R interval (s) shown at the end of each hop; NaN where there is none.

    ``ecg`` (windows, hops, hop); windows are cut ``offsets`` samples later, so that the result is (offsets, windows,
    ``hops``); by default all hops that exist at every offset.
    """
    windows, count, hop = ecg.shape
    hops = hops if hops is not None else count - (max(offsets) > 0)
    ends = np.array(offsets)[:, None] + (np.arange(hops) + 1)[None] * hop - round(ARRIVAL_SECONDS * rate)
    targets = np.full((len(offsets), windows, hops), np.nan, dtype=np.float32)
    for i in range(windows):
        peaks = r_peaks(ecg[i].ravel(), rate)
        if len(peaks) < 2:
            continue
        last = np.searchsorted(peaks, ends, side="right") - 1  # the R peak that ends the interval
        interval = (peaks[last.clip(1)] - peaks[last.clip(1) - 1]) / rate
        believable = (last >= 1) & (interval >= INTERVAL_RANGE[0]) & (interval <= INTERVAL_RANGE[1])
        targets[:, i] = np.where(believable, np.log(interval), np.nan)
    return targets
