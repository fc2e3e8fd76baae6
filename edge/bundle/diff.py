"""What changed between two bundles, by field and in words; like ``diff``, what is the same is not mentioned."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from edge.bundle.load import Bundle

# Where the words put a manifest's fields; every other field is a head: a model that judges.
SECTIONS = {
    "name": "bundle",
    "version": "bundle",
    "licence": "bundle",
    "signal": "input",
    "frontend": "input",
    "encoder": "encoder",
    "warmup_hops": "encoder",
    "engines": "engines",
    "metrics": "metrics",
    "provenance": "provenance",
    "vectors": "vectors",
}
SHOWN = 60  # characters of a value


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """One field; ``old`` or ``new`` is None where it is not there. ``note``: what two long values differ by."""

    section: str
    field: str
    kind: Literal["added", "removed", "changed"]
    old: Any = None
    new: Any = None
    note: str = ""

    def __str__(self) -> str:
        if self.kind != "changed":
            value = self.new if self.kind == "added" else self.old
            return f"{self.field} {self.kind}: {_short(value)}"
        return f"{self.field}: {self.note or f'{_short(self.old)} → {_short(self.new)}'}"


def compare(old: Bundle, new: Bundle) -> list[Change]:
    """Every difference from ``old`` to ``new``, in the manifest's order; nothing if they are the same bundle."""
    changes = list(_manifests(old, new)) + list(_files(old, new))
    signers = [bundle.signature.key_id if bundle.signature else None for bundle in (old, new)]
    if signers[0] != signers[1]:
        changes.append(_change("signature", "key", *signers))
    if old.schema != new.schema:
        changes.append(Change("bundle", "schema", "changed", old.schema, new.schema))
    return changes


def in_words(changes: list[Change]) -> str:
    """One line for each change, the sections named at their first."""
    lines, last = [], ""
    order = list(dict.fromkeys(change.section for change in changes))
    for change in sorted(changes, key=lambda change: order.index(change.section)):
        lines.append(f"{change.section if change.section != last else '':<11} {change}")
        last = change.section
    return "\n".join(lines)


def _manifests(old: Bundle, new: Bundle) -> Iterator[Change]:
    before, after = (msgspec.to_builtins(bundle.manifest) for bundle in (old, new))
    for field in after:
        if field in ("schema", "files"):
            continue
        section = SECTIONS.get(field, "heads")
        yield from _walk(section, field, before[field], after[field])


def _walk(section: str, field: str, old: Any, new: Any) -> Iterator[Change]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            yield from _walk(section, f"{field}.{key}", old.get(key), new.get(key))
    elif old != new:
        yield _change(section, field, old, new)


def _change(section: str, field: str, old: Any, new: Any) -> Change:
    kind: Literal["added", "removed", "changed"] = "added" if old is None else "removed" if new is None else "changed"
    note = _numbers(old, new) if isinstance(old, list) and isinstance(new, list) else ""
    return Change(section, field, kind, old, new, note)


def _numbers(old: list[Any], new: list[Any]) -> str:
    """How two tables of numbers of one shape differ; empty where they are something else."""
    left, right = list(_flat(old)), list(_flat(new))
    if len(left) < 4 or not all(isinstance(value, int | float) for value in left + right):
        return ""
    if len(left) != len(right):
        return f"{len(left)} numbers → {len(right)}"
    steps = [abs(b - a) for a, b in zip(left, right, strict=True)]
    return f"{sum(step > 0 for step in steps)} of {len(steps)} numbers changed, by up to {max(steps):.3g}"


def _flat(values: list[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list):
            yield from _flat(value)
        else:
            yield value


def _files(old: Bundle, new: Bundle) -> Iterator[Change]:
    for name in dict.fromkeys([*old.manifest.files, *new.manifest.files]):
        sizes = [len(b.read(name)) if name in b.manifest.files else None for b in (old, new)]
        before, after = sizes
        if before is None or after is None:
            yield _change("files", name, *(None if size is None else f"{size} bytes" for size in sizes))
        elif _sha256(old, name) != _sha256(new, name):
            grown = (
                ""
                if before == after
                else f", {before} → {after} bytes ({100 * (after - before) / max(before, 1):+.1f} %)"
            )
            digests = _sha256(old, name), _sha256(new, name)
            yield Change("files", name, "changed", *digests, note=f"other content{grown}")


def _sha256(bundle: Bundle, name: str) -> str:
    return hashlib.sha256(bundle.read(name)).hexdigest()


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
