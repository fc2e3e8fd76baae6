"""The protocols of the ECG student on MIT-BIH DS1: rhythm and ectopy by window, the class of single beats, AF.

Three reports, because they are asked differently: windows pool the embedding over 10 s, a beat is told from the two
hops around it, and fibrillation has two people in all, so it has two folds.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from firmware_bridge.errors import BadInput
from trainer.protocols import alarm_features, ecg_features, probe, pulse_features
from trainer.protocols import student as students
from trainer.protocols.alarm_features import pooled_embeddings
from trainer.protocols.cache import digest, kept
from trainer.protocols.ecg_features import as_table, beat_measures, measures
from trainer.protocols.methods import HEADS, SHIPPED, constant_rows, forms_of, probed
from trainer.protocols.networks import network_rows
from trainer.protocols.probe import Features, Head, Probe
from trainer.protocols.protocol import Candidate, Protocol
from trainer.protocols.setting import Setting
from trainer.protocols.student import BOTH, MEAN, TOKENS, Student
from trainer.protocols.task import F32, Task
from trainer.protocols.tasks_mitdb import mitdb_tasks
from trainer.run_folder import RunFolder

AROUND = 2  # hops whose embeddings tell a beat: its own and the one after
BEAT_ROW = "encoder, the beat's two hops → linear"


def _hand_made(setting: Setting, task: Task, kind: str, measure: Callable[[F32], dict[str, float]]) -> F32:
    """Measures of every window's ECG, made once and kept."""
    ecg = task.signal("ecg")
    key = digest(kind, ecg, task.rate, ecg_features, pulse_features)
    flat = ecg.reshape(len(ecg), -1)
    made = kept(setting.cache, f"hand-made-{kind}", key, lambda: {"features": as_table([measure(w) for w in flat])})
    return made["features"].astype("float32")


def window_measures(setting: Setting, task: Task) -> F32:
    """Hand-made features of 10 s of ECG."""
    return _hand_made(setting, task, "ecg", lambda wave: measures(wave, task.rate))


def single_beat_measures(setting: Setting, task: Task) -> F32:
    """Hand-made features of each window's last beat."""
    hop = task.signal("ecg").shape[2]
    return _hand_made(setting, task, "beats", lambda wave: beat_measures(wave, task.rate, hop))


def _around_beat(setting: Setting, student: Student, task: Task) -> F32:
    ecg = task.signal("ecg")

    @torch.no_grad()
    def make() -> dict[str, Any]:
        parts = [student.encoder(torch.from_numpy(ecg[i : i + 256]))[1][:, -AROUND:] for i in range(0, len(ecg), 256)]
        return {"features": torch.cat(parts).flatten(1).numpy()}

    return kept(setting.cache, "beat-hops", digest(student.identity, AROUND, ecg), make)["features"].astype("float32")


def _extremes(setting: Setting, student: Student, task: Task) -> F32:
    ecg = task.signal("ecg")
    made = kept(setting.cache, "extremes", digest(student.identity, ecg, alarm_features),
                lambda: {"features": pooled_embeddings(student.encoder, ecg)})  # fmt: skip
    return made["features"].astype("float32")


def _both(setting: Setting, student: Student, task: Task) -> F32:
    return np.concatenate([forms_of(setting, student, task)[BOTH], window_measures(setting, task)], axis=1)


def _beat_both(setting: Setting, student: Student, task: Task) -> F32:
    return np.concatenate([_around_beat(setting, student, task), single_beat_measures(setting, task)], axis=1)


def _probe(name: str, told: Features, head: Head, key: str, note: str) -> Candidate:
    uses = (students, alarm_features, ecg_features, pulse_features, probe)
    return Candidate(name, lambda: Probe(name, told, head), f"{key} {head}", uses, note)


