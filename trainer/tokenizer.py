"""Stage 1 of CM-SSL: a VQ-VAE whose one codebook gives each time patch of ECG *and* PPG a joint token.

Tokens are local. Attention is banded, so a token depends on a fixed number of patches around its own
(:attr:`TokenizerConfig.left`, :attr:`TokenizerConfig.right`) and is the same wherever a window is cut, but for the
patches nearer than that to the window's edges. It has to be so: the student that learns these tokens from one signal
sees no more than ``lookahead`` patches ahead.
"""

from dataclasses import asdict, dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.encoder import MASKED
from trainer.quantizers import Quantized, QuantizerConfig, make_quantizer

Signals = Literal["joint", "ppg", "ecg"]


@dataclass(frozen=True)
class TokenizerConfig:
    """Shape of the tokenizer. ``bands`` and ``decoder_bands`` give (patches before, patches after) that each block
    of the encoder and decoder attends to; ``ecg_weight`` is the ECG's share of the reconstruction loss.

    ``signals``: what the tokenizer sees and rebuilds. ``ppg`` and ``ecg`` are the single-signal teachers that CM-SSL
    compares the joint one with; their methods take both signals all the same and leave the other alone.
    """

    hop: int = 50
    signals: Signals = "joint"
    dim: int = 128
    heads: int = 4
    mlp: int = 4
    bands: tuple[tuple[int, int], ...] = ((2, 1), (2, 0))
    decoder_bands: tuple[tuple[int, int], ...] = ((4, 4), (4, 4))
    ecg_weight: float = 0.2
    dropout: float = 0.0
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)

    @property
    def left(self) -> int:
        """Patches before its own that a token depends on."""
        return sum(before for before, _ in self.bands)

    @property
    def right(self) -> int:
        """Patches after its own that a token depends on."""
        return sum(after for _, after in self.bands)

    def to_dict(self) -> dict[str, object]:
        """For a run folder's config."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: dict[str, object]) -> "TokenizerConfig":
        """What :meth:`to_dict` wrote (JSON turns tuples into lists). Raises TypeError on unknown or missing keys."""
        values = dict(raw)
        for name in ("bands", "decoder_bands"):
            pairs = values[name]
            if not isinstance(pairs, list | tuple):
                raise TypeError(f"{name} is not a list")
            values[name] = tuple((int(before), int(after)) for before, after in pairs)
        if values.get("signals", "joint") not in ("joint", "ppg", "ecg"):
            raise ValueError(f"signals must be joint, ppg or ecg, not {values['signals']!r}")
        quantizer = values.pop("quantizer")
        if not isinstance(quantizer, dict):
            raise TypeError("quantizer is not an object")
        return cls(quantizer=QuantizerConfig(**quantizer), **values)  # type: ignore[arg-type]


class BandedBlock(nn.Module):
    """Pre-norm transformer block that attends to ``before`` patches back and ``after`` ahead, biased by offset."""

    def __init__(self, config: TokenizerConfig, before: int, after: int) -> None:
        super().__init__()
        d = config.dim
        self.heads, self.before, self.after = config.heads, before, after
        self.norm_attention, self.norm_mlp = nn.LayerNorm(d), nn.LayerNorm(d)
        self.query_key_value, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.mlp = nn.Sequential(nn.Linear(d, config.mlp * d), nn.GELU(), nn.Linear(config.mlp * d, d))
        self.dropout = nn.Dropout(config.dropout)
        self.offset_bias = nn.Parameter(torch.zeros(config.heads, before + 1 + after))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, patches, dim) → same shape."""
        batch, patches, d = x.shape
        qkv = self.query_key_value(self.norm_attention(x)).view(batch, patches, 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        i = torch.arange(patches, device=x.device)
        slot = i[None] - i[:, None] + self.before
        inside = (slot >= 0) & (slot <= self.before + self.after)
        bias = torch.where(inside, self.offset_bias[:, slot.clamp(0, self.before + self.after)], MASKED)
        a = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        x = x + self.dropout(self.out(a.transpose(1, 2).reshape(batch, patches, d)))
        y: Tensor = x + self.dropout(self.mlp(self.norm_mlp(x)))
        return y


@dataclass(frozen=True)
class Reconstruction:
    """The signals rebuilt from tokens, (batch, patches, hop) each (None for one that the tokenizer does not see), and
    what the quantizer said."""

    ppg: Tensor | None
    ecg: Tensor | None
    quantized: Quantized


class Tokenizer(nn.Module):
    """Paired patches → one token each → both signals again."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        d = config.dim
        self.sees_ppg, self.sees_ecg = config.signals != "ecg", config.signals != "ppg"
        inputs = (self.sees_ppg + self.sees_ecg) * config.hop
        self.embed = nn.Sequential(nn.Linear(inputs, d), nn.GELU(), nn.Linear(d, d))
        self.encoder = nn.Sequential(*(BandedBlock(config, *band) for band in config.bands))
        self.norm = nn.LayerNorm(d)
        self.projection = nn.Linear(d, config.quantizer.dim)
        self.quantizer = make_quantizer(config.quantizer)
        self.expand = nn.Linear(config.quantizer.dim, d)
        self.decoder = nn.Sequential(*(BandedBlock(config, *band) for band in config.decoder_bands))
        self.decoder_norm = nn.LayerNorm(d)
        self.ppg_head = nn.Linear(d, config.hop) if self.sees_ppg else None
        self.ecg_head = nn.Linear(d, config.hop) if self.sees_ecg else None

    def vectors(self, ppg: Tensor, ecg: Tensor) -> Tensor:
        """Paired patches, (batch, patches, hop) each → vectors before quantization (batch, patches, code dim)."""
        seen = [signal for signal, sees in ((ppg, self.sees_ppg), (ecg, self.sees_ecg)) if sees]
        x = self.encoder(self.embed(torch.cat(seen, -1)))
        y: Tensor = self.projection(self.norm(x))
        return y

    def encode(self, ppg: Tensor, ecg: Tensor) -> Tensor:
        """Tokens: (batch, patches, hop) twice → (batch, patches) int64."""
        return self.quantizer.indices(self.vectors(ppg, ecg))

    def decode(self, codes: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Codes (batch, patches, code dim) → PPG and ECG patches, (batch, patches, hop) each; None for an unseen."""
        x = self.decoder_norm(self.decoder(self.expand(codes)))
        return (self.ppg_head(x) if self.ppg_head else None), (self.ecg_head(x) if self.ecg_head else None)

    def forward(self, ppg: Tensor, ecg: Tensor) -> Reconstruction:
        """Encode, quantize and rebuild; in training mode the codebook moves."""
        quantized = self.quantizer(self.vectors(ppg, ecg))
        return Reconstruction(*self.decode(quantized.values), quantized)
