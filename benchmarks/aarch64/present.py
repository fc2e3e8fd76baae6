"""A run on arm64 as a table and as JSON."""

import msgspec

from benchmarks.aarch64.measure import Result


def as_json(result: Result) -> bytes:
    """One object."""
    return msgspec.json.format(msgspec.json.encode({**msgspec.to_builtins(result), "passed": result.passed}), indent=2)


def as_markdown(result: Result) -> str:
    """The table, and what it was taken on."""
    there, here = result.there, result.here
    commit, _, changes = result.commit.partition(" ")
    lines = [
        "# The shipped bundle on aarch64",
        "",
        f"{result.bundle} ({result.bundle_sha256[:12]}), commit {f'{commit[:12]} {changes}'.strip()}: "
        f"**{'passed' if result.passed else 'FAILED'}**. Debian {result.debian} for arm64 under emulation beside "
        f"{here.machine}; emulation tells what is computed, not how fast. `pulsecode bench aarch64` makes this table.",
        "",
        f"| engine | vectors as on {here.machine} | as fp32 there | tokens of `{result.source}` "
        "| probability the same to the last bit | largest difference | alarms |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for row in result.engines:
        vectors = row.vectors
        alarms = ", ".join(name for name, *_ in row.events) or "none"
        cells = [
            row.engine,
            "–" if vectors is None else f"{vectors.same} of {vectors.hops}",
            "–" if vectors is None else f"{vectors.fp32} of {vectors.hops}",
            f"{row.same} of {row.tokens} the same",
            f"{row.bits} of {row.tokens}",
            f"{row.probability_error:.1g}",
            f"{'the same' if row.same_events else 'OTHERS'}: {alarms}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    if result.left_out:
        lines += ["", f"Not run there: {', '.join(result.left_out)}, which no wheel of a device brings."]
    live = result.live
    lines += [
        "",
        f"The monitor at its own pace: {live.seconds:g} s, {live.tokens} tokens, "
        f"books {'balanced' if live.balanced else 'NOT BALANCED'}.",
        "",
        f"| | {here.machine} | {there.machine} |",
        "|---|---|---|",
        f"| Python | {here.python} | {there.python} |",
        f"| libc | {here.libc} | {there.libc} |",
        *(f"| {name} | {here.packages[name]} | {found} |" for name, found in there.packages.items()),
        f"| emulator | – | {result.qemu} |",
    ]
    return "\n".join(lines) + "\n"
