"""What the device would have seen of a recording, every few seconds, beside what its ECG says."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from edge import quality
from edge.bundle import LogisticModel
from edge.grid import Grid
from edge.quality import Quality
from edge.readouts import pooled
from edge.rhythm import RATE_SECONDS
from edge.ring import SampleRing
from edge.vitals import Vitals, VitalSigns, VitalsState
from firmware_bridge.block import Notice
from firmware_bridge.source import open_source
from trainer.encoder import Encoder
from trainer.gating import r_peaks
from trainer.recordings import Recording
from trainer.windows import WindowConfig, run_frontend, to_grid

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

EVERY_SECONDS = 4.0  # one example of each recording
POOLED_SECONDS = 10.0  # of embedding, as trainer.probe judges encoders by
MIN_PEAKS = 4  # in the ECG's last 10 s
CHUNK_HOPS = 512  # of the encoder's window form at a time, besides the context before them


@dataclass(frozen=True)
class Observed:
    """One recording. ``signs``: every few seconds, of which ``pooled`` (n, 2 dim) is what the embedding was like over
    the last 10 s (NaN before they are full) and ``truth`` (n,) the ECG's rate over the same, bpm (NaN: none)."""

    recording: Recording
    signs: list[VitalSigns]
    pooled: F32
    truth: F64

    @property
    def person(self) -> str:
        """Unique over all data sets."""
        return f"{self.recording.dataset}/{self.recording.patient}"


def hops_of(
    recording: Recording,
    config: WindowConfig,
    *,
    warmup_hops: int = 0,
    quality: LogisticModel | None = None,
    rhythm: LogisticModel | None = None,
) -> Iterator[tuple[VitalsState, VitalSigns, bool]]:
    """What the device sees of a recording's PPG, hop by hop, by its own code and as far as the models are there: the
    state (the next hop changes it), the signs, and whether a segment begins there."""
    source = open_source(f"wfdb:{recording.path}", "ppg")
    bridge = round(source.info.rate)
    ring = SampleRing(30 * bridge, bridge)
    frontend = config.frontend("ppg")
    grid = Grid(ring, source.info.period_ns, frontend.rate, frontend.hop)
    vitals = Vitals(frontend, source.info, warmup_hops=warmup_hops, quality=quality, rhythm=rhythm)
    state = None
    for block in source:
        if isinstance(block, Notice):
            continue
        ring.write(block)
        while (hop := grid.next_hop()) is not None:
            begins = state is None or hop.segment is not None
            if state is None or hop.segment is not None:
                state = vitals.start(hop.segment.start if hop.segment else hop.start)
            yield state, vitals.step(state, hop), begins


@torch.no_grad()
def embeddings(encoder: Encoder, patches: F32) -> F32:
    """Embeddings of a segment's patches from its start on, (hops, hop) → (hops, dim), in chunks of the window form."""
    encoder.eval()
    context = encoder.config.layers * (encoder.config.context - 1)  # as far back as anything can be felt
    parts = []
    for start in range(0, len(patches), CHUNK_HOPS):
        before = max(0, start - context)
        found = encoder(torch.from_numpy(patches[before : start + CHUNK_HOPS])[None])[1][0]
        parts.append(found[start - before :].numpy())
    return np.concatenate(parts)


def ecg_rate(peaks: F64, t: float) -> float:
    """60 over the median R–R interval of the 10 s before ``t``, bpm; NaN with fewer than four R peaks."""
    low, high = np.searchsorted(peaks, [t - RATE_SECONDS, t], side="right")
    return 60 / float(np.median(np.diff(peaks[low:high]))) if high - low >= MIN_PEAKS else float("nan")


def observe(recording: Recording, config: WindowConfig, encoder: Encoder) -> Observed:
    """Run the device's hops and the encoder over a whole recording."""
    hops = [(signs, begins) for _, signs, begins in hops_of(recording, config)]
    patches = np.array([sign.patch for sign, _ in hops], np.float32).reshape(-1, config.hop)
    starts = [i for i, (_, begins) in enumerate(hops) if begins]
    window = pooled_hops(config)
    pools = np.full((len(hops), 2 * encoder.config.dim), np.nan, np.float32)
    every = max(1, round(EVERY_SECONDS * config.rate / config.hop))
    due = np.arange(every - 1, len(hops), every)
    for start, end in zip(starts, [*starts[1:], len(hops)], strict=True):
        found = embeddings(encoder, patches[start:end])
        for i in due[(due >= start + window - 1) & (due < end)]:
            pools[i] = pooled(found[i - start - window + 1 : i - start + 1])
    ecg = run_frontend(to_grid(recording.read()[1], recording.rate, config.rate), config, "ecg").patches.ravel()
    peaks = r_peaks(ecg, config.rate) / config.rate
    signs = [hops[i][0] for i in due]
    return Observed(recording, signs, pools[due], np.array([ecg_rate(peaks, sign.t) for sign in signs]))


def pooled_hops(config: WindowConfig) -> int:
    """How many hops of embedding are pooled."""
    return max(1, round(POOLED_SECONDS * config.rate / config.hop))


def judged(sign: VitalSigns, model: LogisticModel) -> Quality:
    """A sign's quality as it is with the quality model that was fitted after the sign was taken."""
    seen = sign.quality
    if seen.state not in ("good", "poor") or not seen.features:
        return seen
    sqi = quality.logistic(model, seen.features)
    return replace(seen, sqi=sqi, state="good" if sqi >= quality.GOOD else "poor")
