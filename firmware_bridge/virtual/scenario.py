"""What happens to the virtual patient and sensor, and when: plain tables."""

from bisect import bisect_right
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Literal

from firmware_bridge.errors import BadInput

RATES = (10.0, 2000.0)  # Hz the model makes sense at
HEART_RATES = (20.0, 250.0)


@dataclass(frozen=True, slots=True)
class Segment:
    """``seconds`` of one state. ``ectopy``: share of beats that are ventricular premature; ``motion``: artefact in
    units of the pulse's height; ``contact``: skin on the sensor; ``plugged``: cable in the host."""

    kind: str
    seconds: float
    rhythm: Literal["sinus", "af", "none"] = "sinus"
    hr: float = 70.0
    ectopy: float = 0.0
    motion: float = 0.0
    contact: bool = True
    plugged: bool = True


def _sinus(seconds: float) -> Segment:
    return Segment("sinus", seconds)


def _af(seconds: float) -> Segment:
    return Segment("af", seconds, rhythm="af", hr=95)


def _pause(seconds: float) -> Segment:
    return Segment("pause", seconds, rhythm="none")


def _motion(seconds: float) -> Segment:
    return Segment("motion", seconds, motion=3.0)


def _unplugged(seconds: float) -> Segment:
    return Segment("unplugged", seconds, plugged=False)


SCENARIOS: dict[str, tuple[Segment, ...]] = {
    "sinus": (_sinus(60),),
    "brady": (Segment("brady", 60, hr=38),),
    "tachy": (Segment("tachy", 60, hr=145),),
    "af": (_af(60),),
    "ectopy": (Segment("ectopy", 60, ectopy=0.15),),
    "pause": (_sinus(20), _pause(6), _sinus(14)),
    "motion": (_sinus(15), _motion(15), _sinus(15)),
    "nocontact": (_sinus(15), Segment("no contact", 8, contact=False), _sinus(15)),
    "unplug": (_sinus(15), _unplugged(3), _sinus(15)),
    "story": (
        _sinus(15),
        _motion(6),
        _sinus(3),
        _af(28),
        _pause(6),
        _sinus(5),
        _unplugged(3),
        _sinus(6),
    ),
}


@dataclass(frozen=True)
class Scenario:
    """Segments that repeat for ever. Raises :class:`BadInput` for a name that is not in :data:`SCENARIOS`."""

    name: str
    segments: tuple[Segment, ...]

    @classmethod
    def find(cls, name: str, hr: float | None = None) -> "Scenario":
        """The scenario ``name``, with the heart rate of every segment replaced by ``hr`` where that is given."""
        if name not in SCENARIOS:
            raise BadInput(f"scenario {name!r} is unknown; known: {', '.join(SCENARIOS)}")
        segments = SCENARIOS[name]
        if hr is not None:
            if not HEART_RATES[0] <= hr <= HEART_RATES[1]:
                raise BadInput(f"scenario {name!r}: hr must be {HEART_RATES[0]:g} to {HEART_RATES[1]:g} bpm")
            segments = tuple(replace(segment, hr=hr) for segment in segments)
        return cls(name, segments)

    @cached_property
    def seconds(self) -> float:
        """Duration of one round."""
        return sum(segment.seconds for segment in self.segments)

    @cached_property
    def _starts(self) -> list[float]:
        return list(accumulate((segment.seconds for segment in self.segments[:-1]), initial=0.0))

    def at(self, t: float) -> tuple[Segment, float, float]:
        """The segment at ``t`` seconds with its start and end."""
        rounds, inside = divmod(t, self.seconds)
        number = bisect_right(self._starts, inside) - 1
        start = rounds * self.seconds + self._starts[number]
        return self.segments[number], start, start + self.segments[number].seconds
