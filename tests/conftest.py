"""Fixtures shared by all tests."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_configure() -> None:
    # What a shell starts in the background inherits Ctrl-C as ignored, and the tests of Ctrl-C would press it in vain.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _ctrl_c_is_given_back() -> Iterator[None]:
    """No test, and nothing it runs in this process, keeps Ctrl-C for itself."""
    yield
    kept = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    assert kept is signal.default_int_handler


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real recordings; tests that ask for it skip where it is absent (CI has it)."""
    folder = Path(os.environ.get("PULSECODE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "bidmc").is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"CI must not skip: no recordings at {folder}")
        pytest.skip(f"no recordings at {folder}; set PULSECODE_DATA to a folder with bidmc/, challenge2015/ …")
    return folder
