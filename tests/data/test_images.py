"""Images from files as training and test data: pure functions of (seed, epoch, index)."""

import pickle
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdanets.data import task as batches
from lambdanets.data.augment import AugmentConfig
from lambdanets.data.config import FolderConfig
from lambdanets.data.decode import decode
from lambdanets.data.folders import open_folder
from lambdanets.data.images import ImageTest, ImageTraining
from lambdanets.data.preprocessing import Preprocessing
from lambdanets.data.transforms import TrainTransform
from lambdanets.errors import ArgumentError, DataError
from lambdanets.training.loader import load_batches
from lambdanets.training.loader import test_batches as fed_test
from support.images import encoded, photo


class Drawn:
    """A source of small images; some of them are broken."""

    labels = ("even", "odd")

    def __init__(self, num=12, broken=()):
        self.targets = torch.arange(num) % 2
        self.files = [encoded(photo(30, 24, seed=index)) for index in range(num)]
        for index in broken:
            self.files[index] = b"broken"

    def __len__(self):
        return len(self.files)

    def name(self, index):
        return f"file {index}"

    def relative_name(self, index):
        return self.name(index).encode()

    def read(self, index):
        return self.files[index]


SOURCE = Drawn()


def training(source=SOURCE, seed=0, layers=0, **settings):
    transform = TrainTransform(size=16, augment=AugmentConfig(randaugment_layers=layers))
    return ImageTraining(source=source, seed=seed, transform=transform, **settings)


def test_they_are_what_the_loop_takes():
    assert isinstance(training(), batches.TrainingData)
    assert isinstance(ImageTest(source=SOURCE, preprocessing=Preprocessing(size=16)), batches.TestData)


@given(seed=st.integers(0, 2**40), epoch=st.integers(0, 10**6))
@settings(max_examples=20)
def test_an_order_is_a_permutation_decided_by_seed_and_epoch(seed, epoch):
    order = training(seed=seed).order(epoch)
    assert sorted(order.tolist()) == list(range(12))
    assert torch.equal(order, training(seed=seed).order(epoch))
    others = [training(seed=seed).order(epoch + step) for step in range(1, 4)]
    assert not all(torch.equal(order, other) for other in others)


@given(
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 10**6),
    indices=st.lists(st.integers(0, 11), min_size=1, max_size=7),
    layers=st.sampled_from([0, 2]),
)
@settings(max_examples=25, deadline=None)
def test_a_image_does_not_depend_on_its_company(seed, epoch, indices, layers):
    data = training(seed=seed, layers=layers)
    images, targets, unreadable = data.batch(epoch, torch.tensor(indices))
    assert (images.dtype, images.shape, unreadable) == (torch.uint8, (len(indices), 3, 16, 16), ())
    assert targets.tolist() == [index % 2 for index in indices]
    for image, index in zip(images, indices, strict=True):
        assert torch.equal(image, data.batch(epoch, torch.tensor([index])).images[0])


def test_seed_epoch_and_index_each_change_the_image():
    same = Drawn(2)
    same.files[1] = same.files[0]
    first = training(same).batch(0, torch.tensor([0])).images
    assert not torch.equal(first, training(same).batch(1, torch.tensor([0])).images)
    assert not torch.equal(first, training(same, seed=1).batch(0, torch.tensor([0])).images)
    assert not torch.equal(first, training(same).batch(0, torch.tensor([1])).images)


@pytest.mark.parametrize("layers", [0, 2])
def test_the_number_of_workers_changes_nothing(tmp_path, layers):
    for index in range(9):
        (tmp_path / str(index % 3)).mkdir(exist_ok=True)
        (tmp_path / str(index % 3) / f"{index}.jpg").write_bytes(SOURCE.files[index])
    (tmp_path / "1" / "x.jpg").write_bytes(b"")
    data = training(open_folder(tmp_path), layers=layers)
    calls = [(epoch, part) for epoch in (0, 1) for part in data.order(epoch).split(4)]
    alone, helped = (list(load_batches(data, iter(calls), num)) for num in (0, 2))
    for one, other in zip(alone, helped, strict=True):
        assert torch.equal(one.images, other.images) and torch.equal(one.targets, other.targets)
        assert one.unreadable == other.unreadable
    assert sum(len(batch.unreadable) for batch in alone) >= 2


def test_the_next_readable_file_stands_in():
    source = Drawn(12, broken=(3, 4, 11))
    data = training(source)
    images, targets, unreadable = data.batch(5, torch.tensor([2, 3, 11]))
    assert targets.tolist() == [0, 1, 0]
    assert [sentence.partition(":")[0] for sentence in unreadable] == ["file 3", "file 4", "file 11"]
    assert "must be an image (AVIF" in unreadable[0]
    # Index 5 stands in for 3, and the first one for the last, shown as the place of the broken one says.
    whole = replace(data, source=Drawn(12))
    whole.source.files[3], whole.source.files[11] = source.files[5], source.files[0]
    assert torch.equal(images, whole.batch(5, torch.tensor([2, 3, 11])).images)


def test_too_many_in_a_row_end_the_training():
    source = Drawn(12, broken=range(2, 7))
    assert len(training(source, max_in_a_row=6).batch(0, torch.tensor([2])).unreadable) == 5
    message = r"train: fewer than 5 files in a row may be unreadable, got as many, the first: file 2: must be"
    with pytest.raises(DataError, match=message):
        training(source, max_in_a_row=5).batch(0, torch.tensor([2]))
    with pytest.raises(DataError, match=r"train: fewer than 3 files in a row"):
        training(Drawn(3, broken=range(3))).batch(0, torch.tensor([1]))


def test_a_test_shows_each_image_once_and_fails_at_a_broken_one():
    test = ImageTest(source=SOURCE, preprocessing=Preprocessing(size=16))
    fed = list(fed_test(test, 5))
    assert [len(batch.targets) for batch in fed] == [5, 5, 2]
    images = torch.cat([batch.images for batch in fed])
    for index in range(12):
        expected = Preprocessing(size=16).pixels(decode(SOURCE.read(index), ""))
        assert torch.equal(images[index], expected)
    broken = replace(test, source=Drawn(12, broken=(7,)))
    with pytest.raises(DataError, match=r"^file 7: must be an image"):
        broken.batch(torch.arange(12))


def test_both_can_be_sent_to_another_process():
    data = pickle.loads(pickle.dumps(training(layers=1)))
    assert torch.equal(
        data.batch(0, torch.arange(3)).images, training(layers=1).batch(0, torch.arange(3)).images
    )


def test_a_test_sees_as_much_of_the_image_as_is_asked_for(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/one.png").write_bytes(encoded(photo(64, 64, seed=1)))
    image = decode((tmp_path / "a/one.png").read_bytes(), "")
    seen = []
    for crop, side in ((None, 32), (1.0, 64), (0.75, 48)):
        config = FolderConfig(root=str(tmp_path), train=".", test=".", image_size=32, test_crop=crop)
        task = config.load(seed=0, augment=AugmentConfig())
        seen.append(task.test.batch(torch.tensor([0])).images[0])
        assert torch.equal(seen[-1], Preprocessing(size=32, crop_fraction=side / 64).pixels(image))
        assert task.preprocessing.crop_fraction == crop
    assert not torch.equal(seen[0], seen[1]) and not torch.equal(seen[1], seen[2])
    with pytest.raises(
        ArgumentError, match=r"FolderConfig: test_crop must be positive and at most 1, got 1\.5"
    ):
        FolderConfig(test_crop=1.5)
