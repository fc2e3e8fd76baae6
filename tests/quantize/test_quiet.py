"""Converters' chatter stays off the terminal, and comes out when it explains a failure."""

import os
import sys
import warnings

import pytest

from quantize.quiet import own_terminal, quiet_libraries


def chatter() -> None:
    print("python says")
    os.write(1, b"C++ says\n")
    os.write(2, b"C++ complains\n")
    print("python complains", file=sys.stderr)
    warnings.warn("deprecated", FutureWarning, stacklevel=1)


def test_nothing_gets_out(capfd: pytest.CaptureFixture[str]) -> None:
    print("before", flush=True)
    with quiet_libraries():
        chatter()
    print("after", flush=True)
    assert capfd.readouterr() == ("before\nafter\n", "")


def test_a_failure_shows_why(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with quiet_libraries():
            chatter()
            raise RuntimeError("conversion failed")

    with pytest.raises(RuntimeError, match="conversion failed"):
        fail()
    out, err = capfd.readouterr()
    assert out == ""
    assert "C++ complains" in err
    assert "python says" in err


def test_the_own_terminal_is_not_silenced(capfd: pytest.CaptureFixture[str]) -> None:
    with own_terminal() as terminal, quiet_libraries():
        terminal.write("progress\n")
    assert capfd.readouterr() == ("", "progress\n")


def test_interruption_restores_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    def interrupt() -> None:
        with quiet_libraries():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    print("still here", flush=True)
    assert capfd.readouterr().out == "still here\n"
