"""Small data sets of every kind, and all that may happen to one between two sessions of a run."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from lambdanets.data.config import FolderConfig, ShardsConfig
from support.archives import image_bytes, write_tar
from support.images import encoded, make_folder, photo

CLASSES = ("ant", "bee")
# Images of each class.
NUM = {"train": 4, "val": 2}


@dataclass(frozen=True)
class Kind:
    """A kind of data: how it is written below a root, its settings, and how it may change.

    Attributes:
        write: Writes it.
        config: Its settings, of a root.
        changes: Name -> (changes it, the names of the differences, words of the message).
    """

    write: object
    config: object
    changes: dict


def _write_folder(root):
    for part, each in NUM.items():
        make_folder(root / part, CLASSES, each=each)


def _swap(first, second):
    beside = first.with_name("beside")
    first.rename(beside)
    second.rename(first)
    beside.rename(second)


def _swap_contents(root):
    """The names stay, the images are exchanged."""
    for part in NUM:
        _swap(root / part / "ant", root / part / "bee")


def _rename_class(root):
    for part in NUM:
        (root / part / "ant").rename(root / part / "zebra")


def _add(root, part="train", name="new.jpg"):
    (root / part / "ant" / name).write_bytes(encoded(photo(seed=7), quality=90))


def _move(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)


FOLDER = Kind(
    _write_folder,
    lambda root: FolderConfig(root=str(root), image_size=16),
    {
        "a class is renamed, and the numbers swap": (
            _rename_class,
            ("data.classes", "data.images"),
            "gone ant, new zebra, bee was 1 and is 0",
        ),
        "the images of two classes are exchanged": (
            _swap_contents,
            ("data.images",),
            "train: equal names, other sizes of 8 of 8 files; test: equal names, other sizes of 4 of 4 files",
        ),
        "an image is added": (_add, ("data.images",), "train: 8 -> 9 images, ant +1"),
        "an image is removed": (
            lambda root: (root / "train/bee/003.jpg").unlink(),
            ("data.images",),
            "train: 8 -> 7 images, bee -1",
        ),
        "a test image is added": (
            lambda root: _add(root, "val"),
            ("data.images",),
            "test: 4 -> 5 images, ant +1",
        ),
        "an image is renamed": (
            lambda root: (root / "train/ant/000.jpg").rename(root / "train/ant/zzz.jpg"),
            ("data.images",),
            "train: equal counts, other names or sizes, or another order",
        ),
        "an image goes to another class, and one comes": (
            lambda root: (
                _move(root / "train/ant/000.jpg", root / "train/bee/a.jpg"),
                _move(root / "train/bee/000.jpg", root / "train/ant/b.jpg"),
            ),
            ("data.images",),
            "train: equal counts, other names or sizes, or another order",
        ),
        "an image goes to another class": (
            lambda root: _move(root / "train/ant/000.jpg", root / "train/bee/a.jpg"),
            ("data.images",),
            "train: ant -1, bee +1",
        ),
        "a class is added": (
            lambda root: make_folder(root / "train", ["cat"], each=2),
            None,
            "2 -> 3 classes, new cat",
        ),
        "nothing": (lambda root: None, (), ""),
        "an empty folder, and a file that is no image": (
            lambda root: (root / "train/ant/notes.txt").write_text("none"),
            (),
            "",
        ),
    },
)


def _write_label_file(root):
    for part, each in NUM.items():
        (root / part).mkdir(parents=True)
        rows = []
        for number in range(each * len(CLASSES)):
            (root / part / f"{number}.jpg").write_bytes(encoded(photo(seed=number), quality=90))
            rows.append((f"{number}.jpg", CLASSES[number % 2]))
        _write_rows(root, part, rows)


def _write_rows(root, part, rows):
    (root / f"{part}.csv").write_text("".join(f"{path},{label}\n" for path, label in rows))


def _relabel(change, *parts):
    def relabel(root):
        for part in parts:
            lines = (root / f"{part}.csv").read_text().splitlines()
            _write_rows(root, part, change([tuple(line.split(",")) for line in lines]))

    return relabel


_OTHER = {"ant": "bee", "bee": "ant"}

LABEL_FILE = Kind(
    _write_label_file,
    lambda root: FolderConfig(
        root=str(root), train_labels="train.csv", test="val", test_labels="val.csv", image_size=16
    ),
    {
        "a class is renamed, and the numbers swap": (
            _relabel(lambda rows: [(path, label.replace("ant", "zebra")) for path, label in rows], *NUM),
            ("data.classes", "data.images"),
            "gone ant, new zebra, bee was 1 and is 0",
        ),
        "all labels are exchanged": (
            _relabel(lambda rows: [(path, _OTHER[label]) for path, label in rows], "train"),
            ("data.images",),
            "train: equal counts, other names or sizes, or another order",
        ),
        "one label is another": (
            _relabel(lambda rows: [(rows[0][0], "bee"), *rows[1:]], "train"),
            ("data.images",),
            "train: ant -1, bee +1",
        ),
        "a line is left out": (
            _relabel(lambda rows: rows[1:], "train"),
            ("data.images",),
            "train: 8 -> 7 images, ant -1",
        ),
        "lines in another order": (_relabel(lambda rows: rows[::-1], *NUM), (), ""),
    },
)


def _shard(root, part, labels, seed=0):
    members = []
    for number, label in enumerate(labels):
        members += [
            (f"{number:03}.cls", str(label).encode()),
            (f"{number:03}.jpg", image_bytes(seed + number)),
        ]
    return write_tar(Path(root) / part / "0.tar", members)


def _write_shards(root):
    for part, each in NUM.items():
        _shard(root, part, [0, 1] * each)
    (root / "classes.txt").write_text("\n".join(CLASSES))


def _rewrite(root):
    """Other labels in an archive of the same size, with the same time."""
    path = root / "train" / "0.tar"
    before = path.stat()
    _shard(root, "train", [1, 0] * NUM["train"])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


SHARDS = Kind(
    _write_shards,
    lambda root: ShardsConfig(root=str(root), image_size=16),
    {
        "the names of two classes are exchanged": (
            lambda root: (root / "classes.txt").write_text("\n".join(CLASSES[::-1])),
            ("data.classes",),
            "bee was 1 and is 0, ant was 0 and is 1",
        ),
        "a shard of the same size and time has other labels": (
            _rewrite,
            ("data.images",),
            "train: equal counts, other names or sizes, or another order",
        ),
        "a shard has other images": (
            lambda root: _shard(root, "train", [0, 1] * NUM["train"], seed=50),
            ("data.images",),
            "train: equal counts, other names or sizes, or another order",
        ),
        "a shard is added": (
            lambda root: shutil.copy(root / "train" / "0.tar", root / "train" / "1.tar"),
            ("data.images",),
            "train: 8 -> 16 images, ant +4, bee +4",
        ),
        "a shard of the test loses an image": (
            lambda root: _shard(root, "val", [0, 1, 0]),
            ("data.images",),
            "test: 4 -> 3 images, bee -1",
        ),
        "a mode is changed, and the index is gone": (
            lambda root: (
                (root / "train" / "0.tar").chmod(0o600),
                [one.unlink() for one in (root / "train").glob("*.json")],
            ),
            (),
            "",
        ),
    },
)


def edit_coco(root, part, change):
    """Change the JSON of a part."""
    path = root / "annotations" / f"instances_{part}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def _exchange_names(content):
    first, second = content["categories"]
    first["name"], second["name"] = second["name"], first["name"]


def _both(change):
    def change_both(root):
        for part in NUM:
            edit_coco(root, part, change)

    return change_both


def _train(change):
    return lambda root: edit_coco(root, "train", change)


COCO_CHANGES = {
    "two categories exchange their names": (
        _both(_exchange_names),
        ("data.classes", "data.images"),
        "gone disk (id 3), block (id 90), new block (id 3), disk (id 90)",
    ),
    "an image is left out": (
        _train(
            lambda content: (
                content["images"].pop(1),
                content.update(annotations=[one for one in content["annotations"] if one["image_id"] != 2]),
            )
        ),
        ("data.images",),
        "train: 4 -> 3 images, disk (id 3) -1 objects, block (id 90) -1 objects",
    ),
    "an object is left out": (
        _train(lambda content: content["annotations"].pop()),
        ("data.images",),
        "train: block (id 90) -1 objects",
    ),
    "an object is of another category": (
        _train(lambda content: content["annotations"][0].update(category_id=90)),
        ("data.images",),
        "train: disk (id 3) -1 objects, block (id 90) +1 objects",
    ),
    "a box is moved": (
        _train(lambda content: content["annotations"][0].update(bbox=[1.0, 3.0, 12.0, 9.0])),
        ("data.images",),
        "train: equal counts, other names or sizes, or another order",
    ),
    "an image has another id": (
        _train(
            lambda content: (
                content["images"][1].update(id=77),
                [one.update(image_id=77) for one in content["annotations"] if one["image_id"] == 2],
            )
        ),
        ("data.images",),
        "train: equal counts, other names or sizes, or another order",
    ),
    "two files are exchanged": (
        lambda root: _swap(root / "train" / "0001.png", root / "train" / "0002.png"),
        ("data.images",),
        "train: equal names, other sizes of 2 of 4 files",
    ),
    "objects are listed in another order": (
        _train(lambda content: content["categories"].reverse()),
        (),
        "",
    ),
}

KINDS = {"folder": FOLDER, "label file": LABEL_FILE, "shards": SHARDS}


def cases(*names):
    """Every change of every kind of files, as (kind, change)."""
    return [(kind, change) for kind in names or KINDS for change in KINDS[kind].changes]
