"""The deployable encoder: a small causal ViT over patches, with a window form and a step form of the same weights.

The step form takes one patch and the key/value rings of its left context (ARCHITECTURE: "a step with explicit
state"), so a hop costs the same however long the stream; the window form trains it and is what the step form is
compared with.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import Tensor, nn

MASKED = -1e4  # added to the attention logits of context that does not exist yet; finite, so int8 graphs stay finite


NormName = Literal["layer", "rms", "tanh"]


class TanhNorm(nn.Module):
    """Dynamic tanh (Zhu et al., Transformers without Normalization, CVPR 2025): ``weight · tanh(alpha x) + bias``. No
    statistics over the channels, so it quantizes as any activation does."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.full((1,), 0.5))
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Of any shape that ends in ``dim``."""
        return torch.tanh(self.alpha * x) * self.weight + self.bias


NORMS: dict[NormName, Callable[[int], nn.Module]] = {"layer": nn.LayerNorm, "rms": nn.RMSNorm, "tanh": TanhNorm}


@dataclass(frozen=True)
class EncoderConfig:
    """Shape of the encoder. ``context`` counts patches seen, the current one included; ``lookahead`` is how many
    patches after the labelled one are seen before its token is given. ``norm`` and ``activation``: what an int8
    delegate can take differs by engine, so both are choices."""

    hop: int = 50
    dim: int = 96
    layers: int = 4
    heads: int = 4
    mlp: int = 4
    context: int = 25
    codebook_size: int = 512
    lookahead: int = 1
    dropout: float = 0.25
    norm: NormName = "layer"
    activation: Literal["gelu", "relu"] = "gelu"

    def to_dict(self) -> dict[str, int | float | str]:
        """For a run folder's config."""
        return asdict(self)


class Block(nn.Module):
    """Pre-norm attention over the last ``context`` patches, then an MLP."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        d, self.heads, self.context = config.dim, config.heads, config.context
        self.head_dim = d // config.heads
        self.scale = self.head_dim**-0.5  # of the attention's logits; 1 where it lies in the query's weights
        self.norm_attention, self.norm_mlp = NORMS[config.norm](d), NORMS[config.norm](d)
        self._activation = nn.functional.relu if config.activation == "relu" else nn.functional.gelu
        self.query, self.key, self.value, self.out = (nn.Linear(d, d) for _ in range(4))
        self.expand, self.contract = nn.Linear(d, config.mlp * d), nn.Linear(config.mlp * d, d)
        self.dropout = nn.Dropout(config.dropout)
        # Bias by age (oldest … newest) in place of absolute positions: the same at every hop of an endless stream.
        self.age_bias = nn.Parameter(torch.zeros(self.heads, 1, config.context))

    def _mlp(self, x: Tensor) -> Tensor:
        y: Tensor = self.contract(self._activation(self.expand(self.norm_mlp(x))))
        return y

    def window(self, x: Tensor) -> Tensor:
        """``x`` (batch, patches, dim) → same shape; banded causal attention."""
        batch, patches, _ = x.shape

        def split(t: Tensor) -> Tensor:
            return t.view(batch, patches, self.heads, self.head_dim).transpose(1, 2)

        y = self.norm_attention(x)
        q, k, v = split(self.query(y)), split(self.key(y)), split(self.value(y))
        i = torch.arange(patches, device=x.device)
        slot = i[None] - i[:, None] + self.context - 1  # 0 oldest … context-1 the patch itself
        inside = (slot >= 0) & (slot < self.context)
        bias = torch.where(inside, self.age_bias[:, 0][:, slot.clamp(0, self.context - 1)], MASKED)
        a = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=self.scale)
        x = x + self.dropout(self.out(a.transpose(1, 2).reshape(batch, patches, -1)))
        x = x + self.dropout(self._mlp(x))
        return x

    def step(self, x: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``x`` (1, dim), rings ``k``, ``v`` (heads, context-1, head_dim), ``mask`` (1, 1, context) → x, k, v."""
        y = self.norm_attention(x)
        q = self.query(y)
        q = (q if self.scale == 1.0 else q * self.scale).view(self.heads, 1, self.head_dim)
        k = torch.cat([k, self.key(y).view(self.heads, 1, self.head_dim)], 1)
        v = torch.cat([v, self.value(y).view(self.heads, 1, self.head_dim)], 1)
        a = torch.softmax(torch.bmm(q, k.transpose(1, 2)) + self.age_bias + mask, -1)
        x = x + self.out(torch.bmm(a, v).reshape(1, -1))
        return x + self._mlp(x), k[:, 1:], v[:, 1:]


class Encoder(nn.Module):
    """Patches → token scores over the codebook, and an embedding per patch."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Linear(config.hop, config.dim)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = NORMS[config.norm](config.dim)
        self.head = nn.Linear(config.dim, config.codebook_size)

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Window form: (batch, patches, hop) → scores (batch, patches, K), embeddings (batch, patches, dim)."""
        x = self.embed(patches)
        for block in self.blocks:
            x = block.window(x)  # type: ignore[operator]
        embedding = self.norm(x)
        return self.head(embedding), embedding

    def state(self) -> tuple[Tensor, Tensor]:
        """Empty key and value rings, each (layers, heads, context-1, head_dim)."""
        c = self.config
        ring = torch.zeros(c.layers, c.heads, c.context - 1, c.dim // c.heads)
        return ring, ring.clone()


class StepForm(nn.Module):
    """The graph that is exported: ``(patch, k, v, mask) → (scores, embedding, k, v)``; see :meth:`Block.step`.

    ``patch`` (1, hop); ``mask`` (1, 1, context) is 0 where context exists and :data:`MASKED` where it does not.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, patch: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x = self.encoder.embed(patch)
        keys, values = [], []
        for i, block in enumerate(self.encoder.blocks):
            x, key, value = block.step(x, k[i], v[i], mask)  # type: ignore[operator]
            keys.append(key)
            values.append(value)
        embedding = self.encoder.norm(x)
        return self.encoder.head(embedding), embedding, torch.stack(keys), torch.stack(values)


def step_mask(context: int, hops_seen: int) -> Tensor:
    """The mask for the hop after ``hops_seen`` earlier ones, shape (1, 1, context)."""
    mask = torch.zeros(1, 1, context)
    mask[..., : max(0, context - 1 - hops_seen)] = MASKED
    return mask
