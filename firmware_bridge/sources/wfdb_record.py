"""``wfdb:path/record?channel=PLETH`` — one channel of a WFDB record as the integers it was stored in.

``ecg=II`` names the lead that is taken when the monitor asks for the ECG. The same reader gives the trainer whole
channels (:func:`read_channel`), so what is learnt from and what is streamed are the same integers.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.block import Signal, StreamInfo
from firmware_bridge.errors import BadInput, not_installed
from firmware_bridge.source import SourceUri
from firmware_bridge.sources.replay import Replay

# "No sample here", per storage format (WFDB Applications Guide, signal(5)).
_INVALID = {
    "8": -128,
    "16": -(2**15),
    "24": -(2**23),
    "32": -(2**31),
    "61": -(2**15),
    "80": -128,
    "160": -(2**15),
    "212": -(2**11),
    "310": -(2**9),
    "311": -(2**9),
    "508": -128,
    "516": -(2**15),
    "524": -(2**23),
}

# In order of preference; lead II first because the P wave and the R peak are upright there.
_NAMES: dict[Signal, Sequence[str]] = {
    "ppg": (r"PLETH", r"PPG"),
    "ecg": (r"II", r"MLII", r"ECG.*", r"I|III", r"V\d?", r"AV[RLF]", r"MCL\d?"),
}


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel of a record: ``values`` (n,) int32 as stored, ``missing`` (n,) True where no sample was recorded.

    Where ``missing`` is True the value means nothing. ``comments`` are the header's (labels, patient).
    """

    info: StreamInfo
    values: NDArray[np.int32]
    missing: NDArray[np.bool_]
    comments: tuple[str, ...]


def short_name(name: str) -> str:
    """A channel's name without what follows the first comma: ``"PPG, Fingertip PPG …"`` → ``"PPG"``."""
    return name.partition(",")[0].strip()


def find_channel(names: Sequence[str], signal: Signal, wanted: str | None = None) -> int | None:
    """Index in ``names`` of the channel ``wanted``, else of the best one for ``signal``; None if there is none."""
    short = [short_name(name).upper() for name in names]
    if wanted is not None:
        return short.index(short_name(wanted).upper()) if short_name(wanted).upper() in short else None
    for pattern in _NAMES[signal]:
        for number, name in enumerate(short):
            if re.fullmatch(pattern, name):
                return number
    return None


def _import_wfdb() -> Any:
    try:
        import wfdb
    except ImportError:
        raise not_installed("wfdb: the wfdb package", "wfdb") from None
    return wfdb


def _plain(path: str | Path) -> Path:
    path = Path(path)
    return path.with_suffix("") if path.suffix in (".hea", ".dat") else path


def _read_header(wfdb: Any, path: Path) -> Any:
    header_file = path.with_name(path.name + ".hea")
    try:
        # Looked at first, so that wfdb is never asked for anything but a local file.
        header_file.read_bytes()
    except OSError as error:
        raise BadInput(f"record {path}: cannot read {header_file} ({error.strerror})") from None
    try:
        return wfdb.rdheader(str(path), rd_segments=True)
    except Exception as error:
        # wfdb has no error class of its own: a header is parsed by regular expressions that fail in any way.
        raise BadInput(f"record {path}: {header_file.name} is not a readable WFDB header ({_first(error)})") from None


def _first(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:120] if lines else type(error).__name__


def _channel_names(header: Any) -> list[str]:
    names = getattr(header, "sig_name", None)
    if names is None and getattr(header, "segments", None):
        names = [name for s in header.segments if s is not None for name in (s.sig_name or [])]
    return list(dict.fromkeys(names or []))


def read_channel(path: str | Path, signal: Signal = "ppg", name: str | None = None) -> Channel:
    """A whole channel of the record at ``path`` (with or without ``.hea``): ``name``, or the best for ``signal``.

    Raises :class:`BadInput` for a missing package, an unreadable or truncated file, and a channel that is not there
    (the line lists those that are).
    """
    wfdb = _import_wfdb()
    path = _plain(path)
    header = _read_header(wfdb, path)
    names = _channel_names(header)
    number = find_channel(names, signal, name)
    if number is None:
        what = f"channel {name!r}" if name is not None else {"ppg": "PLETH or PPG channel", "ecg": "ECG lead"}[signal]
        present = ", ".join(map(short_name, names)) or "none"
        raise BadInput(f"record {path}: has no {what}; its channels: {present} (choose one with ?channel=)")
    try:
        record = wfdb.rdrecord(
            str(path), channel_names=[names[number]], physical=False, smooth_frames=False, return_res=32
        )
        stored = np.asarray(record.e_d_signal[0], np.int32)
        form, gain, baseline = record.fmt[0], float(record.adc_gain[0]), float(record.baseline[0])
        rate = float(record.fs) * int((record.samps_per_frame or [1])[0])
        unit = str(record.units[0])
        expected = int(record.sig_len) * int((record.samps_per_frame or [1])[0])
    except Exception as error:
        # As above: truncated and odd signal files fail inside numpy, fsspec or wfdb itself.
        raise BadInput(
            f"record {path}: its signal file cannot be read or is shorter than the header says ({_first(error)})"
        ) from None
    if len(stored) != expected or not len(stored):
        raise BadInput(f"record {path}: {len(stored)} samples where the header says {expected}; copy the record again")
    if not rate > 0 or not gain:
        raise BadInput(f"record {path}: the header's sampling rate {rate} or gain {gain} makes no sense")
    info = StreamInfo(
        signal,
        short_name(names[number]),
        period_ns=round(1e9 / rate),
        unit=unit,
        scale=1 / gain,
        offset=baseline,
        resolution=1.0,
        device=f"wfdb {path.name}",
        rate_decision="header",
    )
    return Channel(info, stored, stored == _INVALID.get(str(form), -(2**31)), tuple(header.comments or ()))


def open_source(uri: SourceUri, signal: Signal) -> Replay:
    """Open a record; options ``channel`` (for the PPG), ``ecg`` (the lead). Raises :class:`BadInput`."""
    uri.allow("channel", "ecg")
    if not uri.target:
        raise BadInput(f"source {uri.text!r}: names no record (wfdb:folder/record)")
    channel = read_channel(uri.target, signal, uri.options.get("channel" if signal == "ppg" else "ecg"))
    return Replay(channel.info, channel.values, channel.missing, "not recorded")
