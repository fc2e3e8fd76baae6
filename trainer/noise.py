"""Noise as it was measured, made anew: random phases under a measured spectrum, or a recorded artefact itself.

A :class:`NoiseBank` (:mod:`trainer.noise_bank` measures it) holds raw disturbances; :class:`NoiseMaker` draws from it,
raw or as a front end's band-pass leaves it; :class:`NoiseAugmentation` disturbs patches in training.

Signal-to-noise ratio, everywhere: the mean square of the clean wave over that of the noise, in decibel, *both behind
the band-pass* of the front end and over the same window. What the band-pass removes anyway counts for nothing.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge.frontend import FrontendConfig

F32 = NDArray[np.float32]

KINDS = ("white", "sensor", "motion", "artefact")


@dataclass(frozen=True)
class NoiseBank:
    """Disturbances of raw PPG at ``rate`` Hz.

    ``artefact`` (n, samples): segments with an unreadable PPG, mean removed, mean square 1 in the band. ``motion``
    (n, bins): their amplitude spectra, from 0 Hz to ``rate / 2`` in even steps. ``sensor`` (m, bins): those of the
    noise between pulses, and ``sensor_snr`` (m,) dB: how far below its pulse that noise lay where it was measured.
    """

    rate: float
    artefact: F32
    motion: F32
    sensor: F32
    sensor_snr: F32


@dataclass(frozen=True)
class NoiseConfig:
    """How often a window is disturbed, how strongly (dB, uniform between the two), and by what (relative shares)."""

    probability: float = 0.5
    snr: tuple[float, float] = (0.0, 20.0)
    shares: Mapping[str, float] = field(
        default_factory=lambda: {"white": 0.1, "sensor": 0.2, "motion": 0.3, "artefact": 0.4}
    )

    def to_dict(self) -> dict[str, object]:
        """For a run folder's config."""
        return asdict(self)


def band_gain(frontend: FrontendConfig, samples: int) -> Tensor:
    """Magnitude of the front end's band-pass at the frequencies of a real FFT of ``samples``, (samples // 2 + 1,)."""
    from scipy.signal import sosfreqz

    _, response = sosfreqz(np.array(frontend.sos), 2 * np.pi * np.fft.rfftfreq(samples))
    return torch.tensor(np.abs(response), dtype=torch.float32)


class NoiseMaker:
    """Draws noise from a bank: raw, or with ``behind`` as that front end's band-pass leaves it."""

    def __init__(self, bank: NoiseBank, behind: FrontendConfig | None = None) -> None:
        self.bank, self.behind = bank, behind
        artefact = bank.artefact.astype(np.float64)
        if behind is not None:
            from scipy.signal import sosfilt

            artefact = sosfilt(np.array(behind.sos), artefact - artefact[:, :1], axis=1)
        # Played forth and back: a longer window than the segment finds no seam.
        self._loops = torch.tensor(np.concatenate([artefact, artefact[:, ::-1]], 1), dtype=torch.float32)
        self._envelopes: dict[int, dict[str, Tensor]] = {}

    def draw(self, kind: str, count: int, samples: int, generator: torch.Generator | None = None) -> Tensor:
        """``count`` disturbances of ``samples`` samples, (count, samples); their level is the caller's to set.

        Raises ValueError on a kind that is not in :data:`KINDS`.
        """
        if kind == "artefact":
            rows, length = self._loops.shape
            start = torch.randint(length, (count, 1), generator=generator)
            row = torch.randint(rows, (count, 1), generator=generator)
            sign = torch.randint(2, (count, 1), generator=generator) * 2.0 - 1.0
            return self._loops[row, (start + torch.arange(samples)) % length] * sign
        if kind not in KINDS:
            raise ValueError(f"noise {kind!r} is not one of {', '.join(KINDS)}")
        envelope = self._envelope(kind, samples)
        row = torch.randint(len(envelope), (count,), generator=generator)
        phases = torch.randn(count, envelope.shape[1], 2, generator=generator)
        drawn: Tensor = torch.fft.irfft(torch.view_as_complex(phases) * envelope[row], n=samples)
        return drawn

    def _envelope(self, kind: str, samples: int) -> Tensor:
        """Amplitudes at the frequencies of a real FFT of ``samples``, (spectra, samples // 2 + 1)."""
        if samples not in self._envelopes:
            wanted = np.fft.rfftfreq(samples)
            known = np.linspace(0, 0.5, self.bank.motion.shape[1])
            gain = torch.ones(len(wanted)) if self.behind is None else band_gain(self.behind, samples)
            spectra = {"motion": self.bank.motion, "sensor": self.bank.sensor}
            table = {
                name: torch.tensor(np.stack([np.interp(wanted, known, row) for row in rows]), dtype=torch.float32)
                * gain
                for name, rows in spectra.items()
            }
            self._envelopes[samples] = {**table, "white": gain[None]}
        return self._envelopes[samples][kind]


