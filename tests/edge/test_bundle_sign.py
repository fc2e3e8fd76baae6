"""Signatures: RFC 8032's vectors, minisign's own files, and no way around a key that was asked for."""

import base64
import json
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.bundle import DEFAULT_BUNDLE, MANIFEST, SIGNATURE, ed25519, load_bundle
from edge.bundle.minisign import PublicKey, find_public_key, parse_public_key, parse_signature, verify
from edge.bundle.sign import make_keys, read_secret_key, sign_bundle
from edge.bundle.write import add_signature
from firmware_bridge.cli import main
from firmware_bridge.errors import BadInput

# RFC 8032, section 7.1: public key, message, signature.
RFC = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
# Made by minisign 0.11 of the bytes `a pulse wave`, and an older one, not hashed, of `test`.
MADE_BY_MINISIGN = [
    (
        "RWSyQbQKVq/v4loSoFj178iyKTqUlHFV9S+reIi2CZ2b1kIXPd75eDEJ",
        b"a pulse wave",
        "untrusted comment: signature from minisign secret key\n"
        "RUSyQbQKVq/v4j1QVqWV4JWGX8Dh393DsOpy/jI8e9RbycX6+XiI2tlltVtyY+C54Xw2VD+PnwsDb6PItm2KUh8v0LImzz08pQU=\n"
        "trusted comment: made by minisign 0.11\n"
        "p0RCGDEmKu1xjmrMCgQodKeka8s2gtaeN5pMgvbb8rkpectmIEOu+R03pU5mVTvZu44DyAwtZvc6Rx8tpOzjAQ==\n",
    ),
    (
        "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3",
        b"test",
        "untrusted comment: signature from minisign secret key\n"
        "RWQf6LRCGA9i59SLOFxz6NxvASXDJeRtuZykwQepbDEGt87ig1BNpWaVWuNrm73YiIiJbq71Wi+dP9eKL8OC351vwIasSSbXxwA=\n"
        "trusted comment: timestamp:1555779966\tfile:test\n"
        "QtKMXWyYcwdpZAlPF7tE2ENJkRd1ujvKjlj1m9RtHTBnZPa5WKU5uWRs5GoP5M/VqE81QFuMKI5k/SfNQUaOAA==\n",
    ),
]


@pytest.mark.parametrize(("key", "message", "signature"), RFC)
def test_the_vectors_of_the_rfc(key: str, message: str, signature: str) -> None:
    key_bytes, signed = bytes.fromhex(key), bytes.fromhex(signature)
    assert ed25519.verify(key_bytes, bytes.fromhex(message), signed)
    assert not ed25519.verify(key_bytes, bytes.fromhex(message) + b"!", signed)


@settings(max_examples=25, deadline=None)
@given(st.binary(max_size=100), st.integers(0, 511), st.integers(0, 255))
def test_what_a_library_signed_and_one_changed_bit(message: bytes, bit: int, key_bit: int) -> None:
    signature = KEY.sign(message)
    assert ed25519.verify(PUBLIC, message, signature)
    assert not ed25519.verify(PUBLIC, message, flipped(signature, bit))
    assert not ed25519.verify(flipped(PUBLIC, key_bit), message, signature)
    assert not ed25519.verify(PUBLIC, message + b"\0", signature)


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@settings(max_examples=40, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.binary(min_size=64, max_size=64))
def test_whatever_is_taken_a_library_takes(key: bytes, signature: bytes) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, b"message")
        library = True
    except (InvalidSignature, ValueError):
        library = False
    assert ed25519.verify(key, b"message", signature) <= library


def test_a_second_form_of_a_signature_is_refused() -> None:
    """RFC 8032, section 8.4: S + L would fit the equation as well."""
    signature = KEY.sign(b"message")
    other = int.from_bytes(signature[32:], "little") + ed25519.L
    assert not ed25519.verify(PUBLIC, b"message", signature[:32] + other.to_bytes(32, "little"))


@pytest.mark.parametrize("y", [0, 1, ed25519.P - 1, ed25519.P, ed25519.P + 1])
def test_a_point_of_small_order_is_no_key(y: int) -> None:
    """With the neutral point as key and commitment, S = 0 would sign everything."""
    point = y.to_bytes(32, "little")
    assert not ed25519.verify(point, b"message", point + bytes(32))
    assert not ed25519.verify(PUBLIC, b"message", point + bytes(32))


