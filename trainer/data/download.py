"""Files from a web server to disk, each under its final name only once its checksum is right.

A file grows as ``.NAME.part`` beside its place and goes on from there after a broken transfer (HTTP Range), within a
run as from run to run.
"""

import errno
import hashlib
import http.client
import queue
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from firmware_bridge.errors import BadInput
from trainer.progress import Stopped, progress_bar

T = TypeVar("T")

CONNECTIONS = 2  # at a time; what PhysioNet's own tools keep to
TIMEOUT = 30.0  # s without a byte
STOPPING = 0.5  # s to let a transfer notice that it is over
PAUSES = (1.0, 4.0)  # s before the second and third try of a transfer that broke
CHUNK = 1 << 16
FULL = (errno.ENOSPC, errno.EDQUOT)
HTTP_PARTIAL, HTTP_BEYOND_END = 206, 416
ACCESS_DENIED, NOT_THERE = (401, 403), (404, 410)


class _Broken(Exception):
    """A transfer that may work when tried again; the message says what happened."""


class _Cancelled(Exception):
    """Another file failed, or Ctrl-C: this one was given up."""


@dataclass(frozen=True)
class Wanted:
    """A file to have: where it is, where it goes and its published digest (hexadecimal, ``algorithm`` of hashlib)."""

    url: str
    path: Path
    digest: str
    algorithm: str = "sha256"

    @property
    def part(self) -> Path:
        """Where the file grows."""
        return self.path.with_name(f".{self.path.name}.part")


@dataclass
class Books:
    """How many files were fetched, how many were there already with the right checksum, and the bytes fetched."""

    fetched: int = 0
    present: int = 0
    bytes: int = 0


def sum_books(some: Iterable[Books]) -> Books:
    """The books of several downloads together."""
    total = Books()
    for books in some:
        total.fetched += books.fetched
        total.present += books.present
        total.bytes += books.bytes
    return total


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Hexadecimal digest of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def get_text(url: str) -> str:
    """A small text from a server. Raises :class:`BadInput` where it cannot be had."""
    try:
        return _patiently(lambda: _read_all(url), threading.Event()).decode()
    except UnicodeDecodeError:
        raise BadInput(f"{url}: is not text") from None


def _read_all(url: str) -> bytes:
    with _open(url, 0) as response:
        try:
            content: bytes = response.read()
        except (http.client.HTTPException, OSError) as error:
            raise _Broken(f"{url}: the transfer broke off ({_reason(error)})") from None
    return content


def download(wanted: Sequence[Wanted], console: Console, title: str) -> Books:
    """Have every file of ``wanted``; those already there with the right checksum are not fetched again.

    Raises :class:`BadInput` at the first that cannot be had or is not what was published, and :class:`Stopped` on
    Ctrl-C; what was fetched until then stays.
    """
    books, stop = Books(), threading.Event()
    waiting: queue.SimpleQueue[Wanted] = queue.SimpleQueue()
    results: queue.SimpleQueue[int | Exception | None] = queue.SimpleQueue()
    for file in wanted:
        waiting.put(file)

    def work() -> None:
        while not stop.is_set():
            try:
                results.put(_have(waiting.get_nowait(), stop))
            except queue.Empty:
                return
            except Exception as error:  # whatever it is, the thread that waits for the result raises it
                results.put(error)

    # Daemons, so that Ctrl-C need not wait for a server that has fallen silent.
    workers = [threading.Thread(target=work, daemon=True) for _ in range(min(CONNECTIONS, len(wanted)))]
    try:
        with progress_bar(console) as progress:
            task = progress.add_task(title, total=len(wanted))
            for worker in workers:
                worker.start()
            for _ in wanted:
                result = results.get()
                if isinstance(result, Exception):
                    raise result
                books.present += result is None
                books.fetched += result is not None
                books.bytes += result or 0
                progress.advance(task)
    except KeyboardInterrupt:
        done = books.fetched + books.present
        raise Stopped(f"stopped; {done} of {len(wanted)} files are there; the same command goes on") from None
    finally:
        stop.set()
        for worker in workers:
            worker.join(STOPPING)
    return books


def _have(file: Wanted, stop: threading.Event) -> int | None:
    """Bytes fetched, or None where the file was there."""
    try:
        if file.path.exists() and file_digest(file.path, file.algorithm) == file.digest:
            return None
        file.path.parent.mkdir(parents=True, exist_ok=True)
        size = _patiently(lambda: _transfer(file, stop), stop)
        if file_digest(file.part, file.algorithm) != file.digest and size < file.part.stat().st_size:
            # What an earlier run had left was not the beginning of this file.
            file.part.unlink()
            size = _patiently(lambda: _transfer(file, stop), stop)
        if file_digest(file.part, file.algorithm) != file.digest:
            file.part.unlink()
            raise BadInput(f"{file.url}: is not what was published ({file.algorithm} differs); it was not kept")
        file.part.replace(file.path)
        return size
    except OSError as error:
        full = "the disk is full; make room and give the same command again" if error.errno in FULL else error.strerror
        raise BadInput(f"{file.path}: {full}") from None


def _patiently(attempt: Callable[[], T], stop: threading.Event) -> T:
    """``attempt()``, again after a pause where the transfer broke."""
    for pause in (*PAUSES, None):
        try:
            return attempt()
        except _Broken as broken:
            if pause is None:
                raise BadInput(f"{broken}; tried {len(PAUSES) + 1} times") from None
            stop.wait(pause)
    raise AssertionError  # the last pause is None


def _open(url: str, start: int) -> http.client.HTTPResponse:
    """A response with the bytes from ``start``, if the server can (status 206). Raises BadInput, _Broken."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in ACCESS_DENIED:
            raise BadInput(f"{url}: access is restricted ({error.code}); fetch it by hand after signing in") from None
        if error.code in NOT_THERE:
            raise BadInput(f"{url}: no such file on the server ({error.code})") from None
        if error.code == HTTP_BEYOND_END and start:
            return _open(url, 0)
        raise _Broken(f"{url}: the server answers {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise _Broken(f"{url}: no answer within {TIMEOUT:g} s") from None
        raise BadInput(f"{url}: cannot be reached ({_reason(error.reason)}); is there a network?") from None
    except (http.client.HTTPException, OSError) as error:
        raise _Broken(f"{url}: the connection broke ({_reason(error)})") from None
    return response


def _transfer(file: Wanted, stop: threading.Event) -> int:
    """Fetch what ``file.part`` lacks; bytes fetched. Raises _Broken where it ended early."""
    start = file.part.stat().st_size if file.part.exists() else 0
    with _open(file.url, start) as response:
        mode = "ab" if response.status == HTTP_PARTIAL else "wb"
        length = response.headers.get("Content-Length")
        size = 0
        with file.part.open(mode) as out:
            while chunk := _read(response, file.url):
                if stop.is_set():
                    raise _Cancelled
                out.write(chunk)
                size += len(chunk)
    if length is not None and size < int(length):
        raise _Broken(f"{file.url}: the transfer broke off after {size:,} of {int(length):,} bytes")
    return size


def _read(response: http.client.HTTPResponse, url: str) -> bytes:
    try:
        return response.read(CHUNK)
    except (http.client.HTTPException, OSError) as error:
        raise _Broken(f"{url}: the transfer broke off ({_reason(error)})") from None


def _reason(error: object) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text or type(error).__name__
