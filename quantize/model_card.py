"""``MODEL_CARD.md``: what the model is, whose data made it, what it can do, and what it must not be used for."""

from collections.abc import Mapping
from string import Template
from typing import Any

from edge.bundle import Manifest
from quantize.datasets import PHYSIONET, describe
from quantize.export import EngineName
from quantize.fidelity.figures import Report
from quantize.report.files import markdown
from quantize.report.tables import agreement, head_table

PURPOSE = {
    "train": "learning and int8 calibration",
    "validation": "choices during training",
    "test": "figures below",
    "held_out": "evaluation of a use the encoder never saw (AF); see also the judging models",
}

TEMPLATE = Template("""# $name $version

A causal transformer encoder that turns a $signal signal into one token per $hop_seconds s and an embedding, on the
device, in int8. Not a medical device: it must not be used to diagnose, treat or monitor patients.

- Input: one $signal channel at $rate Hz, band-passed and normalised by the front end in `manifest.json`
  (`edge.frontend`).
- Output, every $hop_seconds s: scores over a codebook of $codebook tokens and an embedding of $dim numbers, for the
  patch $lookahead hop(s) back; context $context hops ($context_seconds s); nothing is believed before $warmup hops.
- $parameters parameters, $layers layers, $heads heads.
- Teaching: the tokens are those of a joint ECG and $signal tokenizer (CM-SSL, two stages); run `$run`.

## Engines

$engines

## Data and splits

Split by person (by record where a data set names no persons), by a hash of data set and person: see
`trainer/splits.py`. People per part:

$people

$datasets

$physionet

## What it reaches

Values with 95 % intervals over people. `top1`/`top5`: share of hops whose stage 1 token the student names first, or
among its first five; `ok`: windows that passed the quality gate, `all`: all without missing samples; `commonest`: what
always saying the same token would reach. `af probe`: a linear probe for AF on the embedding's mean and deviation over
10 s where the quality gate passed, subject by subject, of this encoder and of the same one untrained (`random`).

$evaluation

### int8 against fp32

$verdict

Reference: the fp32 step form in PyTorch, hop by hop with the engine's own state. Judged on $judged_on: $hops hops of
$patients patients. Brackets: 95 % bootstrap intervals over patients. Plot: `fidelity.png`; all figures:
`fidelity.json`.

$fidelity
$task
## The judging models

Small models on top, in `manifest.json`; each is used only where it is there. The people they are judged on fitted
nothing; but their figures were in sight while the models' features and the beat detector were chosen, so take them as
somewhat too good.

$judging

## Limits

- Learned from intensive-care and alarm recordings at the bedside (finger pulse oximeter, hospital ECG). Wrist, ear and
  ring sensors, children, other skin tones than those hospitals' and movement in daily life are not represented here.
- The recordings carry no balanced information on sex, age or ethnicity; subgroup figures cannot be given.
- Few patients: mind the intervals. A token is a pattern, not a finding; its number has no clinical meaning.
- The heart rate's range is too wide on a clean pulse and too narrow in atrial fibrillation and artefact: see "truths
  inside the 90% interval" above. Frequent ectopy is still taken for an irregular rhythm in more than a quarter of its
  windows. The breathing rate was fitted on resting adults in intensive care alone.
- Tokens are to be believed only where the signal quality allows it, and never while warming up.

## Licence

$licence

Made $date from commit $commit with $tools.
""")


