"""Sets of labels reach the images they belong to, whatever the order of the data set."""

import json

import pytest

from lambdanets.data.real_labels import read_real_labels
from lambdanets.errors import DataError, PathError

# In the data set images are sorted by class, in the published list by their number.
NAMES = ["val/n01/v_00000003.JPEG", "shard-000.tar: n01/v_00000001.JPEG", "val/n02/v_00000002.JPEG"]


def _write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_list_is_in_the_order_of_file_names(tmp_path):
    path = _write(tmp_path / "real.json", [[1], [2, 0], []])
    assert read_real_labels(path, NAMES, 3).tolist() == [[-1, -1], [1, -1], [2, 0]]


def test_an_object_goes_by_name_with_or_without_folders(tmp_path):
    content = {"v_00000001.JPEG": [1], "n01/v_00000003.JPEG": [0, 1, 2], "v_00000002.JPEG": [2], "more": [9]}
    path = _write(tmp_path / "real.json", content)
    assert read_real_labels(path, NAMES, 3).tolist() == [[0, 1, 2], [1, -1, -1], [2, -1, -1]]


def test_folders_tell_equal_names_apart(tmp_path):
    path = _write(tmp_path / "real.json", {"a/1.png": [0], "b/1.png": [1]})
    assert read_real_labels(path, ["x/b/1.png", "x/a/1.png"], 2).tolist() == [[1], [0]]


def test_no_image_with_a_label_is_a_table_all_the_same(tmp_path):
    path = _write(tmp_path / "real.json", [[], [], []])
    assert read_real_labels(path, NAMES, 3).tolist() == [[-1]] * 3


@pytest.mark.parametrize(
    ("content", "names", "message"),
    [
        ("{", NAMES, r"real\.json must be JSON, got no JSON \(.*\)\."),
        ("3", NAMES, r"must hold a list of lists or an object name -> list, got 3\."),
        ([[1]], NAMES, r"must hold one list for each of the 3 test images, got 1\."),
        (
            [[1], [2]],
            ["a/1.png", "b/1.png"],
            r"goes by file names, which must differ, got 1\.png more than once\. Use an object whose names",
        ),
        ({"1.png": [1]}, ["a/1.png", "b/1.png"], r"must differ, got 1\.png more than once\."),
        (
            {"v_00000001.JPEG": [1]},
            NAMES,
            r"must have an entry for each of the 3 test images, got none for 2: v_00000003\.JPEG, v_",
        ),
        ([[1], [3], []], NAMES, r"a list of classes from 0 to 2, got \[3\] for v_00000002\.JPEG\."),
        ([[1], 2, []], NAMES, r"a list of classes from 0 to 2, got 2 for v_00000002\.JPEG\."),
        ([[1], [True], []], NAMES, r"got \[True\] for"),
    ],
)
def test_files_that_do_not_fit(tmp_path, content, names, message):
    with pytest.raises(DataError, match=message):
        read_real_labels(_write(tmp_path / "real.json", content), names, 3)


def test_no_file(tmp_path):
    with pytest.raises(PathError, match=r"none\.json must be a file, got none\."):
        read_real_labels(tmp_path / "none.json", NAMES, 3)
