"""What tflite-runtime 2.14, the last one for 32-bit Arm, gets silently wrong in a model, and its repair.

Its fully connected kernel for int8 weights and float32 activations knows one scale for all weights; with a scale for
each output channel it multiplies by zero, and every token is wrong without an error. The weights' values are written
out in float32 instead: the same weights, activations that are not rounded, no more than a few megabytes.

The layout is that of the TensorFlow Lite schema, version 3 (tensorflow/compiler/mlir/lite/schema/schema.fbs).
"""

import struct
from collections.abc import Iterator

import numpy as np

FULLY_CONNECTED = 9  # BuiltinOperator
FLOAT32, INT8, INT4 = 0, 9, 17  # TensorType
ALIGNMENT = 16  # of a buffer's data


class _Table:
    """A FlatBuffers table at ``position``; a field is named by its place in the schema."""

    def __init__(self, data: bytearray, position: int) -> None:
        self.data, self.position = data, position

    def at(self, field: int) -> int | None:
        """Position of a field; None where it has its default."""
        (back,) = struct.unpack_from("<i", self.data, self.position)
        (size,) = struct.unpack_from("<H", self.data, self.position - back)
        place = 4 + 2 * field
        offset = struct.unpack_from("<H", self.data, self.position - back + place)[0] if place < size else 0
        return self.position + offset if offset else None

    def number(self, field: int, kind: str) -> int:
        """A scalar field of a :mod:`struct` kind, 0 by default."""
        place = self.at(field)
        return 0 if place is None else int(struct.unpack_from("<" + kind, self.data, place)[0])

    def table(self, field: int) -> "_Table | None":
        """A field that is a table."""
        place = self.at(field)
        return None if place is None else _Table(self.data, _followed(self.data, place))

    def vector(self, field: int) -> tuple[int, int]:
        """Position of the first element of a vector, and how many there are."""
        place = self.at(field)
        if place is None:
            return 0, 0
        start = _followed(self.data, place)
        return start + 4, struct.unpack_from("<I", self.data, start)[0]

    def tables(self, field: int) -> list["_Table"]:
        """A vector of tables."""
        first, count = self.vector(field)
        return [_Table(self.data, _followed(self.data, first + 4 * i)) for i in range(count)]


def _followed(data: bytearray, place: int) -> int:
    return place + int(struct.unpack_from("<I", data, place)[0])


def _affected(model: _Table) -> Iterator[_Table]:
    """The weights of products that the old kernel cannot do: int8 or int4, activations in float32."""
    codes = [max(code.number(0, "b"), code.number(3, "i")) for code in model.tables(1)]
    for graph in model.tables(2):
        tensors = graph.tables(0)
        for operator in graph.tables(3):
            if codes[operator.number(0, "I")] != FULLY_CONNECTED:
                continue
            first, _ = operator.vector(1)
            given, weights = (tensors[i] for i in struct.unpack_from("<2i", model.data, first))
            if given.number(1, "b") == FLOAT32 and weights.number(1, "b") in (INT8, INT4):
                yield weights


def repaired(model: bytes) -> bytes:
    """``model`` (a .tflite flatbuffer) so that tflite-runtime 2.14 computes what was meant; the same bytes where it
    already would. Raises :class:`ValueError` for what it cannot run at all or a flatbuffer that is damaged."""
    data = bytearray(model)
    try:
        root = _Table(data, _followed(data, 0))
        buffers, done = root.tables(4), set()
        for weights in _affected(root):
            if weights.number(1, "b") == INT4:
                raise ValueError("tflite-runtime cannot run weights of 4 bits")
            quantization = weights.table(4)
            where, channels = quantization.vector(2) if quantization else (0, 0)
            if channels < 2 or weights.position in done:
                continue
            done.add(weights.position)
            # Copies: a bytearray that is looked into cannot grow.
            scales = np.frombuffer(bytes(data[where : where + 4 * channels]), "<f4")[:, np.newaxis]
            buffer = buffers[weights.number(2, "I")]
            start, count = _content(buffer)
            codes = np.frombuffer(bytes(data[start : start + count]), np.int8).reshape(channels, -1)
            _replace(buffer, (codes * scales).astype("<f4").tobytes())
            kind = weights.at(1)
            data[kind or 0] = FLOAT32  # never 0: int8 is not the default
    except (struct.error, IndexError) as error:
        raise ValueError(f"damaged flatbuffer: {error}") from None
    return bytes(data)


def _content(buffer: _Table) -> tuple[int, int]:
    """Where a buffer's bytes begin, and how many there are: inside the flatbuffer, or after it by offset and size."""
    offset, size = buffer.number(1, "Q"), buffer.number(2, "Q")
    return (offset, size) if offset > 1 else buffer.vector(0)


def _replace(buffer: _Table, content: bytes) -> None:
    """Give ``buffer`` other bytes, at the end of the file; an offset may point as far ahead as it likes."""
    data, inside, outside, size = buffer.data, buffer.at(0), buffer.at(1), buffer.at(2)
    data.extend(bytes(-(len(data) + 4) % ALIGNMENT))
    data += struct.pack("<I", len(content))
    if inside is not None:
        struct.pack_into("<I", data, inside, len(data) - 4 - inside)
    elif outside is not None and size is not None:
        struct.pack_into("<Q", data, outside, len(data))
        struct.pack_into("<Q", data, size, len(content))
    else:
        raise ValueError("weights without data")
    data += content
