"""Students together with the tokenizer that taught each: what a comparison of training recipes is about."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from firmware_bridge.block import Signal
from firmware_bridge.errors import BadInput
from trainer.bootstrap import Interval, over_people
from trainer.consistency import load_tokenizer
from trainer.encoder import Encoder
from trainer.run_folder import RunFolder
from trainer.stage1 import label_patches
from trainer.stage2 import student_labels
from trainer.stages import file_sha256, load_student
from trainer.tokenizer import Tokenizer
from trainer.windows import WindowConfig, saved_config

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Taught:
    """``label``: its name in tables and plots; ``windows``: how the windows it learned from were cut and paired."""

    label: str
    encoder: Encoder
    signal: Signal
    tokenizer: Tokenizer
    windows: WindowConfig

    @property
    def unpaired(self) -> WindowConfig:
        """:attr:`windows` without a word on how ECG and PPG were put together: what the student's own input depends
        on."""
        return replace(self.windows, align=False, ecg_delay=0.0)

    def labels(self, ppg: F32, ecg: F32) -> torch.Tensor:
        """The teacher's tokens of paired patches (windows, hops, hop), as the student is to say them, (windows, hops)
        int64; :data:`trainer.stage2.IGNORED` where there is none."""
        config = self.tokenizer.config
        tokens = label_patches(self.tokenizer, ppg, ecg)
        return student_labels(tokens, self.encoder.config.lookahead, config.left, config.right)

    @torch.no_grad()
    def scores(self, patches: F32, batch: int = 128) -> torch.Tensor:
        """The student's log probabilities of the tokens: (windows, hops, hop) → (windows, hops, codebook size)."""
        parts = [self.encoder(torch.tensor(patches[i : i + batch]))[0] for i in range(0, len(patches), batch)]
        return torch.cat(parts).log_softmax(-1)


def read_taught(runs: Sequence[str], tokenizers: Sequence[str]) -> list[Taught]:
    """The encoder runs ``[LABEL=]RUN`` with their tokenizers' runs, in the same order; with none given, each stands
    beside its student. Raises :class:`BadInput` on runs that cannot be used, do not belong together, or were cut on
    different grids."""
    if tokenizers and len(tokenizers) != len(runs):
        raise BadInput(f"--tokenizer: given {len(tokenizers)} times for {len(runs)} runs; give one for each, or none")
    found: list[Taught] = []
    for text, tokenizer in zip(runs, tokenizers or [""] * len(runs), strict=True):
        label, equals, path = text.rpartition("=")
        run = RunFolder(Path(path))
        source = RunFolder(Path(tokenizer) if tokenizer else run.path.parent / "tokenizer")
        encoder, signal = load_student(run)
        teacher = load_tokenizer(source)
        if run.config("encoder").get("tokenizer_sha256") != file_sha256(source.weights("tokenizer")):
            raise BadInput(
                f"run folder {run.path}: was taught by another tokenizer than {source.path}; give --tokenizer"
            )
        windows = saved_config(source.config("tokenizer").get("windows"))
        if windows is None:
            raise BadInput(f"run folder {source.path}: config.json: windows cannot be read; train the tokenizer again")
        name = label if equals else "/".join(run.path.resolve().parts[-2:])
        found.append(Taught(name, encoder, signal, teacher, windows))
    labels = [one.label for one in found]
    if len(set(labels)) < len(labels):
        raise BadInput("--run: two runs have the same name; give each one as LABEL=RUN")
    for one in found[1:]:
        if one.unpaired != found[0].unpaired:
            raise BadInput(f"run {one.label}: its windows are cut on another grid than {found[0].label}'s")
    return found


def pooled(hits: NDArray[np.floating], hops: NDArray[np.floating], people: NDArray[np.str_]) -> Interval:
    """Sum of ``hits`` over sum of ``hops`` (windows,) each, with a 95 % interval over ``people`` (windows,)."""
    names, who = np.unique(people, return_inverse=True)
    top, below = np.bincount(who, hits), np.bincount(who, hops)
    return over_people(lambda rows: float(top[rows].sum() / max(1.0, below[rows].sum())), names)
