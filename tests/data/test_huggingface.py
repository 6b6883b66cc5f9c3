"""Hugging Face data sets: a stand-in with the library's interface, and the library where it is installed."""

import json
import pickle
import sys

import pytest

from lambdanets.data.huggingface import HuggingFaceSource
from lambdanets.data.sources import Source
from lambdanets.errors import DataError, DependencyError
from support.archives import image_bytes
from support.datasets import ClassLabel, Dataset, Image, images_and_classes, stand_in


@pytest.fixture
def library(monkeypatch):
    """The stand-in, installed."""
    module = stand_in()
    monkeypatch.setitem(sys.modules, "datasets", module)
    return module


def test_bytes_come_as_they_are_stored(library, tmp_path):
    (tmp_path / "dog.png").write_bytes(b"from a file")
    images = [
        {"bytes": b"\xff\xd8 stored", "path": "cat.jpg"},
        {"bytes": None, "path": str(tmp_path / "dog.png")},
    ]
    library.given["train"] = images_and_classes(images, [0, 1])
    source = HuggingFaceSource("pets", "train")
    assert isinstance(source, Source)
    assert [source.read(0), source.read(1)] == [b"\xff\xd8 stored", b"from a file"]
    assert (source.labels, source.targets.tolist(), len(source)) == (("cat", "dog"), [0, 1], 2)
    assert source.name(1) == source.name(-1) == "pets train: row 1"


def test_columns_are_found_by_their_kind(library):
    features = {
        "photo": Image(),
        "text": object(),
        "fine": ClassLabel(["a"]),
        "label": ClassLabel(["b", "c"]),
    }
    library.given["train"] = Dataset(
        features, {"photo": [{"bytes": b"x", "path": None}], "text": [""], "fine": [0], "label": [1]}
    )
    source = HuggingFaceSource("pets", "train")
    assert (source.read(0), source.labels) == (b"x", ("b", "c"))


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (
            {"label": ClassLabel(["a"])},
            "must have one column of kind Image, or 'image' among them, got none of label",
        ),
        (
            {"image": Image()},
            "must have one column of kind ClassLabel, or 'label' among them, got none of image",
        ),
        (
            {"image": Image(), "fine": ClassLabel(["a"]), "coarse": ClassLabel(["a"])},
            "must have one column of kind ClassLabel, or 'label' among them, got fine, coarse of image, fine,"
            " coarse",
        ),
    ],
)
def test_columns_that_cannot_be_told(library, features, message):
    library.given["train"] = Dataset(features, {name: [0] for name in features})
    with pytest.raises(DataError) as caught:
        HuggingFaceSource("pets", "train")
    assert str(caught.value) == f"huggingface: pets train {message}."


def test_what_cannot_be_read_is_named(library, tmp_path):
    images = [{"bytes": None, "path": str(tmp_path / "none.png")}, None, {"bytes": None, "path": None}]
    library.given["train"] = images_and_classes(images, [0, 1, 1])
    source = HuggingFaceSource("pets", "train")
    with pytest.raises(DataError, match=r"^pets train: row 0: cannot be read: No such file or directory\.$"):
        source.read(0)
    for index in (1, 2):
        with pytest.raises(DataError, match=rf"^pets train: row {index}: must have an image, got none\.$"):
            source.read(index)
    source._images.columns["image"] = Broken()
    with pytest.raises(
        DataError, match=r"^pets train: row 0: cannot be read: Invalid flatbuffers message\.$"
    ):
        source.read(0)


class Broken:
    def __len__(self):
        return 3

    def __getitem__(self, index):
        raise OSError("Invalid flatbuffers message")


def test_a_split_without_classes_or_of_others(library):
    row = {"bytes": b"x", "path": None}
    library.given |= {
        "test": images_and_classes([row, row], [0, -1]),
        "empty": images_and_classes([], []),
    }
    message = r"huggingface: pets test must give each image a class, got none at row 1\."
    with pytest.raises(DataError, match=message):
        HuggingFaceSource("pets", "test")
    with pytest.raises(DataError, match=r"pets empty must give each image a class, got none at row 0\."):
        HuggingFaceSource("pets", "empty")
    message = (
        r"huggingface: pets test must have the classes of the training, got 2 others in column 'label'\."
    )
    with pytest.raises(DataError, match=message):
        HuggingFaceSource("pets", "test", ("cat", "bird"))


def test_a_split_that_there_is_not(library):
    message = (
        r"huggingface: pets must have a split 'val', got 'Unknown split \"val\". Should be one of \[\]'\."
    )
    with pytest.raises(DataError, match=message):
        HuggingFaceSource("pets", "val")


def test_without_the_library_the_extra_is_named(monkeypatch):
    # None in `sys.modules`: as if it were not installed.
    monkeypatch.setitem(sys.modules, "datasets", None)
    message = r"huggingface: datasets must be installed, got none\. pip install datasets\."
    with pytest.raises(DependencyError, match=message):
        HuggingFaceSource("pets", "train")


@pytest.mark.filterwarnings("default")
def test_the_library_itself(tmp_path, monkeypatch):
    # Read when the library is imported.
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache", raising=False)
    contents = {name: image_bytes(seed) for seed, name in enumerate(("cat/a", "cat/b", "dog/c"))}
    for name, content in contents.items():
        path = tmp_path / f"pets/train/{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    source = HuggingFaceSource(str(tmp_path / "pets"), "train")
    assert (source.labels, source.targets.tolist()) == (("cat", "dog"), [0, 0, 1])
    copy = pickle.loads(pickle.dumps(source))
    assert [copy.read(index) for index in range(3)] == list(contents.values())
    # Bytes inside the table, as sets on the Hub have them.
    table = pyarrow.table(
        {"image": [{"bytes": one, "path": "x.jpg"} for one in contents.values()], "label": [1, 0, 1]}
    )
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}
    described = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    (tmp_path / "tables").mkdir()
    pyarrow.parquet.write_table(described, tmp_path / "tables/train.parquet")
    stored = HuggingFaceSource(str(tmp_path / "tables"), "train", ("cat", "dog"))
    assert [stored.read(index) for index in range(3)] == list(contents.values())
    with pytest.raises(DataError, match=r"huggingface: .*pets must have a split 'none', got '"):
        HuggingFaceSource(str(tmp_path / "pets"), "none")
