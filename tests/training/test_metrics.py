"""Counts that do not depend on how the images are cut into batches, nor on how many processes count."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lambdanets.data.task import Batch
from lambdanets.errors import ArgumentError, DataError
from lambdanets.training.distributed import DistributedContext
from lambdanets.training.loader import test_batches as shared_batches
from lambdanets.training.metrics import _label_ranks, evaluate, evaluate_models
from support.together import run_together

NUM_CLASSES = 7


def _images(num, num_classes=3):
    """Images whose pixels are the logits: few values, so that there are ties."""
    generator = torch.Generator().manual_seed(num)
    images = torch.randint(5, (num, 1, 1, num_classes), generator=generator).float()
    return images, torch.randint(num_classes, (num,), generator=generator)


class Images:
    """Test data of as many images as asked for."""

    def __init__(self, num, num_classes=NUM_CLASSES):
        self.images, self.labels = _images(num, num_classes)

    def __len__(self):
        return len(self.labels)

    def batch(self, indices):
        return Batch(self.images[indices], self.labels[indices])


def _real(num):
    """Up to three classes an image, none for some, with -1 behind them."""
    generator = torch.Generator().manual_seed(100 + num)
    rows = torch.randint(NUM_CLASSES, (num, 3), generator=generator)
    many = torch.randint(4, (num, 1), generator=generator)
    return rows.where(torch.arange(3) < many, -1)


def _literal(images, labels, real):
    """The same counts, one image at a time, in plain Python."""
    counts = {"correct": 0, "top5": 0, "real": 0, "with real": 0, "loss": 0.0}
    for logits, label, allowed in zip(
        images.flatten(1).tolist(), labels.tolist(), real.tolist(), strict=True
    ):
        # Python's sort keeps the order of equals: the lower class comes first.
        ranking = sorted(range(len(logits)), key=lambda j, logits=logits: -logits[j])
        counts["correct"] += ranking[0] == label
        counts["top5"] += label in ranking[:5]
        counts["real"] += ranking[0] in allowed
        counts["with real"] += max(allowed) >= 0
        counts["loss"] += math.log(sum(map(math.exp, logits))) - logits[label]
    return counts


@pytest.mark.parametrize("num", range(1, 18))
def test_any_number_of_processes_finds_the_same(num):
    """R15: data sets of 1 to 17 images, 1 to 3 processes, batches of 1 to 5."""
    data, real = Images(num), _real(num)
    expected = _literal(data.images, data.labels, real)
    for num_processes in (1, 2, 3):
        for size in range(1, 6):

            def part(ctx, size=size):
                batches = shared_batches(data, size, ctx=ctx)
                return evaluate(nn.Flatten(), batches, NUM_CLASSES, ctx=ctx, real=real[ctx.rank :: ctx.size])

            for found in run_together([part] * num_processes):
                assert (found.correct, found.top5_correct) == (expected["correct"], expected["top5"])
                assert (found.real_correct, found.real_total) == (expected["real"], expected["with real"])
                assert found.require_whole(num).total == num
                assert found.loss == pytest.approx(expected["loss"] / num, rel=1e-6)


@given(num=st.integers(1, 17), size=st.integers(1, 6))
def test_any_cut_gives_the_same_whole_numbers(num, size):
    images, labels = _images(num)
    model = nn.Flatten()
    whole = evaluate(model, [Batch(images, labels)], 3)
    cut = evaluate(model, map(Batch, images.split(size), labels.split(size)), 3)
    assert torch.equal(whole.confusion, cut.confusion)
    assert cut.loss == pytest.approx(whole.loss, abs=1e-6)
    assert cut.total == num == cut.top5_correct


def test_counts_against_a_literal_loop():
    images, labels = torch.randn(40, 1, 1, 3), torch.randint(3, (40,))
    result = evaluate(nn.Flatten(), [Batch(images, labels)], 3)
    counts = [[0] * 3 for _ in range(3)]
    loss = 0.0
    for image, label in zip(images.flatten(1).tolist(), labels.tolist(), strict=True):
        counts[label][max(range(3), key=image.__getitem__)] += 1
        loss += math.log(sum(math.exp(value) for value in image)) - image[label]
    assert result.confusion.tolist() == counts
    assert result.loss == pytest.approx(loss / 40, abs=1e-6)
    assert result.correct == sum(counts[i][i] for i in range(3))
    assert result.accuracy == result.correct / 40 and result.top5_accuracy == 1.0
    assert result.real_correct is result.real_total is result.real_accuracy is None


def test_a_large_sum_of_losses_keeps_its_digits():
    """In float32 the last of 2²⁴ + 1 losses of one would be lost; here one of 10⁸ and many of one."""
    images = torch.cat([torch.tensor([[1e8, 0.0]]), torch.zeros(100, 2)])
    labels = torch.tensor([1] + [0] * 100)
    found = evaluate(nn.Identity(), map(Batch, images.split(1), labels.split(1)), 2)
    assert found.loss == pytest.approx((1e8 + 100 * math.log(2)) / 101, rel=1e-14 + 1e-8 / 101)
    assert found.loss * 101 - 1e8 == pytest.approx(100 * math.log(2), rel=1e-6)


def test_the_mode_of_the_model_comes_back():
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.9)).train()
    images, labels = _images(20)
    batches = [Batch(images, labels)]
    assert evaluate(model, batches, 3).loss == evaluate(model, batches, 3).loss
    assert model.training and model[1].training
    with pytest.raises(RuntimeError):
        evaluate(nn.Sequential(model, nn.Linear(5, 3)), batches, 3)
    assert model.training and model[1].training


def test_images_are_prepared_once_for_all_models():
    images, labels = _images(20)
    batches, prepared = [Batch(images[:15], labels[:15]), Batch(images[15:], labels[15:])], []

    def prepare(images):
        prepared.append(len(images))
        return images

    models = [nn.Flatten(), nn.Sequential(nn.Flatten(), nn.Linear(3, 3))]
    together = evaluate_models(models, batches, 3, prepare=prepare)
    assert prepared == [15, 5]
    alone = [evaluate(model, batches, 3) for model in models]
    assert [found.record() for found in together] == [found.record() for found in alone]


def test_images_are_prepared_and_products_take_the_precision():
    seen = []

    class Watching(nn.Linear):
        def forward(self, images):
            logits = super().forward(images.flatten(1))
            seen.append((images.dtype, logits.dtype))
            return logits

    bytes_ = torch.randint(255, (4, 1, 2, 2), dtype=torch.uint8)
    batches = [Batch(bytes_, torch.tensor([0, 1, 2, 0]))]
    found = evaluate(
        Watching(4, 3), batches, 3, prepare=lambda images: images.float() / 255, precision=torch.bfloat16
    )
    assert seen == [(torch.float32, torch.bfloat16)]
    assert found.total == 4 and math.isfinite(found.loss)


def test_what_could_not_be_read_is_left_out_and_named():
    images, labels = _images(6)
    gone = labels.where(torch.tensor([True, False, True, True, False, False]), -1)
    batches = [
        Batch(images[:3], gone[:3], ("b.png: empty",)),
        Batch(images[3:], gone[3:], ("e.png: truncated", "f.png: truncated")),
    ]
    real = torch.tensor([[0, 1], [0, -1], [-1, -1], [2, 0], [1, 2], [1, 2]])
    found = evaluate(nn.Flatten(), batches, 3, real=real)
    kept = [0, 2, 3]
    alone = evaluate(nn.Flatten(), [Batch(images[kept], labels[kept])], 3, real=real[kept])
    assert torch.equal(found.confusion, alone.confusion) and found.loss == pytest.approx(alone.loss)
    assert (found.total, found.left_out, found.real_total) == (3, 3, 2)
    assert found.real_correct == alone.real_correct
    assert found.unreadable == ("b.png: empty", "e.png: truncated", "f.png: truncated")
    assert found.require_whole(6) is found


def test_the_rank_of_a_label_among_the_classes():
    logits = torch.tensor([[1.0, 3.0, 3.0, 2.0], [math.nan] * 4, [0.0, math.nan, 1.0, 2.0]])
    assert _label_ranks(logits, torch.tensor([2, 0, 3])).tolist() == [1, 4, 1]
    assert _label_ranks(logits[:1].expand(4, 4), torch.arange(4)).tolist() == [3, 0, 1, 2]


def test_a_network_that_is_not_a_number_is_never_right_among_five():
    found = evaluate(nn.Identity(), [Batch(torch.full((3, 2), math.nan), torch.tensor([0, 1, 1]))], 2)
    assert found.top5_correct == 0 and math.isnan(found.loss)


@pytest.mark.parametrize(
    ("targets", "real", "message"),
    [
        (
            torch.tensor([0, 3]),
            None,
            r"evaluate: targets must be integers below num_classes=3, got class 3\.",
        ),
        (torch.ones(2, 3), None, r"below num_classes=3, got fractions of classes\."),
        (
            torch.tensor([0, 1]),
            torch.tensor([[1]]),
            r"real must have a row for each image of the batches, got 1\.",
        ),
        (
            torch.tensor([0, 1]),
            torch.tensor([[1]] * 3),
            r"evaluate: real must have .* of the batches, got 3\.",
        ),
    ],
)
def test_batches_that_cannot_be_judged(targets, real, message):
    with pytest.raises(ArgumentError, match=message):
        evaluate(nn.Flatten(), [Batch(torch.zeros(2, 1, 1, 3), targets)], 3, real=real)


def test_no_image_is_an_error():
    with pytest.raises(DataError, match="batches must hold at least one readable image, got none"):
        evaluate(nn.Flatten(), [], 3)


def test_an_error_in_one_process_ends_all():
    """The other one must not wait, nor add its sums to those of the next evaluation."""

    class Damaged(Images):
        def batch(self, indices):
            if 3 in indices:
                raise DataError("3.png: truncated")
            return super().batch(indices)

    data = Damaged(6)

    def part(ctx):
        return evaluate(nn.Flatten(), shared_batches(data, 2, ctx=ctx), NUM_CLASSES, ctx=ctx)

    waiting, damaged = run_together([part] * 2)
    assert isinstance(waiting, DataError) and isinstance(damaged, DataError)
    assert str(waiting).startswith("evaluate: every process must judge its images, got an error in another")
    assert str(damaged) == "3.png: truncated"


def test_sums_are_whole_numbers_and_one_in_float64():
    seen = []

    class Recorded(DistributedContext):
        def all_reduce(self, tensor):
            seen.append((tensor.dtype, tensor.shape))
            return tensor

    evaluate(nn.Flatten(), [Batch(*_images(5))], 3, ctx=Recorded())
    assert seen == [(torch.int64, (3 * 3 + 4,)), (torch.float64, ())]


def test_a_lost_image_is_an_error():
    found = evaluate(nn.Flatten(), [Batch(*_images(5))], 3)
    with pytest.raises(DataError, match="each of the 6 images once over all processes, got 5"):
        found.require_whole(6)
