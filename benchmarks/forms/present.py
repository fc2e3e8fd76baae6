"""The forms as a table."""

from collections.abc import Sequence

from benchmarks.forms.measure import Accuracy, FormRow, Forms
from benchmarks.machine import Machine

NAMES = {"layer": "LayerNorm", "rms": "RMSNorm", "tanh": "dynamic tanh", "gelu": "GELU", "relu": "ReLU"}


def markdown(forms: Forms, machine: Machine) -> str:
    """``forms.md``."""
    return f"""# The encoder's form: what the int8 delegates take, and what it costs

Random weights (structure and time do not depend on them), d96, 4 layers, 25 patches of context, step form, int8
dynamic, one thread, the engines of a form taking turns. *folded*: the norms' scale and shift and the attention's scale
moved into the next product's weights (exact). *delegated*: share of the int8 graph's operators, and of its
multiply-adds, inside the XNNPACK delegate; ONNX Runtime runs its own kernels and has none. *× shipped form*: time of a
hop over that of LayerNorm, GELU, folded, on the same engine. *× its fp32*: over the same form's fp32 graph.
*roofline*: the least time that this machine's best int8 product of large matrices would need for the same operations,
as a share of the time taken; a hop has one row, so it is bound by reading its weights.

{_table(forms.rows)}

## What the form loses

From the ablation's rows, trained within its budget and judged on validation people ([`ablation.md`](ablation.md) has
the intervals). A form without a row was not trained.

{_accuracy(forms.accuracy)}

On {machine}.
"""


def _table(rows: Sequence[FormRow]) -> str:
    usual = {row.engine: row.ms for row in rows if (row.norm, row.activation, row.folded) == ("layer", "gelu", True)}
    lines = [
        "| norm | activation | folded | engine | operators | delegated: operators / multiply-adds | left out | kB | "
        "× shipped form | × its fp32 | roofline |",
        "|---|---|---|---|---:|---:|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        taken = "–"
        if row.delegated is not None and row.mac_delegated is not None:
            taken = f"{100 * row.delegated:.0f} % / {100 * row.mac_delegated:.0f} %"
        left = ", ".join(f"{count} {name}" for name, count in sorted(row.left.items())) or "–"
        lines.append(
            f"| {NAMES[row.norm]} | {NAMES[row.activation]} | {'yes' if row.folded else 'no'} | {row.engine} | "
            f"{'–' if row.operators is None else row.operators} | {taken} | {left} | {row.bytes / 1000:.0f} | "
            f"{row.ms / usual[row.engine]:.2f} | {row.ms / row.fp32_ms:.2f} | "
            f"{'–' if row.of_roofline is None else f'{100 * row.of_roofline:.0f} %'} |"
        )
    return "\n".join(lines)


def _accuracy(found: Sequence[Accuracy]) -> str:
    lines = ["| norm | activation | seeds | bit/s | heart rate, bpm | AF, windows |", "|---|---|---:|---:|---:|---:|"]
    lines += [
        f"| {NAMES[a.norm]} | {NAMES[a.activation]} | {a.seeds} | {a.bits_per_second:.2f} | {a.rate_error:.2f} | "
        f"{a.af:.3f} |"
        for a in found
    ]
    return "\n".join(lines)
