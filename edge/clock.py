"""Device clock against host clock: offset, skew and their uncertainty, and the sample rate the device really has.

A block arrives after its last sample was taken, never before, and sometimes much later. So the fit runs along the
lower envelope: the least delay of each bucket of time, with a line through those minima (the idea behind the clock
filter of NTP, RFC 5905 §10). Host time only labels results; it never moves a sample.
"""

from collections import deque
from dataclasses import dataclass

import msgspec
import numpy as np

BUCKET_SECONDS = 5.0
BUCKETS = 120  # ten minutes
MIN_RATE_SECONDS = 5.0


class ClockReport(msgspec.Struct):
    """``rate_used`` Hz is the decision the grid was built on, ``rate_measured`` what the device's stamps say (None
    without stamps); ``skew_ppm`` device against host, ± ``skew_error_ppm``; ``jitter_ms`` of the least delays."""

    rate_used: float
    decision: str
    rate_measured: float | None = None
    skew_ppm: float | None = None
    skew_error_ppm: float | None = None
    jitter_ms: float | None = None


@dataclass(slots=True)
class _Bucket:
    number: int
    device: float
    delay: float


class DeviceClock:
    """Feed it each block's last sample: device stamp, index and arrival. A restart of the device begins anew."""

    def __init__(self, rate_used: float, decision: str) -> None:
        self._rate, self._decision = rate_used, decision
        self._buckets: deque[_Bucket] = deque(maxlen=BUCKETS)
        self._first: tuple[int, int] | None = None
        self._last: tuple[int, int] | None = None
        self._segment: int | None = None

    def observe(self, index: int, device_us: int, arrival_ns: int, segment: int) -> None:
        """``index`` and ``device_us`` of one sample, and when its block arrived (host monotonic, ns)."""
        if segment != self._segment:
            self._buckets.clear()
            self._first, self._segment = (index, device_us), segment
        self._last = (index, device_us)
        device = device_us / 1e6
        delay = arrival_ns / 1e9 - device
        number = int(device // BUCKET_SECONDS)
        if not self._buckets or self._buckets[-1].number != number:
            self._buckets.append(_Bucket(number, device, delay))
        elif delay < self._buckets[-1].delay:
            self._buckets[-1].device, self._buckets[-1].delay = device, delay

    def report(self) -> ClockReport:
        """What is known now."""
        report = ClockReport(self._rate, self._decision)
        if self._first and self._last and self._last[1] - self._first[1] >= MIN_RATE_SECONDS * 1e6:
            report.rate_measured = (self._last[0] - self._first[0]) / ((self._last[1] - self._first[1]) / 1e6)
        if len(self._buckets) >= 3:
            x = np.array([b.device for b in self._buckets])
            y = np.array([b.delay for b in self._buckets])
            x, y = x - x.mean(), y - y.mean()
            slope = float(x @ y / (x @ x))
            rest = y - slope * x
            spread = float(np.sqrt(rest @ rest / (len(x) - 2)))
            # delay = host - device grows by `slope` a second when the device's clock runs slow.
            report.skew_ppm = -slope * 1e6
            report.skew_error_ppm = spread / float(np.sqrt(x @ x)) * 1e6
            report.jitter_ms = spread * 1e3
        return report
