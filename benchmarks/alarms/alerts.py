"""False alerts per hour, and the share of time in which the pulse wave could be read."""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from benchmarks.alarms.cases import BIDMC, PERFORM, Case
from benchmarks.alarms.intervals import Estimate, per_hour, ratio
from benchmarks.alarms.reference import bears_out
from edge.alarms import AlarmLimits, rules
from edge.bundle import LogisticModel
from trainer.heads.people import AF_GROUP

GROUPS: dict[str, Callable[[Case], bool]] = {
    "BIDMC, test people": lambda case: case.recording.dataset == BIDMC and case.test,
    "BIDMC, all": lambda case: case.recording.dataset == BIDMC,
    "PERform non-AF": lambda case: case.recording.dataset == PERFORM and case.recording.group != AF_GROUP,
}


class AlertRow(msgspec.Struct, frozen=True):
    """One alarm in one group: ``alerts`` raised, in how many ``records``, how many the ECG bears out, and the rest per
    hour."""

    group: str
    name: str
    alerts: int
    records: int
    borne_out: int
    false_per_hour: Estimate


class GroupRow(msgspec.Struct, frozen=True):
    """One group: ``hours`` watched, ``readable`` share of them."""

    group: str
    records: int
    people: int
    hours: float
    readable: Estimate


def score(
    cases: Sequence[Case], limits: AlarmLimits, model: LogisticModel | None
) -> tuple[list[GroupRow], list[AlertRow]]:
    """Every alarm of the rule set in every group; ``model`` is the bundle's rhythm model."""
    groups, rows = [], []
    for group, belongs in GROUPS.items():
        chosen = [case for case in cases if belongs(case)]
        if not chosen:
            continue
        people = [case.person for case in chosen]
        hours = [case.watched.seconds / 3600 for case in chosen]
        good = [case.watched.good.sum() * case.watched.hop / 3600 for case in chosen]
        groups.append(GroupRow(group, len(chosen), len(set(people)), round(sum(hours), 3), ratio(good, hours, people)))
        for rule in rules(limits):
            raised = [[a for a in case.watched.alerts if a.name == rule.name] for case in chosen]
            borne = [
                sum(bears_out(case.reference, alert, limits, model) for alert in alerts)
                for case, alerts in zip(chosen, raised, strict=True)
            ]
            counts = np.array([len(alerts) for alerts in raised])
            rows.append(
                AlertRow(
                    group,
                    rule.name,
                    int(counts.sum()),
                    int((counts > 0).sum()),
                    sum(borne),
                    per_hour(counts - np.array(borne), hours, people),
                )
            )
    return groups, rows