def card(
    manifest: Manifest,
    report: Report,
    *,
    run: str,
    parameters: int,
    people: dict[str, dict[str, int]],
    evaluation: dict[str, Any],
    reasons: Mapping[EngineName, str],
    judged: Mapping[str, float | str],
    tools: dict[str, str],
) -> str:
    """The card of a bundle. ``evaluation`` is the run's own, with its intervals."""
    shape, frontend = manifest.encoder, manifest.frontend
    datasets = sorted({name for part in people.values() for name in part})
    heads = head_table(report)
    why: dict[str, str] = dict(reasons.items())
    return TEMPLATE.substitute(
        name=manifest.name,
        version=manifest.version,
        signal=manifest.signal.upper(),
        hop_seconds=f"{frontend.hop_seconds:g}",
        rate=f"{frontend.rate:g}",
        codebook=shape.codebook_size,
        dim=shape.heads * shape.head_dim,
        lookahead=shape.lookahead,
        context=shape.context,
        context_seconds=f"{shape.context * frontend.hop_seconds:g}",
        warmup=manifest.warmup_hops,
        parameters=f"{parameters:,}",
        layers=shape.layers,
        heads=shape.heads,
        run=run,
        engines="\n".join(f"- `{file.file}` ({name}): {why[name]}" for name, file in manifest.engines.items()),
        people=_people_table(people, datasets),
        datasets="\n".join(describe(name) for name in datasets),
        physionet=f"PhysioNet: {PHYSIONET}." if datasets else "",
        evaluation="\n".join(_figures(evaluation)) or "This run was not evaluated (`pulsecode evaluate`).",
        judged_on=report.judged_on,
        hops=report.hops,
        patients=report.patients,
        verdict=report.verdict,
        fidelity=markdown(agreement(report.rows)),
        task=markdown(heads) + "\n" if heads else "",
        judging="\n".join(_judging(manifest, judged)),
        licence=manifest.licence,
        date=manifest.provenance["date"],
        commit=manifest.provenance["commit"],
        tools=", ".join(f"{name} {version}" for name, version in tools.items()),
    )


def _judging(manifest: Manifest, judged: Mapping[str, float | str]) -> list[str]:
    models = {
        "Novelty (surprise of the token stream)": manifest.novelty,
        "Quality (is the pulse readable?)": manifest.quality,
        "Irregularity (of the pulse intervals)": manifest.rhythm,
        "Readout of the embedding (heart rate)": manifest.readout,
        "Heart rate's uncertainty": manifest.rate,
        "Breathing rate": manifest.respiration,
    }
    lines = [f"- {name}: {f'calibrated on {m.calibrated_on}' if m else 'none'}." for name, m in models.items()]
    lines += [
        f"- Support of `{alarm}` (would an ECG agree?): calibrated on {m.model.calibrated_on}; "
        + (f"withheld below {m.withhold_below:.2f}." if m.withhold_below else "never withheld.")
        for alarm, m in (manifest.support or {}).items()
    ]
    return [*lines, *(f"- {name}: {_number(value)}" for name, value in judged.items())]


def _people_table(people: dict[str, dict[str, int]], datasets: list[str]) -> str:
    lines = ["| part | used for | " + " | ".join(datasets) + " |", "|---|---|" + "---|" * len(datasets)]
    for part, counts in people.items():
        cells = " | ".join(str(counts.get(name, 0)) for name in datasets)
        lines.append(f"| {part.replace('_', ' ')} | {PURPOSE[part]} | {cells} |")
    return "\n".join(lines)


def _figures(evaluation: dict[str, Any], depth: int = 0) -> list[str]:
    """A run's evaluation as nested Markdown lists; ``{value, low, high}`` reads as one figure with its interval."""
    lines = []
    for key, value in evaluation.items():
        if value is None:  # no limit, for one
            continue
        label = f"{'  ' * depth}- {key.replace('_', ' ')}"
        if isinstance(value, dict) and {"value", "low", "high"} <= value.keys():
            rest = ", ".join(f"{k} {v}" for k, v in value.items() if k not in ("value", "low", "high"))
            interval = f"{_number(value['low'])} to {_number(value['high'])}"
            lines.append(f"{label}: {_number(value['value'])} ({interval}{'; ' + rest if rest else ''})")
        elif isinstance(value, dict):
            lines += [label, *_figures(value, depth + 1)]
        elif isinstance(value, list):
            lines.append(f"{label}: {', '.join(map(_number, value))}")
        else:
            lines.append(f"{label}: {_number(value)}")
    return lines


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
