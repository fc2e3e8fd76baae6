"""Bundles of earlier schemas, read as today's; later ones are refused.

Schema 1 → 2: readout, rate and respiration, all optional. Schema 2 → 3: test vectors, optional, and names and
SHA-256 sums that must have their form. So an older manifest is a manifest of today that lacks what may be lacking;
where a later schema changes a meaning, its step goes here.
"""

import msgspec

from edge.bundle.manifest import MANIFEST, SCHEMA, Manifest
from firmware_bridge.errors import BadInput

OLDEST = 1


def read_manifest(raw: bytes) -> tuple[Manifest, int]:
    """The manifest of any schema known, and the number that it was written in.

    Raises :class:`BadInput` without the bundle's name, which the caller knows.
    """
    try:
        document = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        schema = msgspec.json.decode(document.get("schema", msgspec.Raw(b"null")))
        if type(schema) is not int or schema < OLDEST:
            raise BadInput(
                f"{MANIFEST} has schema {schema!r}, this version reads {OLDEST} to {SCHEMA}; "
                "make the bundle again with `pulsecode quantize`"
            )
        if schema > SCHEMA:
            raise BadInput(f"{MANIFEST} has schema {schema}, this version reads {OLDEST} to {SCHEMA}; update pulsecode")
        if schema < SCHEMA:
            raw = msgspec.json.encode({**document, "schema": SCHEMA})
        return msgspec.json.decode(raw, type=Manifest), schema
    except msgspec.DecodeError as error:
        raise BadInput(f"{MANIFEST}: {_in_words(error)}") from None


def _in_words(error: msgspec.DecodeError) -> str:
    """``Expected `int` >= 1 - at `$.encoder.layers``` as ``encoder.layers: expected `int` >= 1``."""
    what, _, where = str(error).partition(" - at `$")
    where = where.rstrip("`").lstrip(".")
    return f"{where}: {what[:1].lower()}{what[1:]}" if where else what
