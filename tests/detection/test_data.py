"""Images with objects as batches: keys, sizes, determinism, empty and broken images."""

import torch

from lambdanets.data.detection import CocoConfig, JitterConfig
from lambdanets.detection.data import load
from support.coco import write_data_set

PLAIN = JitterConfig(min_scale=1.0, max_scale=1.0, flip=0.0)


def config(root, **more):
    return CocoConfig(root=str(root), train="train", test="val", **({"image_size": 64} | more))


def loaded(root, augment=PLAIN, masks=True, seed=0, **more):
    return load(config(root, **more), augment, seed=seed, masks=masks, max_unreadable=3)


def test_targets_at_the_scale_of_the_canvas(tmp_path):
    task = loaded(write_data_set(tmp_path))
    assert task.labels == ("disk", "block") and task.most_objects > 0
    batch = task.train.batch(0, torch.tensor([1, 2]))
    assert batch.images.shape == (2, 3, 64, 64) and batch.images.dtype == torch.uint8
    target = batch.targets[0]
    expected = torch.tensor([[3.0, 3, 15, 12], [18, 12, 32, 24]]) * 1.6
    torch.testing.assert_close(target["boxes"], expected)
    assert target["labels"].tolist() == [1, 2]
    assert target["size"].tolist() == [48, 64] and target["image_id"].item() == 1
    assert target["scale"].tolist() == [1.6, 1.6]
    assert target["masks"].shape == (2, 64, 64) and target["masks"].dtype == torch.uint8
    assert not batch.images[:, :, 48:].any() and batch.images[:, :, :48].any(-1).all()