def running_power(patches: Tensor, gain_hops: int) -> Tensor:
    """Median mean square of the last ``gain_hops`` patches, each hop's own included, as the front end's gain has it:
    (batch, patches, hop) → (batch, patches, 1)."""
    energy = patches.square().mean(-1)
    past = torch.nn.functional.pad(energy, (gain_hops - 1, 0), value=torch.nan).unfold(1, gain_hops, 1)
    return past.nanquantile(0.5, dim=-1, keepdim=True)


def disturbed(clean: Tensor, noise: Tensor, decibel: Tensor, frontend: FrontendConfig) -> Tensor:
    """Patches as ``frontend`` would have made them of a wave with noise in it: (batch, patches, hop) → same shape.

    ``clean``: its patches without; ``noise``: behind the band-pass, same shape, at any level; ``decibel`` (batch,) or
    a number: the SNR of each window. Noise raises the running RMS that the front end divides by, so each patch is
    divided by the factor by which its own rose, and clipped again.
    """
    wanted = clean.square().mean((1, 2)) * 10 ** (-decibel / 10)
    scale = (wanted / noise.square().mean((1, 2)).clamp_min(1e-12)).sqrt()
    noisy = clean + noise * scale[:, None, None]
    before, after = (running_power(wave, frontend.gain_hops).clamp_min(1e-6) for wave in (clean, noisy))
    return (noisy * (before / after).sqrt()).clamp(-frontend.clip, frontend.clip)


class NoiseAugmentation:
    """Adds drawn noise to some windows of a batch, made as it stands behind the band-pass, and lets the front end's
    gain answer to it. Draws come from torch's global generator, so a seed repeats them."""

    def __init__(self, bank: NoiseBank, frontend: FrontendConfig, config: NoiseConfig | None = None) -> None:
        """Raises ValueError if ``config`` names an unknown kind or has no positive share."""
        self.config, self.frontend = config or NoiseConfig(), frontend
        unknown = set(self.config.shares) - set(KINDS)
        if unknown or not sum(self.config.shares.values()) > 0:
            raise ValueError(f"noise shares {dict(self.config.shares)}: give positive shares of {', '.join(KINDS)}")
        self._maker = NoiseMaker(bank, frontend)
        self._shares = torch.tensor([self.config.shares.get(kind, 0.0) for kind in KINDS])

    def __call__(self, patches: Tensor) -> Tensor:
        """PPG patches (batch, patches, hop), float32 → the same shape; windows that are not drawn stay as they are."""
        batch, count, hop = patches.shape
        chosen = torch.rand(batch) < self.config.probability
        low, high = self.config.snr
        decibel = low + (high - low) * torch.rand(batch)
        kind = torch.multinomial(self._shares, batch, replacement=True)
        changed = patches.clone()
        for i, name in enumerate(KINDS):
            rows = (chosen & (kind == i)).nonzero()[:, 0]
            if len(rows):
                noise = self._maker.draw(name, len(rows), count * hop).view(len(rows), count, hop)
                changed[rows] = disturbed(patches[rows], noise, decibel[rows], self.frontend)
        return changed
