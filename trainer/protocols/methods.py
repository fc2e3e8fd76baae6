"""The rows of the tables: frozen encoders under probes, and the rivals they have to beat."""

from collections.abc import Callable
from functools import partial

import numpy as np

import edge.beats
from firmware_bridge.block import Signal
from trainer.protocols import classical, probe, pulse_features
from trainer.protocols import student as students
from trainer.protocols.cache import digest, kept
from trainer.protocols.classical import Constant, IntervalRate, has_neurokit, interval_rates, neurokit_beats
from trainer.protocols.probe import Head, Probe
from trainer.protocols.protocol import Candidate
from trainer.protocols.pulse_features import beat_positions, table_of
from trainer.protocols.setting import Setting
from trainer.protocols.student import BOTH, CODES, FORMS, MEAN, SOFT, TOKENS, Student
from trainer.protocols.task import F32, F64, Task

SHIPPED = f"encoder, {BOTH} → linear"  # the row that all others are compared with, chosen before any was run
HEADS: tuple[Head, ...] = ("linear", "boosting")


def forms_of(setting: Setting, student: Student, task: Task) -> dict[str, F32]:
    """What a frozen student says of every window of ``task``, in every form; made once and kept."""
    patches = task.signal(student.signal)
    codes = student.codes.numpy() if student.codes is not None else None
    key = digest(student.identity, patches, codes, students)
    made = kept(setting.cache, "forms", key, lambda: dict(student.represent(patches)))
    return {form: values.astype("float32") for form, values in made.items()}


def hand_made(setting: Setting, task: Task) -> F32:
    """Hand-made features of every window's pulse wave; made once and kept."""
    key = digest(task.signal("ppg"), task.rate, pulse_features, edge.beats)
    made = kept(setting.cache, "hand-made", key, lambda: {"features": table_of(task.signal("ppg"), task.rate)})
    return made["features"].astype("float32")


def _form(setting: Setting, student: Student, form: str, task: Task) -> F32:
    return forms_of(setting, student, task)[form]


def probed(setting: Setting, student: Student, form: str, head: Head, name: str | None = None) -> Candidate:
    """A probe on one form of a frozen student."""
    name = name or f"encoder, {form} → {head}"
    told = partial(_form, setting, student, form)
    key = f"{student.identity} {form} {head}"
    return Candidate(name, lambda: Probe(name, told, head), key, (students,), FORMS[form])


def encoder_rows(setting: Setting, task: Task) -> list[Candidate]:
    """The PPG student under probes, and the same shape with random weights."""
    student = setting.students["ppg"]
    rows = [probed(setting, student, BOTH, head) for head in HEADS]
    rows += [probed(setting, student, form, "linear") for form in (MEAN, TOKENS, SOFT, CODES) if form in student.forms]
    return [*rows, probed(setting, student.untrained(), BOTH, "linear", f"random encoder, {BOTH} → linear")]


def form_rows(setting: Setting, task: Task) -> list[Candidate]:
    """Every form of the student under both heads: what the quantizer loses."""
    student = setting.students["ppg"]
    sparse = (TOKENS, SOFT)  # trees on hundreds of nearly empty columns are slow, and no rival
    boosted = [form for form in student.forms if form not in sparse]
    linear = [probed(setting, student, form, "linear") for form in student.forms]
    return linear + [probed(setting, student, form, "boosting") for form in boosted]


def hand_made_rows(setting: Setting, task: Task) -> list[Candidate]:
    """Beat intervals, shape and spectrum of the pulse wave under both heads."""

    def row(head: Head) -> Candidate:
        name = f"hand-made features → {head}"
        told = partial(hand_made, setting)
        note = "beat intervals, morphology and spectrum of the pulse wave"
        return Candidate(name, lambda: Probe(name, told, head), head, (pulse_features, edge.beats, probe), note)

    return [row(head) for head in HEADS]


def together_rows(setting: Setting, task: Task) -> list[Candidate]:
    """The encoder's embedding beside the hand-made features: does either know what the other does not?"""
    student = setting.students["ppg"]

    def both(task: Task) -> F32:
        return np.concatenate([_form(setting, student, BOTH, task), hand_made(setting, task)], axis=1)

    name = f"encoder, {BOTH} and hand-made → boosting"
    uses = (students, pulse_features, edge.beats, probe)
    return [Candidate(name, lambda: Probe(name, both, "boosting"), student.identity, uses, "both at once")]


def constant_rows(setting: Setting, task: Task) -> list[Candidate]:
    """What knowing nothing of the window reaches."""
    return [Candidate("constant", Constant, note="the median label of the other people, or even odds")]


def interval_rows(setting: Setting, task: Task) -> list[Candidate]:
    """Heart rate from beat intervals, without learning."""

    def row(name: str, beats: Callable[[F64, float], F64], note: str) -> Candidate:
        def rates(task: Task) -> F64:
            key = digest(task.signal("ppg"), task.rate, name, classical, pulse_features, edge.beats)
            made = kept(
                setting.cache, "rates", key, lambda: {"rates": interval_rates(task.signal("ppg"), task.rate, beats)}
            )
            return made["rates"].astype("float64")

        return Candidate(name, lambda: IntervalRate(name, rates), "", (pulse_features, edge.beats), note)

    note = "60 over the median beat interval of the window; the usual rate where it finds fewer than three"
    rows = [row("pulse intervals, device's beats", beat_positions, note)]
    return rows + ([row("pulse intervals, NeuroKit2", neurokit_beats, note)] if has_neurokit() else [])


def transfer_rows(setting: Setting, task: Task) -> list[Candidate]:
    """Heads learned on one student's output and asked about the other's, on other people; and each by itself."""
    rows = []
    pairs: tuple[tuple[Signal, Signal], ...] = (("ecg", "ppg"), ("ppg", "ppg"), ("ecg", "ecg"))
    for form in (TOKENS, SOFT, CODES, BOTH):
        for learned, asked in pairs:
            told, other = setting.students[learned], setting.students[asked]
            if form not in told.forms:
                continue
            name = f"{form}: {learned.upper()} → {asked.upper()}"
            make = partial(
                Probe, name, partial(_form, setting, told, form), "linear", partial(_form, setting, other, form)
            )
            note = f"head learned on the {learned.upper()} student's, asked about the {asked.upper()} student's"
            rows.append(Candidate(name, make, f"{told.identity} {other.identity} {form}", (students,), note))
    return rows


TRANSFER = f"{TOKENS}: ECG → PPG"
