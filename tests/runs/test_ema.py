"""What is said about the EMA of a run: its decay, and how it compares with the raw weights."""

import pytest
import torch

from lambdanets.recipes import get_recipe
from lambdanets.runs.ema import compare_weights, describe_ema, warn_of_ema_behind, warn_of_short_run
from lambdanets.training.metrics import Evaluation
from lambdanets.training.objective import Evaluations
from lambdanets.training.optimizer import derived_ema_decay


def _config(ema_decay, epochs):
    return get_recipe("digits").replace(ema_decay=ema_decay, sched={"epochs": epochs, "warmup_epochs": 0.0})


def _evaluations(ema, raw, of):
    found = [
        Evaluation(confusion=torch.tensor([[correct, of - correct], [0, 0]]), loss=1.0, top5_correct=of)
        for correct in (ema, raw)
    ]
    return Evaluations(ema=found[0], raw=found[1])


@pytest.mark.parametrize(
    ("decay", "epochs", "expected"),
    [
        (0.98, 15, "decay 0.98, half-life 3.4 epochs"),
        (0.9999, 15, "decay 0.9999, half-life 693.1 epochs"),
        (None, 15, "decay 0.86667, derived from 150 steps, half-life 0.5 epochs"),
        (None, 2, "decay 0, derived from 20 steps: the EMA is the network itself"),
        (0.0, 15, "decay 0: the EMA is the network itself"),
    ],
)
def test_the_decay_and_where_it_comes_from(decay, epochs, expected):
    assert describe_ema(_config(decay, epochs), steps_per_epoch=10) == expected


def test_a_run_shorter_than_three_half_lives_is_warned_of():
    assert warn_of_short_run(_config(0.98, 25), 4) == (
        "the run is shorter than three half-lives of the EMA. --ema-decay None derives a decay from the 100"
        " steps: 0.8"
    )
    assert warn_of_short_run(_config(0.98, 25), 5) is None
    for steps in (1, 10, 21, 1000, 10**6):
        assert warn_of_short_run(_config(None, steps), 1) is None


@pytest.mark.parametrize(
    ("ema", "raw", "expected"),
    [
        (400, 490, "98.00%, 490 of 500, 90 more than the EMA, beyond chance"),
        (485, 488, "97.60%, 488 of 500, 3 more than the EMA, within chance"),
        (490, 470, "94.00%, 470 of 500, 20 fewer than the EMA, beyond chance"),
        (480, 480, "96.00%, 480 of 500, as many as the EMA"),
    ],
)
def test_which_of_the_two_is_better_and_by_how_much(ema, raw, expected):
    assert compare_weights(_evaluations(ema, raw, 500)) == expected


def test_chance_is_two_standard_errors_of_independent_images():
    # √(500 · (0.98 · 0.02 + 0.95 · 0.05)) = 5.8, of which 2 are 11.6.
    assert compare_weights(_evaluations(475, 490, 500)).endswith("beyond chance")
    assert compare_weights(_evaluations(480, 490, 500)).endswith("within chance")


def test_an_ema_behind_by_more_than_chance_is_warned_of_with_the_option():
    behind = _evaluations(19, 29, 30)
    assert warn_of_ema_behind(behind, 0.999, 75) == (
        "the EMA is behind the raw weights by more than chance, 19 to 29 of 30: a decay of 0.999 is too slow"
        " for this run; --ema-decay None derives 0.73333 from the 75 steps"
    )
    assert warn_of_ema_behind(behind, derived_ema_decay(75), 75).endswith(
        "a decay of 0.73333 is too slow for this run; a lower --ema-decay follows them sooner"
    )
    for ema, raw in ((28, 29), (29, 19), (29, 29)):
        assert warn_of_ema_behind(_evaluations(ema, raw, 30), 0.999, 75) is None


def test_without_raw_weights_there_is_nothing_to_say():
    alone = Evaluations(ema=_evaluations(5, 5, 10).ema)
    assert compare_weights(alone) is None and warn_of_ema_behind(alone, 0.999, 75) is None
