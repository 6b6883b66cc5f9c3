"""Label files as people write them: headings, separators, encodings, slashes; and what is refused."""

import itertools
import json
import unicodedata

import pytest

from lambdanets.data.folders import open_folder
from lambdanets.data.label_file import _LABELS, _PATHS
from lambdanets.errors import DataError
from support.images import encoded, photo

FILES = ("b.jpg", "sub/a.jpg", "sub/my dog.jpg")
CLASSES = {"b.jpg": "dog", "sub/a.jpg": "cat", "sub/my dog.jpg": "dog"}
SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t"}


@pytest.fixture
def flat(tmp_path):
    for name in (*FILES, "other.jpg"):
        (tmp_path / "flat" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "flat" / name).write_bytes(name.encode())
    return tmp_path / "flat"


def labelled(flat, content, name="labels.csv"):
    """Class of each file, by a label file."""
    file = flat.parent / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    source = open_folder(flat, label_file=file)
    return {source.read(index).decode(): source.labels[source.targets[index]] for index in range(len(source))}


def table(separator=",", heading=("path", "label"), end="\n", quote="", rows=CLASSES):
    lines = [heading, *rows.items()] if heading else [*rows.items()]
    return end.join(separator.join(f"{quote}{cell}{quote}" for cell in line) for line in lines) + end


HEADINGS = [*((path, "label") for path in _PATHS), *(("path", label) for label in _LABELS)]
HEADINGS += [
    ("File_Name", "CLASS"),
    ("image id", "Category-ID"),
    ("IMAGE", "diagnosis"),
    ("kind", "filename"),
]


@pytest.mark.parametrize("heading", HEADINGS, ids="-".join)
@pytest.mark.parametrize("separator", SEPARATORS)
def test_usual_headings_and_separators_are_understood(flat, heading, separator):
    rows = {label: path for path, label in CLASSES.items()} if heading[0] == "kind" else CLASSES
    expected = {path: label for label, path in rows.items()} if heading[0] == "kind" else CLASSES
    content = table(SEPARATORS[separator], heading, rows=rows)
    assert labelled(flat, content) == expected
    wide = "".join(
        f"{number},{line}\n" for number, line in enumerate(table(",", heading, rows=rows).splitlines())
    )
    if heading[1] != "diagnosis" and heading[0] != "kind":
        assert labelled(flat, wide) == expected


ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be")
ENDS = ("\n", "\r\n", "\r", "\n\n")


@pytest.mark.parametrize(
    ("separator", "encoding", "end", "quote", "heading"),
    list(itertools.product(SEPARATORS, ENCODINGS, ENDS, ("", '"'), (None, ("Image", "Class")))),
)
def test_encodings_ends_of_lines_and_quotes(flat, separator, encoding, end, quote, heading):
    content = table(SEPARATORS[separator], heading, end, quote).encode(encoding)
    for name in ("labels.csv", "labels.tsv", "labels.txt"):
        assert labelled(flat, content, name) == CLASSES


@pytest.mark.parametrize("heading", [None, ("path", "label")])
@pytest.mark.parametrize("blanks", [" ", "   ", " \t"])
@pytest.mark.parametrize("quote", ["", '"'])
def test_blanks_separate_the_last_word(flat, blanks, heading, quote):
    assert labelled(flat, table(blanks, heading, quote=quote)) == CLASSES


@pytest.mark.parametrize(
    "spell",
    [
        lambda name: name.replace("/", "\\"),
        lambda name: f"./{name}",
        lambda name: f" {name} ",
        lambda name: name.removesuffix(".jpg"),
        lambda name: name.replace("/", "//"),
    ],
)
def test_files_are_found_by_what_others_call_them(flat, spell):
    rows = {spell(path): label for path, label in CLASSES.items()}
    assert labelled(flat, table(rows=rows)) == CLASSES
    assert labelled(flat, json.dumps(rows), "labels.json") == CLASSES


