"""From a data set to its scores: canvas and original, labels and ids, masks of boxes and of images."""

import pytest
import torch
from torchvision.ops import roi_align

from lambdanets.data.detection import CocoConfig, JitterConfig
from lambdanets.detection.data import load
from lambdanets.detection.evaluation import Predictions, evaluate_predictions
from support.coco import write_data_set


def perfect_detections(target):
    """What a detector without fault would return: the targets of its training, as torchvision makes them."""
    boxes, masks = target["boxes"], target["masks"]
    of_masks = torch.cat([torch.arange(len(boxes))[:, None], boxes], dim=1)
    return {
        "boxes": boxes,
        "labels": target["labels"],
        "scores": torch.linspace(0.5, 0.9, len(boxes)),
        "masks": roi_align(masks[:, None].float(), of_masks, (28, 28)),
    }


@pytest.mark.slow
@pytest.mark.parametrize("sides", [(192, None), (300, 96), (64, None)], ids=str)
def test_the_targets_themselves_score_one(tmp_path, sides):
    size, shortest = sides
    root = write_data_set(tmp_path, num_test=7, size=(64, 48), every=2)
    config = CocoConfig(root=str(root), train="train", test="val", image_size=size, shortest_side=shortest)
    task = load(config, JitterConfig(), seed=0, masks=True, max_unreadable=0)
    predictions = Predictions(task.test_file, masks=True)
    for indices in (torch.tensor([6, 1, 2]), torch.tensor([0, 3, 4, 5])):
        batch = task.test.batch(indices)
        predictions.add(batch.targets, [perfect_detections(target) for target in batch.targets])
    assert len(predictions.image_ids) == 7 and len(predictions.results()) == 8
    scores = evaluate_predictions(task.test_file, predictions.results(), masks=True)
    assert scores.box["box_ap"] == pytest.approx(1)
    # Objects of 12 by 9 pixels, of which one pixel more or less is much.
    assert scores.mask["mask_ap_75"] == pytest.approx(1)
    assert {one.id for one in scores.classes} == {3, 90}
