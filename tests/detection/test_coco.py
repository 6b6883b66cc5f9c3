"""COCO's JSON read: ids with holes, defaults, places of files, and what is refused in which words."""

import json

import numpy as np
import pytest
from pycocotools import mask as judge
from pycocotools.coco import COCO

from lambdanets.detection.coco import (
    Category,
    find_part,
    label_numbers,
    read_coco,
    read_part,
    segmentation_fault,
)
from lambdanets.errors import DataError, PathError
from support.coco import coco_content, write_coco

ADVICE = " `lambdanets data check` names all faults, and --repair OUT writes a mended copy."


def written(tmp_path, content):
    path = tmp_path / "set.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def refusal(tmp_path, content):
    """The message with which a file is refused, without its beginning."""
    path = written(tmp_path, content)
    with pytest.raises(DataError) as caught:
        read_coco(path)
    message = str(caught.value)
    assert message.startswith(f"coco: {path}") and "\n" not in message
    return message.removeprefix(f"coco: {path}").removesuffix(ADVICE)


def test_the_contents_are_those_that_pycocotools_reads(tmp_path, capsys):
    content = coco_content(5, every=2)
    content["categories"].reverse()
    read = read_coco(written(tmp_path, content))
    theirs = COCO(str(read.path))
    assert capsys.readouterr().out
    assert read.image_folder == tmp_path
    assert read.categories == (Category(id=3, name="disk"), Category(id=90, name="block"))
    assert label_numbers(read.categories) == {3: 1, 90: 2}
    assert [record.id for record in read.images] == theirs.getImgIds()
    for record in read.images:
        entries = theirs.imgToAnns[record.id]
        assert (record.file_name, record.width, record.height) == (f"{record.id:04}.png", 40, 30)
        assert [one.id for one in record.annotations] == [entry["id"] for entry in entries]
        for one, entry in zip(record.annotations, entries, strict=True):
            assert [*one.box] == entry["bbox"] and one.segmentation == entry["segmentation"]
            assert (one.category_id, one.area) == (entry["category_id"], entry["area"]) and not one.is_crowd


def test_defaults(tmp_path):
    content = coco_content(1)
    for key in ("area", "iscrowd", "segmentation"):
        del content["annotations"][0][key]
    content["annotations"][1] |= {"iscrowd": 1, "segmentation": []}
    first, second = read_coco(written(tmp_path, content)).images[0].annotations
    assert (first.area, first.is_crowd, first.segmentation) == (108.0, False, None)
    assert second.is_crowd and second.segmentation is None


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_a_missing_list_is_refused(key, tmp_path):
    content = coco_content(1)
    del content[key]
    others = ", ".join(f"'{other}'" for other in content)
    assert refusal(tmp_path, content) == f" must have the key '{key}', got {others}."
    assert refusal(tmp_path, content | {key: {}}) == f" must have a list of {key}, got dict."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '{"images": [',
            " must be a file of JSON, got no JSON (Expecting value: line 1 column 13 (char 12)).",
        ),
        ("[]", " must hold an object, got list."),
        ("{}", " must have the key 'images', got none."),
        (coco_content(1) | {"categories": []}, " must have at least one category, got none."),
        (coco_content(0), " must have at least one image, got none."),
    ],
)
def test_a_file_is_refused(content, message, tmp_path):
    assert refusal(tmp_path, content) == message


# List, changes of its first entry (... takes a key out), message.
ENTRIES = [
    ("images", {"id": "1"}, ", images[0] must have an integer as id, got '1'."),
    ("images", {"id": True}, ", images[0] must have an integer as id, got True."),
    (
        "images",
        {"width": ...},
        ", images[0] must have the key 'width', got 'id', 'file_name', 'height'.",
    ),
    ("images", {"height": 0}, ", images[0] must have a positive integer as height, got 0."),
    ("images", {"file_name": ""}, ", images[0] must have a text as file_name, got ''."),
    ("images", {"id": 2}, " must have ids once in images, got 2 twice."),
    ("categories", {"name": None}, ", categories[0] must have a text as name, got None."),
    ("categories", {"id": 90}, " must have ids once in categories, got 90 twice."),
    ("annotations", {"id": 2}, " must have ids once in annotations, got 2 twice."),
    ("annotations", {"image_id": 9}, ", annotations[0] must belong to an image of the file, got 9."),
    ("annotations", {"category_id": 4}, ", annotations[0] must belong to a category of the file, got 4."),
    (
        "annotations",
        {"bbox": [1, 2, 3]},
        ", annotations[0] must have four finite numbers as bbox, got [1, 2, 3].",
    ),
    (
        "annotations",
        {"bbox": [1, 2, 3, float("nan")]},
        ", annotations[0] must have four finite numbers as bbox, got [1, 2, 3, nan].",
    ),
    ("annotations", {"area": 10**400}, f", annotations[0] must have a finite number as area, got {10**59}."),
    ("annotations", {"area": "1"}, ", annotations[0] must have a finite number as area, got '1'."),
    ("annotations", {"iscrowd": 3}, ", annotations[0] must have 0 or 1 as iscrowd, got 3."),
    (
        "annotations",
        {"segmentation": "x"},
        ", annotations[0]: segmentation must be polygons or run lengths, got str.",
    ),
]


