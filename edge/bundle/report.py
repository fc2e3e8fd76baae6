"""What a bundle is and whether it is whole, in words and as one JSON object."""

from typing import Any, get_args, get_type_hints

import msgspec

from edge.bundle.load import Bundle
from edge.bundle.manifest import SCHEMA, Manifest
from edge.bundle.vectors import Answered

# What judges: the parts of the manifest that may be lacking.
HEADS = tuple(
    name for name, kind in get_type_hints(Manifest).items() if type(None) in get_args(kind) and name != "vectors"
)


def _heads(bundle: Bundle) -> list[str]:
    """Names of the models that the bundle judges with."""
    fields = msgspec.structs.asdict(bundle.manifest)
    return [name for name in HEADS if fields[name]]


def describe(bundle: Bundle) -> str:
    """What a bundle holds, some lines of text."""
    m = bundle.manifest
    f, e = m.frontend, m.encoder
    signer = bundle.signature
    lines = [
        f"{m.name} {m.version} ({m.licence}), schema {_schema(bundle)}, sha256 {bundle.digest}",
        f"signal    {m.signal} at {f.rate:g} Hz, {f.hop} samples ({f.hop_seconds:g} s) a hop",
        f"encoder   {e.layers} layers, {e.heads * e.head_dim} wide, {e.context} patches of context,"
        f" look-ahead {e.lookahead}, {e.codebook_size} codes, warm-up {m.warmup_hops} hops",
        *(
            f"engine    {name}: {engine.file}, {engine.method}, {len(bundle.read(engine.file))} bytes"
            for name, engine in m.engines.items()
        ),
        f"heads     {', '.join(_heads(bundle)) or 'none'}",
        f"vectors   {'none' if m.vectors is None else f'made on {m.vectors.made_on}'}",
        f"signature {'none' if signer is None else f'by key {signer.key_id}, {signer.comment!r}'}",
        *(f"metric    {name}: {value}" for name, value in m.metrics.items()),
        *(f"from      {name}: {value}" for name, value in m.provenance.items()),
        *(f"file      {len(bundle.read(name)):>9} bytes  {name}" for name in m.files),
    ]
    return "\n".join(lines)


def _schema(bundle: Bundle) -> str:
    if bundle.schema == SCHEMA:
        return str(SCHEMA)
    return f"{bundle.schema}, read as {SCHEMA} (`pulsecode bundle migrate` writes it so)"


def as_object(bundle: Bundle) -> dict[str, Any]:
    """The same for a program: the manifest, and what is known beside it."""
    signature = bundle.signature
    return {
        "type": "bundle",
        "path": str(bundle.path),
        "sha256": bundle.digest,
        "schema": bundle.schema,
        "heads": _heads(bundle),
        "bytes": {name: len(bundle.read(name)) for name in bundle.manifest.files},
        "signature": signature and {"key": signature.key_id, "comment": signature.comment},
        "manifest": bundle.manifest,
    }


def verdict(bundle: Bundle, trusted: str | None, answers: list[Answered]) -> str:
    """What ``bundle verify`` found of a bundle that could be read."""
    lines = [f"{bundle.path}: whole, sha256 {bundle.digest}"]
    if bundle.schema != SCHEMA:
        lines.append(f"schema {_schema(bundle)}")
    if trusted is not None and bundle.signature is not None:
        lines.append(f"signed by {trusted}: {bundle.signature.comment!r}")
    elif bundle.signature is not None:
        lines.append(f"says it is signed by {bundle.signature.key_id}; check that with --trust")
    lines += [f"{answer}: {'passed' if answer.passed else 'FAILED'}" for answer in answers]
    return "\n".join(lines)


def verdict_object(bundle: Bundle, trusted: str | None, answers: list[Answered]) -> dict[str, Any]:
    """The same for a program."""
    return {
        "type": "verdict",
        "path": str(bundle.path),
        "sha256": bundle.digest,
        "schema": bundle.schema,
        "signed_by": trusted,
        "answers": [{**msgspec.to_builtins(answer), "passed": answer.passed} for answer in answers],
    }
