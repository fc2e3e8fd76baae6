"""The bundle: the only thing that crosses from training to the device.

A folder (or a zip of it) with ``manifest.json`` and the files it names, each with its SHA-256. Nothing in it is
code and nothing is pickled; a bundle that fails a check is refused in one line that names the file and the field.
"""

from edge.bundle.checks import MAX_ENGINE_BYTES, MAX_LITERT_BYTES, SIGNATURE, check_sizes
from edge.bundle.load import DEFAULT_BUNDLE, Bundle, load_bundle
from edge.bundle.manifest import (
    MANIFEST,
    SCHEMA,
    EncoderShape,
    EngineFile,
    KnownAnswers,
    LinearModel,
    LogisticModel,
    Manifest,
    NoveltyModel,
    RateModel,
    ReadoutModel,
    RespirationModel,
    SupportModel,
)
from edge.bundle.write import write_bundle, write_zip

__all__ = [
    "DEFAULT_BUNDLE",
    "MANIFEST",
    "MAX_ENGINE_BYTES",
    "MAX_LITERT_BYTES",
    "SCHEMA",
    "SIGNATURE",
    "Bundle",
    "EncoderShape",
    "EngineFile",
    "KnownAnswers",
    "LinearModel",
    "LogisticModel",
    "Manifest",
    "NoveltyModel",
    "RateModel",
    "ReadoutModel",
    "RespirationModel",
    "SupportModel",
    "check_sizes",
    "load_bundle",
    "write_bundle",
    "write_zip",
]
