"""The one reader: a file that is not regular, bounded and understood is refused in a few words."""

import os

import pytest

from lambdanets.errors import CheckpointError
from lambdanets.reading import (
    UnreadableError,
    parse_json,
    read_bytes,
    read_json,
    read_records,
    read_text,
    reading,
)

FIELDS = {"step": int, "loss": float, "name?": str, "places?": [int], "sums?": {str: {"bytes": int}}}


def _pipe(path):
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "No such file or directory"),
        (_pipe, "a pipe"),
        (lambda path: path.mkdir(), "a folder"),
        (lambda path: path.symlink_to("/dev/zero"), "a device"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
        (lambda path: path.write_bytes(b"x" * 1001), "1,001 bytes, which is above 1,000"),
    ],
)
def test_what_is_no_bounded_regular_file(tmp_path, make, reason):
    make(tmp_path / "file")
    with pytest.raises(UnreadableError) as raised:
        read_bytes(tmp_path / "file", limit=1000)
    assert str(raised.value) == reason


def test_a_path_with_a_zero_byte():
    with pytest.raises(UnreadableError, match="a path with an error: embedded null byte"):
        read_bytes("a\0b")


@pytest.mark.parametrize("content", ["é\n", "\ufeffé\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_texts_of_several_encodings(tmp_path, content, encoding):
    (tmp_path / "file").write_text(content, encoding=encoding)
    assert read_text(tmp_path / "file").removeprefix("\ufeff") == "é\n"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"ab\xe9", "bytes that are no UTF-8 text, the first at 2"),
        (b"", "an empty file"),
        (b"{", r"no JSON \(Expecting property name"),
        (b"[" * 100_000, "JSON that is nested too deeply"),
        (b'{"a": NaN}', "NaN, which is no finite number"),
        (b"-Infinity", "-Infinity, which is no finite number"),
        (b"[1e999]", "1e999, which is no finite number"),
        (b"9" * 5000, r"no JSON \(Exceeds the limit"),
    ],
)
def test_what_is_no_json(tmp_path, content, reason):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UnreadableError, match=reason):
        read_json(tmp_path / "file")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]", r"\[\] where an object is needed"),
        ('{"loss": 1}', "no step"),
        ('{"step": true, "loss": 1}', "true where int is needed at step"),
        ('{"step": 1.5, "loss": 1}', "1.5 where int is needed at step"),
        ('{"step": 1, "loss": "1"}', '"1" where float is needed at loss'),
        ('{"step": 1, "loss": 1, "name": 3}', "3 where str is needed at name"),
        ('{"step": 1, "loss": 1, "places": [1, null]}', r"null where int is needed at places\[1\]"),
        ('{"step": 1, "loss": 1, "sums": {"a": {}}}', "no sums.a.bytes"),
    ],
)
def test_fields_that_do_not_fit(text, reason):
    with pytest.raises(UnreadableError, match=reason):
        parse_json(text, FIELDS)


def test_fields_that_fit():
    for text in ('{"step": 1, "loss": 2}', '{"step": 1, "loss": 2.5, "name": null, "more": []}'):
        assert parse_json(text, FIELDS)["step"] == 1


@pytest.mark.parametrize("rest", ["", '{"a": 2', '{"a": 2}', "\0\0"])
def test_a_half_line_at_the_end_is_left_out(tmp_path, rest):
    (tmp_path / "file").write_text('{"a": 1}\n' + rest)
    assert read_records(tmp_path / "file") == [{"a": 1}, *([{"a": 2}] if rest.endswith("}") else [])]


@pytest.mark.parametrize("line", ['{"a": 2', "[3]", "", "\0"])
def test_another_line_that_is_no_record(tmp_path, line):
    (tmp_path / "file").write_text(f'{{"a": 1}}\n{line}\n{{"a": 4}}\n')
    with pytest.raises(UnreadableError, match=r"in line 2$"):
        read_records(tmp_path / "file")


def test_records_may_hold_what_is_not_finite(tmp_path):
    (tmp_path / "file").write_text('{"loss": Infinity}\n')
    assert read_records(tmp_path / "file") == [{"loss": float("inf")}]


def test_the_public_function_adds_itself_and_the_path(tmp_path):
    message = f"load_run: {tmp_path} must be a file, got a folder. Give a file."
    with (
        pytest.raises(CheckpointError) as raised,
        reading("load_run", tmp_path, "be a file", CheckpointError, "Give a file."),
    ):
        read_bytes(tmp_path)
    assert str(raised.value) == message
