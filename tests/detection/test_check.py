"""`lambdanets data check` on COCO's files: each fault counted and named, and mended by its rule."""

import json
import unicodedata

import pytest
import torch
from pycocotools.coco import COCO

from lambdanets.data.detection import CocoConfig, JitterConfig
from lambdanets.detection.check import check_coco
from lambdanets.detection.coco import read_part
from lambdanets.detection.data import load
from lambdanets.detection.mending import RULES
from support.coco import coco_content, coco_image, coco_object, rectangle, write_coco, write_data_set
from support.commands import printed, refused

SQUARE = rectangle(4.0, 5.0, 10.0, 8.0)
BOX = [4.0, 5.0, 10.0, 8.0]
NAN = float("nan")

# Fault -> how an object of image 1 (40×30) gets it, and some keys after a repair; None: it is dropped.
OBJECTS = {
    "annotation of a missing image": ({"image_id": 77}, None),
    "annotation of an unknown category": ({"category_id": 5}, None),
    "iscrowd neither 0 nor 1": ({"iscrowd": 2}, {"iscrowd": 0}),
    "iscrowd missing": ({"iscrowd": ...}, {"iscrowd": 0}),
    "broken segmentation": (
        {"segmentation": [SQUARE, [1, 2, NAN, 4, 5, 6]]},
        {"segmentation": [SQUARE]},
    ),
    "polygon of fewer than 3 points": (
        {"segmentation": [[1, 2, 3, 4], SQUARE]},
        {"segmentation": [SQUARE]},
    ),
    "no segmentation": ({"segmentation": []}, None),
    "crowd without run lengths": ({"iscrowd": 1}, {"iscrowd": 1, "bbox": BOX}),
    "box not of four finite numbers": ({"bbox": [1.0, NAN, 3.0, 4.0]}, {"bbox": BOX}),
    "box without area": ({"bbox": [4.0, 5.0, 0.0, 8.0]}, {"bbox": BOX}),
    "box outside of the image": ({"bbox": [90.0, 5.0, 10.0, 8.0]}, {"bbox": BOX}),
    "box reaches out of the image": (
        {"bbox": [-4.0, 5.0, 18.0, 8.0]},
        {"bbox": [0.0, 5.0, 14.0, 8.0]},
    ),
    "box and segmentation disagree": ({"bbox": [20.0, 15.0, 10.0, 8.0]}, {"bbox": BOX}),
    "area not a finite number": ({"area": "80"}, {"area": 80.0}),
    "area missing or not positive": ({"area": 0}, {"area": 80.0}),
}


def damaged_object(number, changes):
    entry = coco_object(number, 1, SQUARE) | changes
    return {key: value for key, value in entry.items() if value is not ...}


def damaged(root):
    """A set whose training part has each fault of `RULES` once; the ids of its damaged objects, by fault."""
    content = coco_content(3)
    numbers = {}
    for number, (kind, (changes, _)) in enumerate(OBJECTS.items(), start=101):
        content["annotations"].append(damaged_object(number, changes))
        numbers[kind] = number
    # The same id again, and a text.
    content["annotations"] += [coco_object(103, 1, SQUARE), "object"]
    content["categories"] += [{"id": 7, "name": "none"}, {"id": 3, "name": "again"}, {"name": "no id"}]
    broken = coco_image(50, 20, 20)
    content["images"].append(broken)
    path = write_coco(root, "train", content)
    (root / "train" / broken["file_name"]).write_bytes(b"no image")
    content["images"] += [coco_image(60), coco_image(1), {"id": 61, "file_name": "x.png"}]
    path.write_text(json.dumps(content))
    write_coco(root, "val", coco_content(2, first_id=1001))
    return numbers


def test_every_fault_is_counted_and_mended(tmp_path):
    numbers = damaged(tmp_path)
    report = check_coco(tmp_path, ("train",), decoding=True, repair=tmp_path / "out")[0]
    assert report.faults.counts == dict.fromkeys(RULES, 1)
    assert not report.is_fit
    assert report.empty == ("none",)
    assert report.faults.examples["box without area"][0].startswith(
        "annotations[15] (id 110): [4.0, 5.0, 0.0"
    )
    mended = {entry["id"]: entry for entry in report.mended["annotations"]}
    for kind, (_, expected) in OBJECTS.items():
        if expected is None:
            assert numbers[kind] not in mended
        else:
            assert mended[numbers[kind]].items() >= expected.items(), kind
    # The second object of one id has a new one, above all.
    assert mended[116]["bbox"] == BOX
    assert [image["id"] for image in report.mended["images"]] == [1, 2, 3]


