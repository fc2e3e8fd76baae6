"""MIMIC PERform AF (Charlton et al., Physiol. Meas. 2022): is this person in atrial fibrillation, from 10 s?

Every window whose pulse wave misses no sample and moves; nothing asks whether the pulse agrees with the ECG, because
in fibrillation it does not (pulse deficit). Beside it stand the windows whose pulse wave alone is clean.
"""

import sys

import numpy as np

from trainer import windows
from trainer.heads.people import AF_DATASET, AF_GROUP
from trainer.protocols import pulse_features, recorded
from trainer.protocols.cache import Arrays, digest, kept
from trainer.protocols.pulse_features import template_correlation
from trainer.protocols.recorded import channels, cut_windows, recordings_of, window_starts
from trainer.protocols.setting import Setting
from trainer.protocols.task import Task
from trainer.recordings import Recording
from trainer.windows import WindowConfig

SECONDS = 10.0
CLEAN = 0.86  # mean correlation with the window's own mean beat: Orphanidou et al., IEEE JBHI 2015, for PPG
CLEAN_NAME = "clean pulse"


def _make(recordings: list[Recording], config: WindowConfig, hops: int) -> Arrays:
    ppg, ecg, starts, labels, people, count = [], [], [], [], [], 0
    for recording in recordings:
        p, e = channels(recording, config)
        start = window_starts(p, config, hops, hops)
        count += (len(p.valid) - config.settle_hops) // hops
        ppg.append(p.patches)
        ecg.append(e.patches)
        starts.append(start)
        labels += [recording.group == AF_GROUP] * len(start)
        people += [f"{AF_DATASET}/{recording.patient}"] * len(start)
    cut = cut_windows(ppg, starts, hops)
    clean = np.array([template_correlation(wave, config.rate) >= CLEAN for wave in cut.reshape(len(cut), -1)])
    return {
        "ppg": cut,
        "ecg": cut_windows(ecg, starts, hops),
        "labels": np.array(labels, np.float64),
        "people": np.array(people),
        "clean": clean,
        "of": np.array(count),
    }


def atrial_fibrillation(setting: Setting) -> Task:
    """AF against not AF, by subject, in windows of 10 s that do not overlap; raises :class:`BadInput`."""
    config = setting.windows
    hops = round(SECONDS * config.rate / config.hop)
    recordings = recordings_of(setting.data, AF_DATASET, setting.people)
    code = (windows, recorded, pulse_features, sys.modules[__name__])
    files = [r.path.with_suffix(".dat") for r in recordings]
    key = digest(hops, config.to_dict(), [str(r.path) for r in recordings], *files, *code)
    found = kept(setting.cache, "af", key, lambda: _make(recordings, config, hops))
    clean = found["clean"].astype(bool)
    af = found["labels"] == 1
    return Task(
        name="AF, 10 s",
        kind="classification",
        ppg=found["ppg"].astype(np.float32),
        ecg=found["ecg"].astype(np.float32),
        labels=found["labels"].astype(np.float64),
        people=found["people"].astype(np.str_),
        classes=("not AF", "AF"),
        subsets={CLEAN_NAME: clean},
        coverage=f"{len(clean):,} of {int(found['of']):,} windows: all that miss no sample of the pulse wave and do "
        f"not lie flat. Clean pulse: its beats correlate ≥ {CLEAN} with the window's mean beat, in "
        f"{clean[af].mean():.0%} of the AF windows and {clean[~af].mean():.0%} of the others. Labels are the subjects'",
    )  # fmt: skip
