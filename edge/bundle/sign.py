"""Make keys and signatures in minisign's file format; Ed25519 itself is the ``cryptography`` package's.

The secret key file is minisign's without a password (``minisign -G -W``): whoever reads it can sign, so it is written
for its owner alone. Keys with a password stay with minisign itself, whose signatures are as good.
"""

import base64
import hashlib
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from edge.bundle import minisign
from edge.bundle.load import Bundle
from edge.bundle.manifest import MANIFEST
from edge.bundle.minisign import MAX_TEXT, PREHASHED, PURE, TRUSTED, UNTRUSTED, PublicKey
from firmware_bridge.errors import BadInput

# The secret key's 158 bytes: signature algorithm, key derivation (none), checksum (BLAKE2b-256), salt and two limits
# for the derivation, then number, seed, public key and checksum.
NO_PASSWORD, BLAKE2B = b"\0\0", b"B2"
HEAD = PURE + NO_PASSWORD + BLAKE2B + bytes(32 + 8 + 8)


@dataclass(frozen=True)
class SecretKey:
    """``number`` (8 bytes) and ``seed`` (32 bytes, RFC 8032's private key)."""

    number: bytes
    seed: bytes

    def public(self) -> PublicKey:
        """The key that verifies what this one signs."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        key = Ed25519PrivateKey.from_private_bytes(self.seed).public_key()
        return PublicKey(self.number, key.public_bytes_raw())

    def sign(self, message: bytes, comment: str) -> bytes:
        """The text of a ``.minisig`` file: the message is hashed first, as minisign does since its version 0.10."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        if not comment.replace("\t", " ").isprintable():
            raise BadInput("the trusted comment must be one line of text")
        key = Ed25519PrivateKey.from_private_bytes(self.seed)
        signed = key.sign(minisign.to_sign(PREHASHED, message))
        sealed = key.sign(minisign.to_seal(signed, comment))
        body = base64.b64encode(PREHASHED + self.number + signed).decode()
        return (
            f"{UNTRUSTED}signature from pulsecode secret key\n{body}\n"
            f"{TRUSTED}{comment}\n{base64.b64encode(sealed).decode()}\n"
        ).encode()


def _checksum(number: bytes, pair: bytes) -> bytes:
    return hashlib.blake2b(PURE + number + pair, digest_size=32).digest()


def make_keys(secret: Path, public: Path) -> PublicKey:
    """Write a new pair of keys; refuses to write over either. Raises :class:`BadInput`."""
    key = SecretKey(secrets.token_bytes(8), secrets.token_bytes(32))
    found = key.public()
    pair = key.seed + found.key
    body = base64.b64encode(HEAD + key.number + pair + _checksum(key.number, pair)).decode()
    _create(secret, f"{UNTRUSTED}minisign secret key {found.key_id}, without a password\n{body}\n", 0o600)
    try:
        _create(public, f"{UNTRUSTED}minisign public key {found.key_id}\n{found.text}\n", 0o644)
    except BadInput:
        secret.unlink()  # half a pair is of no use
        raise
    return found


def _create(path: Path, text: str, mode: int) -> None:
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
            file.write(text)
    except FileExistsError:
        raise BadInput(f"{path}: is there already, and a key is not written over; give another name") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be written ({error.strerror})") from None


def read_secret_key(path: Path) -> SecretKey:
    """A secret key without a password. Raises :class:`BadInput`."""
    try:
        with path.open("rb") as file:
            line = minisign.lines(file.read(MAX_TEXT), 2, "a minisign secret key")[1]
        data = minisign.decode(line, 158, "the secret key")
    except OSError as error:
        raise BadInput(f"--key {path}: cannot be read ({error.strerror})") from None
    except BadInput as error:
        raise BadInput(f"--key {path}: {error}; give the secret key that `pulsecode bundle keygen` wrote") from None
    if data[:2] != PURE or data[4:6] != BLAKE2B:
        raise BadInput(f"--key {path}: is not an Ed25519 key of minisign's")
    if data[2:4] != NO_PASSWORD:
        raise BadInput(f"--key {path}: has a password; sign with `minisign -S -s {path} -m BUNDLE/{MANIFEST}` instead")
    number, pair, checksum = data[54:62], data[62:126], data[126:]
    key = SecretKey(number, pair[:32])
    # minisign leaves the checksum out where there is no password.
    if checksum not in (_checksum(number, pair), bytes(32)) or key.public().key != pair[32:]:
        raise BadInput(f"--key {path}: is damaged (its checksum does not fit); use your copy of it")
    return key


def sign_bundle(bundle: Bundle, key: SecretKey, comment: str | None = None) -> bytes:
    """The signature file of a bundle that was verified; ``comment`` is signed with it (default: when, and what)."""
    manifest = bundle.manifest
    if comment is None:
        comment = f"timestamp:{int(time.time())}\tfile:{MANIFEST}\tbundle:{manifest.name} {manifest.version}\thashed"
    return key.sign(bundle.read(MANIFEST), comment)
