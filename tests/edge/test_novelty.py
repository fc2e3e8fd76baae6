"""Surprise by hand, and its p-value against the calibration it came from."""

import numpy as np
import pytest

from edge.bundle import NoveltyModel
from edge.novelty import Novelty, NoveltyState
from firmware_bridge.errors import BadInput

MODEL = NoveltyModel("t.npy", 20.0, 2, np.linspace(1.0, 5.0, 101).tolist(), "made up")


def table(probabilities: list[list[float]]) -> np.ndarray:
    return np.round(-20 * np.log(np.array(probabilities))).astype(np.uint8)


TABLE = table([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]])


def test_surprise_is_the_mean_of_minus_log_likelihoods() -> None:
    novelty, state = Novelty(MODEL, TABLE, 2), NoveltyState()
    assert novelty.step(state, 0, np.array([0.75, 0.25], np.float32)) is None
    score = novelty.step(state, 1, np.array([0.25, 0.75], np.float32))
    wanted = [-np.log(0.5), -np.log(0.25 * 0.9 + 0.75 * 0.1)]
    assert score == pytest.approx(np.mean(wanted), abs=0.03)  # the table is rounded to 1/20 nat


def test_an_unlikely_transition_surprises_more() -> None:
    novelty = Novelty(MODEL, TABLE, 2)
    certain = np.eye(2, dtype=np.float32)
    scores = []
    for tokens in ([0, 0, 0], [0, 1, 0]):
        state = NoveltyState()
        scores.append([novelty.step(state, token, certain[token]) for token in tokens][-1])
    assert scores[1] > scores[0] + 0.5


def test_p_values_are_the_share_of_the_calibration_at_least_as_surprising() -> None:
    novelty = Novelty(MODEL, TABLE, 2)
    assert novelty.p_value(3.0) == pytest.approx(0.5)
    assert novelty.p_value(4.8) == pytest.approx(0.05)
    assert novelty.p_value(0.0) == 1.0
    assert novelty.p_value(9.0) == 0.0


@pytest.mark.parametrize("bad", [TABLE[:2], TABLE.astype(np.float32)])
def test_a_table_of_another_shape_or_type_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(BadInput, match=r"t\.npy"):
        Novelty(MODEL, bad, 2)
