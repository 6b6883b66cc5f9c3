"""What lines and reports say about the EMA of a run: its decay, and how it compares with the raw weights."""

import math
from typing import Final

from lambdanets.terminal import count
from lambdanets.training.config import RunConfig
from lambdanets.training.metrics import Evaluation
from lambdanets.training.objective import Evaluations
from lambdanets.training.optimizer import derived_ema_decay, ema_half_life
from lambdanets.training.state import ema_decay

# Standard errors of a difference that chance seldom makes.
_SURE: Final = 2.0
# Half-lives of the EMA that a run should have.
_HALF_LIVES: Final = 3


def describe_ema(config: RunConfig, steps_per_epoch: int) -> str:
    """Say the decay of the EMA of a run, where it comes from, and its half-life."""
    steps = config.sched.epochs * steps_per_epoch
    decay = ema_decay(config, steps)
    derived = f", derived from {count(steps, 'step')}" if config.ema_decay is None else ""
    if not decay:
        return f"decay 0{derived}: the EMA is the network itself"
    return f"decay {decay:.5g}{derived}, half-life {ema_half_life(decay) / steps_per_epoch:.1f} epochs"


def warn_of_short_run(config: RunConfig, steps_per_epoch: int) -> str | None:
    """Give a warning where a run is too short for its EMA, with what to type; None where it is not."""
    steps = config.sched.epochs * steps_per_epoch
    if steps >= _HALF_LIVES * ema_half_life(ema_decay(config, steps)):
        return None
    return (
        "the run is shorter than three half-lives of the EMA. --ema-decay None derives a decay from the"
        f" {count(steps, 'step')}: {derived_ema_decay(steps):.5g}"
    )


def compare_weights(evaluations: Evaluations) -> str | None:
    """Say what the raw weights reach, and how far the EMA is from it; None where it is not known."""
    ema, raw = evaluations.ema, evaluations.raw
    if not (isinstance(ema, Evaluation) and isinstance(raw, Evaluation)):
        return None
    ahead = raw.correct - ema.correct
    found = f"{raw.accuracy:.2%}, {raw.correct} of {raw.total}"
    if not ahead:
        return f"{found}, as many as the EMA"
    more, chance = "more" if ahead > 0 else "fewer", "beyond" if _is_sure(ema, raw) else "within"
    return f"{found}, {abs(ahead)} {more} than the EMA, {chance} chance"


def warn_of_ema_behind(evaluations: Evaluations, decay: float, num_steps: int) -> str | None:
    """Give a warning where the EMA is behind the raw weights by more than chance; None where it is not.

    Args:
        evaluations: Those after the last epoch.
        decay: The EMA's.
        num_steps: The steps of the run.
    """
    ema, raw = evaluations.ema, evaluations.raw
    if not (isinstance(ema, Evaluation) and isinstance(raw, Evaluation)):
        return None
    if raw.correct <= ema.correct or not _is_sure(ema, raw):
        return None
    derived = derived_ema_decay(num_steps)
    way = (
        f"--ema-decay None derives {derived:.5g} from the {count(num_steps, 'step')}"
        if derived < decay
        else "a lower --ema-decay follows them sooner"
    )
    return (
        f"the EMA is behind the raw weights by more than chance, {ema.correct} to {raw.correct} of"
        f" {raw.total}: a decay of {decay:.5g} is too slow for this run; {way}"
    )


def _is_sure(ema: Evaluation, raw: Evaluation) -> bool:
    """Whether two accuracies differ by more than two standard errors.

    The errors are those of independent images. Both see the same ones, which makes this stricter.
    """
    variance = sum(one.accuracy * (1 - one.accuracy) for one in (ema, raw)) * raw.total
    return abs(raw.correct - ema.correct) > _SURE * math.sqrt(variance)
