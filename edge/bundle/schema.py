"""The JSON Schema of ``manifest.json`` (draft 2020-12), generated from the structs that read it."""

from typing import Any

import msgspec

from edge.bundle.manifest import SCHEMA, Manifest


def json_schema() -> dict[str, Any]:
    """The schema as it is committed in ``edge/bundle.schema.json``."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Pulsecode bundle manifest, schema {SCHEMA}",
        **msgspec.json.schema(Manifest),
    }


def schema_text() -> str:
    """The file's text."""
    return msgspec.json.format(msgspec.json.encode(json_schema()), indent=2).decode() + "\n"