def _window_rows(setting: Setting, task: Task) -> list[Candidate]:
    student = setting.students["ecg"]
    told, note = partial(window_measures, setting), "R-R intervals, runs, QRS shape and spectrum of the window"
    return [
        *(probed(setting, student, BOTH, head) for head in HEADS),
        *(probed(setting, student, form, "linear") for form in (MEAN, TOKENS)),
        _probe(
            "encoder, mean+std+extremes → linear", partial(_extremes, setting, student), "linear", student.identity,
            "the least and largest of the embedding, too: one beat drowns in a mean",
        ),
        probed(setting, student.untrained(), BOTH, "linear", f"random encoder, {BOTH} → linear"),
        *(_probe(f"hand-made ECG features → {head}", told, head, "", note) for head in HEADS),
        _probe(
            f"encoder, {BOTH} and hand-made → boosting", partial(_both, setting, student), "boosting",
            student.identity, "both at once",
        ),
    ]  # fmt: skip


def _beat_rows(setting: Setting, task: Task) -> list[Candidate]:
    student, fresh = setting.students["ecg"], setting.students["ecg"].untrained()
    told, about = (
        partial(single_beat_measures, setting),
        "interval, width, shape and QRS samples, against the beats before",
    )
    hops = "embeddings of the beat's own hop and of the one after"
    trained, random = partial(_around_beat, setting, student), partial(_around_beat, setting, fresh)
    return [
        _probe(BEAT_ROW, trained, "linear", student.identity, hops),
        _probe("encoder, the beat's two hops → boosting", trained, "boosting", student.identity, hops),
        _probe("random encoder, the beat's two hops → linear", random, "linear", fresh.identity, hops),
        *(_probe(f"hand-made beat features → {head}", told, head, "", about) for head in HEADS),
        _probe(
            "encoder, the beat's two hops and hand-made → boosting", partial(_beat_both, setting, student), "boosting",
            student.identity, "both at once",
        ),
    ]  # fmt: skip


def _remarks(setting: Setting) -> list[str]:
    return [
        "No training of the encoder saw a record of MIT-BIH. It was trained on other leads (II first), on monitors in "
        "intensive care; these are ambulatory recordings of the 1970s, resampled from 360 Hz to its grid.",
        "Folds and intervals are by person; with so few of them the intervals are wide, and they are what is known.",
    ]


def _tasks(setting: Setting) -> list[Task]:
    return mitdb_tasks(setting.data, setting.cache, setting.windows, setting.people)


WINDOWS = Protocol(
    "mitdb",
    "Ectopy and rhythm on MIT-BIH DS1",
    lambda setting: _tasks(setting)[:2],
    (_window_rows, network_rows(("ecg",)), constant_rows),
    SHIPPED,
    _remarks,
)
FIBRILLATION = Protocol(
    "mitdb-af",
    "Atrial fibrillation or flutter on MIT-BIH DS1: two people in two folds",
    lambda setting: _tasks(setting)[2:3],
    (_window_rows, network_rows(("ecg",)), constant_rows),
    SHIPPED,
    lambda setting: [*_remarks(setting), "Two people fibrillate, in records 201 and 203: each is judged by what was "
                     "learned from the other. An interval over people says little here."],
)  # fmt: skip
BEATS = Protocol(
    "mitdb-beats",
    "Single beats on MIT-BIH DS1",
    lambda setting: _tasks(setting)[3:],
    (_beat_rows, constant_rows),
    BEAT_ROW,
    _remarks,
)


def of_ecg_student(setting: Setting) -> Setting:
    """The same with the ECG student's run alone: the run that was named, if that is one, or else the one beside it.

    Raises :class:`BadInput` where there is none.
    """
    named = setting.runs["ppg"]
    if RunFolder(named).config("encoder").get("signal") == "ecg":
        return replace(setting, runs={"ecg": named})
    if "ecg" not in setting.runs:
        raise BadInput(
            f"run folder {named}: is no ECG student, and none stands beside it; name one with --run or --ecg"
        )
    return replace(setting, runs={"ecg": setting.runs["ecg"]})


def reports(setting: Setting) -> list[tuple[Protocol, Setting]]:
    """Each protocol with the setting it is run with."""
    return [(WINDOWS, setting), (BEATS, setting), (FIBRILLATION, replace(setting, folds=2))]
