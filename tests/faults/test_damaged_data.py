"""Files of shards, labels and pseudo-labels, damaged in every way: the truth or one sentence."""

import json
import shutil

import pytest
import torch

from lambdanets.data.folders import open_folder
from lambdanets.data.pseudo import MANIFEST, SELECTED, PseudoLabels, shard_name
from lambdanets.data.shards import ShardSource
from lambdanets.errors import DataError, PathError
from lambdanets.reading import sum_of_file, with_sum
from support.archives import samples, write_tar
from support.damage import DAMAGES, within
from support.images import make_folder
from support.pseudo import write_folder

SHARD_FILES = ("a.tar", "a.tar.index.json", "classes.txt")


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))


def _refused_or(read, whole):
    """What was read is what there was, or it is refused in one sentence."""
    try:
        with within(10):
            found = read()
    except (DataError, PathError) as error:
        assert len(str(error).splitlines()) == 1
        return True
    assert found == whole
    return False


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", SHARD_FILES)
def test_a_shard_set(tmp_path, file, damage):
    root = tmp_path / "shards"
    write_tar(root / "a.tar", samples([0, 1, 2, 1]))
    (root / "classes.txt").write_text("ant\nbee\ncat\n")

    def read():
        source = ShardSource(root, "*.tar")
        return source.labels, source.targets.tolist(), [source.read(index) for index in range(len(source))]

    whole = read()
    DAMAGES[damage](root / file)
    if damage.startswith("bit") and file != "a.tar.index.json":
        # Letters of a name and pixels have no sums here: the fingerprint of the data has.
        return
    was_refused = _refused_or(read, whole)
    # An index is made again in silence.
    assert was_refused == (file != "a.tar.index.json")


@pytest.mark.parametrize("labels", [[-1, 1, 2, 1], [0, 1, 1, 2], ["0", 1, 2, 1]])
@pytest.mark.parametrize("signed", [False, True])
def test_an_index_with_other_labels(tmp_path, labels, signed):
    root = tmp_path / "shards"
    write_tar(root / "a.tar", samples([0, 1, 2, 1]))
    assert ShardSource(root, "*.tar").targets.tolist() == [0, 1, 2, 1]
    place = root / "a.tar.index.json"
    content = {**json.loads(place.read_text()), "labels": labels}
    del content["record_sha256"]
    place.write_text(json.dumps(with_sum(content) if signed else content))
    # A sum is no signature: only what cannot be is found where somebody has made it anew.
    if not signed or labels[0] == -1:
        assert ShardSource(root, "*.tar").targets.tolist() == [0, 1, 2, 1]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("ending", ["csv", "json"])
def test_a_label_file(tmp_path, ending, damage):
    make_folder(tmp_path / "flat", ["."], each=4)
    names = [f"{index:03}.jpg" for index in range(4)]
    file = tmp_path / f"labels.{ending}"
    pairs = dict(zip(names, ["ant", "bee", "ant", "bee"], strict=True))
    rows = "path,label\n" + "".join(f"{name},{label}\n" for name, label in pairs.items())
    file.write_text(json.dumps(pairs) if ending == "json" else rows)

    def read():
        source = open_folder(tmp_path / "flat", label_file=file)
        return source.labels, source.targets.tolist()

    whole = read()
    DAMAGES[damage](file)
    if not damage.startswith(("bit", "cut", "latin")):
        assert _refused_or(read, whole)


@pytest.fixture
def labelled(tmp_path):
    """A folder of pseudo-labels with sums, as a labelling leaves it."""
    path = tmp_path / "labels"
    probabilities = torch.rand(20, 3, generator=torch.Generator().manual_seed(0)).softmax(1)
    write_folder(path, probabilities, [0, 3, 3, 17], hard=True, labels=["a", "b", "c"])
    manifest = json.loads((path / MANIFEST).read_text())
    manifest["sums"] = {name: sum_of_file(path / name) for name in manifest["files"]}
    (path / MANIFEST).write_text(json.dumps(with_sum(manifest)))
    return path


def _labels_of(path):
    labels = PseudoLabels.open(path)
    return labels.labels, labels.indices.tolist(), labels.targets(torch.arange(4)).tolist()


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", [MANIFEST, SELECTED, shard_name(1)])
def test_pseudo_labels(labelled, file, damage):
    assert PseudoLabels.open(labelled).has_sums
    # Files that were mapped into memory are kept open: another folder has others.
    path = shutil.copytree(labelled, labelled.with_name("copy"))
    DAMAGES[damage](path / file)
    # A bit in the name of the sum is none of the labels.
    assert _refused_or(lambda: _labels_of(path), _labels_of(labelled)) or damage == "bit 0.9"


def test_classes_that_were_shifted_in_place(labelled):
    file = labelled / shard_name(0)
    size, content = file.stat().st_size, bytearray(file.read_bytes())
    start = len(content) - 8 * 7
    content[start:] = content[start + 8 :] + content[start : start + 8]
    file.write_bytes(content)
    assert file.stat().st_size == size
    with pytest.raises(DataError, match=r"predictions-00000.* does not have the SHA-256 of manifest\.json"):
        PseudoLabels.open(labelled)


def test_names_of_classes_that_were_exchanged(labelled):
    text = (labelled / MANIFEST).read_text()
    (labelled / MANIFEST).write_text(text.replace('"a", "b"', '"b", "a"'))
    with pytest.raises(DataError, match="entries that do not have their sum"):
        PseudoLabels.open(labelled)
