"""The respiration model crosses from a run into a bundle, and a damaged one is refused."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge.bundle import MANIFEST, RespirationModel, load_bundle, write_bundle
from edge.respiration import FEATURES
from firmware_bridge.errors import BadInput
from quantize.run import find_respiration
from trainer.respiration.run_file import RESPIRATION, RespirationFile
from trainer.run_folder import write_json

MODEL = RespirationModel(
    np.zeros((2, len(FEATURES))).tolist(), [0.0, 0.0], [1.0, 1.0], 0.5, 0.05, 0.02, 0.5, 2.0, "nobody"
)


def test_a_run_beside_the_encoder_is_found_for_a_pulse_wave_only(tmp_path: Path) -> None:
    for name in ("ppg", "respiration"):
        (tmp_path / name).mkdir()
    assert find_respiration(tmp_path / "ppg", "ppg") is None
    write_json(tmp_path / "respiration" / RESPIRATION, msgspec.to_builtins(RespirationFile(MODEL, {"MAE": 1.0})))
    found = find_respiration(tmp_path / "ppg", "ppg")
    assert found is not None and found.model == MODEL and found.metrics == {"MAE": 1.0}
    assert find_respiration(tmp_path / "ppg", "ecg") is None


@pytest.mark.parametrize(("field", "value"), [("leak", 1.0), ("reach", 0.0), ("max_error", -1.0), ("evidence", 0.0)])
def test_a_bundle_carries_it_and_refuses_senseless_numbers(tmp_path: Path, field: str, value: float) -> None:
    default = load_bundle()
    contents = {name: default.read(name) for name in default.manifest.files}
    write_bundle(tmp_path / "good", msgspec.structs.replace(default.manifest, respiration=MODEL), contents)
    assert load_bundle(tmp_path / "good").manifest.respiration == MODEL
    bad = msgspec.structs.replace(MODEL, **{field: value})
    write_bundle(tmp_path / "bad", msgspec.structs.replace(default.manifest, respiration=bad), contents)
    with pytest.raises(BadInput, match=rf"{MANIFEST}: respiration\."):
        load_bundle(tmp_path / "bad")
