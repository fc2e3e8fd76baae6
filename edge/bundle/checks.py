"""What a manifest's types cannot say: numbers that would only fail later, far from their cause, and sizes."""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from edge.bundle.manifest import MANIFEST, NAME_PATTERN, SHA256_PATTERN, Manifest
from edge.frontend import FrontendConfig
from firmware_bridge.errors import BadInput

SIGNATURE = f"{MANIFEST}.minisig"  # the name that minisign gives it
MAX_LITERT_BYTES = 2_000_000  # of the LiteRT artefact
MAX_ENGINE_BYTES = 6_000_000  # of all engines' artefacts together


def files_used(manifest: Manifest) -> list[str]:
    """Names of the files that the manifest's parts refer to."""
    used = [engine.file for engine in manifest.engines.values()]
    used += [manifest.novelty.transitions] if manifest.novelty else []
    used += [manifest.readout.file] if manifest.readout else []
    used += [manifest.vectors.patches, manifest.vectors.answers] if manifest.vectors else []
    return used


def complaint(manifest: Manifest) -> str | None:
    """What is wrong with the manifest, naming the field; None where it makes sense."""
    shape, novelty, vectors = manifest.encoder, manifest.novelty, manifest.vectors
    unlisted = [name for name in files_used(manifest) if name not in manifest.files]
    wrong = {
        "engines must name at least one engine": not manifest.engines,
        "encoder.lookahead must be below encoder.context": shape.lookahead >= shape.context,
        "novelty.quantiles must be rising numbers": novelty is not None
        and novelty.quantiles != sorted(novelty.quantiles),
        "vectors.rows must be different names, fp32 and clear among them": vectors is not None
        and not (len(set(vectors.rows)) == len(vectors.rows) and {"fp32", "clear"} <= set(vectors.rows)),
        f"every file it uses must be listed in files with its SHA-256; {', '.join(unlisted)} is not": unlisted,
    }
    found = next((message for message, bad in wrong.items() if bad), None)
    return _frontend_complaint(manifest.frontend) or found or _files_complaint(manifest.files)


def _frontend_complaint(frontend: FrontendConfig) -> str | None:
    wrong = {
        "frontend.rate must be 1 to 10000 Hz": not 1 <= frontend.rate <= 10_000,
        "frontend.hop must be 1 to 10000 samples": not 1 <= frontend.hop <= 10_000,
        "frontend.sos must be 1 to 16 rows of 6 numbers with a0 = 1": not 1 <= len(frontend.sos) <= 16
        or any(len(row) != 6 or row[3] != 1 for row in frontend.sos),
        "frontend.gain_hops must be 1 to 1000": not 1 <= frontend.gain_hops <= 1000,
        "frontend.clip must be positive": not frontend.clip > 0,
    }
    return next((message for message, bad in wrong.items() if bad), None)


def _files_complaint(files: Mapping[str, str]) -> str | None:
    for name, digest in files.items():
        if leaves(name):
            return f"files: {name!r} leaves the bundle; refused"
        if not re.fullmatch(NAME_PATTERN, name) or name in (MANIFEST, SIGNATURE):
            return f"files: {name!r} is no name for a file of a bundle (letters, digits and . _ + - within folders)"
        if not re.fullmatch(SHA256_PATTERN, digest):
            return f"files: {name}: {digest[:80]!r} is no SHA-256 (64 digits 0-9, a-f)"
    return None


def leaves(name: str) -> bool:
    """Whether a file's name, as a path on any system, could lie outside of its folder."""
    pure = PurePosixPath(name.replace("\\", "/"))
    return pure.is_absolute() or ".." in pure.parts or ":" in name


def check_sizes(manifest: Manifest, contents: Mapping[str, bytes]) -> None:
    """Raise :class:`BadInput` where the engines' artefacts are larger than a bundle's may be."""
    sizes = {name: len(contents[engine.file]) for name, engine in manifest.engines.items()}
    if (size := sizes.get("litert", 0)) > MAX_LITERT_BYTES:
        raise BadInput(
            f"bundle {manifest.name}: {manifest.engines['litert'].file} holds {size / 1e6:.2f} MB, "
            f"LiteRT's part may hold {MAX_LITERT_BYTES / 1e6:g} MB; train a smaller encoder"
        )
    if (size := sum(sizes.values())) > MAX_ENGINE_BYTES:
        raise BadInput(
            f"bundle {manifest.name}: {', '.join(sizes)} hold {size / 1e6:.2f} MB, "
            f"all engines together may hold {MAX_ENGINE_BYTES / 1e6:g} MB; train a smaller encoder or ship fewer"
        )
