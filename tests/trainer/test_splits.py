"""No person in two parts, whatever the recordings."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.recordings import find_recordings
from trainer.splits import HELD_OUT_DATASETS, OVERLAPPING, PARTS, part_of, person_of


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_person_always_lands_in_the_same_part(dataset: str, patient: str) -> None:
    assert part_of(dataset, patient) == part_of(dataset, patient)
    assert part_of(dataset, patient) in PARTS


def test_the_shares_are_what_they_say() -> None:
    counts = Counter(part_of("some set", f"p{i}") for i in range(20_000))
    assert counts["train"] / 20_000 == pytest.approx(0.70, abs=0.02)
    assert counts["validation"] / 20_000 == pytest.approx(0.15, abs=0.02)
    assert counts["test"] / 20_000 == pytest.approx(0.15, abs=0.02)


def test_the_split_never_moves() -> None:
    # A changed hash would silently put people a shipped model was trained on into its test part.
    assert [part_of("bidmc", p) for p in ("s03386", "s11342", "s25323")] == EXPECTED_BIDMC
    assert {part_of(dataset, "anyone") for dataset in HELD_OUT_DATASETS} == {"held_out"}


def test_excerpts_of_one_recording_are_one_person() -> None:
    for dataset, groups in OVERLAPPING.items():
        names = [name for group in groups for name in group]
        assert len(names) == len(set(names))
        for group in groups:
            assert {person_of(dataset, name) for name in group} == {group[0]}
            # The shipped encoder learned from one of each: the others must not judge it.
            assert {part_of(dataset, name) for name in group} == {"train"}
    assert person_of("bidmc", "a172s") == "a172s"


EXPECTED_BIDMC = ["train", "train", "validation"]


@pytest.mark.data
def test_real_recordings_split_by_patient(shared_data: Path) -> None:
    listing = find_recordings(shared_data)
    parts: dict[tuple[str, str], set[str]] = {}
    for recording in listing.recordings:
        parts.setdefault((recording.dataset, recording.patient), set()).add(
            part_of(recording.dataset, recording.patient)
        )
    assert all(len(found) == 1 for found in parts.values())
    patients = {r.name: r.patient for r in listing.recordings}
    assert {patients[f"bidmc{i:02d}"] for i in (6, 7, 8, 9)} == {"s03386"}
    assert {patients[f"bidmc{i}"] for i in (20, 21, 22, 23)} == {"s11342"}
    assert {patients["bidmc38"], patients["bidmc39"]} == {"s25323"}
    people = Counter(r.dataset for r in {(r.dataset, r.patient): r for r in listing.recordings}.values())
    assert people["bidmc"] == 46
    assert people["mimic_perform_af"] == 23
    assert not any(r.name.endswith("n") for r in listing.recordings if r.dataset == "bidmc")
    # Nobody of the held-out set can be in another set under the same number.
    held_out = {r.patient.lstrip("ps0") for r in listing.recordings if r.dataset == "mimic_perform_af"}
    assert not held_out & {r.patient.lstrip("ps0") for r in listing.recordings if r.dataset == "bidmc"}
