"""Consistent Overhead Byte Stuffing (Cheshire & Baker 1999): a packet without zero bytes, at most 1 byte in 254 longer.

With 00 as the delimiter a receiver is in step again at the next 00, whatever went wrong before it.
"""

BLOCK = 254  # most data bytes one code byte can announce


class CobsError(ValueError):
    """Not a COBS packet."""


def encode(data: bytes) -> bytes:
    """Stuff ``data``; the result holds no zero byte. A full last block gets no trailing ``01`` (both forms decode)."""
    out = bytearray()
    runs = data.split(b"\0")
    for number, run in enumerate(runs, 1):
        start = 0
        while len(run) - start >= BLOCK:
            out.append(0xFF)
            out += run[start : start + BLOCK]
            start += BLOCK
        # FF stands for no zero, so a zero after a full block needs its own code; the end of the packet does not.
        if start < len(run) or start == 0 or number < len(runs):
            out.append(len(run) - start + 1)
            out += run[start:]
    return bytes(out)


def decode(packet: bytes) -> bytes:
    """Undo :func:`encode` for one packet without its delimiter; raises :class:`CobsError`."""
    if 0 in packet:
        raise CobsError("zero byte inside a packet")
    if not packet:
        raise CobsError("empty packet")
    out = bytearray()
    at, end = 0, len(packet)
    while at < end:
        code = packet[at]
        after = at + code
        if after > end:
            raise CobsError("block longer than the packet")
        out += packet[at + 1 : after]
        at = after
        if code != 0xFF and at < end:
            out.append(0)
    return bytes(out)
