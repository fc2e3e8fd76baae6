"""``respiration.json`` of a run folder: the device's respiration model and what is known of it. Needs no torch."""

from pathlib import Path

import msgspec

from edge.bundle import RespirationModel
from firmware_bridge.errors import BadInput

RESPIRATION = "respiration.json"


class RespirationFile(msgspec.Struct, forbid_unknown_fields=True):
    """The model, and its metrics for a bundle's manifest."""

    model: RespirationModel
    metrics: dict[str, float | str]


def load_respiration(run: Path) -> RespirationFile:
    """``respiration.json`` of a run folder; raises :class:`BadInput`."""
    try:
        return msgspec.json.decode((run / RESPIRATION).read_bytes(), type=RespirationFile)
    except OSError:
        raise BadInput(f"run folder {run}: has no {RESPIRATION}; make it with `pulsecode train respiration`") from None
    except msgspec.DecodeError as error:
        raise BadInput(
            f"run file {run / RESPIRATION}: {error}; make it again with `pulsecode train respiration`"
        ) from None
