"""Images with objects as batches: keys, sizes, determinism, empty and broken images, what is refused."""

import json
import pickle

import pytest
import torch
from PIL import Image

from lambdanets.data.detection import CocoConfig, JitterConfig
from lambdanets.detection.coco import ImageRecord
from lambdanets.detection.data import fit_image, load, read_image
from lambdanets.errors import ArgumentError, DataError, PathError
from support.coco import coco_content, coco_image, coco_object, rectangle, write_coco, write_data_set
from support.images import encoded, photo

PLAIN = JitterConfig(min_scale=1.0, max_scale=1.0, flip=0.0)
JITTERED = JitterConfig(min_scale=0.5, max_scale=2.0, flip=0.5, copy_paste=0.5)
KEYS = {"boxes", "labels", "masks", "size", "image_id", "scale"}


def loaded(root, augment=PLAIN, masks=True, seed=0, max_unreadable=3, **more):
    settings = {"train": "train", "test": "val", "image_size": 64} | more
    config = CocoConfig(root=str(root), **settings)
    return load(config, augment, seed=seed, masks=masks, max_unreadable=max_unreadable)


def assert_same(one, other):
    assert torch.equal(one.images, other.images)
    for target, again in zip(one.targets, other.targets, strict=True):
        assert target.keys() == again.keys() == KEYS
        assert all(torch.equal(value, again[key]) for key, value in target.items())


def test_targets_at_the_scale_of_the_canvas(tmp_path):
    task = loaded(write_data_set(tmp_path))
    assert task.labels == ("disk", "block")
    for batch in (task.train.batch(0, torch.tensor([0, 1])), task.test.batch(torch.tensor([0, 1]))):
        assert batch.images.shape == (2, 3, 64, 64) and batch.images.dtype == torch.uint8
        target = batch.targets[1]
        expected = torch.tensor([[3.0, 3, 15, 12], [18, 12, 32, 24]]) * 1.6
        torch.testing.assert_close(target["boxes"], expected)
        assert target["labels"].tolist() == [1, 2] and target["labels"].dtype == torch.int64
        assert target["size"].tolist() == [48, 64] and target["image_id"].item() == 1
        assert target["scale"].tolist() == [1.6, 1.6] and target["scale"].dtype == torch.float64
        assert target["masks"].shape == (2, 64, 64) and target["masks"].dtype == torch.uint8
        assert not batch.images[:, :, 48:].any() and batch.images[:, :, :48].any(-1).all()
    assert [category.id for category in task.test_file.categories] == [3, 90]
    assert [record.id for record in task.test_file.images] == [1001, 1002]


def test_training_is_a_function_of_seed_epoch_and_index(tmp_path):
    root = write_data_set(tmp_path, num_train=6)
    data = loaded(root, JITTERED).train
    again = pickle.loads(pickle.dumps(loaded(root, JITTERED).train))
    whole = data.batch(3, torch.arange(6))
    assert_same(whole, again.batch(3, torch.arange(6)))
    for index in range(6):
        alone = again.batch(3, torch.tensor([index]))
        assert torch.equal(alone.images[0], whole.images[index])
        assert torch.equal(alone.targets[0]["boxes"], whole.targets[index]["boxes"])
    assert not torch.equal(whole.images, data.batch(4, torch.arange(6)).images)
    assert not torch.equal(
        whole.images, loaded(root, JITTERED, seed=1).train.batch(3, torch.arange(6)).images
    )
    assert data.order(0).sort().values.tolist() == [*range(6)]
    assert data.order(0).tolist() == again.order(0).tolist() != data.order(1).tolist()


