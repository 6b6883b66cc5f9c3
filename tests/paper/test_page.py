"""The web page of `lambdanets report`: complete, closed in itself, well formed, in the tables' own words."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from lambdanets.cli import run
from lambdanets.errors import DataError, StorageError
from lambdanets.paper import page
from lambdanets.paper.page import Image, _render_page, write_report
from lambdanets.paper.schema import NOT_RUN, Cell, Column, Table
from lambdanets.paper.tables import NUMBERS, table
from lambdanets.published import Row
from lambdanets.runs.run_page import show_run
from support.run_folders import written_run

VOID = {"meta", "img", "br", "link", "input", "hr", "col", "source"}
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
        self.references += [value or "" for name, value in attrs if name in ("href", "src", "srcset")]
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
    monkeypatch.setattr(page, "draw_figure_4", lambda known: (Figure(), "caption"))
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


@pytest.fixture
def pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures as a pixel each: rendering takes long."""
    monkeypatch.setattr(page, "render_variants", lambda figure: (PNG, PNG))


def _render(tables: list[Table], *folders: Path) -> str:
    text = _render_page(tables[:1], runs=[show_run(folder) for folder in folders])
    reader = Reader(text)
    assert reader.open == []
    assert {one[1:] for one in reader.references if one.startswith("#")} <= reader.anchors
    assert not [one for one in reader.references if not one.startswith(("#", "data:image/png;base64,"))]
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    return text


def test_a_run_is_shown_with_its_numbers_settings_classes_and_images(
    tmp_path: Path, tables: list[Table]
) -> None:
    folder = written_run(tmp_path / "mine", 3, 495, raw=470, global_batch_size=32)
    for name in ("another", "field", "curves"):
        (folder / f"{name}.png").write_bytes(PNG)
    text = _render(tables, folder)
    assert "99.00%, 495 of 500" in text and "94.00%, 470 of 500" in text
    assert "EMA after the last epoch, test images" in text
    shown = re.findall(r"<figcaption>(.*?)</figcaption>", text)
    assert [one.partition(":")[0] for one in shown] == [
        "Loss, error and learning rate over the epochs.",
        "Which class is predicted as which.",
        "Explained on an image",
        "another",
    ]
    # What is drawn anew has a dark variant, other files may, or keep their white ground.
    assert text.count("<source media=") == 2 and text.count('class="image light"') == 2
    cells = Reader(text).cells
    assert cells[cells.index("global_batch_size") :][:3] == ["global_batch_size", "64", "32"]
    assert cells[cells.index("<dog>") :][:4] == ["<dog>", "8", "8", "100.0%"]
    assert text.index('id="run-1"') < text.index('id="reading"') < text.index('id="table-1"')
    assert "data:image/png" in text and len(text) < 600_000


@pytest.mark.usefixtures("pixels")
def test_several_runs_are_shown_side_by_side_with_the_spread_of_seeds(
    tmp_path: Path, tables: list[Table]
) -> None:
    runs = [written_run(tmp_path / f"a{seed}", seed, 490 + seed, epochs=4) for seed in (0, 1)]
    twins = [written_run(tmp_path / f"b{seed}", seed, 480 + seed, "digits-conv", 4) for seed in (0, 1)]
    text = _render(tables, *runs, *twins)
    cells = Reader(text).cells
    assert cells[cells.index("98.10%\u00a0±\u00a00.14%") - 2 :][:4] == [
        "2",
        "0, 1",
        "98.10%\u00a0±\u00a00.14%",
        "98.00% to 98.20%",
    ]
    assert "digits less digits-conv: +2.00 points, standard error 0.14." in text
    assert cells[cells.index("model.name") :][1:3] == ["lambda_resnet_digits"] * 2
    assert "Runs side by side: error" in text


@pytest.mark.usefixtures("pixels")
def test_runs_that_are_not_finished_or_broken_are_said_to_be(tmp_path: Path, tables: list[Table]) -> None:
    broken = written_run(tmp_path / "broken", 0, 490)
    (broken / "config.json").write_text("{")
    cut = written_run(tmp_path / "cut", 0, 490)
    (cut / "metrics.jsonl").write_text('{"epoch": 1, "step": 21}\n')
    new = written_run(tmp_path / "new", 0, 490, epochs=0, finished=False)
    half = written_run(tmp_path / "half", 0, 490, epochs=3, finished=False)
    bare = written_run(tmp_path / "bare", 0, 490, finished=False)
    text = _render(tables, broken, cut, new, half, bare, tmp_path / "nowhere")
    problems = re.findall(r'<p class="problem" role="note">(.*?)</p>', text, flags=re.DOTALL)
    patterns = (
        "It cannot be shown: run folder: .*config.json must hold a config",
        "It cannot be shown: compare: .* must hold whole metrics.jsonl",
        "No epoch is done yet.",
        "Unfinished: 3 of 25 epochs are done.",
        "Its report has not been written: the run ended before it.",
        "It cannot be shown: run folder: .*nowhere must be a folder of `lambdanets train` with config.json",
    )
    assert len(problems) == len(patterns)
    for problem, pattern in zip(problems, patterns, strict=True):
        assert re.match(pattern, problem), problem
    # The curves of what there is are drawn all the same.
    assert text.count("Loss, error and learning rate over the epochs.") == 2


@pytest.mark.parametrize(
    "words", ["--run A --run B C", "--run A B C", "--run=A --run=B --run C", "--run A --run B C A"]
)
def test_all_runs_are_kept_however_they_are_given(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[tuple[Path, ...]] = []
    monkeypatch.setattr(
        page, "write_report", lambda out, *, runs, **_: given.append(runs) or ["A: Unfinished."]
    )
    assert run(("report", "--out", str(tmp_path / "page.html"), *words.split())) == 0
    assert list(dict.fromkeys(map(str, given[0]))) == ["A", "B", "C"]
    assert capsys.readouterr().err == "lambdanets report: A: Unfinished.\n"


@pytest.mark.usefixtures("pixels")
def test_a_dark_variant_beside_a_file_is_shown(tmp_path: Path, tables: list[Table]) -> None:
    folder = written_run(tmp_path / "mine", 0, 495, epochs=1)
    (folder / "dark").mkdir()
    for path in (folder / "field.png", folder / "dark" / "field.png"):
        path.write_bytes(PNG)
    text = _render(tables, folder)
    assert text.count("<source media=") == 3 and 'class="image light"' not in text


def test_a_large_image_and_more_than_a_dozen_are_left_out(tmp_path: Path) -> None:
    folder = written_run(tmp_path / "mine", 0, 490, epochs=1)
    for number in range(20):
        (folder / f"image-{number:02d}.png").write_bytes(PNG)
    (folder / "field.png").write_bytes(PNG + bytes(2_000_000))
    titles = [figure.title for figure in show_run(folder).figures]
    assert titles == ["curves", "confusion", *(f"image-{number:02d}" for number in range(12))]
