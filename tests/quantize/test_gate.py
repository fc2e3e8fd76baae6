"""The gate: what may ship, what may not, and that damage is found by measuring real artefacts."""

import damaged_models
import msgspec
import numpy as np
import pytest
import tiny_models
from hypothesis import given
from hypothesis import strategies as st

from quantize.export import Artefact
from quantize.fidelity import gate
from quantize.fidelity.figures import Estimate, Head, Hour, Report, Row
from quantize.fidelity.measure import measure
from quantize.progress import Steps
from quantize.run import TrainedRun
from quantize.streams import Streams
from trainer.windows import WindowConfig


def exactly(value: float) -> Estimate:
    return Estimate(value, value, value, 100, 5)


def row(top1: float = 1.0, confident: float | None = 1.0, heads: list[Head] | None = None, changed: int = 0) -> Row:
    hour = Hour(1, 1, [], exactly(0.0), 100, 0.05, None, None, None, changed)
    sure = None if confident is None else exactly(confident)
    return Row(
        "litert", "dynamic", 1, 0.1, exactly(top1), sure, exactly(1.0), 0.0, 0.0, 1.0, 1.0,
        heads=heads or [], hour=hour, ships=True,
    )  # fmt: skip


def head(change: float, allowed: float = 0.005) -> Head:
    return Head("AF", "AUROC", True, exactly(0.9), exactly(0.9 + change), exactly(change), allowed)


SHARES = st.floats(0, 1)


@given(top1=SHARES, confident=SHARES, change=st.floats(-0.02, 0.02))
def test_a_row_ships_if_and_only_if_every_limit_holds(top1: float, confident: float, change: float) -> None:
    found = gate.faults(row(top1, confident, [head(change)]))
    assert (not found) == (top1 >= 0.97 and confident >= 0.99 and abs(change) <= 0.005)
    assert len(found) == (top1 < 0.97) + (confident < 0.99) + (abs(change) > 0.005)


def test_faults_name_the_figure_and_the_limit() -> None:
    (said,) = gate.faults(row(top1=0.9612))
    assert "96.12 %" in said and "97 %" in said
    (said,) = gate.faults(row(heads=[head(-0.02)]))
    assert "AF" in said and "-0.02" in said and "0.005" in said
    assert len(gate.faults(row(changed=3))) == 1
    assert not gate.faults(row(confident=None)), "a tiny codebook may never be sure"


def test_only_what_ships_decides() -> None:
    rows = [row(), msgspec.structs.replace(row(top1=0.5), method="static", ships=False)]
    report = Report("r", "ppg", "test patients", 1, 1, 1, "c", "m", 0.3, rows)
    passed = gate.judged(report)
    assert passed.verdict.startswith("Shippable")
    assert passed.rows[1].faults and not passed.faults
    failed = gate.judged(msgspec.structs.replace(report, rows=[*rows, row(top1=0.5)]))
    assert failed.verdict.startswith("NOT SHIPPABLE: litert dynamic: only 50.00 %")
    unjudged = gate.judged(msgspec.structs.replace(report, rows=rows[1:]))
    assert unjudged.verdict.startswith("NOT JUDGED")


@pytest.fixture(scope="module")
def report() -> Report:
    encoder = tiny_models.encoder()
    patches = np.stack([tiny_models.patches(40, seed) for seed in range(6)])
    streams = Streams(patches, 6, np.array([f"bidmc/p{i}" for i in range(6)]), np.array(["bidmc"] * 6))
    fp32 = tiny_models.artefact("onnx", "fp32")
    damaged = Artefact("onnx", "static", damaged_models.rounded(fp32.model, 3))
    artefacts = {("onnx", "fp32"): fp32, ("onnx", "static"): damaged}
    run = TrainedRun("tiny/ppg", "ppg", encoder, WindowConfig(), {})
    ms = {"torch": 0.5, "onnx fp32": 0.2, "onnx static": 0.1}
    with Steps() as steps:
        ships = [("onnx", "static")]
        return measure(run, artefacts, streams, None, ms, steps, calibrated_on="nobody", ships=ships)


def test_weights_of_three_bits_do_not_ship(report: Report) -> None:
    assert report.verdict.startswith("NOT SHIPPABLE: onnx static: only ")
    (damaged,) = (row for row in report.rows if row.method == "static")
    assert damaged.top1.value < 0.97 and damaged.faults
    assert all(layer.sqnr is not None and layer.sqnr < 30 for layer in damaged.layers)


def test_fp32_passes_the_gate(report: Report) -> None:
    (fp32,) = (row for row in report.rows if row.method == "fp32")
    assert fp32.top1.value == 1 and fp32.times_fp32 == 1
    assert gate.faults(fp32) == []
    assert gate.judged(
        msgspec.structs.replace(report, rows=[msgspec.structs.replace(fp32, ships=True)])
    ).verdict.startswith("Shippable")


def test_times_become_shares_of_fp32_and_of_the_roofline(report: Report) -> None:
    roofline = report.roofline
    assert roofline is not None and set(roofline.engines) == {"onnx"}
    assert roofline.int8 > 0 and roofline.fp32 > 0
    fp32, static = report.rows
    assert static.times_fp32 == pytest.approx(0.5)
    assert static.roofline == pytest.approx(roofline.operations / (roofline.int8 * 1e9) / 0.1e-3)
    assert fp32.roofline == pytest.approx(roofline.operations / (roofline.fp32 * 1e9) / 0.2e-3)
    c = tiny_models.CONFIG
    # Embedding, then per layer four projections, the MLP and attention over the context, then the head.
    macs = 50 * 16 + 2 * (4 * 16 * 16 + 2 * 2 * 16 * 16 + 2 * c.context * 16) + 16 * 32
    assert roofline.operations == 2 * macs
