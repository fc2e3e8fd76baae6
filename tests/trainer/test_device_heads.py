"""What the device judges with: fitted in the features' own units, told apart by people, and the same on the device."""

import io
import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from edge import quality, rate
from edge.bundle import LogisticModel, ReadoutModel
from edge.quality import Quality
from edge.rate import RateEstimator
from edge.readouts import Readouts, pooled
from edge.rhythm import Rhythm
from edge.vitals import VitalSigns
from firmware_bridge.cli import main
from firmware_bridge.errors import BadInput
from trainer.encoder import Encoder, EncoderConfig
from trainer.heads import quality_head, rate_head, rhythm_head
from trainer.heads.fit import gather
from trainer.heads.logistic import Examples, auroc, by_person, fit, joined, probabilities
from trainer.heads.observe import Observed, embeddings, judged, observe, pooled_hops
from trainer.heads.people import role
from trainer.heads.rate_head import RateRows
from trainer.heads.reliability import RateJudged, draw_rate, draw_reliability, reliability
from trainer.heads.run_file import load_heads, load_readouts
from trainer.progress import progress_bar
from trainer.recordings import Recording, find_recordings
from trainer.splits import part_of
from trainer.windows import WindowConfig

NAMES = ("template", "size_variation")
READABLE = LogisticModel({}, 3.0, "made up: always good")


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
    assert np.allclose(probabilities(model, some, NAMES), wanted, atol=1e-6)


def test_judging_is_by_people_and_its_interval_holds_the_figure() -> None:
    model, other = fit(examples(), NAMES, "made up"), examples(seed=1)
    said = probabilities(model, other, NAMES)
    area = auroc(said, other.labels, other.people)
    assert area.value == pytest.approx(roc_auc_score(other.labels, said))
    assert area.low < area.value < area.high and area.people == 12
    people = np.repeat(["a", "b", "c"], 2)
    scores, labels = np.array([0.9, 0.1, 0.2, 0.2, 0.6, 0.8]), np.array([0, 0, 0, 0, 1, 1], bool)
    assert by_person(scores, labels, people).value == 1.0  # 0.5 and 0.2 against 0.7


def test_sets_that_are_joined_have_the_same_say() -> None:
    whole, weights = joined(examples(each=10), examples(each=90))
    assert weights[:120].sum() == pytest.approx(weights[120:].sum()) and weights.sum() == pytest.approx(len(whole))


@given(st.integers(0, 2**32 - 1))
def test_probabilities_that_mean_what_they_say_have_a_small_calibration_error(seed: int) -> None:
    rng = np.random.default_rng(seed)
    said = rng.random(4000)
    honest = reliability(said, rng.random(4000) < said)
    boastful = reliability(np.where(said > 0.5, 0.99, 0.01), rng.random(4000) < said)
    assert honest.error < 0.06
    assert boastful.error > 0.15
    assert honest.counts.sum() == 4000 and np.abs(honest.said - honest.seen).max() < 0.2


