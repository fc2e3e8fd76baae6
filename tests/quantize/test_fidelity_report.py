"""The report's files: they hold the figures, say the verdict first, and the page needs nothing but itself."""

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import msgspec
import pytest

from quantize.fidelity import gate
from quantize.fidelity.figures import (
    SCHEMA,
    AlarmChange,
    Estimate,
    Head,
    Hour,
    Layer,
    Pair,
    Report,
    Roofline,
    Row,
    Watched,
)  # fmt: skip
from quantize.report import FILES, files
from quantize.report.files import markdown
from quantize.report.tables import Table, percent, tables


def estimate(value: float) -> Estimate:
    return Estimate(value, value - 0.01, value + 0.01, 900, 12)


def row(engine: str, method: str, top1: float, *, ships: bool = False, change: float = 0.001) -> Row:
    head = Head("AF probe", "AUROC", True, estimate(0.9), estimate(0.9 + change), estimate(change), 0.005)
    changes = [AlarmChange("bidmc/bidmc<01>", "tachy", (10.0, 20.0), (12.0, 20.0))]
    changes.append(AlarmChange("bidmc/bidmc02", "brady", None, (3.0, 4.5)))
    hour = Hour(5, 6, changes, estimate(0.02), 9000, 0.05, 0.05, 0.051, 12, 0)
    layers = [] if method == "fp32" else [Layer("block 1 key", 31.25), Layer("scores", None)]
    return Row(
        engine, method, 612_345, 0.033, estimate(top1), estimate(0.999), estimate(1.0), 0.0002, 0.02, 0.9999, 0.9997,
        times_fp32=0.66, roofline=0.04, layers=layers, inner=layers[:1], inner_note="kept <all> & read", heads=[head],
        hour=hour if ships else None, ships=ships,
    )  # fmt: skip


def report(top1: float = 0.985, *, ships: bool = True) -> Report:
    rows = [row("litert", "fp32", 1.0), row("litert", "dynamic", top1, ships=ships), row("onnx", "static", 0.94)]
    return gate.judged(
        Report(
            run="r & <d>",
            signal="ppg",
            judged_on="test patients",
            streams=30,
            hops=900,
            patients=12,
            calibrated_on="3 patients",
            machine="m",
            torch_ms_per_hop=0.5,
            rows=rows,
            roofline=Roofline(800.0, 200.0, {"litert": (800.0, 200.0)}, 1_031_040),
            watched=Watched(1.5, {"bidmc": (6, 0.8)}),
            between=[Pair("litert static", "onnx static", estimate(0.05))],
        )
    )


def test_all_files_hold_the_figures() -> None:
    made = report()
    written = files(made)
    assert tuple(written) == FILES
    shown = percent(made.rows[1].top1)
    for name in ("fidelity.md", "fidelity.html"):
        text = written[name].decode()
        for said in (
            shown,
            "612",
            "0.66",
            "4.0 %",
            "31.2",
            "equal",
            "+2.0 s",
            "only with int8",
            "0.900 (0.890 to 0.910)",
        ):
            assert said in text, (name, said)
    assert written["fidelity.png"].startswith(b"\x89PNG")
    assert files(made) == written, "the same report is the same files"


def test_json_is_read_back_and_says_its_schema() -> None:
    made = report()
    raw = files(made)["fidelity.json"]
    assert msgspec.json.decode(raw, type=Report) == made
    plain = msgspec.json.decode(raw)
    assert next(iter(plain)) == "schema" and plain["schema"] == SCHEMA
    assert plain["verdict"] == made.verdict


@pytest.mark.parametrize(("top1", "ships", "first"), [
    (0.985, True, "Shippable"), (0.96, True, "NOT SHIPPABLE: litert dynamic: only 96.00 %"), (0.9, False, "NOT JUDGED"),
])  # fmt: skip
def test_the_verdict_comes_first(top1: float, ships: bool, first: str) -> None:
    written = files(report(top1, ships=ships))
    assert written["fidelity.md"].decode().splitlines()[0].startswith(f"**{first}")
    body = written["fidelity.html"].decode().partition("<body>")[2]
    assert re.sub("<[^>]*>", "", body).strip().startswith(first)
    assert ('class="verdict good"' in body) == (first == "Shippable")


class Page(HTMLParser):
    """Open tags, and every attribute that could make a browser ask for something."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.asks: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.asks += [f"{tag} {name}" for name, _ in attrs if name in ("src", "href", "srcset", "data", "action")]
        if tag in ("script", "link", "iframe", "object", "embed", "base"):
            self.asks.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_asks_for_nothing() -> None:
    text = files(report())["fidelity.html"].decode()
    page = Page()
    page.feed(text)
    assert page.open == [] and page.asks == []
    assert "url(" not in text and "@import" not in text and "http" not in text
    assert "prefers-color-scheme: dark" in text and "width=device-width" in text
    assert "<d>" not in text and "bidmc<01>" not in text, "names are escaped"
    drawings = re.findall(r"<svg.*?</svg>", text, re.S)
    assert len(drawings) == 3
    for drawing in drawings:
        ElementTree.fromstring(drawing)


def test_drawings_stay_inside_their_frame() -> None:
    for drawing in re.findall(r"<svg.*?</svg>", files(report(0.31))["fidelity.html"].decode(), re.S):
        tree = ElementTree.fromstring(drawing)
        _, _, width, height = map(float, tree.attrib["viewBox"].split())
        for part in tree.iter():
            for name, most in (("x1", width), ("x2", width), ("cx", width), ("y1", height), ("cy", height)):
                assert 0 <= float(part.attrib.get(name, 0)) <= most
            assert part.tag != "rect" or float(part.attrib["x"]) + float(part.attrib["width"]) <= width


def test_every_table_is_rectangular_and_markdown_keeps_its_cells() -> None:
    for table in tables(report()):
        assert all(len(line) == len(table.columns) for line in table.rows)
        lines = markdown(table).splitlines()
        assert {line.count("|") for line in lines} == {len(table.columns) + 1}
    assert markdown(Table("", ["a"], [["x|y"]])).splitlines()[-1] == "| x/y |"


def test_a_report_without_heads_hour_or_layers_is_still_a_report() -> None:
    made = report()
    bare = [msgspec.structs.replace(r, heads=[], hour=None, layers=[], inner=[], roofline=None) for r in made.rows]
    empty = msgspec.structs.replace(made, rows=bare, roofline=None, watched=None, between=[])
    assert {table.title for table in tables(empty)} == {"Tokens, size and time", "The gate"}
    assert set(files(empty)) == set(FILES)
