"""Latency percentiles in fixed memory: a month of hops costs what a minute does."""

import numpy as np

from edge.messages import LatencyReport

LOW_MS, HIGH_MS = 1e-3, 1e5
BINS = 1600  # 1.2 % wide


class LatencyHistogram:
    """Log-spaced histogram; percentiles are the upper edge of their bin (never flattering), the maximum is exact."""

    def __init__(self) -> None:
        self._edges = np.geomspace(LOW_MS, HIGH_MS, BINS)
        self._counts = np.zeros(BINS + 1, np.int64)
        self._max = 0.0

    def add(self, ms: float) -> None:
        """Count one latency, in ms."""
        self._counts[np.searchsorted(self._edges, ms)] += 1
        self._max = max(self._max, ms)

    def report(self) -> LatencyReport | None:
        """p50, p99 and maximum; None while empty."""
        total = int(self._counts.sum())
        if not total:
            return None
        return LatencyReport(self._at(0.50, total), self._at(0.99, total), self._max)

    def _at(self, share: float, total: int) -> float:
        bin_ = int(np.searchsorted(np.cumsum(self._counts), share * total))
        return float(min(self._edges[min(bin_, BINS - 1)], self._max))
