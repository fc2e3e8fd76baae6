"""Measures what disturbs a PPG: artefacts where the heart is known to beat steadily, and the noise between pulses.

*Artefact*: 20 s of Challenge 2015 in which the ECG shows a regular rhythm and the PPG repeats itself neither from beat
to beat nor, for a few seconds, at any other pace. The heart was steady, so what the PPG shows is not its doing. *Sensor
noise*: late diastole, where a healthy pulse wave only sinks slowly: what is left after a parabola is taken out.

Each part of the split has a bank of its own: what a student is trained with comes from the training people, what it is
judged with from the test people.
"""

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from firmware_bridge.errors import BadInput
from trainer import alignment
from trainer.alignment import pulse_feet
from trainer.gating import HopFacts, Verdict, judge, r_peaks
from trainer.noise import NoiseBank
from trainer.preparation import cache_key
from trainer.progress import progress_bar
from trainer.recordings import F64, Listing, Recording, find_recordings
from trainer.splits import Part, part_of
from trainer.windows import Patches, WindowConfig, run_frontend, to_grid

F32 = NDArray[np.float32]

ARTEFACT_DATASET = "challenge2015"
SECONDS = 20.0  # of a segment
FEWEST_INTERVALS = 10
IRREGULAR, OUTLIERS = 0.05, 0.10  # median deviation of R-R intervals, and share off by 15 %: above, not regular
REPEATS = 0.3  # correlation of the PPG with itself one R-R interval later: a pulse reaches more
REPEATS_BRIEFLY = 0.6  # the same in a quarter of the segment, at any lag from SHORTEST to LONGEST
SHORTEST, LONGEST = 0.35, 1.5  # s
PER_RECORDING = 6  # segments at most, so that one long artefact is not the whole bank
BINS = 129  # of a spectrum, 0 Hz to half the rate
DIASTOLE, GUARD = 0.32, 0.10  # s: how much before the next foot, and how far from it (the band-pass delays the foot)
MODELLED_FROM = 5.0  # Hz: below, the pulse itself is in the way and the noise is taken to go on level


@dataclass(frozen=True)
class _Channels:
    """One recording on the grid: raw PPG (n,), and both signals behind the front end."""

    raw: F64
    ppg: Patches
    ecg: Patches


def _read(recording: Recording, config: WindowConfig) -> _Channels:
    ppg, ecg = (to_grid(channel, recording.rate, config.rate) for channel in recording.read())
    return _Channels(ppg, run_frontend(ppg, config, "ppg"), run_frontend(ecg, config, "ecg"))


def is_regular(peaks: NDArray[np.integer]) -> bool:
    """Whether R peaks (n,) show a regular rhythm: enough intervals, nearly all of them near their median."""
    intervals = np.diff(peaks)
    if len(intervals) < FEWEST_INTERVALS:
        return False
    off = np.abs(intervals / np.median(intervals) - 1)
    return bool(np.median(off) <= IRREGULAR and (off > 0.15).mean() <= OUTLIERS)


def _autocorrelation(wave: NDArray[np.floating]) -> F64:
    """Of ``wave`` (n,) at lags 0 to n - 1, in shares of its power; all 0 for a wave without change."""
    x = wave.astype(np.float64) - wave.mean()
    power = float(x @ x)
    size = 2 * len(x)
    return np.asarray(np.fft.irfft(np.abs(np.fft.rfft(x, size)) ** 2, size)[: len(x)] / power if power else 0.0 * x)


def is_readable(wave: NDArray[np.floating], interval: float, rate: float) -> bool:
    """Whether ``wave`` (n,) at ``rate`` Hz shows a pulse: it repeats itself one R-R ``interval`` (samples) later, or in
    any quarter of its length it repeats itself at some lag a pulse could have."""
    beat = _autocorrelation(wave)[round(0.95 * interval) : round(1.05 * interval) + 1]
    if beat.max(initial=0.0) >= REPEATS:
        return True
    shortest, longest = round(SHORTEST * rate), round(LONGEST * rate)
    for quarter in np.array_split(wave, 4):
        repeats = _autocorrelation(quarter)
        below = np.flatnonzero(repeats < 0)
        first = max(shortest, int(below[0]) if len(below) else longest)  # beyond the wave's likeness to itself at once
        if repeats[first:longest].max(initial=0.0) >= REPEATS_BRIEFLY:
            return True
    return False


