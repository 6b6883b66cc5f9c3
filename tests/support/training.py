"""A network and images so small that a whole run takes a moment."""

from dataclasses import replace

import torch
from torch import nn

from lambdanets.data.task import Batch
from lambdanets.recipes import get_recipe
from lambdanets.training.checkpoint import load_checkpoint, save_checkpoint
from lambdanets.training.config import CkptConfig, OptimConfig, SchedConfig
from lambdanets.training.distributed import ALONE
from lambdanets.training.loop import Callback, Trainer
from lambdanets.training.objective import Classification
from lambdanets.training.state import init_train_state

NUM_CLASSES = 4


def tiny_config(**changes):
    """Three epochs of four steps, with everything switched on."""
    config = replace(
        get_recipe("digits"),
        num_threads=1,
        global_batch_size=8,
        optim=OptimConfig(learning_rate=0.05, momentum=0.9, weight_decay=1e-3),
        sched=SchedConfig(epochs=3, warmup_epochs=0.5),
        ckpt=CkptConfig(every_epochs=1, keep=3),
    )
    return replace(config, **changes)


def tiny_model(dropout=0.2):
    """Convolution, batch norm, dropout: the parts that a resume can get wrong."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(24, NUM_CLASSES),
    )


def tiny_state(config, model=None, ctx=ALONE):
    torch.manual_seed(config.seed)

    def groups(model):
        return [{"params": list(model.parameters()), "weight_decay": 1e-3}]

    return init_train_state(model or tiny_model(), config, ctx, groups, num_steps=12)


class TinyData:
    """Random images with noise that depends on (epoch, index) alone."""

    def __init__(self, num=30, noise=0.1):
        generator = torch.Generator().manual_seed(7)
        self.images = torch.randn(num, 1, 6, 6, generator=generator)
        self.labels = torch.randint(NUM_CLASSES, (num,), generator=generator)
        self.noise = noise
        self.seen = []

    def __len__(self):
        return len(self.labels)

    def order(self, epoch):
        return torch.randperm(len(self), generator=torch.Generator().manual_seed(epoch))

    def batch(self, epoch, indices):
        self.seen.append((epoch, indices.tolist()))
        noise = [
            torch.randn(1, 6, 6, generator=torch.Generator().manual_seed(1000 * epoch + int(i)))
            for i in indices
        ]
        return Batch(self.images[indices] + self.noise * torch.stack(noise), self.labels[indices])


class Stored:
    """The images of `TinyData` without noise."""

    def __init__(self, data):
        self._data = data

    def __len__(self):
        return len(self._data)

    def batch(self, indices):
        return Batch(self._data.images[indices], self._data.labels[indices])


def tiny_objective(config, **options):
    return Classification(num_classes=NUM_CLASSES, label_smoothing=config.label_smoothing, **options)


def tiny_trainer(config, data=None, stop_requested=lambda: False, objective=None, **more):
    data = data or TinyData()
    return Trainer(
        config=config,
        data=data,
        test=Stored(data),
        objective=objective or tiny_objective(config),
        stop_requested=stop_requested,
        **more,
    )


class Notes(Callback):
    """Remembers what it was called for, and stores the state in a folder where there is one."""

    def __init__(self, config=None, folder=None, ctx=ALONE):
        self.records = []
        self.faults = []
        self.saved_steps = []
        self._config, self._folder, self._ctx = config, folder, ctx

    def on_epoch_end(self, state, record):
        self.records.append(record)

    def on_nonfinite(self, state, fault):
        self.faults.append(fault)

    def save(self, state, *, must=False):
        self.saved_steps.append(state.step)
        if self._folder:
            tensors, record = state.tensors(), state.record(self._config, self._ctx.size)
            self._ctx.from_main(
                lambda: save_checkpoint(self._folder, state.step, tensors, record, keep=3) and None
            )

    def restore(self, state):
        checkpoint = self._ctx.from_main(lambda: load_checkpoint(self._folder))
        state.restore(checkpoint, self._config, world_size=self._ctx.size)


def assert_same_state(left, right):
    """Bit for bit: weights, averages, optimiser, and every number that is not a time."""
    for group, tensors in left.tensors().items():
        others = right.tensors()[group]
        assert tensors.keys() == others.keys()
        for name, tensor in tensors.items():
            assert torch.equal(tensor, others[name]), f"{group} {name}"
    assert (left.step, left.ema.num_updates, left.best) == (right.step, right.ema.num_updates, right.best)


def without_times(records):
    return [{k: v for k, v in record.items() if k not in ("seconds", "images_per_s")} for record in records]


class StopBefore:
    """Asks to stop when so many steps have begun."""

    def __init__(self, step):
        self.left = step

    def __call__(self):
        self.left -= 1
        return self.left < 0