def test_a_repaired_file_is_sound(tmp_path, capsys):
    damaged(tmp_path)
    before = (tmp_path / "annotations" / "instances_train.json").read_bytes()
    out = tmp_path / "out"
    text = printed(capsys, "data", "check", tmp_path, "--decode", "--repair", out, code=4)
    place = (out / "instances_train.json").resolve()
    assert f"repaired: {place}, for --data.train or --data.test; the images stay where they are" in text
    assert (tmp_path / "annotations" / "instances_train.json").read_bytes() == before

    repaired = str(out / "instances_train.json")
    report = check_coco(tmp_path, (repaired,), decoding=True)[0]
    assert report.is_fit and not report.faults.counts
    assert report.image_folder == tmp_path / "train"
    judge = COCO(repaired)
    # What only pycocotools' own code reads: each mask, of polygons and of run lengths.
    areas = {number: judge.annToMask(entry).sum() for number, entry in judge.anns.items()}
    assert set(areas) == {entry["id"] for entry in report.mended["annotations"]} and min(areas.values()) > 0
    assert capsys.readouterr().out
    task = load(
        CocoConfig(root=str(tmp_path), train=repaired, test="val", image_size=32),
        JitterConfig(),
        seed=0,
        masks=True,
        max_unreadable=1,
    )
    assert len(task.train) == 3


def test_the_command_names_faults_and_counts_the_rest(tmp_path, capsys):
    content = coco_content(4, every=2)
    content["annotations"][1]["bbox"][2] = 0.0
    del content["annotations"][2]["category_id"]
    write_coco(tmp_path, "train", content)
    write_coco(tmp_path, "val", coco_content(1, first_id=9))
    text = printed(capsys, "data", "check", tmp_path, code=4)
    lines = text.splitlines()
    assert lines[0] == f"{tmp_path}: coco"
    assert "images   4: 2 with objects, 2 without" in lines
    assert "objects  3 of 2 categories; crowds: 0" in lines
    assert "sizes    small 3, medium 0, large 0" in lines
    assert [line.split() for line in lines[5:8]] == [["category", "objects"], ["disk", "1"], ["block", "2"]]
    assert (
        "fault: 1 × broken annotation entry (annotations[2] (id 3)). Repair: dropped." in lines
        and "note: 1 × box without area (annotations[1] (id 2): [17.0, 12.0, 0.0, 12.0])."
        " Repair: the box of its segmentation; dropped without any."
        in lines
    )
    assert lines[-1] == "not fit: train. --repair OUT writes mended copies."


def test_a_note_alone_is_fit(tmp_path, capsys):
    content = coco_content(2)
    content["annotations"][0]["bbox"][0] = -2.0
    content["categories"].append({"id": 91, "name": "never"})
    write_coco(tmp_path, "train", content)
    write_coco(tmp_path, "val", coco_content(1, first_id=9))
    text = printed(capsys, "data", "check", tmp_path)
    assert "empty    1 category without objects (never)" in text
    assert text.endswith("fit to train with; --repair OUT mends what is noted\n")
    read_part(tmp_path, "train")


def test_a_sound_set_in_json(tmp_path, capsys):
    write_data_set(tmp_path)
    report = json.loads(printed(capsys, "data", "check", tmp_path, "--decode", "--json"))
    assert report["fit"] and report["kind"] == "coco" and report["decoded"]
    train, test = report["parts"]
    assert train["images"] == train["images_with_objects"] == 4
    assert train["objects"] == {"disk": 4, "block": 4} and train["faults"] == []
    assert test["part"] == "val" and test["sizes"] == {"small": 4, "medium": 0, "large": 0}
    text = printed(capsys, "data", "check", tmp_path, "--decode")
    assert text.endswith("nothing wrong\n") and text.startswith(f"{tmp_path}: coco, all decoded\n")


def test_the_names_of_coco_itself_are_found(tmp_path, capsys):
    write_coco(tmp_path, "train2017", coco_content(1))
    write_coco(tmp_path, "val2017", coco_content(1))
    assert "val2017  " in printed(capsys, "data", "check", tmp_path)


