"""Signatures in minisign's file format (https://jedisct1.github.io/minisign/), verified without any other package.

A public key and a signature are two or four lines of text; ``minisign -V`` and ``minisign -S`` on ``manifest.json`` do
the same as this module and :mod:`edge.bundle.sign`.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from pathlib import Path

from edge.bundle import ed25519
from firmware_bridge.errors import BadInput

UNTRUSTED = "untrusted comment: "
TRUSTED = "trusted comment: "
PURE, PREHASHED = b"Ed", b"ED"  # the message itself is signed (legacy), or its BLAKE2b-512
MAX_TEXT = 4096


@dataclass(frozen=True)
class PublicKey:
    """``number`` (8 bytes, made at random) tells keys apart; ``key`` (32 bytes) is the Ed25519 public key."""

    number: bytes
    key: bytes

    @property
    def key_id(self) -> str:
        """As minisign writes it: the number, little-endian, in hexadecimal."""
        return self.number[::-1].hex().upper()

    @property
    def text(self) -> str:
        """The one line that identifies it, 56 characters of base64."""
        return base64.b64encode(PURE + self.number + self.key).decode()


@dataclass(frozen=True)
class Signature:
    """``algorithm`` PURE or PREHASHED; ``signed`` (64 bytes) signs the file, ``sealed`` (64 bytes) signs that and the
    trusted comment."""

    algorithm: bytes
    number: bytes
    signed: bytes
    comment: str
    sealed: bytes

    @property
    def key_id(self) -> str:
        """Of the key that it says it was made with."""
        return self.number[::-1].hex().upper()


def decode(text: str, length: int, what: str) -> bytes:
    """``length`` bytes from one line of base64; ``what`` names it in the error."""
    try:
        data = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise BadInput(f"{what} is not base64") from None
    if len(data) != length:
        raise BadInput(f"{what} holds {len(data)} bytes, it must be {length}")
    return data


def lines(raw: bytes, count: int, what: str) -> list[str]:
    """The ``count`` lines of a minisign text; ``what`` names it in the error."""
    try:
        found = [line.rstrip("\r") for line in raw[:MAX_TEXT].decode().split("\n")]
    except UnicodeDecodeError:
        raise BadInput(f"is not {what} (not text)") from None
    if len(found) < count or not found[0].startswith(UNTRUSTED):
        raise BadInput(f"is not {what} ({count} lines, the first `{UNTRUSTED}…`)")
    return found


def parse_public_key(text: str) -> PublicKey:
    """A public key from the line of base64 or from the text of a key file. Raises :class:`BadInput`."""
    line = lines(text.encode(), 2, "a minisign public key")[1] if text.startswith(UNTRUSTED) else text
    data = decode(line, 42, "the public key")
    if data[:2] != PURE:
        raise BadInput(f"the public key is of kind {data[:2]!r}, not Ed25519")
    return PublicKey(data[2:10], data[10:])


def find_public_key(given: str) -> PublicKey:
    """``--trust``: the key's one line (``RW…``), or a file that holds it. Raises :class:`BadInput`."""
    path = Path(given)
    try:
        if path.is_file():
            with path.open("rb") as file:
                return parse_public_key(file.read(MAX_TEXT).decode().strip())
        return parse_public_key(given)
    except BadInput as error:
        raise BadInput(f"--trust {given}: {error}; give a minisign public key, or the file that holds it") from None
    except (UnicodeDecodeError, ValueError):
        raise BadInput(f"--trust {given}: is not a minisign public key, which is text") from None
    except OSError as error:
        raise BadInput(f"--trust {given}: cannot be read ({error.strerror})") from None


def parse_signature(raw: bytes) -> Signature:
    """A signature from the bytes of a ``.minisig`` file. Raises :class:`BadInput`."""
    _, body, comment, seal = lines(raw, 4, "a minisign signature")[:4]
    if not comment.startswith(TRUSTED):
        raise BadInput(f"is not a minisign signature (its third line must be `{TRUSTED}…`)")
    data = decode(body, 74, "the signature")
    if data[:2] not in (PURE, PREHASHED):
        raise BadInput(f"the signature is of kind {data[:2]!r}, not Ed25519")
    return Signature(data[:2], data[2:10], data[10:], comment.removeprefix(TRUSTED), decode(seal, 64, "its last line"))


def to_sign(algorithm: bytes, message: bytes) -> bytes:
    """What is signed of a message."""
    return message if algorithm == PURE else hashlib.blake2b(message).digest()


def to_seal(signed: bytes, comment: str) -> bytes:
    """What is signed of a signature and its trusted comment."""
    return signed + comment.encode()


def verify(key: PublicKey, message: bytes, signature: Signature) -> None:
    """Raise :class:`BadInput` unless ``key`` signed ``message`` and the trusted comment."""
    if signature.number != key.number:
        raise BadInput(f"was signed by key {signature.key_id}, not by key {key.key_id}")
    if not ed25519.verify(key.key, to_sign(signature.algorithm, message), signature.signed):
        raise BadInput(f"does not fit: what it signs was changed, or it was not made by key {key.key_id}")
    if not ed25519.verify(key.key, to_seal(signature.signed, signature.comment), signature.sealed):
        raise BadInput("its trusted comment was changed")
