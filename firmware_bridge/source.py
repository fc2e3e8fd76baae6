"""A source is a URI, opened once, iterated for blocks; the same everywhere in Pulsecode.

``sim:af?hr=80``, ``file:rec.csv``, ``wfdb:path/record``, ``serial:/dev/ttyUSB0``.
"""

import importlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import parse_qsl

from firmware_bridge.block import Notice, SampleBlock, Signal, StreamInfo
from firmware_bridge.errors import BadInput

# scheme -> module with `open_source(uri, signal) -> Source`; imported only when used.
SCHEMES = {
    "sim": "firmware_bridge.sources.sim",
    "file": "firmware_bridge.sources.csv_file",
    "wfdb": "firmware_bridge.sources.wfdb_record",
    "serial": "firmware_bridge.sources.serial_port",
}


@dataclass(frozen=True, slots=True)
class SourceUri:
    """A parsed source URI: ``scheme:target?key=value&…``. Unknown keys are refused by the scheme that reads it."""

    text: str
    scheme: str
    target: str
    options: dict[str, str]

    @classmethod
    def parse(cls, text: str) -> "SourceUri":
        """Parse ``text``; raises :class:`BadInput` with the known schemes."""
        scheme, colon, rest = text.partition(":")
        if not colon or scheme not in SCHEMES:
            known = ", ".join(f"{name}:" for name in SCHEMES)
            raise BadInput(f"source {text!r}: must start with one of {known} (for example sim:sinus)")
        target, _, query = rest.partition("?")
        try:
            options = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
        except ValueError:
            raise BadInput(f"source {text!r}: options must read ?key=value&key=value") from None
        return cls(text, scheme, target, options)

    def allow(self, *keys: str) -> None:
        """Refuse any option that is not in ``keys``."""
        for key in self.options:
            if key not in keys:
                raise BadInput(f"source {self.text!r}: unknown option {key!r}; known: {', '.join(keys) or 'none'}")

    def number(self, key: str, default: float) -> float:
        """The option ``key`` as a finite number."""
        try:
            value = float(self.options.get(key, default))
        except ValueError:
            value = float("nan")
        if not math.isfinite(value):
            raise BadInput(f"source {self.text!r}: option {key}={self.options[key]!r} is not a number")
        return value


class Source(Protocol):
    """One stream of one sensor.

    ``info`` is known once the source is open. ``live`` sources deliver at their own pace and may reconnect;
    others deliver as fast as they are read. Iterating ends when a recording ends; a live source raises
    :class:`SourceLost` when it is gone for good. ``counters`` are the decoder's own books (bytes, frames,
    rejected pieces …), empty where there is no wire.
    """

    info: StreamInfo
    live: bool

    @property
    def counters(self) -> dict[str, int]: ...

    def __iter__(self) -> Iterator[SampleBlock | Notice]: ...

    def close(self) -> None:
        """Stop iterating soon, from any thread, and release the transport. May be called twice."""


def open_source(uri: str, signal: Signal = "ppg") -> Source:
    """Open ``uri`` and pick its stream that carries ``signal``; raises :class:`BadInput` with what to fix."""
    parsed = SourceUri.parse(uri)
    module = importlib.import_module(SCHEMES[parsed.scheme])
    source: Source = module.open_source(parsed, signal)
    return source
