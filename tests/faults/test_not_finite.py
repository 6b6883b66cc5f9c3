"""R6: a loss or gradient that is not finite in one process concerns all, and never reaches the weights."""

import pytest

from lambdanets.errors import NumericError
from lambdanets.training.config import ExecConfig, FaultConfig
from lambdanets.training.distributed import DistributedContext
from support.processes import run_ranks
from support.training import Notes, TinyData, tiny_config, tiny_state, tiny_trainer

BAD = 17
TOTAL_STEPS = 12


class _BadData(TinyData):
    """One image is not a number, in the first epoch alone or always."""

    def __init__(self, always):
        super().__init__(num=40)
        self.always = always

    def batch(self, epoch, indices):
        batch = super().batch(epoch, indices)
        if epoch == 0 or self.always:
            batch.images[indices == BAD] = float("nan")
        return batch


def _config(policy, most=10, **changes):
    faults = FaultConfig(nonfinite=policy, max_nonfinite=most)
    return tiny_config(global_batch_size=10, faults=faults, **changes)


def _train(ctx, folder, policy, always=True, most=10):
    """How a run with a bad image goes: what was noted, and whether all its numbers are finite."""
    config = _config(policy, most)
    data = _BadData(always)
    notes, state, error = Notes(config, folder, ctx), tiny_state(config, ctx=ctx), None
    try:
        tiny_trainer(config, data, ctx=ctx, callback=notes).fit(state)
    except NumericError as raised:
        error = str(raised)
    weights = {name: tensor.tolist() for name, tensor in state.ema.module.state_dict().items()}
    finite = all(tensor.isfinite().all() for tensor in state.ema.module.state_dict().values())
    finite &= all(parameter.isfinite().all() for parameter in state.model.parameters())
    return error, state.step, state.events, [fault["step"] for fault in notes.faults], bool(finite), weights


def _bad_steps(always):
    trainer = tiny_trainer(_config("stop"), _BadData(always))
    return [
        4 * epoch + number
        for epoch in range(3 if always else 1)
        for number, part in enumerate(trainer.batches(epoch))
        if BAD in part
    ]


@pytest.mark.parametrize("size", [1, 2])
def test_stop_is_before_the_update_and_names_the_images(tmp_path, size):
    (bad, *_) = _bad_steps(always=True)
    message = (
        f"fit: loss must be finite, got nan at step {bad}; the update was not made. Use a lower learning"
        " rate, a longer warm-up or --faults.nonfinite skip."
    )
    for error, step, _, faults, finite, _ in _everywhere(size, tmp_path, "stop"):
        assert error == message
        assert (step, faults, finite) == (bad, [bad], True)


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize(
    ("policy", "left_out"), [("skip", "skipped_steps"), ("rollback", "rolled_back_steps")]
)
def test_skip_and_rollback_leave_the_step_out_everywhere(tmp_path, size, policy, left_out):
    results = _everywhere(size, tmp_path, policy)
    for error, step, events, faults, finite, weights in results:
        assert error is None and finite and step == TOTAL_STEPS
        assert getattr(events, left_out) == faults == _bad_steps(always=True)
        assert weights == results[0][-1]
        # Running statistics are not touched by an image that is not a number.
        assert all(abs(value) < 1e3 for value in weights["1.running_mean"])


def test_a_rollback_ends_where_a_run_without_that_step_does(tmp_path):
    """Passed over is as if the step had not been: the weights are those of a run that knows before."""
    config, data = _config("rollback"), _BadData(always=False)
    (bad,) = _bad_steps(always=False)
    rolled = _train(DistributedContext(), tmp_path, "rollback", always=False)
    state = tiny_state(config)
    state.events.rolled_back_steps = [bad]
    tiny_trainer(config, data).fit(state)
    assert {name: tensor.tolist() for name, tensor in state.ema.module.state_dict().items()} == rolled[-1]


@pytest.mark.parametrize(("policy", "borne"), [("skip", 12), ("rollback", 2)])
def test_patience_has_an_end(tmp_path, monkeypatch, policy, borne):
    monkeypatch.setattr(TinyData, "__init__", _all_bad(TinyData.__init__))
    error, step, events, *_ = _train(DistributedContext(), tmp_path, policy, most=2)
    assert "must be finite, got nan at step 2" in error
    assert step == 2 or policy == "rollback"
    assert len(events.skipped_steps + events.rolled_back_steps) == 2 <= borne


def _all_bad(real):
    def bad(self, num=30, noise=0.1):
        real(self, num, noise)
        self.images[:] = float("nan")

    return bad


def test_a_scale_that_overflows_is_no_fault():
    """float16: the scaler begins too high and halves its scale; the steps are no faults and not averaged."""
    config = _config("stop", exec=ExecConfig(device="cpu", precision="float16"))
    state = tiny_state(config)
    state.scaler._init_scale = 2.0**30
    notes = Notes()
    tiny_trainer(config, TinyData(num=40), callback=notes).fit(state)
    assert state.step == TOTAL_STEPS and notes.faults == []
    assert 0 < state.ema.num_updates < TOTAL_STEPS
    assert state.scaler.get_scale() == 2.0 ** (30 - (TOTAL_STEPS - state.ema.num_updates))


def test_a_loss_that_is_not_finite_is_skipped_in_float16_too():
    config = _config("skip", exec=ExecConfig(device="cpu", precision="float16"))
    state, notes = tiny_state(config), Notes()
    tiny_trainer(config, _BadData(always=True), callback=notes).fit(state)
    assert [fault["step"] for fault in notes.faults] == state.events.skipped_steps == _bad_steps(always=True)
    assert all(parameter.isfinite().all() for parameter in state.model.parameters())


def _everywhere(size, folder, policy):
    if size == 1:
        return [_train(DistributedContext(), folder, policy)]
    return run_ranks(_train, size, folder, policy)
