"""Vectors → tokens: a learned codebook (EMA), a fixed grid (FSQ) or several codebooks in a row (residual)."""

from trainer.quantizers.base import Quantized, Quantizer, perplexity, usage
from trainer.quantizers.config import QuantizerConfig
from trainer.quantizers.ema import VectorQuantizer
from trainer.quantizers.fsq import FiniteScalarQuantizer
from trainer.quantizers.residual import ResidualQuantizer

__all__ = ["Quantized", "Quantizer", "QuantizerConfig", "make_quantizer", "perplexity", "usage"]

_KINDS: dict[str, type[Quantizer]] = {
    "ema": VectorQuantizer,
    "fsq": FiniteScalarQuantizer,
    "residual": ResidualQuantizer,
}


def make_quantizer(config: QuantizerConfig) -> Quantizer:
    """The quantizer of ``config.kind``."""
    return _KINDS[config.kind](config)
