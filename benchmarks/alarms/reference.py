"""Whether the ECG bears out what the monitor said of the pulse wave."""

from benchmarks.alarms.watch import Alert
from edge import quality, rhythm
from edge.alarms import AlarmLimits
from edge.bundle import LogisticModel
from trainer.heads.witness import Reference, agrees


def bears_out(reference: Reference, alert: Alert, limits: AlarmLimits, model: LogisticModel | None) -> bool:
    """Whether the ECG around an alert's onset shows what the alert says.

    As :func:`trainer.heads.witness.agrees`; irregular: the bundle's own rhythm model, on R–R intervals, says so too.
    """
    if alert.name == "irregular" and model is not None:
        intervals = reference.intervals(alert.start, rhythm.IRREGULAR_SECONDS)
        if len(intervals) < rhythm.IRREGULAR_MIN_IBIS:
            return False
        return quality.logistic(model, rhythm.irregularity_features(intervals)) >= limits.irregular
    return agrees(reference, alert.name, alert.start, limits)