def _band_rms(segments: F64, config: WindowConfig) -> F64:
    """RMS of each row behind the PPG's band-pass, the filter's start left out, (rows, 1)."""
    from scipy.signal import sosfilt

    filtered = sosfilt(np.array(config.frontend("ppg").sos), segments - segments[:, :1], axis=1)
    settled = filtered[:, min(round(2 * config.rate), filtered.shape[1] // 2) :]
    return np.asarray(np.sqrt((settled**2).mean(1, keepdims=True)))


def artefact_segments(channels: _Channels, config: WindowConfig) -> F64:
    """Raw segments (n, samples) of unreadable PPG under a regular ECG, spread over the recording."""
    hops = round(SECONDS * config.rate / config.hop)
    length = hops * config.hop
    beats = r_peaks(channels.ecg.patches.ravel(), config.rate)
    found = []
    for first in range(0, len(channels.ppg.valid) - hops + 1, hops):
        span, start = slice(first, first + hops), first * config.hop
        inside = beats[(beats >= start) & (beats < start + length)]
        readable = (
            channels.ppg.valid[span].all() and channels.ecg.valid[span].all() and not channels.ppg.flat[span].any()
        )
        if not readable or not is_regular(inside):
            continue
        wave = channels.ppg.patches[span].ravel()
        if not is_readable(wave, float(np.median(np.diff(inside))), config.rate):
            found.append(channels.raw[start : start + length])
    if not found:
        return np.zeros((0, length))
    chosen = np.linspace(0, len(found) - 1, min(len(found), PER_RECORDING)).round().astype(int)
    segments = np.stack([found[i] - found[i].mean() for i in chosen])
    rms = _band_rms(segments, config)
    return np.asarray((segments / np.maximum(rms, 1e-12))[rms[:, 0] > 0])


def sensor_noise(channels: _Channels, config: WindowConfig) -> tuple[F64, float] | None:
    """Amplitude spectrum (:data:`BINS`,) of the noise in late diastole, and the pulse's power over the noise's in the
    band, dB. None where no window passes the gate, or where the samples there do not change at all."""
    size = 2 * (BINS - 1)
    starts = np.arange(0, len(channels.ppg.valid) - config.hops + 1, config.hops)
    facts = HopFacts(channels.ppg.valid & channels.ecg.valid, channels.ppg.flat, channels.ecg.flat)
    verdicts = judge(channels.ppg.patches, channels.ecg.patches, facts, starts, config.hops, config.rate, config.clip,
                     config.gate)  # fmt: skip
    usable = [slice(start, start + config.hops * config.hop) for start in starts[verdicts == Verdict.OK] * config.hop]
    good = np.zeros(len(channels.raw), dtype=bool)
    for window in usable:
        good[window] = True
    width = round(DIASTOLE * config.rate)
    parabola = np.linalg.qr(np.vander(np.linspace(-1, 1, width), 3))[0]
    taper = np.hanning(width)
    powers = []
    for foot in pulse_feet(channels.ppg.patches.ravel(), config.rate):
        end = int(foot - GUARD * config.rate)
        if end - width < 0 or not good[end - width : end].all():
            continue
        piece = channels.raw[end - width : end]
        rest = piece - parabola @ (parabola.T @ piece)
        # Density: mean square a bin of an even noise of this power.
        powers.append(np.abs(np.fft.rfft(rest * taper, size)) ** 2 / (taper**2).sum())
    if len(powers) < FEWEST_INTERVALS:
        return None
    density = np.mean(powers, axis=0)
    frequency = np.linspace(0, config.rate / 2, BINS)
    lowest = int(np.searchsorted(frequency, MODELLED_FROM))
    density[:lowest] = density[lowest : lowest + 3].mean()
    if not density[lowest] > 0:
        return None
    from scipy.signal import sosfilt, sosfreqz

    sos = np.array(config.frontend("ppg").sos)
    noise = np.trapezoid(density * np.abs(sosfreqz(sos, 2 * np.pi * frequency / config.rate)[1]) ** 2, frequency)
    whole = np.where(np.isfinite(channels.raw), channels.raw, np.nanmean(channels.raw))
    filtered = sosfilt(sos, whole - whole[0])
    pulse = float(
        np.median([(filtered[window] ** 2).mean() for window in usable])
    )  # what rings after an artefact is none
    return np.sqrt(density), float(10 * np.log10(pulse / (noise / (config.rate / 2))))


def measure_noise(listing: Listing, config: WindowConfig, part: Part, console: Console) -> NoiseBank:
    """The bank of one part's people. Raises :class:`BadInput` if they show no artefact or no quiet diastole."""
    from scipy.signal import welch

    theirs = [r for r in listing.recordings if part_of(r.dataset, r.patient) == part]
    segments, spectra = [], []
    with progress_bar(console) as progress:
        for recording in progress.track(theirs, description=f"measuring the noise of the {part} people"):
            channels = _read(recording, config)
            if recording.dataset == ARTEFACT_DATASET:
                segments.append(artefact_segments(channels, config))
            measured = sensor_noise(channels, config)
            if measured is not None:
                spectra.append(measured)
    artefact = np.concatenate(segments) if segments else np.zeros((0, 0))
    if not len(artefact) or not spectra:
        lacking = "quiet pulse" if len(artefact) else f"unreadable PPG under a regular ECG in {ARTEFACT_DATASET}"
        raise BadInput(f"data folder {listing.folder}: the {part} part has no {lacking} to measure noise from")
    _, power = welch(artefact, fs=config.rate, nperseg=2 * (BINS - 1), axis=1)
    sensor = np.stack([amplitude / np.sqrt((amplitude**2).mean()) for amplitude, _ in spectra])
    return NoiseBank(
        config.rate,
        artefact.astype(np.float32),
        np.sqrt(power).astype(np.float32),
        sensor.astype(np.float32),
        np.array([snr for _, snr in spectra], dtype=np.float32),
    )


def _key(listing: Listing, config: WindowConfig, part: Part) -> str:
    unpaired = replace(config, align=False, ecg_delay=0.0)  # only the ECG would be moved
    digest = hashlib.sha256(f"{part} {cache_key(listing, unpaired)}".encode())
    for source in (str(alignment.__file__), __file__):
        digest.update(Path(source).read_bytes())
    return digest.hexdigest()[:16]


def noise_bank(
    data: Path, config: WindowConfig, cache: Path, part: Part, console: Console, excluded: tuple[str, ...] = ()
) -> NoiseBank:
    """The bank of one part of the people under ``data``, from ``cache`` or measured now (a minute). ``excluded``: data
    sets that are left out, because a training left them out too.

    Raises :class:`BadInput` where the folder or a recording cannot be used, or shows no noise to measure.
    """
    found = find_recordings(data)
    listing = replace(found, recordings=[r for r in found.recordings if r.dataset not in excluded])
    file = cache / f"noise-{part}-{_key(listing, config, part)}.npz"
    if not file.exists():
        bank = measure_noise(listing, config, part, console)
        temporary = file.with_name(f".{file.name}.{os.getpid()}.npz")
        try:
            cache.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(temporary, **vars(bank))
            os.replace(temporary, file)
        except OSError as error:
            raise BadInput(f"cache {cache}: cannot be written ({error.strerror}); give --cache DIR") from None
    try:
        with np.load(file, allow_pickle=False) as saved:
            return NoiseBank(float(saved["rate"]), *(saved[name] for name in ("artefact", "motion", "sensor",
                                                                              "sensor_snr")))  # fmt: skip
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"cache {file}: cannot be read ({error}); delete it") from None
