"""The device's judging models: fitted in the features' own units, judged by people, and the same on the device."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from edge import quality, rhythm
from edge.rhythm import irregularity_features
from firmware_bridge.errors import BadInput
from trainer.device_heads import Examples, fit, judge, load_heads, quality_examples, rhythm_examples
from trainer.recordings import find_recordings
from trainer.windows import WindowConfig

NAMES = ("template", "size_variation")


def examples(people: int = 12, each: int = 60, seed: int = 0) -> Examples:
    rng = np.random.default_rng(seed)
    labels = rng.random(people * each) < 0.5
    features = rng.normal(size=(people * each, 2)) * [1, 30] + labels[:, None] * [1.2, 10] + [5, -100]
    return Examples(features, labels, np.repeat([f"p{i}" for i in range(people)], each))


def test_weights_in_own_units_give_the_probabilities_of_the_fit() -> None:
    some = examples()
    model = fit(some, NAMES, "made up")
    standard = (some.features - some.features.mean(0)) / some.features.std(0)
    wanted = LogisticRegression().fit(standard, some.labels).predict_proba(standard)[:, 1]
    found = [quality.logistic(model, dict(zip(NAMES, row, strict=True))) for row in some.features]
    assert np.allclose(found, wanted, atol=1e-6)


def test_judging_is_by_people_and_its_interval_holds_the_figure() -> None:
    model, other = fit(examples(), NAMES, "made up"), examples(seed=1)
    judged = judge(model, other, NAMES)
    score = other.features @ np.array([model.weights[name] for name in NAMES])
    assert judged.auroc == pytest.approx(roc_auc_score(other.labels, score))
    assert judged.low < judged.auroc < judged.high
    assert (judged.people, judged.examples) == (12, 720)


def test_a_missing_or_damaged_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"heads\.json"):
        load_heads(tmp_path)
    (tmp_path / "heads.json").write_bytes(msgspec.json.encode({"quality": 1}))
    with pytest.raises(BadInput, match=r"heads\.json.*quality"):
        load_heads(tmp_path)


def test_atrial_fibrillation_looks_more_irregular_than_one_premature_beat() -> None:
    rng = np.random.default_rng(2)
    af = irregularity_features(rng.uniform(0.4, 1.1, 24))
    ectopy = irregularity_features(np.array([0.8] * 11 + [0.5, 1.1] + [0.8] * 11))
    assert af["median_change"] > 0.1 > ectopy["median_change"]


@pytest.mark.data
def test_examples_of_real_recordings(shared_data: Path) -> None:
    recordings = find_recordings(shared_data).recordings
    config = WindowConfig()
    rows, labels = quality_examples(next(r for r in recordings if r.dataset == "bidmc"), config)
    assert len(rows) > 80 and len(rows[0]) == len(quality.FEATURES)
    assert np.mean(labels) > 0.6  # ICU patients at rest: mostly readable
    always = fit(Examples(np.array(rows), np.arange(len(rows)) > 2, np.array(["a"] * len(rows))), quality.FEATURES, "x")
    af = next(r for r in recordings if r.group == "AF_wfdb")
    rows, labels = rhythm_examples(af, config, always)
    assert all(labels) and len(rows[0]) == len(rhythm.FEATURES)
