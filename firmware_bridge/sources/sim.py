"""``sim:sinus?hr=70&seed=1&duration=60&rate=100`` — the virtual patient without a wire, as fast as it is read."""

import time
from collections.abc import Iterator

from firmware_bridge.block import Flag, SampleBlock, Signal, StreamInfo
from firmware_bridge.errors import BadInput
from firmware_bridge.runs import runs
from firmware_bridge.source import SourceUri
from firmware_bridge.sources.replay import BLOCK_SECONDS
from firmware_bridge.virtual.body import MICROVOLT_MV, Body
from firmware_bridge.virtual.scenario import RATES, Scenario

# Counts of reflected light fall as blood volume rises.
POLARITY = {"ppg": -1.0, "ecg": MICROVOLT_MV}
UNITS = {"ppg": "counts", "ecg": "mV"}


class SimSource:
    """A :class:`~firmware_bridge.source.Source`; while the scenario's cable is pulled, samples are missing."""

    live = False

    def __init__(self, body: Body, signal: Signal, seconds: float) -> None:
        self.info = StreamInfo(
            signal,
            signal,
            period_ns=round(1e9 / body.rate),
            unit=UNITS[signal],
            scale=POLARITY[signal],
            resolution=1.0,
            device=f"sim {body.scenario.name}",
        )
        self.body = body
        self._samples = round(seconds * body.rate)
        self._closed = False

    @property
    def counters(self) -> dict[str, int]:
        """No wire, no books."""
        return {}

    def __iter__(self) -> Iterator[SampleBlock]:
        longest = max(1, round(self.info.rate * BLOCK_SECONDS))
        expected = done = 0
        while done < self._samples and not self._closed:
            chunk = self.body.read(min(longest, self._samples - done))
            done += len(chunk.plugged)
            values = chunk.ppg if self.info.signal == "ppg" else chunk.ecg
            for start, end in runs(chunk.plugged, longest):
                index = chunk.index + start
                flags = Flag.SYNTHETIC
                flags |= Flag.LOST_BEFORE if index > expected else Flag.NONE
                flags |= Flag.NONE if chunk.contact[start:end].all() else Flag.NO_CONTACT
                flags |= Flag.SATURATED if chunk.saturated[start:end].any() else Flag.NONE
                yield SampleBlock(
                    index,
                    values[start:end],
                    arrival_ns=time.monotonic_ns(),
                    device_us=index * self.info.period_ns // 1000,
                    flags=flags,
                    gap_reason="cable pulled" if index > expected else "",
                )
                expected = chunk.index + end
        if expected < done and not self._closed:
            # The cable was still out at the end: an empty block says what is missing.
            nothing, flags = values[:0], Flag.SYNTHETIC | Flag.LOST_BEFORE
            yield SampleBlock(done, nothing, time.monotonic_ns(), flags=flags, gap_reason="cable pulled")

    def close(self) -> None:
        """Stop iterating at the next block."""
        self._closed = True


def open_source(uri: SourceUri, signal: Signal) -> SimSource:
    """Open a scenario; options ``hr`` (bpm), ``seed``, ``duration`` (s, default one round), ``rate`` (Hz)."""
    uri.allow("hr", "seed", "duration", "rate")
    scenario = Scenario.find(uri.target, uri.number("hr", 0) if "hr" in uri.options else None)
    rate, seconds = uri.number("rate", 100), uri.number("duration", scenario.seconds)
    if not RATES[0] <= rate <= RATES[1]:
        raise BadInput(f"source {uri.text!r}: rate must be {RATES[0]:g} to {RATES[1]:g} Hz")
    if not seconds > 0:
        raise BadInput(f"source {uri.text!r}: duration must be above 0 s")
    seed = uri.number("seed", 0)
    if seed < 0 or seed != int(seed):
        raise BadInput(f"source {uri.text!r}: seed must be a whole number, 0 or above")
    return SimSource(Body(scenario, rate, int(seed)), signal, seconds)