@pytest.mark.parametrize(("length", "signed"), [(31, 64), (33, 64), (32, 63), (32, 65), (0, 0)])
def test_wrong_lengths_are_refused(length: int, signed: int) -> None:
    assert not ed25519.verify(bytes(length), b"", bytes(signed))


@pytest.mark.parametrize(("key", "message", "text"), MADE_BY_MINISIGN)
def test_what_minisign_signed(key: str, message: bytes, text: str) -> None:
    public, signature = parse_public_key(key), parse_signature(text.encode())
    verify(public, message, signature)
    with pytest.raises(BadInput, match="was changed"):
        verify(public, message + b"!", signature)
    comment = text.replace("trusted comment: m", "trusted comment: M").replace("timestamp:1", "timestamp:2")
    with pytest.raises(BadInput, match="trusted comment was changed"):
        verify(public, message, parse_signature(comment.encode()))
    assert public.text == key


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, PublicKey]:
    return tmp_path / "s.key", make_keys(tmp_path / "s.key", tmp_path / "s.pub")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEFAULT_BUNDLE, tmp_path / "bundle"))


def signed(path: Path, secret: Path) -> Path:
    add_signature(bundle := load_bundle(path), sign_bundle(bundle, read_secret_key(secret)))
    return path


def refusal(path: Path, trust: PublicKey) -> str:
    with pytest.raises(BadInput) as error:
        load_bundle(path, trust=trust)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("packed", [False, True])
def test_a_signed_bundle_is_the_same_bundle(folder: Path, keys: tuple[Path, PublicKey], packed: bool) -> None:
    path = Path(shutil.make_archive(str(folder), "zip", folder)) if packed else folder
    plain = load_bundle(path)
    assert plain.signature is None and "is not signed" in refusal(path, keys[1])
    found = load_bundle(signed(path, keys[0]), trust=keys[1])
    assert found.digest == plain.digest and found.manifest == plain.manifest
    assert found.signature is not None and "bundle:ppg-default" in found.signature.comment
    assert load_bundle(signed(path, keys[0]), trust=keys[1]).digest == plain.digest  # signing twice does no harm
    assert not [left for left in path.parent.iterdir() if "unfinished" in left.name]


def test_another_key_and_a_changed_manifest_are_refused(
    folder: Path, keys: tuple[Path, PublicKey], tmp_path: Path
) -> None:
    other = make_keys(tmp_path / "o.key", tmp_path / "o.pub")
    signed(folder, keys[0])
    assert f"signed by key {keys[1].key_id}, not by key {other.key_id}" in refusal(folder, other)
    forged = PublicKey(keys[1].number, other.key)  # the number says it is the same key
    assert "was changed, or it was not made by key" in refusal(folder, forged)
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, "licence": "mine"}))
    assert load_bundle(folder).manifest.licence == "mine"
    assert "was changed" in refusal(folder, keys[1])


def test_a_signature_is_looked_at_before_what_it_signs(folder: Path, keys: tuple[Path, PublicKey]) -> None:
    signed(folder, keys[0])
    (folder / MANIFEST).write_bytes(b"[")
    assert SIGNATURE in refusal(folder, keys[1])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=400), st.integers(0, 3))
def test_a_damaged_signature_is_one_line(raw: bytes, line: int) -> None:
    for data in (raw, b"\n".join([*MADE_BY_MINISIGN[0][2].encode().split(b"\n")[:line], raw])):
        with pytest.raises(BadInput) as error:
            parse_signature(data)
        assert "\n" not in str(error.value)


def test_keys_are_for_their_owner_and_never_written_over(tmp_path: Path, keys: tuple[Path, PublicKey]) -> None:
    assert stat.S_IMODE(keys[0].stat().st_mode) == 0o600
    assert find_public_key(str(tmp_path / "s.pub")) == keys[1] == find_public_key(keys[1].text)
    before = keys[0].read_bytes()
    with pytest.raises(BadInput, match="is there already"):
        make_keys(keys[0], tmp_path / "new.pub")
    with pytest.raises(BadInput, match="is there already"):
        make_keys(tmp_path / "new.key", tmp_path / "s.pub")
    assert keys[0].read_bytes() == before and not (tmp_path / "new.key").exists()
    assert not (tmp_path / "new.pub").exists()


