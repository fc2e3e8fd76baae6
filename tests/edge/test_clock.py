"""The clock's fit against clocks whose truth is known."""

import numpy as np
import pytest

from edge.clock import DeviceClock


@pytest.mark.parametrize("skew", [-80e-6, 0.0, 50e-6])
def test_skew_is_found_through_bursty_delays(skew: float) -> None:
    rng = np.random.default_rng(4)
    clock = DeviceClock(100.0, "nominal")
    for i in range(3000):
        device = 0.2 * i
        host = device / (1 + skew) + 5.0 + 0.004 + rng.exponential(0.02) + (0.15 if rng.random() < 0.1 else 0)
        clock.observe(20 * i, round(device * 1e6), round(host * 1e9), 0)
    report = clock.report()
    assert report.skew_ppm is not None and report.skew_error_ppm is not None
    assert abs(report.skew_ppm - skew * 1e6) < max(4 * report.skew_error_ppm, 3)
    assert report.skew_error_ppm < 3
    assert report.rate_measured == pytest.approx(100.0)


def test_a_device_that_lies_about_its_rate_is_measured() -> None:
    clock = DeviceClock(135.0, "nominal")
    for i in range(200):
        clock.observe(11 * i, round(11 * i / 55.0 * 1e6), i, 0)
    assert clock.report().rate_measured == pytest.approx(55.0, rel=1e-6)


def test_a_restart_begins_anew_and_little_is_claimed_early() -> None:
    clock = DeviceClock(100.0, "nominal")
    for i in range(100):
        clock.observe(20 * i, 200_000 * i, 200_000_000 * i, 0)
    clock.observe(2000, 0, 30_000_000_000, 1)
    report = clock.report()
    assert report.rate_measured is None and report.skew_ppm is None