def rows(count: int = 4000, seed: int = 0, scale: float = 1.0) -> RateRows:
    """Errors of beats grow with spread, those of the embedding do not."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, len(rate.FEATURES))) * [1, 1, 0.1, 0.2, 0.2, 1] + [-3, -3, 0.3, 4.3, 0.2, -2]
    truth = np.exp(features[:, 3])
    beats = truth + scale * rng.laplace(size=count) * np.exp(1 + (features[:, 0] + 3))
    readout = truth + rng.laplace(size=count) * 4
    dataset = np.where(np.arange(count) < count // 5, "bidmc", "challenge2015")
    people = np.array([f"{d}/{i % 20}" for i, d in enumerate(dataset)])
    return RateRows(features, beats, readout, truth, np.ones(count, bool), dataset, people)


def test_bounds_of_errors_are_found_and_the_surer_rate_is_the_better_one() -> None:
    model = rate_head.fit_rate(rows(), rows(seed=1), "made up")
    assert model.interval_error.weights["spread"] == pytest.approx(1.0, abs=0.1)
    assert abs(model.readout_error.weights["spread"]) < 0.1
    other = rows(seed=2)
    bpm, error = rate_head.chosen(model, other)
    wrong = np.abs(bpm - other.truth)
    assert wrong.mean() < 0.9 * min(
        np.abs(other.beats - other.truth).mean(), np.abs(other.readout - other.truth).mean()
    )
    weights = rate_head.equal_say(other.dataset)
    assert weights @ (wrong <= model.reach * error) == pytest.approx(model.level, abs=0.02)


def test_an_embedding_that_knows_nothing_is_never_chosen() -> None:
    """Its bound was told on people it was fitted on: on others it is useless, and that decides."""
    useless = rows(seed=1)
    useless = replace(useless, readout=useless.truth + 80.0)
    model = rate_head.fit_rate(rows(), useless, "made up")
    assert (rate_head.chosen(model, rows(seed=2))[0] == rows(seed=2).beats).all()


def test_the_device_says_what_was_fitted() -> None:
    model = rate_head.fit_rate(rows(), rows(seed=1), "made up")
    recording = Recording("bidmc", "bidmc", "x", "x", Path("x"), 125.0, 0, 0, 1, "II")
    rng = np.random.default_rng(3)
    signs = []
    for i in range(30):
        intervals = (0.8 + rng.normal(0, 0.05, 10)).tolist()
        said = Rhythm(60 / float(np.median(intervals)), None, None, True, {}, intervals)
        seen = Quality(0.0, "poor", {"template": 1.0})
        signs.append(VitalSigns(4.0 * i, np.zeros(50, np.float32), [], seen, said, True, True, None))
    table = rng.normal(size=(1, 9)).astype(np.float32) * 0.1 + np.eye(1, 9, 8, dtype=np.float32) * 4.3
    pools = rng.normal(size=(30, 8)).astype(np.float32)
    some = Observed(recording, signs, pools, np.full(30, 75.0))
    found = rate_head.rate_rows([some], READABLE, table)
    assert len(found.truth) == 30
    bpm, error = rate_head.chosen(model, found)
    logs = rate_head.read_out(table, pools)
    for i, sign in enumerate(signs):
        told = RateEstimator(model)(sign.rhythm, judged(sign, READABLE), float(logs[i]), warm=True)
        assert told is not None
        assert (told.bpm, told.high - told.bpm) == pytest.approx((bpm[i], model.reach * error[i]))


def test_a_quantile_of_weights() -> None:
    assert rate_head.weighted_quantile(np.array([3.0, 1.0, 2.0]), np.array([0.1, 0.5, 0.4]), 0.9) == 2.0
    assert rate_head.weighted_quantile(np.array([1.0, 2.0]), np.array([0.5, 0.5]), 1.0) == 2.0


def test_pictures_are_drawn(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    curve = reliability(rng.random(500), rng.random(500) < 0.5)
    draw_reliability(tmp_path / "a.png", "made up", {"one": curve, "other": curve})
    draw_rate(
        tmp_path / "b.png", 2.0, 0.9, {"one": RateJudged(rng.random(500), rng.random(500), rng.random(500) < 0.8)}
    )
    assert all((tmp_path / name).read_bytes()[:4] == b"\x89PNG" for name in ("a.png", "b.png"))


def test_a_missing_or_damaged_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"heads\.json.*--run"):
        load_heads(tmp_path)
    (tmp_path / "heads.json").write_bytes(msgspec.json.encode({"quality": 1}))
    with pytest.raises(BadInput, match=r"heads\.json.*quality"):
        load_heads(tmp_path)
    (tmp_path / "readouts.npy").write_bytes(b"no array")
    with pytest.raises(BadInput, match=r"readouts\.npy: cannot be read"):
        load_readouts(tmp_path)


def test_without_a_run_the_command_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "heads", "--out", str(tmp_path / "heads")]) == 2
    said = capsys.readouterr().err
    assert "--run is missing" in said and len(said.splitlines()) == 1


def test_data_without_all_sets_is_refused() -> None:
    console = Console(file=io.StringIO())
    with progress_bar(console) as progress, pytest.raises(BadInput, match="no recording of BIDMC"):
        gather([], WindowConfig(), Encoder(EncoderConfig(dim=16, layers=1, heads=2, context=3)), progress)


def test_nobody_fits_and_judges() -> None:
    def recording(dataset: str, patient: str) -> Recording:
        return Recording(dataset, dataset, patient, patient, Path("x"), 125.0, 0, 0, 1, "II")

    roles = {part_of("bidmc", f"p{i}"): role(recording("bidmc", f"p{i}")) for i in range(200)}
    assert roles == {"train": "fit", "validation": "calibrate", "test": "judge"}
    assert {role(recording("mimic_perform_af", f"p{i}")) for i in range(50)} == {"calibrate", "judge"}
    assert role(recording("another", "p")) is None


def test_embeddings_in_chunks_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(dim=16, layers=2, heads=2, context=5, codebook_size=8))
    patches = np.random.default_rng(0).normal(size=(90, 50)).astype(np.float32)
    whole = embeddings(encoder, patches)
    monkeypatch.setattr("trainer.heads.observe.CHUNK_HOPS", 17)
    assert whole.shape == (90, 16)
    assert np.abs(embeddings(encoder, patches) - whole).max() < 1e-5


@cache
def real(data: Path) -> tuple[Encoder, dict[str, Observed]]:
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(dim=16, layers=1, heads=2, context=10))
    recordings = find_recordings(data).recordings
    chosen = {
        "bidmc": next(r for r in recordings if r.dataset == "bidmc"),
        "af": next(r for r in recordings if r.group == "AF_wfdb"),
    }
    return encoder, {name: observe(recording, WindowConfig(), encoder) for name, recording in chosen.items()}


@pytest.mark.data
def test_what_the_device_sees_of_real_recordings(shared_data: Path) -> None:
    encoder, seen = real(shared_data)
    bidmc, af = seen["bidmc"], seen["af"]
    readable = quality_head.examples([bidmc])
    assert len(readable) > 80 and readable.labels.mean() > 0.6  # ICU patients at rest: mostly readable
    irregular = rhythm_head.examples([af], READABLE)
    assert irregular.labels.all() and irregular.features.shape[1] == len(rhythm_head.FEATURES)
    assert irregular.features[:, 2].mean() > math.log(0.05)
    table = rate_head.fit_readout([bidmc], READABLE)
    assert table.dtype == np.float32 and table.shape == (1, 33)
    # The device reads the same table, embedding by embedding.
    readouts = Readouts(ReadoutModel("readouts.npy", ["log_rate"], 25, "made up"), table, 16)
    state = readouts.start()
    patches = np.random.default_rng(0).normal(size=(25, 50)).astype(np.float32)
    embedded = embeddings(encoder, patches)
    said = [readouts.step(state, embedding) for embedding in embedded][-1]
    assert said["log_rate"] == pytest.approx(float(table[0, :-1] @ pooled(embedded) + table[0, -1]), abs=1e-4)
    found = rate_head.rate_rows([bidmc, af], READABLE, table)
    assert np.abs(found.beats - found.truth)[found.dataset == "bidmc"].mean() < 2
    assert pooled_hops(WindowConfig()) == 25 and encoder.config.dim == 16


@pytest.mark.data
def test_ectopy_of_mit_bih_is_not_fibrillation(shared_data: Path) -> None:
    some, ectopic = rhythm_head.ectopy_examples(shared_data / "mitdb", first=True)
    others, _ = rhythm_head.ectopy_examples(shared_data / "mitdb", first=False)
    assert not set(some.people) & set(others.people) and some.labels.any() and others.labels.any()
    assert ectopic.sum() > 50 and not (ectopic & some.labels).any()
    least = some.features[:, rhythm_head.FEATURES.index("log_least_change")]
    change = some.features[:, rhythm_head.FEATURES.index("log_median_change")]
    keep = some.labels | ectopic
    assert roc_auc_score(some.labels[keep], least[keep]) > roc_auc_score(some.labels[keep], change[keep]) + 0.1


def test_a_folder_without_ectopy_gives_none(tmp_path: Path) -> None:
    some, ectopic = rhythm_head.ectopy_examples(tmp_path / "mitdb", first=True)
    assert len(some) == len(ectopic) == 0
