"""A trained encoder, frozen: what it says of windows, in the forms that probes are given.

The same outputs at every hop, pooled over the window in ways that keep more or less of them: which is how the loss at
the quantizer is measured.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from firmware_bridge.block import Signal
from firmware_bridge.errors import BadInput
from trainer.consistency import load_tokenizer
from trainer.encoder import Encoder
from trainer.protocols.task import F32
from trainer.run_folder import RunFolder
from trainer.stages import file_sha256, load_student
from trainer.windows import WindowConfig, saved_config

MEAN, BOTH, TOKENS, SOFT, CODES = "mean", "mean+std", "tokens", "soft tokens", "codes"
FORMS = {
    MEAN: "mean embedding over the window's hops",
    BOTH: "mean and standard deviation of the embedding over the hops",
    TOKENS: "how often each token is the likeliest (square roots of shares)",
    SOFT: "mean probability of each token (square roots)",
    CODES: "mean and standard deviation of the likeliest tokens' codebook vectors",
}


@dataclass(frozen=True)
class Student:
    """``codes`` (K, code dim) of the tokenizer that taught it, None where that run is not at hand; ``identity``: a
    digest of its weights; ``excluded``: data sets that no training of it saw."""

    run: Path
    signal: Signal
    encoder: Encoder
    windows: WindowConfig
    teacher: str
    identity: str
    excluded: tuple[str, ...]
    codes: Tensor | None

    @property
    def forms(self) -> list[str]:
        """The forms it can give: not the codes of a tokenizer that is not at hand."""
        return [form for form in FORMS if form != CODES or self.codes is not None]

    def untrained(self, seed: int = 0) -> "Student":
        """The same shape with random weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder = Encoder(self.encoder.config).eval()
        return replace(self, encoder=encoder, identity=f"random {seed} {self.encoder.config}")

    @torch.no_grad()
    def represent(self, patches: F32, batch: int = 128) -> dict[str, F32]:
        """(windows, hops, hop) → every form, (windows, its width)."""
        parts: dict[str, list[Tensor]] = {}
        for i in range(0, len(patches), batch):
            scores, embedding = self.encoder(torch.from_numpy(patches[i : i + batch]))
            for form, values in self._forms(scores, embedding).items():
                parts.setdefault(form, []).append(values)
        return {form: np.asarray(torch.cat(values).numpy(), np.float32) for form, values in parts.items()}

    def _forms(self, scores: Tensor, embedding: Tensor) -> dict[str, Tensor]:
        best = scores.argmax(-1)
        share = torch.zeros(len(scores), scores.shape[-1]).scatter_add_(1, best, torch.ones(best.shape)) / best.shape[1]
        found = {
            MEAN: embedding.mean(1),
            BOTH: _mean_and_std(embedding),
            TOKENS: share.sqrt(),
            SOFT: scores.softmax(-1).mean(1).sqrt(),
        }
        return found if self.codes is None else found | {CODES: _mean_and_std(self.codes[best])}


def _mean_and_std(hops: Tensor) -> Tensor:
    """(windows, hops, width) → (windows, 2 width)."""
    return torch.cat([hops.mean(1), hops.std(1, correction=0)], 1)


def read_student(path: Path, tokenizer: Path | None) -> Student:
    """A finished encoder run, with the codes of ``tokenizer`` if that is the run it was taught by.

    Raises :class:`BadInput` where a run cannot be used.
    """
    run = RunFolder(path)
    config: dict[str, Any] = run.config("encoder")
    encoder, signal = load_student(run)
    windows = saved_config(config.get("windows"))
    if windows is None:
        raise BadInput(f"run folder {path}: config.json: windows were not cut in fixed patches as this version does; "
                       "evaluate such a run where it was trained, or train it again")  # fmt: skip
    codes = None
    teacher = str(config.get("tokenizer_sha256", ""))
    if tokenizer is not None:
        source = RunFolder(tokenizer)
        model = load_tokenizer(source)
        if file_sha256(source.weights("tokenizer")) != teacher:
            raise BadInput(f"run folder {path}: was taught by another tokenizer than {tokenizer}; give --tokenizer")
        codes = model.quantizer.codes().detach()
    data = config.get("data")
    excluded = tuple(data.get("excluded") or ()) if isinstance(data, dict) else ()
    return Student(path, signal, encoder, windows, teacher, file_sha256(run.weights("encoder")), excluded, codes)
