"""One update: parts weighed by images, shortened gradients, shared classes, and what it reports."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from lambdanets.data.task import Batch
from lambdanets.training.config import ExecConfig, OptimConfig
from lambdanets.training.distributed import DistributedContext, autocast_dtype
from lambdanets.training.step import train_step
from support.processes import run_ranks
from support.training import NUM_CLASSES, tiny_config, tiny_objective, tiny_state

NUM = 11


def _model():
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.Tanh(), nn.Linear(8, NUM_CLASSES)).double()


def _batch(soft=False):
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(NUM, 1, 6, 6, generator=generator)
    if soft:
        return Batch(images, torch.rand(NUM, NUM_CLASSES, generator=generator).softmax(dim=1))
    return Batch(images, torch.randint(NUM_CLASSES, (NUM,), generator=generator))


def _objective(config, **options):
    return tiny_objective(config, prepare=torch.Tensor.double, **options)


def _stepped(ctx, parts=1, soft=False, **optim):
    """The gradients of a step over this process's share of the batch, and the state after it."""
    config = tiny_config(exec=ExecConfig(device="cpu", accumulation=parts))
    config = replace(config, optim=replace(config.optim, **optim))
    state = tiny_state(config, _model(), ctx)
    indices, batch = ctx.shard(torch.arange(NUM)), _batch(soft)
    shard = Batch(batch.images[indices], batch.targets[indices])
    nonfinite, sums = train_step(
        state, shard, NUM, config=config, objective=_objective(config), ctx=ctx, flags=(1.0, 0.5)
    )
    assert nonfinite is None
    assert sums == [ctx.size * 1.0, ctx.size * 0.5]
    gradients = torch.cat([parameter.grad.flatten() for parameter in state.model.parameters()])
    return gradients.tolist(), state.meter.loss_sum, int(state.meter.sums["correct"]), state.meter.count


def _expected(soft=False):
    model, (images, targets, _) = _model(), _batch(soft)
    logits = model(images.double())
    targets = targets.double() if soft else targets
    loss = cross_entropy(logits, targets, label_smoothing=tiny_config().label_smoothing)
    loss.backward()
    classes = targets.argmax(dim=1) if soft else targets
    correct = int((logits.argmax(dim=1) == classes).sum())
    return torch.cat([p.grad.flatten() for p in model.parameters()]).tolist(), NUM * loss.item(), correct, NUM


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("parts", [1, 2, 3, 5])
def test_parts_of_any_size_give_the_gradient_of_the_whole(parts, soft):
    gradients, loss, correct, count = _stepped(DistributedContext(), parts, soft)
    expected = _expected(soft)
    assert gradients == pytest.approx(expected[0], abs=1e-12)
    assert loss == pytest.approx(expected[1], abs=1e-6)
    assert (correct, count) == expected[2:]


@pytest.mark.parametrize(("size", "parts"), [(2, 1), (2, 2), (3, 1)])
def test_processes_with_unequal_shares_give_the_gradient_of_the_whole(size, parts):
    expected = _expected()
    for gradients, loss, correct, count in run_ranks(_stepped, size, parts):
        assert gradients == pytest.approx(expected[0], abs=1e-12)
        assert loss == pytest.approx(expected[1], abs=1e-6)
        assert (correct, count) == expected[2:]


def test_long_gradients_are_shortened_and_short_ones_are_not():
    whole, *_ = _stepped(DistributedContext())
    norm = torch.tensor(whole, dtype=torch.float64).norm().item()
    shortened, *_ = _stepped(DistributedContext(), clip_grad_norm=norm / 4)
    # torch adds 1e-6 to the norm that it divides by.
    assert shortened == pytest.approx([value * norm / 4 / (norm + 1e-6) for value in whole], abs=1e-12)
    left, *_ = _stepped(DistributedContext(), clip_grad_norm=2 * norm)
    assert left == whole


def test_mixing_gets_a_seed_of_its_own_for_each_part():
    asked = []

    def mix(images, targets, seed):
        asked.append((len(images), seed))
        return images, nn.functional.one_hot(targets, NUM_CLASSES).double()

    config = tiny_config(exec=ExecConfig(device="cpu", accumulation=2), seed=7)
    state = tiny_state(config, _model())
    state.step = 4
    train_step(state, _batch(), NUM, config=config, objective=_objective(config, mix=mix))
    assert asked == [(6, (7, 4, 0, 0)), (5, (7, 4, 0, 1))]


def test_dropout_draws_from_seed_step_and_process():
    drawn = []
    for seed, step, rank in [(0, 0, 0), (0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]:
        config = tiny_config(seed=seed)
        state = tiny_state(config, _model())
        state.model.register_forward_hook(lambda *_: drawn.append(tuple(torch.rand(4).tolist())))
        state.step = step
        ctx = DistributedContext(rank=rank)
        train_step(state, _batch(), NUM, config=config, objective=_objective(config), ctx=ctx)
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 4


def test_precision_by_name_and_device():
    cpu = torch.device("cpu")
    assert autocast_dtype("auto", cpu) is None and autocast_dtype("float32", cpu) is None
    assert autocast_dtype("bfloat16", cpu) == torch.bfloat16
    assert autocast_dtype("float16", cpu) == torch.float16


@pytest.mark.parametrize("name", ["adamw", "lamb", "rmsprop"])
def test_every_optimiser_learns(name):
    config = tiny_config(optim=OptimConfig(name=name, learning_rate=0.02))
    state = tiny_state(config, _model())
    losses = []
    for _ in range(40):
        before = state.meter.loss_sum
        train_step(state, _batch(), NUM, config=config, objective=_objective(config))
        state.step += 1
        losses.append(state.meter.loss_sum - before)
    assert losses[-1] < 0.6 * losses[0]
