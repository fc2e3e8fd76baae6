"""Whose recordings a model may have been made from: what a model card must say of them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DataSet:
    """Title, licence and citation of a data set; ``note`` where its licence asks for one."""

    title: str
    licence: str
    citation: str
    note: str = ""


PHYSIONET = "Goldberger et al., PhysioBank, PhysioToolkit, and PhysioNet, Circulation 101(23), 2000"

DATA_SETS = {
    "bidmc": DataSet(
        "BIDMC PPG and Respiration Dataset v1.0.0",
        "ODC-By 1.0",
        "Pimentel et al., Toward a robust estimation of respiratory rate from pulse oximeters, IEEE TBME 64(8), 2017",
    ),
    "challenge2015": DataSet(
        "PhysioNet/CinC Challenge 2015 (reducing false arrhythmia alarms), a part of the public training set",
        "ODC-By 1.0",
        "Clifford et al., The PhysioNet/Computing in Cardiology Challenge 2015, CinC 2015",
    ),
    "mimic_perform_af": DataSet(
        "MIMIC PERform AF",
        "ODbL 1.0",
        "Charlton et al., Detecting beats in the photoplethysmogram, Physiol. Meas. 43, 2022",
        "Contains information from MIMIC PERform AF, which is made available under the Open Database License (ODbL) "
        "1.0. It was used for evaluation and calibration only; no part of it is in this bundle.",
    ),
    "mitdb": DataSet(
        "MIT-BIH Arrhythmia Database v1.0.0",
        "ODC-By 1.0",
        "Moody and Mark, The impact of the MIT-BIH Arrhythmia Database, IEEE EMB Magazine 20(3), 2001",
    ),
}


def describe(name: str) -> str:
    """One Markdown list item; a data set this tool does not know says so instead of guessing."""
    known = DATA_SETS.get(name)
    if known is None:
        return f"- **{name}**: not known to `pulsecode quantize`; state its licence and citation before sharing."
    note = f" {known.note}" if known.note else ""
    return f"- **{name}**: {known.title}. {known.licence}. {known.citation}.{note}"