def test_a_name_that_two_files_may_have_is_not_guessed(flat):
    (flat / "b.png").write_bytes(b"b.png")
    with pytest.raises(DataError, match=r"line 2 must name a file of .*, got 'b', which is not there"):
        labelled(flat, "path,label\nb,dog\n")


@pytest.mark.parametrize("forms", [*itertools.product(("NFC", "NFD"), repeat=2)], ids="-".join)
def test_one_spelling_of_accents_is_as_good_as_another(flat, forms):
    on_disk, written = (unicodedata.normalize(form, "été/Å.jpg") for form in forms)
    (flat / on_disk).parent.mkdir()
    (flat / on_disk).write_bytes(b"x")
    labels = [unicodedata.normalize(form, "Ödland") for form in forms]
    assert labelled(flat, f"{written},{labels[0]}\nb.jpg,{labels[1]}\n") == {
        "x": labels[0],
        "b.jpg": labels[0],
    }


JSONS = {
    "object": lambda rows: rows,
    "pairs": lambda rows: [*map(list, rows.items())],
    "objects": lambda rows: [{"File_Name": path, "Category": label, "id": 3} for path, label in rows.items()],
}


@pytest.mark.parametrize("form", JSONS)
@pytest.mark.parametrize("encoding", ENCODINGS[:3])
def test_json_of_every_form(flat, form, encoding):
    assert labelled(flat, json.dumps(JSONS[form](CLASSES)).encode(encoding), "l.json") == CLASSES


@pytest.mark.parametrize("label", ["3.0", "1.5", "-0.5", ".5", "1.", "2.0e3"])
def test_fractions_are_no_classes(flat, label):
    message = (
        rf"labels\.csv, line 3 must give a path and a label \(a text or a whole number\), got .*'{label}'\."
    )
    with pytest.raises(DataError, match=message):
        labelled(flat, f"path,label\nb.jpg,dog\nsub/a.jpg,{label}\n")


@pytest.mark.parametrize("label", ["v1.5", "3", "-1", "1.2.3", "1e5", "nan", "3.0 l"])
def test_other_texts_are(flat, label):
    assert labelled(flat, f"b.jpg,dog\nsub/a.jpg,{label}\n")["sub/a.jpg"] == label


@pytest.mark.parametrize("value", [3.0, True, None, [], float("nan")])
def test_numbers_of_json_are_whole(flat, value):
    with pytest.raises(DataError, match=r"entry 'b\.jpg' must give a path and a label"):
        labelled(flat, json.dumps({"b.jpg": value}), "l.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "photo,kind,more\nb.jpg,dog,1\n",
            r"line 1 must have two columns, path and label, got 3\. If it is a heading, it must name a column"
            r" of paths \(path, file, file_name, image, …\) and one of labels \(label, class, …\), got",
        ),
        (
            "foo,bar\nb.jpg,dog\n",
            r"line 1 must name a file of .*, got 'foo', which is not there\. If this is a heading, it must",
        ),
        ("b.jpg\nsub/a.jpg\n", r"line 1 must have two columns, path and label, got 1\."),
        (b"\xff\xfea", r"cannot be read as a label file: "),
    ],
)
def test_what_is_not_understood_is_said(flat, content, message):
    with pytest.raises(DataError, match=message):
        labelled(flat, content)


def test_a_label_file_that_is_none_is_not_waited_for(flat):
    import os

    os.mkfifo(flat.parent / "labels.csv")
    with pytest.raises(DataError, match=r"labels\.csv cannot be read as a label file: a pipe\."):
        open_folder(flat, label_file=flat.parent / "labels.csv")


def test_a_file_of_labels_may_name_real_images(flat):
    (flat / "c.jpg").write_bytes(encoded(photo()))
    source = open_folder(flat, label_file=_written(flat, "c.jpg;cat\n"))
    assert source.left_out.counts.total() == 4


def _written(flat, text):
    file = flat.parent / "l.csv"
    file.write_text(text)
    return file
