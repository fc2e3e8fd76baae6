"""The options of a ``serial:`` URI."""

from dataclasses import dataclass

from firmware_bridge.errors import BadInput
from firmware_bridge.source import SourceUri

OPTIONS = ("device", "baud", "stream", "channel", "rate", "invert", "patience", "give_up")


@dataclass(frozen=True)
class Settings:
    """Checked: ``stream`` id (None: the signal's first), ``channel`` counted from 0, ``rate`` in Hz where the user
    decided it, ``invert``: the declared polarity is wrong; ``patience_s`` to wait for a first frame, ``give_up_s``
    without any before the source is lost for good."""

    text: str
    path: str
    baud: int
    stream: int | None
    channel: int
    rate: float | None
    invert: bool
    patience_s: float
    give_up_s: float

    @classmethod
    def read(cls, uri: SourceUri) -> "Settings":
        """Raises :class:`BadInput` naming the option."""
        uri.allow(*OPTIONS)

        def bad(key: str, must: str) -> BadInput:
            return BadInput(f"source {uri.text!r}: {key}={uri.options.get(key, '')} must be {must}")

        if not uri.target:
            raise BadInput(f"source {uri.text!r}: names no port (serial:/dev/ttyUSB0)")
        if uri.options.get("device", "pbf") != "pbf":
            raise bad("device", "pbf, the only one so far (`pulsecode devices` lists them)")
        stream = None
        if "stream" in uri.options:
            try:
                stream = int(uri.options["stream"], 0)
            except ValueError:
                stream = -1
            if not 1 <= stream <= 255:
                raise bad("stream", "a stream id, for example 16 or 0x10")
        invert = uri.options.get("invert", "no").lower()
        if invert not in ("yes", "no", "true", "false", "1", "0"):
            raise bad("invert", "yes or no")
        baud, channel = uri.number("baud", 115_200), uri.number("channel", 0)
        if baud != int(baud) or not 50 <= baud <= 20_000_000:
            raise bad("baud", "a baud rate, for example 115200")
        if channel != int(channel) or not 0 <= channel <= 254:
            raise bad("channel", "the channel's number, counted from 0")
        rate = uri.number("rate", 0) if "rate" in uri.options else None
        if rate is not None and not 0 < rate <= 100_000:
            raise bad("rate", "above 0 and at most 100000 Hz")
        patience, give_up = uri.number("patience", 8), uri.number("give_up", 30)
        if not patience > 0:
            raise bad("patience", "above 0 s")
        if not give_up > 0:
            raise bad("give_up", "above 0 s")
        inverted = invert in ("yes", "true", "1")
        return cls(uri.text, uri.target, int(baud), stream, int(channel), rate, inverted, patience, give_up)
