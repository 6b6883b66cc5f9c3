"""What a name holds is printed, stored and typed, and never acts: compared with the readers of each place."""

import csv
import io
import json
import re
import subprocess
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdanets.cli._options import to_json
from lambdanets.text import from_cell, markdown_line, printable, shell_words, shown, shown_value, to_cell

# Names that act somewhere: on a terminal, in a line, on a page, in a spreadsheet, in a shell.
ACTING = (
    *(
        "\x1b[2J",
        "\x1b]0;title\x07",
        "\x9b31m",
        "two\nlines",
        "a\rb",
        "a\x0bb\x0cc\x1cd",
        "a\x85b\u2028c\u2029d",
    ),
    *("a\u202eb\u2066c", "\ufeffa", "\udce9", "\ud800", "tab\tb", "\x7f"),
    *(
        "[red]x[/red]",
        ":bomb:",
        "**b**",
        "_i_",
        "`x`",
        "[x](http://e.x)",
        "![](//e.x)",
        "<b>",
        "&lt;",
        "a|b",
        "$x$",
    ),
    *("~~s~~", "www.e.x", "https://e.x", "a@e.x", "# x", "\\frac"),
    *("=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "\n=1", "'=1", "''=1", "＝1", "'a"),
    *(
        "$(touch P)",
        "`touch P`",
        "a; touch P",
        "a'b",
        'a"b',
        "#",
        "\n touch P\n#",
        "-n",
        "",
        " ",
        "a\\",
        "!x",
    ),
)
names = pytest.mark.parametrize("name", ACTING, ids=ascii)
texts = st.text(st.characters(codec=None), max_size=8) | st.sampled_from(ACTING)


@given(texts)
def test_nothing_that_is_shown_acts(text):
    found = shown(text)
    found.encode()
    kinds = {unicodedata.category(letter) for letter in found if letter not in "\n\t"}
    assert not kinds & {"Cc", "Cs", "Zl", "Zp"} and not re.search(
        "[\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c]", found
    )
    assert shown(found) == found and printable(printable(text)) == printable(text)


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=20))
def test_words_are_shown_as_they_are(text):
    assert shown(text) == printable(text) == text == shown_value(text)


@given(texts)
def test_a_cell_is_no_formula_and_is_read_back(text):
    cell = to_cell(text)
    file = io.StringIO()
    csv.writer(file).writerow([cell, 1])
    (row,) = csv.reader(io.StringIO(file.getvalue(), newline=""))
    assert not row[0].startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"))
    plain = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]|[\ud800-\udc7f\udd00-\udfff]", "", text)
    if plain == text:
        assert from_cell(row[0]) == text
    assert "\x1b" not in row[0]
    row[0].encode(errors="surrogateescape")


@pytest.mark.parametrize("value", [-1.5, -1, None, True, float("nan")])
def test_numbers_stay_numbers_in_a_table(value):
    assert to_cell(value) is value


@names
def test_markdown_has_no_markup_of_a_name(name):
    line = markdown_line(name)
    assert len(line.splitlines()) <= 1
    bare = re.sub(r"\\[!-/:-@\[-`{-~]", "", line)
    assert not re.search(r"[`*\[\]<>|~$@]|&[#\w]|(?<!\w)_|_(?!\w)|://|\bwww\.|:\w+:", bare)
    assert re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", line) == " ".join(shown(name).split("\n"))


@names
def test_json_gives_the_name_back_and_nothing_else(name):
    text = to_json({"name": name})
    assert shown(text) == text and json.loads(text) == {"name": name}


def test_a_shell_gets_the_words_that_were_given_from_one_line():
    """All names in one command line, told back by the shell itself, and again from a comment."""
    words = [name for name in ACTING if "\ud800" not in name and "\0" not in name]
    line = shell_words(*words)
    assert line.isprintable()
    script = f"# {line}\nprintf '%s\\0' {line}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True)
    assert done.stderr == b""
    found = done.stdout.split(b"\0")[:-1]
    assert found == [word.encode(errors="surrogateescape") for word in words]


def test_plain_words_are_typed_as_people_type_them():
    assert shell_words("lambdanets", "--out", "runs/a b", 3) == "lambdanets --out 'runs/a b' 3"
