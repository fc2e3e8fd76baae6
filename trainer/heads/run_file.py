"""``heads.json`` and ``readouts.npy``: what the heads of a run are."""

from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.bundle import LogisticModel, RateModel, ReadoutModel, SupportModel
from firmware_bridge.errors import BadInput

HEADS = "heads.json"
READOUTS = "readouts.npy"


class HeadsFile(msgspec.Struct, forbid_unknown_fields=True):
    """``heads.json``. ``encoder_sha256``: of the weights that the readout and the rate belong to."""

    quality: LogisticModel
    rhythm: LogisticModel
    metrics: dict[str, float | str]
    readout: ReadoutModel | None = None
    rate: RateModel | None = None
    encoder_sha256: str = ""
    support: dict[str, SupportModel] | None = None


def load_heads(run: Path) -> HeadsFile:
    """``heads.json`` of a run folder; raises :class:`BadInput`."""
    again = "make it with `pulsecode train heads --run ENCODER_RUN --out RUN`"
    try:
        return msgspec.json.decode((run / HEADS).read_bytes(), type=HeadsFile)
    except OSError:
        raise BadInput(f"run folder {run}: has no {HEADS}; {again}") from None
    except msgspec.DecodeError as error:
        raise BadInput(f"run file {run / HEADS}: {error}; {again}") from None


def load_readouts(run: Path) -> NDArray[np.float32]:
    """``readouts.npy`` of a run folder, (readouts, 2 dim + 1); raises :class:`BadInput`."""
    try:
        table: NDArray[np.float32] = np.load(run / READOUTS, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadInput(f"run file {run / READOUTS}: cannot be read ({error}); train the heads again") from None
    return table
