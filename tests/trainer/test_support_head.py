"""Support is learned from people, chosen on people left out, and is on the device what was fitted."""

import math
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edge.alarms import AlarmLimits
from edge.bundle import Bundle, LogisticModel, SupportModel, load_bundle
from edge.engines import open_engine
from edge.monitor import Monitor
from edge.pipeline import Outcome
from edge.support import ALARMS, FEATURES
from firmware_bridge.source import open_source
from trainer.encoder import Encoder, EncoderConfig
from trainer.heads import support_head
from trainer.heads.logistic import Examples
from trainer.heads.observe import Observed, observe
from trainer.heads.onsets import GRID, Onset, Onsets, onsets
from trainer.heads.people import kin, role
from trainer.heads.run_file import HeadsFile
from trainer.heads.support_fit import fit_support
from trainer.heads.witness import Reference, agrees
from trainer.recordings import Recording, find_recordings
from trainer.windows import WindowConfig

TELLING = FEATURES.index("pause_echo")


def recording(name: str, dataset: str = "challenge2015") -> Recording:
    return Recording(dataset, dataset, name, name, Path("x"), 250.0, 0, 0, 1, "II")


def made_up(
    seed: int, strength: float, people: int = 60, each: int = 6, share: float = 0.4, spell: int = 4
) -> list[Onsets]:
    """Onsets of ``pulse_lost``, half of them at the device's limit; one feature tells, as clearly as ``strength``."""
    rng = np.random.default_rng(seed)
    made = []
    for person in range(people):
        found = []
        for i in range(each):
            true = bool(rng.random() < share)
            features = rng.normal(size=(spell, len(FEATURES)))
            features[:, TELLING] += strength * (1 if true else -1)
            limit = 3.0 if i % 2 else 2.0
            found.append(Onset("pulse_lost", limit, 100.0 * i, features, true, rng.normal(size=8).astype(np.float32)))
        made.append(Onsets(recording(f"{seed}-{person}"), found))
    return made


def rows(seed: int, strength: float, **options: int | float) -> support_head.Rows:
    return support_head.rows_of(made_up(seed, strength, **options), "pulse_lost")  # type: ignore[arg-type]