def test_objects_are_pasted_from_other_images(tmp_path):
    root = write_data_set(tmp_path, num_train=6)
    pasting = JitterConfig(min_scale=1.0, max_scale=1.0, flip=0.0, copy_paste=1.0)
    batch = loaded(root, pasting).train.batch(0, torch.arange(6))
    assert max(len(target["labels"]) for target in batch.targets) > 2
    for target in batch.targets:
        assert not (target["masks"].sum(0) > 1).any()
    # Boxes alone need no masks, but pasting does.
    boxes = loaded(root, pasting, masks=False).train.batch(0, torch.arange(6))
    assert torch.equal(boxes.images, batch.images)
    assert all(target["masks"].shape[1:] == (0, 0) for target in boxes.targets)


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("augment", [PLAIN, JITTERED])
def test_images_without_objects_have_all_keys(masks, augment, tmp_path):
    content = coco_content(6, every=3)
    write_coco(tmp_path, "train", content)
    crowd = coco_object(99, 1002, rectangle(1.0, 1.0, 9.0, 9.0), iscrowd=1)
    test = coco_content(1, first_id=1001)
    test["annotations"].append(crowd)
    test["images"].append(coco_image(1002))
    write_coco(tmp_path, "val", test)
    task = loaded(tmp_path, augment, masks)
    counts = []
    for epoch in range(3):
        for target in task.train.batch(epoch, torch.arange(6)).targets:
            counts.append(len(target["labels"]))
            assert target.keys() == KEYS and target["boxes"].shape == (counts[-1], 4)
            assert len(target["masks"]) == counts[-1]
    assert 0 in counts and max(counts) >= 2
    # A crowd is not trained on; the file keeps it for the scores.
    assert [len(target["labels"]) for target in task.test.batch(torch.arange(2)).targets] == [2, 0]
    assert task.test_file.images[1].annotations[0].is_crowd


def test_the_shorter_side_decides(tmp_path):
    write_coco(tmp_path, "train", coco_content(2, size=(40, 30)))
    write_coco(tmp_path, "val", coco_content(2, size=(60, 30)))
    task = loaded(tmp_path, shortest_side=60, image_size=90)
    assert task.train.batch(0, torch.arange(2)).images.shape == (2, 3, 60, 80)
    assert task.test.batch(torch.arange(2)).images.shape == (2, 3, 45, 90)


def test_images_of_one_pixel_and_of_8000(tmp_path):
    content = coco_content(0)
    content["images"] = [coco_image(1, 1, 1), coco_image(2, 8000, 40), coco_image(3, 30, 8000)]
    content["annotations"] = [
        coco_object(1, 1, rectangle(0.0, 0.0, 1.0, 1.0)),
        coco_object(2, 2, rectangle(10.0, 0.0, 7000.0, 40.0)),
        coco_object(3, 3, rectangle(0.0, 100.0, 30.0, 7000.0), 90),
    ]
    for part in ("train", "val"):
        write_coco(tmp_path, part, content)
    task = loaded(tmp_path, JITTERED)
    for epoch in range(3):
        batch = task.train.batch(epoch, torch.arange(3))
        assert batch.images.shape == (3, 3, 64, 64)
        for target in batch.targets:
            sides = target["boxes"][:, 2:] - target["boxes"][:, :2]
            assert (sides > 0.99).all() and (target["boxes"] <= target["size"].flip(0).repeat(2)).all()
    test = task.test.batch(torch.arange(3))
    assert [target["size"].tolist() for target in test.targets] == [[64, 64], [1, 64], [64, 1]]
    assert test.targets[0]["boxes"].tolist() == [[0, 0, 64, 64]] and test.targets[0]["masks"].all()
    # 0.3 pixels high, and kept at one.
    assert test.targets[1]["boxes"].tolist() == [pytest.approx([0.08, 0, 56.08, 1])]


def test_an_unreadable_file_is_replaced_by_the_next(tmp_path):
    write_data_set(tmp_path)
    broken = tmp_path / "train" / "0002.png"
    broken.write_bytes(b"no image")
    (tmp_path / "train" / "0003.png").unlink()
    data = loaded(tmp_path).train
    batch = data.batch(0, torch.tensor([1, 0]))
    assert [target["image_id"].item() for target in batch.targets] == [3, 0]
    assert len(batch.unreadable) == 2 and batch.unreadable[0].startswith(f"{broken}: must be an image")
    last = data.batch(0, torch.tensor([3]))
    assert torch.equal(batch.images[0], last.images[0])
    assert torch.equal(batch.targets[0]["boxes"], last.targets[0]["boxes"])
    with pytest.raises(
        DataError, match="train: fewer than 2 files in a row may be unreadable, got as many, the first: "
    ):
        loaded(tmp_path, max_unreadable=2).train.batch(0, torch.tensor([1]))


