"""The loop: order, learning, stopping, and going on bit for bit."""

import itertools
from dataclasses import replace

import pytest
import torch

from lambdanets.errors import ArgumentError, DataError, NumericError, StoppedError
from lambdanets.training.checkpoint import load_checkpoint
from lambdanets.training.config import CkptConfig, ExecConfig, OptimConfig, SchedConfig
from support.training import (
    Notes,
    StopBefore,
    TinyData,
    assert_same_state,
    tiny_config,
    tiny_model,
    tiny_state,
    tiny_trainer,
    without_times,
)

TOTAL_STEPS = 12


@pytest.fixture(scope="module")
def undisturbed():
    config = tiny_config()
    torch.manual_seed(0)
    state, notes = tiny_state(config), Notes()
    tiny_trainer(config, callback=notes).fit(state)
    return state, notes


def test_every_epoch_shows_each_image_once_in_equal_batches():
    config, data = tiny_config(), TinyData(num=25)
    tiny_trainer(config, data).fit(tiny_state(config))
    for epoch in range(3):
        batches = [indices for seen, indices in data.seen if seen == epoch]
        assert sorted(itertools.chain(*batches)) == list(range(25))
        assert sorted(map(len, batches)) == [6, 6, 6, 7]


def test_records_and_checkpoints_of_a_run(undisturbed):
    state, notes = undisturbed
    assert state.step == state.ema.num_updates == TOTAL_STEPS
    assert notes.saved_steps == [4, 8, 12]
    assert [record["epoch"] for record in notes.records] == [1, 2, 3]
    assert [record["step"] for record in notes.records] == [4, 8, 12]
    found = [(max(r["test_correct"], r["raw_test_correct"]), r["step"]) for r in notes.records]
    assert (state.best["test_correct"], state.best["step"]) == max(found)


def test_the_last_epoch_is_saved_whatever_the_interval():
    config = tiny_config(ckpt=CkptConfig(every_epochs=2))
    notes = Notes()
    tiny_trainer(config, callback=notes).fit(tiny_state(config))
    assert notes.saved_steps == [8, 12]


@pytest.mark.parametrize("stop", range(TOTAL_STEPS))
def test_stopped_after_any_step_and_continued_it_ends_bit_for_bit_the_same(tmp_path, undisturbed, stop):
    config = tiny_config()
    state = tiny_state(config)
    first = Notes(config, tmp_path)
    with pytest.raises(StoppedError, match=f"stopped at step {stop} of 12; the same command continues there"):
        tiny_trainer(config, stop_requested=StopBefore(stop), callback=first).fit(state)
    # Another process: other weights, other random numbers.
    torch.manual_seed(99)
    again, second = tiny_state(replace(config, seed=5)), Notes()
    again.restore(load_checkpoint(tmp_path), config)
    assert again.step == stop
    tiny_trainer(config, callback=second).fit(again)
    expected, notes = undisturbed
    assert_same_state(again, expected)
    assert without_times(first.records + second.records) == without_times(notes.records)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_seed_decides_everything(undisturbed, seed):
    config = tiny_config(seed=seed)
    state, notes = tiny_state(config), Notes()
    tiny_trainer(config, callback=notes).fit(state)
    same = without_times(notes.records) == without_times(undisturbed[1].records)
    assert same == (seed == 0)


def test_a_gradient_that_is_not_finite_stops_before_the_update():
    config = tiny_config()
    state = tiny_state(config)
    state.model[6].weight.register_hook(lambda gradient: gradient * float("inf"))
    weight = state.model[0].weight.clone()
    with pytest.raises(NumericError, match=r"gradient norm must be finite, got (inf|nan) at step 0"):
        tiny_trainer(config).fit(state)
    assert torch.equal(state.model[0].weight, weight)


def test_thirty_two_images_are_learnt_by_heart():
    config = tiny_config(
        label_smoothing=0.0,
        ema_decay=0.9,
        optim=OptimConfig(learning_rate=0.2),
        sched=SchedConfig(epochs=60, warmup_epochs=1.0),
        ckpt=CkptConfig(every_epochs=60),
    )
    notes, data = Notes(), TinyData(num=32, noise=0.0)
    tiny_trainer(config, data, callback=notes).fit(tiny_state(config, tiny_model(dropout=0.0)))
    assert notes.records[-1]["test_correct"] == 32
    assert notes.records[-1]["test_loss"] < 0.1


def test_a_single_image_is_refused():
    with pytest.raises(ArgumentError, match=r"Trainer: data must hold at least 2 images, got 1\."):
        tiny_trainer(tiny_config(), TinyData(num=1))


def test_time_passes_and_a_checkpoint_is_due_inside_an_epoch():
    minutes = itertools.count()
    config = tiny_config(ckpt=CkptConfig(every_epochs=3, every_minutes=2.5))
    notes = Notes()
    # The clock is looked at before the first step, in each step and after each save: a minute each time.
    tiny_trainer(config, clock=lambda: 60.0 * next(minutes), callback=notes).fit(tiny_state(config))
    assert notes.saved_steps == [2, 5, 8, 11, 12]


def test_a_step_curve_falls_at_its_epochs():
    sched = SchedConfig(epochs=6, warmup_epochs=1.0, shape="step", step_epochs=2.0, step_factor=0.5)
    optim = OptimConfig(learning_rate=0.1, base_batch_size=4)
    trainer = tiny_trainer(tiny_config(sched=sched, optim=optim))
    # 0.1 for 4 images is 0.2 for 8; epochs have 4 steps.
    assert [trainer.learning_rate(step) for step in (4, 7, 8, 15, 16)] == pytest.approx(
        [0.2, 0.2, 0.1, 0.1, 0.05]
    )


def test_parts_too_small_for_batch_norm_are_refused():
    message = r"must give each of 1 processes and each of 5 parts at least 2 images, got 8 of 30"
    with pytest.raises(ArgumentError, match=message):
        tiny_trainer(tiny_config(exec=ExecConfig(accumulation=5)))


def test_a_file_that_cannot_be_read_saves_before_it_ends_the_run():
    class Broken(TinyData):
        def batch(self, epoch, indices):
            if epoch == 1:
                raise DataError("file 3: nothing in it")
            return super().batch(epoch, indices)

    notes, config = Notes(), tiny_config(ckpt=CkptConfig(every_epochs=3))
    with pytest.raises(DataError, match="file 3"):
        tiny_trainer(config, Broken(), callback=notes).fit(tiny_state(config))
    assert notes.saved_steps == [4]
