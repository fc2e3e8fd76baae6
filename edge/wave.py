"""A waveform in braille dots: two columns and four rows of dots a character."""

import numpy as np
from numpy.typing import NDArray

BLANK = 0x2800
# Bit of each dot in a braille character, [row][column].
DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])


def braille(wave: NDArray[np.float64], width: int, height: int, low: float, high: float) -> list[str]:
    """``wave`` (n,) drawn over ``width`` × ``height`` characters between ``low`` and ``high``; NaN draws nothing."""
    columns, rows = 2 * width, 4 * height
    canvas = np.zeros((height, width), np.int64)
    if len(wave):
        at = np.linspace(0, len(wave) - 1, columns).round().astype(int)
        level = (high - np.clip(wave[at], low, high)) / (high - low) * (rows - 1)
        for x in range(columns):
            if np.isnan(level[x]):
                continue
            here = round(float(level[x]))
            before = here if x == 0 or np.isnan(level[x - 1]) else round(float(level[x - 1]))
            # A vertical stroke up to the previous point's neighbour keeps steep flanks joined.
            step = 1 if before > here else -1
            for y in range(here, before, step) or (here,):
                canvas[y // 4, x // 2] |= DOTS[y % 4, x % 2]
    return ["".join(chr(BLANK + cell) for cell in row) for row in canvas]