def test_an_unreadable_test_image_is_an_error(tmp_path):
    write_data_set(tmp_path)
    data = loaded(tmp_path).test
    (tmp_path / "val" / "1002.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"1002\.png"):
        data.batch(torch.arange(2))


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("labelled", ["stored", "upright"])
def test_the_size_in_the_file_decides_about_exif(orientation, labelled, tmp_path):
    stored = Image.fromarray(photo(40, 30))
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "x.png").write_bytes(encoded(stored, "PNG", exif=exif))
    turned = orientation > 4
    width, height = (30, 40) if turned and labelled == "upright" else (40, 30)
    record = ImageRecord(id=1, file_name="x.png", width=width, height=height, annotations=())
    image = read_image(tmp_path, record)
    assert image.size == (width, height)
    if orientation == 1 or (turned and labelled == "stored"):
        assert image.tobytes() == stored.tobytes()
    else:
        assert image.tobytes() != stored.tobytes()


def test_an_image_of_another_size_is_refused(tmp_path):
    (tmp_path / "x.png").write_bytes(encoded(photo(40, 30), "PNG"))
    record = ImageRecord(id=1, file_name="x.png", width=30, height=40, annotations=())
    with pytest.raises(DataError) as caught:
        read_image(tmp_path, record)
    assert str(caught.value) == (
        f"{tmp_path / 'x.png'}: must have 30×40 pixels as its COCO file says, got 40×30."
    )


def test_an_image_is_fitted_as_in_a_test(tmp_path):
    task = loaded(write_data_set(tmp_path))
    image = Image.open(tmp_path / "val" / "1001.png")
    pixels, scale = fit_image(image, CocoConfig(root=str(tmp_path), image_size=64))
    batch = task.test.batch(torch.tensor([0]))
    assert torch.equal(batch.images[0, :, :48, :64], pixels) and scale == (1.6, 1.6)


def changed(root, part, change):
    path = root / "annotations" / f"instances_{part}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def test_test_categories_may_be_fewer_but_not_others(tmp_path):
    write_data_set(tmp_path)

    def without_disks(content):
        content["categories"] = content["categories"][1:]
        content["annotations"] = [one for one in content["annotations"] if one["category_id"] == 90]

    path = changed(tmp_path, "val", without_disks)
    task = loaded(tmp_path)
    assert task.test.batch(torch.tensor([0])).targets[0]["labels"].tolist() == [2]
    assert len(task.test_file.categories) == 2
    changed(tmp_path, "val", lambda content: content["categories"].append({"id": 3, "name": "circle"}))
    with pytest.raises(DataError) as caught:
        loaded(tmp_path)
    assert str(caught.value) == (
        f"coco: {path} must have categories of {path.with_name('instances_train.json')} alone, by id and"
        " name, got 3 'circle'."
    )


def test_what_cannot_be_trained_on(tmp_path):
    write_data_set(tmp_path)
    (tmp_path / "val" / "1002.png").rename(tmp_path / "val" / "other.png")
    with pytest.raises(DataError, match=r"got '1002\.png', which are not there\."):
        loaded(tmp_path)
    (tmp_path / "val" / "1001.png").unlink()
    with pytest.raises(DataError, match=r"must name images of .*val, got '1001\.png' and 1 more, which"):
        loaded(tmp_path)

    def boxes_alone(content):
        for entry in content["annotations"]:
            entry["segmentation"] = []

    path = changed(tmp_path, "train", boxes_alone)
    with pytest.raises(DataError) as caught:
        loaded(tmp_path)
    assert str(caught.value) == (
        f"coco: {path} must have masks of its objects, got boxes alone. Use --detector.no-masks."
    )
    changed(tmp_path, "train", lambda content: content["annotations"].clear())
    with pytest.raises(DataError, match=r"must have objects to train on, got none\.$"):
        loaded(tmp_path, masks=False)
    with pytest.raises(PathError, match="must hold the JSON file of part 'nowhere', got none"):
        loaded(tmp_path, train="nowhere")
    with pytest.raises(ArgumentError, match="root must be given, got none"):
        loaded("")


def test_masks_need_pycocotools(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pycocotools", None)
    with pytest.raises(
        ImportError, match=r"pycocotools must be installed, got none\. pip install pycocotools"
    ):
        loaded(write_data_set(tmp_path))
    assert len(loaded(tmp_path, masks=False).train) == 4
