"""The stage-consistency check: the tokens that stage 2 will be taught must be stage 1's own.

A tokenizer that was saved or loaded incompletely (a projection left out, a codebook from another epoch) still gives
tokens, and a student still learns something from them. So stage 1 saves, from the live module at the end of its
training, its tokens of the validation windows; before stage 2 begins, the tokenizer is loaded exactly as stage 2 will
use it and has to give the same tokens, all of them.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.errors import BadInput
from trainer.run_folder import RunFolder
from trainer.stage1 import label_tokens
from trainer.tokenizer import Tokenizer, TokenizerConfig
from trainer.windows import Windows


@dataclass(frozen=True)
class Consistency:
    """How many tokens were compared; all of them agreed."""

    windows: int
    tokens: int


def _digest(windows: Windows) -> NDArray[np.uint8]:
    """SHA-256 of the windows' patches: the comparison has to be about the same input."""
    digest = hashlib.sha256(windows.ppg.tobytes())
    digest.update(windows.ecg.tobytes())
    return np.frombuffer(digest.digest(), dtype=np.uint8)


def save_tokens(run: RunFolder, live: Tokenizer, windows: Windows) -> None:
    """Write ``tokens.npz``: the live, just trained tokenizer's tokens of ``windows``."""
    np.savez_compressed(run.tokens, tokens=label_tokens(live, windows), input_sha256=_digest(windows))


def load_tokenizer(run: RunFolder) -> Tokenizer:
    """The tokenizer of a finished stage 1 run, in eval mode, every tensor accounted for."""
    config = run.config("tokenizer")
    try:
        tokenizer = Tokenizer(TokenizerConfig.from_dict(config["model"]))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise BadInput(f"run folder {run.path}: config.json: model cannot be built ({error})") from None
    run.load_weights("tokenizer", tokenizer)
    return tokenizer.eval()


def check_consistency(run: RunFolder, tokenizer: Tokenizer, windows: Windows) -> Consistency:
    """Compare ``tokenizer``'s tokens of ``windows`` with those stage 1 saved; raises :class:`BadInput` unless all
    agree."""
    again = "train the tokenizer again"
    try:
        with np.load(run.tokens, allow_pickle=False) as saved:
            expected, digest = saved["tokens"], saved["input_sha256"]
    except FileNotFoundError:
        raise BadInput(
            f"run folder {run.path}: has no tokens.npz; finish it with `pulsecode train tokenizer --resume`"
        ) from None
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"tokens {run.tokens}: cannot be read ({error}); {again}") from None
    if not np.array_equal(digest, _digest(windows)):
        raise BadInput(f"tokens {run.tokens}: were made from other windows; give the data stage 1 was trained on")
    found = label_tokens(tokenizer, windows)
    if expected.shape != found.shape or not expected.size:
        raise BadInput(f"tokens {run.tokens}: shape {expected.shape} where {found.shape} was expected; {again}")
    agree = int((expected == found).sum())
    if agree != expected.size:
        raise BadInput(
            f"tokenizer {run.weights('tokenizer')}: only {agree} of {expected.size} tokens "
            f"({agree / expected.size:.1%}) are those stage 1 gave at the end of its training; {again}"
        )
    return Consistency(len(found), found.size)