@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_folds_keep_a_person_whole(people: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    who = rng.integers(people, size=200).astype(str)
    fold = support_head.folds(Examples(np.zeros((200, 1)), rng.random(200) < 0.3, who))
    assert all(len(set(fold[who == person])) == 1 for person in who)
    assert set(fold) <= set(range(support_head.FOLDS))


@pytest.mark.parametrize("seed", [0, 41])
def test_noise_is_not_read(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seventeen features of nothing: the share of true ones is all there is to say."""
    monkeypatch.setattr(support_head, "MOST_FEATURES", 2)
    some = rows(seed, 0.0, people=30)
    assert support_head.choose(some.examples) == ()
    model = support_head.fitted(some.examples, (), "made up")
    assert support_head.supported(model, some.examples) == pytest.approx(some.examples.labels.mean(), abs=0.01)


def test_what_tells_is_read_and_means_what_it_says() -> None:
    some, other = rows(1, 0.7, people=40), rows(2, 0.7)
    names = support_head.choose(some.examples)
    assert names[0] == "pause_echo"
    said = support_head.out_of_fold(some.examples, names)
    nothing = support_head.out_of_fold(some.examples, ())
    labels = some.examples.labels
    assert support_head.log_loss(said, labels) < support_head.log_loss(nothing, labels) - 0.1
    model = support_head.fitted(some.examples, names, "made up")
    there = support_head.supported(model, other.examples)
    assert np.mean(there) == pytest.approx(other.examples.labels.mean(), abs=0.05)


def test_a_person_left_out_has_no_part_in_what_is_said_of_him() -> None:
    some = rows(3, 0.5)
    names = ("pause_echo",)
    said = support_head.out_of_fold(some.examples, names)
    fold = support_head.folds(some.examples)
    swapped = np.where(fold == 0, ~some.examples.labels, some.examples.labels)
    # Other labels of the people asked about change the folds' order, not what is learned from the rest.
    model = support_head.fitted(
        Examples(some.examples.features[fold != 0], swapped[fold != 0], some.examples.people[fold != 0]), names, ""
    )
    kept = Examples(some.examples.features[fold == 0], swapped[fold == 0], some.examples.people[fold == 0])
    assert support_head.supported(model, kept) == pytest.approx(said[fold == 0])


def test_an_alarm_is_withheld_only_where_no_true_one_is_lost() -> None:
    clear, names = rows(4, 3.0), ("pause_echo",)
    fitted = support_head.fitted(clear.examples, names, "made up")
    model = SupportModel(fitted, support_head.withhold_below(clear, names))
    assert 0 < model.withhold_below < 0.9
    for onset in clear.onsets:
        raised = support_head.best_support(model.model, onset) >= model.withhold_below
        assert raised or not onset.agrees
    false = [onset for onset in clear.onsets if onset.default and not onset.agrees]
    withheld = [support_head.best_support(model.model, onset) < model.withhold_below for onset in false]
    assert np.mean(withheld) > 0.5
    assert support_head.withhold_below(rows(5, 0.1), ("pause_echo",)) == 0.0  # it would cost true ones
    few = rows(6, 3.0, people=10)
    assert support_head.withhold_below(few, ("pause_echo",)) == 0.0  # too few to decide it


def test_a_spell_is_as_well_supported_as_its_best_hop() -> None:
    model = LogisticModel({"pause_echo": 1.0}, 0.0, "made up")
    features = np.zeros((5, len(FEATURES)))
    features[3, TELLING] = 2.0
    onset = Onset("pulse_lost", 3.0, 0.0, features, True, np.zeros(8, np.float32))
    assert support_head.best_support(model, onset) == pytest.approx(1 / (1 + math.exp(-2)))
    assert support_head.best_support(model, onset, 2) == pytest.approx(0.5)


def test_models_figures_and_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(support_head, "MOST_FEATURES", 1)
    models, metrics = fit_support(made_up(7, 0.8, people=30), made_up(8, 0.8, people=15), tmp_path)
    assert set(models) == {"pulse_lost"}  # of the others there is nothing to learn from
    assert (tmp_path / "support.png").read_bytes()[:4] == b"\x89PNG"
    assert "pause_echo" in str(metrics["support of pulse_lost, reads"])
    assert "180 onsets of 30 people" in str(metrics["support of pulse_lost, fitted on"])
    assert float(str(metrics["support of pulse_lost, AUROC on other people"]).split()[0]) > 0.8
    left_out = metrics["support of pulse_lost, log loss if it read the embedding too"]
    assert "on people left out" in str(left_out)
    empty = LogisticModel({}, 0.0, "made up")
    heads = HeadsFile(empty, empty, metrics, support=models)
    assert msgspec.json.decode(msgspec.json.encode(heads), type=HeadsFile).support == models


def test_records_of_one_recording_are_one_person() -> None:
    assert kin(recording("a167l")) == kin(recording("a172s")) == "challenge2015/a167l"
    assert kin(recording("a103l")) == "challenge2015/a103l" and kin(recording("x", "bidmc")) == "bidmc/x"
    assert role(recording("v557l")) == role(recording("a556s")) == "fit"


def test_the_ecg_as_the_witness() -> None:
    regular = np.arange(0, 60, 0.8)
    paused = regular[(regular < 30) | (regular > 33.4)]
    readable = np.ones(150, bool)
    limits = AlarmLimits()
    assert agrees(Reference(paused, readable, 0.4), "pulse_lost", 33.0, limits)
    assert not agrees(Reference(regular, readable, 0.4), "pulse_lost", 33.0, limits)
    readable[80] = False
    assert not agrees(Reference(paused, readable, 0.4), "pulse_lost", 33.0, limits)
    slow = Reference(np.arange(0, 60, 60 / 44), readable, 0.4)
    assert agrees(slow, "brady", 30.0, limits)  # within 5 bpm of 40
    assert not agrees(slow, "brady", 30.0, AlarmLimits(low_rate=38.0))
    assert not agrees(slow, "tachy", 30.0, limits)


@cache
def asystole(data: Path) -> tuple[Observed, Onsets]:
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(dim=16, layers=1, heads=2, context=10))
    found = next(r for r in find_recordings(data / "challenge2015").recordings if r.name == "a161l")
    manifest = load_bundle().manifest
    assert manifest.quality is not None and manifest.rhythm is not None
    observed = observe(found, WindowConfig(), encoder)
    models = {"quality": manifest.quality, "rhythm": manifest.rhythm}
    return observed, onsets(observed, WindowConfig(), warmup_hops=manifest.warmup_hops, **models)


@pytest.mark.data
def test_the_device_says_of_a_real_asystole_what_was_fitted(shared_data: Path) -> None:
    observed, found = asystole(shared_data)
    mine = [onset for onset in found.found if onset.alarm == "pulse_lost" and onset.default]
    assert any(onset.agrees and 290 < onset.t < 305 for onset in mine)
    assert {onset.limit for onset in found.found} <= {limits.of(alarm) for alarm in ALARMS for limits in GRID[alarm]}
    assert all(onset.features.shape[1] == len(FEATURES) for onset in found.found)
    assert all(len(onset.features) == 1 for onset in found.found if not onset.default)
    weights = {"pause_echo": -2.0, "loudness": 1.0, "missed": -0.5, "template": 0.3}
    model = SupportModel(LogisticModel(weights, 0.2, "made up"), 0.0)
    bundle = load_bundle()
    told = msgspec.structs.replace(bundle.manifest, support={"pulse_lost": model})
    source = open_source(f"wfdb:{observed.recording.path}", "ppg")
    monitor = Monitor(source, Bundle(bundle.path, told, bundle._contents), open_engine(bundle), fast=True)
    events = [event for item in monitor if isinstance(item, Outcome) for event in item.events]
    said = {
        event.onset: event.evidence["support"] for event in events if event.name == "pulse_lost" and not event.offset
    }
    row = Examples.of(
        [onset.features[0].tolist() for onset in mine], [True] * len(mine), [""] * len(mine), len(FEATURES)
    )
    fitted = dict(zip([onset.t for onset in mine], support_head.supported(model.model, row), strict=True))
    assert set(fitted) <= set(said) and fitted
    for t, support in fitted.items():
        assert said[t] == pytest.approx(support, abs=6e-4)
