"""ONNX models with damage done on purpose."""

import numpy as np
import onnx
from onnx import numpy_helper


def rounded(model: bytes, bits: int) -> bytes:
    """Every weight matrix rounded to ``bits`` bits."""
    graph = onnx.load_from_string(model)
    for tensor in graph.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.ndim == 2:
            step = np.abs(values).max() / (2 ** (bits - 1) - 1)
            tensor.CopyFrom(numpy_helper.from_array(np.round(values / step) * step, tensor.name))
    return bytes(graph.SerializeToString())


def shaken(model: bytes, weights: str, size: float) -> bytes:
    """The one matrix whose name holds ``weights`` with noise of standard deviation ``size`` added."""
    graph = onnx.load_from_string(model)
    (tensor,) = (tensor for tensor in graph.graph.initializer if weights in tensor.name)
    values = numpy_helper.to_array(tensor)
    noise = np.random.default_rng(0).normal(0, size, values.shape)
    tensor.CopyFrom(numpy_helper.from_array((values + noise).astype(np.float32), tensor.name))
    return bytes(graph.SerializeToString())