def secret_with(path: Path, edit: Any) -> None:
    comment, line = path.read_text().splitlines()
    data = bytearray(base64.b64decode(line))
    edit(data)
    path.write_text(f"{comment}\n{base64.b64encode(data).decode()}\n")


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda d: d.__setitem__(slice(2, 4), b"Sc"), "has a password"),
        (lambda d: d.__setitem__(slice(0, 2), b"XX"), "is not an Ed25519 key"),
        (lambda d: d.__setitem__(70, d[70] ^ 1), "is damaged"),
        (lambda d: d.__setitem__(150, d[150] ^ 1), "is damaged"),
        (lambda d: d.pop(), "must be 158"),
    ],
)
def test_a_secret_key_that_cannot_be_used(keys: tuple[Path, PublicKey], edit: Any, said: str) -> None:
    secret_with(keys[0], edit)
    with pytest.raises(BadInput, match=said):
        read_secret_key(keys[0])


def test_minisigns_own_secret_key_without_a_checksum_is_taken(keys: tuple[Path, PublicKey]) -> None:
    secret_with(keys[0], lambda data: data.__setitem__(slice(126, 158), bytes(32)))
    assert read_secret_key(keys[0]).public() == keys[1]


@pytest.mark.parametrize("given_", ["nosuch.pub", "RW", "RW" + "A" * 54, "\0", ".", "é"])
def test_a_key_that_is_none_is_one_line(given_: str) -> None:
    with pytest.raises(BadInput, match="--trust") as error:
        find_public_key(given_)
    assert "\n" not in str(error.value)


def test_the_monitor_takes_only_what_the_key_signed(
    folder: Path, keys: tuple[Path, PublicKey], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    play = ["sim:sinus?duration=4", "--bundle", str(folder), "--trust", str(tmp_path / "s.pub")]
    for command in (["monitor", *play, "--fast", "--json"], ["tokens", *play]):
        assert main(command) == 2
        out, err = capfd.readouterr()
        assert out == "" and "is not signed" in err and len(err.splitlines()) == 1
    assert main(["bundle", "sign", str(folder), "--key", str(keys[0]), "--comment", "to my watch"]) == 0
    assert main(["monitor", *play, "--fast", "--json"]) == 0
    assert '"summary"' in capfd.readouterr().out
    assert main(["bundle", "verify", str(folder), "--trust", keys[1].text]) == 0
    assert f"signed by {keys[1].key_id}: 'to my watch'" in capfd.readouterr().out


def test_a_comment_of_two_lines_is_refused(folder: Path, keys: tuple[Path, PublicKey]) -> None:
    with pytest.raises(BadInput, match="one line"):
        sign_bundle(load_bundle(folder), read_secret_key(keys[0]), "one\ntwo")


def test_verifying_needs_no_package_that_a_device_lacks(folder: Path, keys: tuple[Path, PublicKey]) -> None:
    signed(folder, keys[0])
    code = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from firmware_bridge.cli import main\n"
        f"sys.exit(main(['bundle', 'verify', {str(folder)!r}, '--trust', {keys[1].text!r}])"
        f" or main(['bundle', 'keygen', '--out', {str(folder / 'k')!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert "signed by" in done.stdout and done.returncode == 2
    assert "cryptography is not installed" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(shutil.which("minisign") is None, reason="minisign is not installed (apt install minisign)")
def test_minisign_itself_agrees(folder: Path, keys: tuple[Path, PublicKey], tmp_path: Path) -> None:
    def minisign(*words: str | Path) -> int:
        command = ["minisign", *map(str, words), "-m", str(folder / MANIFEST)]
        return subprocess.run(command, check=False, capture_output=True, stdin=subprocess.DEVNULL).returncode

    signed(folder, keys[0])
    assert minisign("-V", "-P", keys[1].text) == 0 == minisign("-V", "-p", tmp_path / "s.pub")
    for legacy in ([], ["-l"]):
        assert minisign("-S", *legacy, "-s", keys[0]) == 0  # our secret key in its hands
        signature = load_bundle(folder, trust=keys[1]).signature
        assert signature is not None and signature.algorithm == (b"Ed" if legacy else b"ED")
    subprocess.run(
        ["minisign", "-G", "-W", "-p", tmp_path / "m.pub", "-s", tmp_path / "m.key"], check=True, capture_output=True
    )
    signed(folder, tmp_path / "m.key")
    assert minisign("-V", "-p", tmp_path / "m.pub") == 0
    (folder / MANIFEST).write_bytes((folder / MANIFEST).read_bytes() + b" ")
    assert minisign("-V", "-p", tmp_path / "m.pub") != 0