@pytest.mark.parametrize(("key", "changes", "message"), ENTRIES)
def test_an_entry_is_refused(key, changes, message, tmp_path):
    content = coco_content(2)
    entry = content[key][0] | changes
    content[key][0] = {name: value for name, value in entry.items() if value is not ...}
    assert refusal(tmp_path, content) == message


def test_an_entry_must_be_an_object(tmp_path):
    content = coco_content(1)
    content["annotations"].append([])
    assert refusal(tmp_path, content) == ", annotations[2] must be an object, got list."


def test_segmentations():
    mask = np.asfortranarray(np.random.default_rng(0).random((7, 5)) < 0.4).astype(np.uint8)
    text = judge.encode(mask)["counts"].decode()
    runs = np.diff(np.flatnonzero(np.diff(mask.ravel("F"), prepend=2 - mask[0, 0])), append=35).tolist()
    counts = [0, *runs] if mask[0, 0] else runs
    sound = [
        None,
        [],
        [[0, 0, 4, 0, 4.5, 6]],
        {"size": [7, 5], "counts": text},
        {"size": [7, 5], "counts": counts},
    ]
    assert not any(segmentation_fault(one, 7, 5) for one in sound)
    assert segmentation_fault([[0, 0, 4]], 7, 5) == "polygons of pairs x, y, got 3 numbers"
    assert segmentation_fault([0, 0, 4, 0], 7, 5) == "a list of polygons, got a list of int"
    assert segmentation_fault([[0, "0"]], 7, 5) == "polygons of numbers, got another kind"
    assert segmentation_fault([[0, float("inf")]], 7, 5) == "polygons of finite numbers, got one that is not"
    assert segmentation_fault([[0, 10**400]], 7, 5) == "polygons of finite numbers, got one that is not"
    assert segmentation_fault([[0.5, 10**400]], 7, 5) == "polygons of numbers, got another kind"
    turned = {"size": [5, 7], "counts": text}
    assert segmentation_fault(turned, 7, 5) == "run lengths with the image's size [7, 5], got [5, 7]"
    short = {"size": [7, 5], "counts": [20, 14]}
    assert segmentation_fault(short, 7, 5) == "run lengths of 35 pixels in all, got 34"
    for counts in (None, [1, -1], "é", "o", 7):
        fault = segmentation_fault({"size": [7, 5], "counts": counts}, 7, 5)
        assert fault == "run lengths with counts from 0 (a text or a list), got others"
    # pycocotools reads on behind the end of this one.
    assert segmentation_fault({"size": [7, 5], "counts": text[:-2]}, 7, 5)


@pytest.mark.parametrize("seed", range(20))
def test_counts_as_text_are_read_as_pycocotools_writes_them(seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 400, 2).tolist()
    mask = np.asfortranarray(rng.random((height, width)) < rng.random() ** 4).astype(np.uint8)
    text = judge.encode(mask)["counts"].decode()
    assert segmentation_fault({"size": [height, width], "counts": text}, height, width) is None


@pytest.mark.parametrize(
    ("file", "images"),
    [
        ("annotations/instances_a.json", "a"),
        ("annotations/a.json", "images/a"),
        ("a.json", "images"),
        ("a.json", "."),
        ("a/_annotations.coco.json", "a"),
        ("a/annotations.json", "a"),
    ],
)
def test_a_part_is_found(file, images, tmp_path):
    for path in (tmp_path / file, tmp_path / images / "0001.png"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(coco_content(1)))
    assert find_part(tmp_path, "a") == (tmp_path / file, tmp_path / images)
    assert read_part(tmp_path, "a").image_folder == tmp_path / images
    assert find_part(tmp_path, file) == (tmp_path / file, (tmp_path / file).parent)


def test_the_images_decide_between_folders(tmp_path):
    write_coco(tmp_path, "a", coco_content(1))
    assert read_part(tmp_path, "annotations/instances_a.json").image_folder == tmp_path / "a"
    (tmp_path / "a").rename(tmp_path / "images")
    (tmp_path / "a").mkdir()
    assert find_part(tmp_path, "a")[1] == tmp_path / "a"
    assert read_part(tmp_path, "a").image_folder == tmp_path / "images"


def test_a_part_that_is_not_there(tmp_path):
    with pytest.raises(PathError) as caught:
        find_part(tmp_path, "val")
    assert str(caught.value) == (
        f"coco: {tmp_path} must hold the JSON file of part 'val', got none. Looked for"
        " annotations/instances_val.json, annotations/val.json, val.json,"
        " val/_annotations.coco.json, val/annotations.json."
    )
    for look in (lambda: find_part(tmp_path, "x.json"), lambda: read_coco(tmp_path / "x.json")):
        with pytest.raises(PathError, match=r"x\.json must be a file of COCO's JSON, got none\.$"):
            look()
