"""Names of classes: what is written is read, and what is no list of names is refused."""

import pytest

from lambdanets.data.folders import read_class_names, write_class_names
from lambdanets.errors import DataError


@pytest.mark.parametrize(
    ("names", "file"),
    [
        (("cat", "dog"), "classes.txt"),
        (("10", "9", "Ünï code, with blanks"), "classes.txt"),
        (("two\nlines", "dog"), "classes.json"),
        ((" led by a blank", "\u2028"), "classes.json"),
    ],
)
def test_written_and_read(tmp_path, names, file):
    assert write_class_names(tmp_path, names) == tmp_path / file
    assert read_class_names(tmp_path) == names


def test_no_file_no_names(tmp_path):
    assert read_class_names(tmp_path) is None


@pytest.mark.parametrize(
    ("file", "text", "names"),
    [
        ("classes.txt", "cat\r\n\n dog \n", ("cat", "dog")),
        ("classes.json", '["cat", "dog"]', ("cat", "dog")),
        ("classes.json", '{"dog": 1, "cat": 0}', ("cat", "dog")),
    ],
)
def test_forms(tmp_path, file, text, names):
    (tmp_path / file).write_text(text)
    assert read_class_names(tmp_path) == names


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("classes.txt", "\n"),
        ("classes.json", "{"),
        ("classes.json", "[1, 2]"),
        ("classes.json", '["cat", ""]'),
        ("classes.json", '{"dog": 2, "cat": 0}'),
        ("classes.json", '{"dog": [0]}'),
        ("classes.json", "[" * 100_000),
        ("classes.json", "7"),
    ],
)
def test_what_is_no_list_of_names(tmp_path, file, text):
    (tmp_path / file).write_text(text)
    message = (
        rf"classes: .*{file} must hold the name of each class: one a line in classes.txt; in classes.json"
    )
    with pytest.raises(DataError, match=message):
        read_class_names(tmp_path)


def test_names_twice_and_what_is_no_text(tmp_path):
    (tmp_path / "classes.txt").write_text("cat\ndog\ncat\n")
    with pytest.raises(
        DataError, match=r"classes: .*classes.txt must hold each name once, got 'cat' 2 times\."
    ):
        read_class_names(tmp_path)
    (tmp_path / "classes.txt").write_bytes(b"\xff\xe9")
    with pytest.raises(
        DataError,
        match=r"classes: .* must be a text in UTF-8, got bytes that are no UTF-8 text, the first at 0",
    ):
        read_class_names(tmp_path)
