"""The JSON Schema of the manifest: current, and of one mind with the code that reads it."""

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.bundle import DEFAULT_BUNDLE, MANIFEST, SCHEMA, load_bundle
from edge.bundle.checks import complaint
from edge.bundle.migrate import read_manifest
from edge.bundle.schema import json_schema, schema_text
from edge.bundle.write import encode_manifest
from firmware_bridge.errors import BadInput

COMMITTED = Path(DEFAULT_BUNDLE).parents[1] / "bundle.schema.json"
VALIDATOR = jsonschema.Draft202012Validator(json_schema())
GOOD: dict[str, Any] = json.loads(encode_manifest(load_bundle().manifest))


def reads(document: Any) -> bool:
    try:
        manifest, _ = read_manifest(json.dumps(document).encode())
    except BadInput:
        return False
    return complaint(manifest) is None


def test_the_committed_schema_is_that_of_the_code() -> None:
    assert COMMITTED.read_text() == schema_text(), "run `make schema`"
    jsonschema.Draft202012Validator.check_schema(json_schema())


def test_the_shipped_manifest_is_valid_and_of_todays_schema() -> None:
    shipped = json.loads((DEFAULT_BUNDLE / MANIFEST).read_text())
    assert shipped["schema"] == SCHEMA, "pack the shipped bundle again with `make bundle`"
    VALIDATOR.validate(shipped)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema",), 2),
        (("signal",), "eeg"),
        (("encoder", "layers"), 0),
        (("encoder", "lookahead"), 3),
        (("encoder", "context"), 1.5),
        (("encoder", "unheard_of"), 1),
        (("warmup_hops",), -1),
        (("engines",), {}),
        (("engines", "litert"), {"file": "x"}),
        (("novelty", "scale"), 0),
        (("novelty", "quantiles"), [1.0]),
        (("respiration", "leak"), 1.0),
        (("files", "../escape"), "0" * 64),
        (("files", "a\\b"), "0" * 64),
        (("files", "readouts.npy"), "0" * 63),
        (("licence",), None),
        (("unheard_of",), 1),
    ],
)
def test_a_damaged_manifest_is_refused_by_validator_and_reader(path: tuple[str, ...], value: Any) -> None:
    damaged = copy.deepcopy(GOOD)
    at = damaged
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    assert VALIDATOR.is_valid(GOOD) and not VALIDATOR.is_valid(damaged)
    if path != ("schema",):  # an older one is migrated
        assert not reads(damaged)


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(node, dict):
        inner = [place for key, value in node.items() for place in places(value, (*path, key))]
    else:
        inner = places(node[0], (*path, 0)) if isinstance(node, list) and node else []
    return [path, *inner] if path else inner


PLACES = places(GOOD)
JUNK = st.sampled_from([None, True, -1, 0, 0.5, 1.0, 10**6, "", "x", "../x", [], [1], {}, {"x": 1}])


@given(st.sampled_from(PLACES), JUNK)
def test_what_the_reader_takes_the_schema_allows(path: tuple[Any, ...], value: Any) -> None:
    document = copy.deepcopy(GOOD)
    at: Any = document
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    if path != ("schema",) and reads(document):
        assert VALIDATOR.is_valid(document)


@pytest.mark.parametrize("schema", [1, 2])
def test_an_older_manifest_is_read_as_todays(schema: int) -> None:
    manifest, written = read_manifest(json.dumps({**GOOD, "schema": schema}).encode())
    assert written == schema and json.loads(encode_manifest(manifest)) == GOOD


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (SCHEMA + 1, "update pulsecode"),
        (0, "make the bundle again"),
        ("3", "make the bundle again"),
        (True, "schema True"),
    ],
)
def test_other_schemas_are_refused_in_one_line(schema: Any, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        read_manifest(json.dumps({**GOOD, "schema": schema}).encode())


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_garbage_is_one_line(raw: bytes) -> None:
    with pytest.raises(BadInput) as error:
        read_manifest(raw)
    assert "\n" not in str(error.value)
