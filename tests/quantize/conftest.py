"""PyTorch on one thread in these tests: its models are tiny, and the machine may be busy."""

from collections.abc import Iterator

import pytest

from quantize.export import one_thread


@pytest.fixture(autouse=True, scope="session")
def single_thread() -> Iterator[None]:
    with one_thread():
        yield
