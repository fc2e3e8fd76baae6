"""What the virtual sensor measures: a scenario's patient, or a recording played again."""

import heapq
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.block import Flag
from firmware_bridge.errors import BadInput
from firmware_bridge.pbf import FIRST_STREAM, SampleFormat
from firmware_bridge.runs import runs
from firmware_bridge.source import SourceUri
from firmware_bridge.sources.wfdb_record import Channel, read_channel
from firmware_bridge.virtual.body import MICROVOLT_MV, Body
from firmware_bridge.virtual.device import SAMPLES_PER_FRAME, Run, Track

S24_MAX = 2**23 - 1


def scenario_tracks(rate: float) -> list[Track]:
    """PPG like a MAX30102's infrared channel (counts fall as blood volume rises), and one ECG lead in µV."""
    period = round(1e9 / rate)
    return [
        Track(FIRST_STREAM["ppg"], "ppg", "ir", "counts", -1.0, 0.0, period),
        Track(FIRST_STREAM["ecg"], "ecg", "II", "mV", MICROVOLT_MV, 0.0, period),
    ]


def scenario_runs(body: Body, tracks: list[Track], samples: int | None) -> Iterator[Run]:
    """Frames' worth of ``body`` on both ``tracks``, for ever or ``samples`` samples."""
    ppg, ecg = tracks
    done = 0
    while samples is None or done < samples:
        n = SAMPLES_PER_FRAME if samples is None else min(SAMPLES_PER_FRAME, samples - done)
        chunk = body.read(n)
        flags = Flag.NONE if chunk.contact.all() else Flag.NO_CONTACT
        plugged = bool(chunk.plugged.all())
        saturated = Flag.SATURATED if chunk.saturated.any() else Flag.NONE
        yield Run(ppg, done, chunk.ppg, flags | saturated, plugged)
        yield Run(ecg, done, chunk.ecg, flags, plugged)
        done += n


def recording(uri: str) -> list[tuple[Track, Channel]]:
    """The PPG of a ``wfdb:`` record, and its ECG where it has one; raises :class:`BadInput`."""
    parsed = SourceUri.parse(uri)
    if parsed.scheme != "wfdb":
        raise BadInput(f"--play {uri}: plays WFDB records, for example wfdb:folder/record")
    parsed.allow("channel", "ecg")
    channels = [read_channel(parsed.target, "ppg", parsed.options.get("channel"))]
    try:
        channels.append(read_channel(parsed.target, "ecg", parsed.options.get("ecg")))
    except BadInput:
        if "ecg" in parsed.options:
            raise
    return [(_track(channel), channel) for channel in channels]


def _track(channel: Channel) -> Track:
    info, present = channel.info, channel.values[~channel.missing]
    short = not present.size or int(np.abs(present.astype(np.int64)).max()) <= S24_MAX
    stream = FIRST_STREAM[info.signal]
    name, form = info.name[:24], SampleFormat.S24 if short else SampleFormat.S32
    return Track(stream, name, name, info.unit[:12], info.scale, info.offset, info.period_ns, form, info.device[:32])


def recording_runs(played: list[tuple[Track, Channel]]) -> Iterator[Run]:
    """The recording's own integers in order of time; where samples are missing, time jumps and flag b0 says so."""
    return heapq.merge(*(_channel_runs(track, channel) for track, channel in played), key=lambda run: run.due)


def _channel_runs(track: Track, channel: Channel) -> Iterator[Run]:
    # An empty frame tells where the recording starts, should its first samples be missing.
    yield Run(track, 0, _none())
    expected = 0
    for start, end in runs(~channel.missing, SAMPLES_PER_FRAME):
        flags = Flag.LOST_BEFORE if start > expected else Flag.NONE
        yield Run(track, start, channel.values[start:end], flags)
        expected = end
    if expected < len(channel.missing):
        # And one where it ends, should its last ones be.
        yield Run(track, len(channel.missing), _none(), Flag.LOST_BEFORE)


def _none() -> NDArray[np.int32]:
    return np.empty(0, np.int32)
