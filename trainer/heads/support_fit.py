"""The models of support, fitted and judged: figures and a picture beside them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge.bundle import SupportModel
from edge.support import ALARMS
from trainer.heads import support_head
from trainer.heads.logistic import auroc
from trainer.heads.onsets import Onsets
from trainer.heads.reliability import Reliability, draw_reliability, reliability
from trainer.heads.support_head import Rows

Figures = dict[str, float | str]
TOLD = "BIDMC and Challenge 2015, train and validation people, and half of MIMIC PERform AF; by folds of people"


def fit_support(
    known: Sequence[Onsets], others: Sequence[Onsets], plots: Path
) -> tuple[dict[str, SupportModel], Figures]:
    """Models by alarm: features and threshold chosen on ``known``'s people, each left out in turn; judged on
    ``others``. An alarm that was never, or always, borne out gets no model. Draws ``support.png`` into ``plots``."""
    models: dict[str, SupportModel] = {}
    metrics: Figures = {}
    curves: dict[str, Reliability] = {}
    for alarm in ALARMS:
        rows, asked = support_head.rows_of(known, alarm), support_head.rows_of(others, alarm)
        if not 0 < rows.examples.labels.sum() < len(rows):
            continue
        models[alarm] = model = support_head.fit_support(rows, TOLD)
        metrics |= _on_people_left_out(alarm, model, rows)
        if len(asked):
            said = support_head.supported(model.model, asked.examples)
            curves[alarm] = reliability(said, asked.examples.labels)
            metrics |= _on_others(alarm, model, rows, asked)
            metrics[f"support of {alarm}, calibration error"] = round(curves[alarm].error, 4)
    draw_reliability(plots / "support.png", "Will the ECG agree with the alarm? (other people)", curves)
    return models, metrics


def _on_people_left_out(alarm: str, model: SupportModel, rows: Rows) -> Figures:
    examples, names = rows.examples, tuple(model.model.weights)
    said = support_head.out_of_fold(examples, names)
    area = auroc(said, examples.labels, examples.people)
    return {
        f"support of {alarm}, reads": ", ".join(names) or "nothing: it is the share of true ones",
        f"support of {alarm}, fitted on": _about(rows),
        f"support of {alarm}, AUROC on people left out": str(area),
        f"support of {alarm}, log loss on people left out": round(support_head.log_loss(said, examples.labels), 4),
        f"support of {alarm}, withheld below": round(model.withhold_below, 4),
    }


def _on_others(alarm: str, model: SupportModel, rows: Rows, asked: Rows) -> Figures:
    examples, names = asked.examples, tuple(model.model.weights)
    said = support_head.supported(model.model, examples)
    share = np.full(len(asked), rows.examples.labels.mean())
    left_out, on_others = support_head.with_embedding(rows, asked, names)
    return {
        f"support of {alarm}, judged on": f"{_about(asked)}: other people",
        f"support of {alarm}, AUROC on other people": str(auroc(said, examples.labels, examples.people)),
        f"support of {alarm}, log loss on other people": round(support_head.log_loss(said, examples.labels), 4),
        f"support of {alarm}, log loss of the share of true ones there": round(
            support_head.log_loss(share, examples.labels), 4
        ),
        f"support of {alarm}, withheld on other people": _withheld(model, asked),
        f"support of {alarm}, log loss if it read the embedding too": f"{left_out:.4f} on people left out, "
        f"{on_others:.4f} on other people",
    }


def _withheld(model: SupportModel, rows: Rows) -> str:
    """Of the alarms at the device's own limits, by whether the ECG bears them out."""
    told = []
    for agrees, name in ((True, "true"), (False, "false")):
        spells = [onset for onset in rows.onsets if onset.default and onset.agrees == agrees]
        lost = sum(support_head.best_support(model.model, onset) < model.withhold_below for onset in spells)
        told.append(f"{lost} of {len(spells)} {name} ones")
    return ", ".join(told)


def _about(rows: Rows) -> str:
    people, true = len(np.unique(rows.examples.people)), int(rows.examples.labels.sum())
    return f"{len(rows)} onsets of {people} people, {true} borne out by the ECG"
