"""Counts that do not depend on how the pictures are cut into batches."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lambdanets.batches import Batch
from lambdanets.training.metrics import Evaluation, Meter, confusion_matrix, evaluate


def _pictures(num):
    generator = torch.Generator().manual_seed(num)
    return torch.randn(num, 1, 1, 3, generator=generator), torch.randint(3, (num,), generator=generator)


@given(num=st.integers(1, 17), size=st.integers(1, 6))
def test_any_cut_gives_the_same_whole_numbers(num, size):
    images, labels = _pictures(num)
    model = nn.Flatten()
    whole = evaluate(model, [Batch(images, labels)], 3)
    cut = evaluate(model, map(Batch, images.split(size), labels.split(size)), 3)
    assert torch.equal(whole.confusion, cut.confusion)
    assert cut.loss == pytest.approx(whole.loss, abs=1e-6)
    assert cut.total == num


def test_counts_against_a_literal_loop():
    images, labels = _pictures(40)
    result = evaluate(nn.Flatten(), [Batch(images, labels)], 3)
    counts = [[0] * 3 for _ in range(3)]
    loss = 0.0
    for picture, label in zip(images.flatten(1).tolist(), labels.tolist(), strict=True):
        counts[label][max(range(3), key=picture.__getitem__)] += 1
        loss += math.log(sum(math.exp(value) for value in picture)) - picture[label]
    assert result.confusion.tolist() == counts
    assert result.loss == pytest.approx(loss / 40, abs=1e-6)
    assert result.correct == sum(counts[i][i] for i in range(3))
    assert result.accuracy == result.correct / 40


def test_the_mode_of_the_model_comes_back():
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.9)).train()
    images, labels = _pictures(20)
    batches = [Batch(images, labels)]
    assert evaluate(model, batches, 3).loss == evaluate(model, batches, 3).loss
    assert model.training and model[1].training


def test_confusion_has_labels_in_rows():
    matrix = confusion_matrix(torch.tensor([2, 2, 0]), torch.tensor([1, 1, 0]), 3)
    assert matrix.tolist() == [[1, 0, 0], [0, 0, 2], [0, 0, 0]]
    assert Evaluation(confusion=matrix, loss=0.0).correct == 1


def test_the_meter_adds_up_pictures():
    meter = Meter()
    meter.add(3.0, 2, 3)
    meter.add(5.0, 0, 1)
    assert (meter.loss_sum, meter.correct, meter.count) == (8.0, 2, 4)