def test_objects_without_any_masks_are_no_fault(tmp_path):
    content = coco_content(2)
    for entry in content["annotations"]:
        entry["segmentation"] = []
    content["annotations"][0]["bbox"] = [90, 3, 2, 2]
    del content["annotations"][1]["area"]
    write_coco(tmp_path, "train", content)
    report = check_coco(tmp_path, ("train",))[0]
    assert report.faults.counts == {"box outside of the image": 1, "area missing or not positive": 1}
    assert [entry["id"] for entry in report.mended["annotations"]] == [2, 3, 4]
    assert report.mended["annotations"][0]["area"] == 14.0 * 12.0


def test_an_image_of_another_size_is_found_by_decoding(tmp_path):
    content = coco_content(2)
    write_coco(tmp_path, "train", content)
    content["images"][0]["width"] = 41
    write_coco(tmp_path, "train", content, files=False)
    assert check_coco(tmp_path, ("train",))[0].is_fit
    report = check_coco(tmp_path, ("train",), decoding=True)[0]
    name = tmp_path / "train" / "0001.png"
    assert report.faults.examples["unreadable image file"] == [
        f"{name}: must have 41×30 pixels as its COCO file says, got 40×30."
    ]


def test_a_copy_replaces_nothing(tmp_path, capsys):
    write_data_set(tmp_path)
    folder = tmp_path / "annotations"
    message = refused(capsys, "data", "check", tmp_path, "--repair", folder)
    assert message.endswith(
        f"data check: repair must not replace a file, got {folder / 'instances_train.json'}."
        " Use another folder."
    )


def test_what_is_not_coco(tmp_path, capsys):
    (tmp_path / "train" / "cat").mkdir(parents=True)
    # Another file of the name of a part.
    (tmp_path / "train.json").write_text("{}")
    message = refused(capsys, "data", "check", tmp_path, "--repair", tmp_path / "out")
    assert f"data check: repair must be for files of COCO's JSON, got none in {tmp_path}." in message
    message = refused(capsys, "data", "check", tmp_path / "train", "--kind", "coco")
    assert "must hold the JSON file of part 'train', got none. Looked for" in message
    message = refused(capsys, "data", "shard", tmp_path, tmp_path / "out", "--kind", "coco")
    assert "coco" in message


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC"), ("NFC", "NFC")], ids="-".join)
def test_images_are_found_in_either_spelling_and_with_either_slash(tmp_path, forms):
    on_disk, written = (unicodedata.normalize(form, "été/Ü.png") for form in forms)
    content = coco_content(4)
    for part in ("train", "val"):
        write_coco(tmp_path, part, content)
    content["images"][0]["file_name"] = written
    content["images"][1]["file_name"] = "sub\\b.png"
    for part in ("train", "val"):
        for name, old in ((on_disk, "0001.png"), ("sub/b.png", "0002.png")):
            (tmp_path / part / name).parent.mkdir()
            (tmp_path / part / old).rename(tmp_path / part / name)
        write_coco(tmp_path, part, content, files=False)
    reports = check_coco(tmp_path, ("train", "val"), decoding=True)
    assert not any(report.faults.counts or report.left_out.counts for report in reports)
    config = CocoConfig(root=str(tmp_path), train="train", test="val")
    task = load(config, JitterConfig(), seed=0, masks=False, max_unreadable=1)
    assert len(task.test.batch(torch.arange(4)).images) == 4


def test_images_that_the_file_does_not_name_are_counted(tmp_path, capsys):
    content = coco_content(4)
    for part in ("train", "val"):
        write_coco(tmp_path, part, content)
    for name in ("more.png", "deep/other.PNG", "notes.txt", ".DS_Store"):
        (tmp_path / "train" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "train" / name).write_bytes(b"x")
    report = json.loads(printed(capsys, "data", "check", tmp_path, "--json"))
    train, val = (part["left_out"] for part in report["parts"])
    assert [(row["reason"], row["ending"], row["files"]) for row in train] == [
        ("hidden", "without an ending", 1),
        ("unnamed", ".png", 2),
    ]
    assert val == []
    text = " ".join(printed(capsys, "data", "check", tmp_path).split())
    assert "train: left out: 2 images that the label file does not name, 1 hidden file or folder" in text
