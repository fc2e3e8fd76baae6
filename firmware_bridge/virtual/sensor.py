"""``pulsecode sim``: the virtual sensor as a process on a pty, or its samples and truth as a CSV file."""

import csv
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import numpy as np

from firmware_bridge.errors import BadInput
from firmware_bridge.virtual.body import Body
from firmware_bridge.virtual.device import Device, Run, Track
from firmware_bridge.virtual.feed import recording, recording_runs, scenario_runs, scenario_tracks
from firmware_bridge.virtual.pty_link import PtyLink
from firmware_bridge.virtual.scenario import RATES, Scenario

TURN_S = 0.1  # how often a waiting sensor looks whether it was stopped
LAST_WORDS_S = 10.0  # how long the end of a recording waits for its reader


@dataclass(frozen=True)
class Options:
    """What ``pulsecode sim`` was asked for; see its ``--help``."""

    scenario: str
    play: str | None
    link: Path | None
    seed: int
    rate: float
    hr: float | None
    skew_ppm: float
    drop: float
    duration: float | None
    speed: float
    once: bool
    lossless: bool

    def check(self) -> None:
        """Refuse what makes no sense."""
        wrong = {
            f"--rate must be {RATES[0]:g} to {RATES[1]:g} Hz": not RATES[0] <= self.rate <= RATES[1],
            "--drop must be 0 to 1": not 0 <= self.drop <= 1,
            "--speed must be above 0": not self.speed > 0,
            "--duration must be above 0 s": self.duration is not None and not self.duration > 0,
            "--skew-ppm must be -100000 to 100000": not abs(self.skew_ppm) <= 1e5,
            "--seed must be 0 or above": self.seed < 0,
        }
        for message, bad in wrong.items():
            if bad:
                raise BadInput(f"sim: {message}")


class Stop:
    """Turns SIGINT and SIGTERM into a flag while it is entered, so that the link is removed and the exit is clean."""

    def __init__(self) -> None:
        self._asked = False

    def __enter__(self) -> "Stop":
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True

    def __call__(self) -> bool:
        return self._asked


def _prepare(options: Options) -> tuple[list[Track], Iterator[Run]]:
    if options.play is not None:
        played = recording(options.play)
        return [track for track, _ in played], recording_runs(played)
    scenario = Scenario.find(options.scenario, options.hr)
    seconds = options.duration if options.duration is not None else scenario.seconds if options.once else None
    tracks = scenario_tracks(options.rate)
    body = Body(scenario, options.rate, options.seed)
    return tracks, scenario_runs(body, tracks, None if seconds is None else round(seconds * options.rate))


class VirtualSensor:
    """A :class:`Device` on a :class:`PtyLink` in real time, times ``speed``."""

    def __init__(self, options: Options, stop: Stop) -> None:
        options.check()
        self._tracks, self._runs = _prepare(options)
        self._options, self._stop = options, stop
        self._rng = np.random.default_rng([options.seed, 0xD407])
        self._device = Device(
            self._tracks, int(self._rng.integers(1, 65536)), options.skew_ppm, synthetic=options.play is None
        )
        self._link = PtyLink(options.link, options.lossless, stop)

    def run(self) -> None:
        """Until the end of what is played, or until stopped."""
        try:
            self._plug("virtual sensor")
            self._link.send(self._device.boot())
            if self._options.lossless and not self._wait_for_reader():
                return
            ended_at = self._stream()
            if not self._stop():
                self._link.send(self._device.end(ended_at))
                self._link.drain(LAST_WORDS_S)
        finally:
            self._link.unplug()

    def _plug(self, what: str) -> None:
        self._link.plug()
        print(f"{what} on {self._link.path}; read it with: pulsecode monitor serial:{self._link.path}", flush=True)

    def _wait_for_reader(self) -> bool:
        """A reader throws away what came before it opened the port, so nothing may come before it asks."""
        while not self._stop():
            heard = self._link.serve(TURN_S)
            if heard:
                return self._link.send(self._device.hear(heard, 0.0))
        return False

    def _stream(self) -> float:
        options, started, now = self._options, time.monotonic(), 0.0
        for run in self._runs:
            if options.play is not None and options.duration is not None and run.due > options.duration:
                break
            now = run.due
            self._wait(started + now / options.speed, now)
            if self._stop():
                break
            if self._link.plugged and not run.plugged:
                self._link.unplug()
                print("cable pulled", flush=True)
            elif run.plugged and not self._link.plugged:
                self._plug("cable back:")
            for control in self._device.housekeeping(now):
                self._link.send(control)
            frame = self._device.data(run)
            if self._rng.random() < options.drop:  # lost in the air: only the sequence tells
                continue
            if not self._link.send(frame) and self._link.plugged:
                self._device.overflowed(run.track.stream)
        return now

    def _wait(self, due: float, now: float) -> None:
        while not self._stop():
            left = due - time.monotonic()
            heard = self._link.serve(min(TURN_S, max(0.0, left)))
            if heard:
                self._link.send(self._device.hear(heard, now))
            if left <= 0:
                return


def run_sensor(options: Options) -> int:
    """Stream until the end or a signal; returns the exit status."""
    with Stop() as stop:
        VirtualSensor(options, stop).run()
    return 0


def write_csv(options: Options, path: Path) -> int:
    """Samples and truth of a scenario: ``t`` (s), ``ppg`` (counts), ``ecg`` (µV), marks at R peaks and pulse feet,
    and the segment's name. Samples that a pulled cable would lose are empty cells."""
    options.check()
    scenario = Scenario.find(options.scenario, options.hr)
    body = Body(scenario, options.rate, options.seed)
    n = round((options.duration or scenario.seconds) * options.rate)
    chunk = body.read(n)
    pulses = body.pulses(n / options.rate)
    r_peaks = {round(pulse.beat.r * options.rate) for pulse in pulses}
    feet = {round(pulse.foot * options.rate) for pulse in pulses}
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["t", "ppg", "ecg", "r_peak", "pulse_foot", "segment"])
            for i, (ppg, ecg, plugged) in enumerate(
                zip(chunk.ppg.tolist(), chunk.ecg.tolist(), chunk.plugged.tolist(), strict=True)
            ):
                t = i / options.rate
                samples = [ppg, ecg] if plugged else ["", ""]
                writer.writerow([f"{t:.6g}", *samples, int(i in r_peaks), int(i in feet), scenario.at(t)[0].kind])
    except OSError as error:
        raise BadInput(f"--out {path}: cannot be written ({error.strerror})") from None
    print(f"wrote {n} samples ({n / options.rate:g} s, {len(pulses)} beats) to {path}")
    return 0
