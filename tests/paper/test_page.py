"""The web page of `lambdanets report`: complete, closed in itself, well formed, in the tables' own words."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lambdanets.cli import run
from lambdanets.errors import DataError, StorageError
from lambdanets.paper import page
from lambdanets.paper.page import Image, _render_page, write_report
from lambdanets.paper.schema import NOT_RUN, Cell, Column, Table
from lambdanets.paper.tables import NUMBERS, table
from lambdanets.published import Row
from lambdanets.recipes import get_recipe
from lambdanets.runs.compare import RunSummary

VOID = {"meta", "img", "br", "link", "input", "hr", "col"}
# A pixel.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c63f8ffff3f0005fe02fea7"
    "35810000000049454e44ae426082"
)


class Reader(HTMLParser):
    """Keeps open tags, what refers to something, and the text of every cell by table."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.anchors: set[str] = set()
        self.captions = 0
        self.headings: list[dict[str, str | None]] = []
        self.cells: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.references += [value or "" for name, value in attrs if name in ("href", "src")]
        self.anchors |= {given["id"] or ""} if "id" in given else set()
        self.captions += tag == "caption"
        if tag == "th":
            self.headings.append(given)
        if tag in ("td", "th"):
            self.cells.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "td" in self.open or "th" in self.open:
            self.cells[-1] += data


# Stated, computed and counted tables, full ones and empty ones, with and without differences.
SOME = (1, 2, 6, 12, 14, 17)


@pytest.fixture(scope="module")
def tables() -> list[Table]:
    return [table(number) for number in SOME]


@pytest.fixture(scope="module")
def text(tables: list[Table]) -> str:
    return _render_page(tables, [Image(title="A pixel", caption="One.", png=PNG)])


def test_every_tag_is_closed_and_every_table_has_a_caption(text: str) -> None:
    reader = Reader(text)
    assert reader.open == []
    assert reader.captions == text.count("<table") == len(SOME) + 1
    assert all("scope" in heading for heading in reader.headings)


def test_nothing_is_fetched(text: str) -> None:
    reader = Reader(text)
    inside = {one.removeprefix("#") for one in reader.references if one.startswith("#")}
    assert inside <= reader.anchors
    assert all(one.startswith(("#", "data:image/png;base64,")) for one in reader.references)
    assert not re.search(r"https?://|@import|url\(", text)


def test_every_number_of_every_table_is_there(text: str, tables: list[Table]) -> None:
    cells = Reader(text).cells
    for one in tables:
        assert f'id="table-{one.number}"' in text
        for cell in one.cells:
            assert cell.paper_text in cells
            if cell.results:
                assert all(any(other.startswith(ours) for other in cells) for ours in cell.our_texts)
    empty = sum(one.counts[NOT_RUN] for one in tables)
    assert text.count('class="badge not-run"') == empty + 1


def test_what_differs_is_listed(text: str, tables: list[Table]) -> None:
    differing = [cell for one in tables for cell in one.differences]
    assert differing
    section = text[text.index('id="differences"') : text.index('id="table-1"')]
    assert section.count("<tr") == len(differing) + 1


def test_words_are_escaped() -> None:
    column = Column(key="x", heading="<i>heading")
    row = Row(table=1, label='<b> & "quotes"', values={"x": "k < 8"})
    cell = Cell(row=row, column=column, note="a <u>note")
    text = _render_page(
        [
            Table(
                number=1,
                title="a > b",
                caption="<caption>",
                columns=(column,),
                rows=((row, (cell,)),),
            )
        ]
    )
    assert Reader(text).open == []
    assert 'data-sort="&lt;b&gt; &amp; &#34;quotes&#34;">&lt;b&gt; &amp; &#34;quotes&#34;</th>' in text
    for word in ("k &lt; 8", "&lt;i&gt;heading", "a &lt;u&gt;note", "Table 1. a &gt; b", "&lt;caption&gt;"):
        assert word in text


def test_an_image_must_be_a_png(tables: list[Table]) -> None:
    with pytest.raises(DataError, match="report: 'Figure' must be a PNG file, got b'GIF8'"):
        _render_page(tables[:1], [Image(title="Figure", caption="", png=b"GIF8")])


def test_a_page_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "NUMBERS", ())
    monkeypatch.setattr(page, "draw_figure_4", lambda known, path: str(path.write_bytes(PNG)))
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"report: .* must be writable, got '.*'. Use another --out."):
        write_report(tmp_path / "file" / "page.html", results=tmp_path)


@pytest.mark.slow
def test_the_command_writes_one_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "page.html"
    assert run(("report", "--out", str(out), "--results", str(tmp_path / "none"))) == 0
    assert capsys.readouterr().out == f"{out}\n"
    text = out.read_text()
    assert Reader(text).open == []
    assert "Figure 4: speed and accuracy" in text
    assert all(f'id="table-{number}"' in text for number in NUMBERS)
    assert str(tmp_path) not in text


def test_a_run_is_shown_with_its_numbers_and_images(tmp_path: Path, tables: list[Table]) -> None:
    for name in ("another", "field", "curves"):
        (tmp_path / f"{name}.png").write_bytes(PNG)
    summary = RunSummary(
        path=tmp_path,
        config=get_recipe("digits"),
        parameters=36234,
        correct=495,
        total=500,
        best_correct=496,
        epochs=(25, 25),
        seconds=40.0,
        images_per_s=800.0,
    )
    text = _render_page(tables[:1], runs=[summary])
    assert Reader(text).open == []
    assert "99.00%, 495 of 500" in text
    shown = re.findall(r"<figcaption>(.*?)</figcaption>", text)
    assert [one.partition(":")[0] for one in shown] == [
        "Loss, error and learning rate over the epochs.",
        "Explained on an image",
        "another",
    ]
