"""The raw weights are evaluated beside the EMA: the training stays as it is, and the better one is best."""

import functools
from dataclasses import replace

import pytest
import torch
from torch import nn

from lambdanets.training.config import CkptConfig, ExecConfig, SchedConfig
from lambdanets.training.distributed import ALONE
from lambdanets.training.metrics import Evaluation
from lambdanets.training.objective import Classification, Evaluations
from lambdanets.training.run_folder import record_of_raw
from support.processes import run_ranks
from support.training import (
    NUM_CLASSES,
    Notes,
    Stored,
    TinyData,
    assert_same_state,
    tiny_config,
    tiny_model,
    tiny_objective,
    tiny_state,
    tiny_trainer,
    without_times,
)

RAW = ("raw_test_loss", "raw_test_accuracy", "raw_test_correct", "raw_test_top5_correct")


class EmaAlone(Classification):
    """Evaluates as versions did that knew no raw weights."""

    judges_raw = False


def ema_alone(config):
    return EmaAlone(num_classes=NUM_CLASSES, label_smoothing=config.label_smoothing)


def _evaluation(correct, of=10):
    confusion = torch.tensor([[correct, of - correct], [0, 0]])
    return Evaluation(confusion=confusion, loss=1.0, top5_correct=of)


def _trained(config, objective, ctx=ALONE):
    state, notes = tiny_state(config, ctx=ctx), Notes()
    evaluations = tiny_trainer(config, ctx=ctx, objective=objective, callback=notes).fit(state)
    return state, notes.records, evaluations


def _without_raw(records):
    return [{name: v for name, v in record.items() if name not in RAW} for record in without_times(records)]


@pytest.mark.parametrize("workers", [0, 1])
def test_the_training_is_the_same_bit_for_bit(workers):
    config = tiny_config(exec=ExecConfig(device="cpu", num_workers=workers))
    state, records, evaluations = _trained(config, tiny_objective(config))
    alone, expected, _ = _trained(config, ema_alone(config))
    state.best = alone.best
    assert_same_state(state, alone)
    assert _without_raw(records) == without_times(expected)
    assert set(RAW) <= records[0].keys() and not set(RAW) & expected[0].keys()
    assert evaluations.raw.record()["test_loss"] == records[-1]["raw_test_loss"] != records[-1]["test_loss"]


def test_modes_statistics_and_random_numbers_stay():
    config = tiny_config()
    state, trainer = tiny_state(config), tiny_trainer(config)
    state.model.train()
    state.model[5].eval()
    modes = [module.training for module in state.model.modules()]
    before = {name: tensor.clone() for name, tensor in state.model.state_dict().items()}
    generator = torch.get_rng_state()
    trainer.evaluate(state)
    assert all(tensor.equal(before[name]) for name, tensor in state.model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)
    assert [module.training for module in state.model.modules()] == modes


def test_the_numbers_are_those_of_the_raw_weights():
    config = tiny_config()
    state, records, _ = _trained(config, tiny_objective(config))
    images = TinyData()
    logits = state.model.eval()(images.images)
    assert records[-1]["raw_test_correct"] == int((logits.argmax(dim=1) == images.labels).sum())
    expected = nn.functional.cross_entropy(logits, images.labels).item()
    assert records[-1]["raw_test_loss"] == pytest.approx(expected, rel=1e-5)


def _of_both(ctx, parallel):
    """A run with and without the raw weights; whether the training was the same, and what was found."""
    execution = ExecConfig(device="cpu", parallel=parallel)
    config = tiny_config(sched=SchedConfig(epochs=1), ckpt=CkptConfig(), exec=execution)
    state, records, _ = _trained(config, tiny_objective(config), ctx)
    alone, expected, _ = _trained(config, ema_alone(config), ctx)
    state.best = alone.best
    assert_same_state(state, alone)
    assert _without_raw(records) == without_times(expected)
    # What one process finds with the full weights.
    model = tiny_model()
    model.load_state_dict(state.tensors()["model"])
    found = tiny_objective(config).evaluate(model, Stored(TinyData()), ExecConfig(device="cpu"), ALONE)
    kept = state.trained_model("raw").state_dict()
    same = all(tensor.equal(kept[name]) for name, tensor in model.state_dict().items())
    return records[0]["raw_test_correct"], found.correct, records[0]["raw_test_loss"], found.loss, same


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_every_process_takes_part(parallel):
    first, second = run_ranks(_of_both, 2, parallel)
    for correct, alone, loss, loss_alone, same in (first, second):
        assert correct == alone and loss == pytest.approx(loss_alone, rel=1e-5) and same


@pytest.mark.parametrize(
    ("ema", "raw", "better"),
    [(5, 6, ("raw", 6)), (6, 5, ("ema", 6)), (5, 5, ("ema", 5)), (5, None, ("ema", 5))],
)
def test_the_better_one_is_chosen_and_the_ema_where_they_are_equal(ema, raw, better):
    both = Evaluations(ema=_evaluation(ema), raw=None if raw is None else _evaluation(raw))
    weights, record = both.better("test_correct")
    assert (weights, record["test_correct"]) == better
    assert both.better("box_ap") == ("ema", both.ema.record())


def test_the_best_is_of_one_epoch_and_of_one_of_the_two():
    config = tiny_config()
    state, records, _ = _trained(config, tiny_objective(config))
    best = max(max(record["test_correct"], record["raw_test_correct"]) for record in records)
    (chosen,) = (record for record in records if record["step"] == state.best["step"])
    key = "test_correct" if state.best["weights"] == "ema" else "raw_test_correct"
    assert chosen[key] == state.best["test_correct"] == best
    assert state.best["test_accuracy"] == best / 30 and state.best["test_total"] == 30


def test_a_best_of_an_earlier_version_stays_until_there_is_a_better_one():
    config = tiny_config()
    for correct, stays in ((31, True), (0, False)):
        state = tiny_state(config)
        old = {"epoch": 0, "step": 0, "test_correct": correct, "test_accuracy": 0.5, "test_total": 30}
        state.best = old
        tiny_trainer(config).fit(state)
        assert (state.best == old) == stays


def test_a_record_of_the_raw_weights():
    both = Evaluations(ema=_evaluation(5), raw=_evaluation(7))
    record = {"epoch": 1, **both.record()}
    assert record["test_correct"] == 5 and record["raw_test_correct"] == 7 and record["test_total"] == 10
    assert record_of_raw(record) == {"epoch": 1, **_evaluation(7).record()}
    assert record_of_raw({"epoch": 1, **_evaluation(5).record()}) is None


def test_a_compiled_network_is_evaluated_as_it_is(monkeypatch):
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    patched = functools.partialmethod(nn.Module.compile, backend=backend)
    monkeypatch.setattr(nn.Module, "compile", patched)
    # Once the compiler is loaded, a first backward would start threads that no test may fork with.
    tiny_model()(torch.ones(2, 1, 6, 6)).sum().backward()
    # After many compilations of other tests the compiler would leave the network as it is.
    torch._dynamo.reset()
    config = replace(tiny_config(), exec=ExecConfig(device="cpu", compile=True))
    state, trainer = tiny_state(config), tiny_trainer(config)
    trainer.evaluate(state)
    assert not compiled
    state.ddp_model(torch.ones(2, 1, 6, 6))
    assert compiled
