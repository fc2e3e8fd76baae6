"""What changed between two bundles, in words, and by diff(1)'s exit status."""

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.bundle import DEFAULT_BUNDLE, SCHEMA, Manifest, load_bundle, write_bundle
from edge.bundle.diff import compare, in_words
from edge.bundle.sign import make_keys, read_secret_key, sign_bundle
from edge.bundle.write import add_signature
from firmware_bridge.cli import main

SHIPPED = load_bundle()
CONTENTS = {name: SHIPPED.read(name) for name in SHIPPED.manifest.files}
ONNX = SHIPPED.manifest.engines["onnx"].file


def make(path: Path, contents: dict[str, bytes] | None = None, **changes: Any) -> Path:
    manifest: Manifest = msgspec.structs.replace(SHIPPED.manifest, **changes)
    write_bundle(path, manifest, CONTENTS if contents is None else contents)
    return path


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return make(tmp_path / "old")


def words(old: Path, new: Path) -> str:
    changes = compare(load_bundle(old), load_bundle(new))
    back = compare(load_bundle(new), load_bundle(old))
    assert {change.field for change in changes} == {change.field for change in back}
    return in_words(changes)


def test_a_bundle_is_the_same_as_its_zip(old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", old)
    assert main(["bundle", "diff", str(old), packed]) == 0
    assert capsys.readouterr().out == ""


def test_every_kind_of_change_is_named(old: Path, tmp_path: Path) -> None:
    m = SHIPPED.manifest
    assert m.rhythm is not None and m.novelty is not None
    other = bytearray(CONTENTS["readouts.npy"])
    other[-1] ^= 1
    contents = {**CONTENTS, "readouts.npy": bytes(other), "NOTES.md": b"new", ONNX: b"shorter"}
    del contents["fidelity.png"]
    quantiles = [*m.novelty.quantiles[:-1], m.novelty.quantiles[-1] + 1]
    new = make(
        tmp_path / "new",
        contents,
        version="9.9",
        warmup_hops=m.warmup_hops + 1,
        encoder=msgspec.structs.replace(m.encoder, codebook_size=1024),
        rhythm=msgspec.structs.replace(m.rhythm, bias=0.25),
        novelty=msgspec.structs.replace(m.novelty, quantiles=quantiles),
        respiration=None,
        metrics={**m.metrics, "litert.top1": 0.5, "new_metric": 1.0},
        provenance={**m.provenance, "date": "2030-01-01"},
    )
    said = words(old, new)
    for line in (
        f"version: {m.version} → 9.9",
        f"encoder.codebook_size: {m.encoder.codebook_size} → 1024",
        f"warmup_hops: {m.warmup_hops} → {m.warmup_hops + 1}",
        f"rhythm.bias: {m.rhythm.bias} → 0.25",
        f"novelty.quantiles: 1 of {len(quantiles)} numbers changed, by up to 1",
        "respiration removed:",
        "litert.top1: ",
        "metrics.new_metric added: 1.0",
        "provenance.date: ",
        "NOTES.md added: 3 bytes",
        "fidelity.png removed: ",
        "readouts.npy: other content",
        f"{ONNX}: other content, {len(CONTENTS[ONNX])} → 7 bytes (-100.0 %)",
    ):
        assert line in said, line
    assert "frontend" not in said and "licence" not in said
    sections = [line.split()[0] for line in said.splitlines() if not line.startswith(" ")]
    assert len(sections) == len(set(sections)) and {"bundle", "encoder", "heads", "metrics", "files"} <= set(sections)


def test_a_signature_is_a_difference(old: Path, tmp_path: Path) -> None:
    key = make_keys(tmp_path / "k.key", tmp_path / "k.pub")
    new = make(tmp_path / "new")
    bundle = load_bundle(new)
    add_signature(bundle, sign_bundle(bundle, read_secret_key(tmp_path / "k.key")))
    assert words(old, new).split() == ["signature", "key", "added:", key.key_id]


def test_json_and_exit_status(old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = make(tmp_path / "new", licence="other")
    assert main(["bundle", "diff", str(old), str(new), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["same"] is False and found["old"] == load_bundle(old).digest
    (change,) = found["changes"]
    assert (change["field"], change["kind"], change["new"]) == ("licence", "changed", "other")
    assert main(["bundle", "diff", str(old), str(tmp_path / "nosuch")]) == 2


@pytest.mark.parametrize("out", ["new", "new.zip"])
@pytest.mark.parametrize("schema", [1, 2])
def test_migrating_changes_nothing_but_the_schema(
    tmp_path: Path, out: str, schema: int, capsys: pytest.CaptureFixture[str]
) -> None:
    old = Path(shutil.copytree(DEFAULT_BUNDLE, tmp_path / "old"))
    text = json.loads((old / "manifest.json").read_text())
    (old / "manifest.json").write_text(json.dumps({**text, "schema": schema}))
    new = tmp_path / out
    assert main(["bundle", "verify", str(old)]) == 0
    assert "pulsecode bundle migrate" in capsys.readouterr().out
    assert main(["bundle", "migrate", str(old), "--out", str(new)]) == 0
    assert f"schema {schema} → {SCHEMA}" in capsys.readouterr().out
    assert load_bundle(new).schema == SCHEMA
    assert words(old, new).split() == ["bundle", "schema:", str(schema), "→", str(SCHEMA)]
    for again in (["migrate", str(old), "--out", str(new)], ["migrate", str(new), "--out", str(tmp_path / "x")]):
        assert main(["bundle", *again]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("action", ["inspect", "verify"])
def test_the_same_for_a_program(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", action, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sha256"] == SHIPPED.digest
    assert main(["bundle", action]) == 0
    assert SHIPPED.digest in capsys.readouterr().out


def test_the_schema_command_prints_the_committed_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", "schema"]) == 0
    assert capsys.readouterr().out == (DEFAULT_BUNDLE.parents[1] / "bundle.schema.json").read_text()
