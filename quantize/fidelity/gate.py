"""What an artefact must keep of fp32 to ship.

By the figures themselves, not their intervals: with few people an interval would forgive, or forbid, everything. A
change for the better counts as a change: it is another head than the one that was judged.
"""

import msgspec

from quantize.fidelity.figures import Report, Row

LEAST_CONFIDENT = 0.99  # same token as fp32, of the hops where fp32 is sure
LEAST_OVERALL = 0.97  # of all hops


def faults(row: Row) -> list[str]:
    """Why this row must not ship, each in a few words with its figure; nothing if it may."""
    found = []
    for name, figure, least in (
        ("of the tokens that fp32 is sure of", row.top1_confident, LEAST_CONFIDENT),
        ("of all tokens", row.top1, LEAST_OVERALL),
    ):
        if figure is not None and not figure.value >= least:
            found.append(f"only {100 * figure.value:.2f} % {name} agree, at least {100 * least:g} % must")
    found += [
        f"{head.name}: {head.int8.value:.4g} {head.unit}, fp32 {head.fp32.value:.4g}; "
        f"a change of {head.change.value:+.3g}, at most {head.allowed:.3g} may be"
        for head in row.heads
        if not head.within
    ]
    if row.hour is not None and row.hour.others_changed:
        found.append(f"{row.hour.others_changed} hops' quality, beats or irregularity differ, which read no encoder")
    return found


def judged(report: Report) -> Report:
    """The report with its verdict: every row's faults, and those of what ships."""
    rows = [msgspec.structs.replace(row, faults=faults(row)) for row in report.rows]
    of_shipped = [f"{row.label}: {fault}" for row in rows if row.ships for fault in row.faults]
    return msgspec.structs.replace(report, rows=rows, faults=of_shipped)
