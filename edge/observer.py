"""From the vital signs of a hop to what the alarms' rules see of it.

Apart from the pipeline so that the trainer judges alarms on exactly what the device sees, without an engine.
"""

import numpy as np

from edge.alarms import Evidence, Observation
from edge.frontend import FrontendConfig
from edge.support import Moment
from edge.vitals import VitalSigns, VitalsState

PAUSE_SECONDS = 3.0  # the stretch whose energy tells a lost pulse from motion


class Observer:
    """Holds no state."""

    def __init__(self, config: FrontendConfig, warmup_hops: int) -> None:
        self._rate, self._warmup_hops = config.rate, warmup_hops
        self._pause_hops = int(np.ceil(PAUSE_SECONDS / config.hop_seconds))

    def __call__(self, state: VitalsState, signs: VitalSigns) -> Observation:
        """``state``: as the step that made ``signs`` left it. The observation is of this moment: it refers to arrays
        of the state, which the next step replaces."""
        energies = np.asarray(state.frontend.energies)
        recent = float(energies[-self._pause_hops :].mean())
        usual = float(np.median(energies)) if state.calm is None else state.calm
        loudness = float(np.log10(recent / usual)) if usual > 0 and recent > 0 else 0.0
        moment = Moment(
            wave=state.quality.wave,
            rate=self._rate,
            intervals=[ibi for _, ibi in state.rhythm.intervals],
            since_beat=None if state.rhythm.last_beat is None else signs.t - state.rhythm.last_beat,
            last_hr=signs.rhythm.last_hr,
            quality=signs.quality,
            loudness=loudness,
        )
        return Observation(
            now=signs.t,
            warm=state.hops > self._warmup_hops,
            sensor=signs.quality.state,
            readable=signs.readable and signs.quality.state != "warmup",
            good=signs.good,
            last_hr=signs.rhythm.last_hr,
            p_irregular=signs.rhythm.p_irregular,
            last_beat=state.rhythm.last_beat,
            unreadable=state.rhythm.unreadable,
            calm=state.calm is not None,
            loudness=loudness,
            evidence=_evidence(signs, state.rhythm.last_beat),
            moment=moment,
        )


def _evidence(signs: VitalSigns, last_beat: float | None) -> Evidence:
    """What an alarm tells about what it saw."""
    evidence: Evidence = {"sqi": round(signs.quality.sqi, 3), "state": signs.quality.state}
    if signs.rhythm.hr is not None:
        evidence["hr"] = round(signs.rhythm.hr, 1)
    if signs.rhythm.p_irregular is not None:
        evidence["p_irregular"] = round(signs.rhythm.p_irregular, 3)
    if last_beat is not None:
        evidence["seconds_since_beat"] = round(signs.t - last_beat, 2)
    evidence.update({name: round(value, 3) for name, value in signs.rhythm.features.items()})
    return evidence
