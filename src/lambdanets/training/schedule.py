"""The learning rate as a pure function of the step."""

import math

from lambdanets.errors import ArgumentError


def warmup_step(
    step: int, *, peak: float, warmup_steps: int, total_steps: int, interval: float, factor: float
) -> float:
    """Give the learning rate of one step: a straight line up to the peak, then a factor at each interval.

    With s = step and w = warmup_steps: peak · (s + 1) / (w + 1) for s < w, else peak · factor^⌊s / interval⌋.

    Paper: §E.2 (MobileNet: 0.99 every 3 epochs).

    Args:
        step: Updates made so far.
        peak: The largest learning rate.
        warmup_steps: Length of the warm-up.
        total_steps: Length of the run.
        interval: Updates from one step down to the next; fractions are allowed.
        factor: What each of them multiplies with.

    Raises:
        ArgumentError: The step lies outside the run, or the warm-up is not shorter than the run.

    Example:
        >>> warmup_step(7, peak=0.5, warmup_steps=0, total_steps=10, interval=3, factor=0.5)
        0.125
    """
    _check("warmup_step", step, warmup_steps, total_steps)
    if step < warmup_steps:
        return peak * (step + 1) / (warmup_steps + 1)
    return float(peak * factor ** math.floor(step / interval))


def warmup_cosine(step: int, *, peak: float, warmup_steps: int, total_steps: int) -> float:
    """Give the learning rate of one step: a straight line up to the peak, then half a cosine down.

    With s = step, w = warmup_steps and t = total_steps:
    peak · (s + 1) / (w + 1) for s < w, else peak · (1 + cos(π (s - w) / (t - w))) / 2.
    The first step already moves, step w has the peak, and step t (never taken) would have zero.

    Paper: §E.2 (linear warm-up, then cosine).

    Args:
        step: Updates made so far.
        peak: The largest learning rate.
        warmup_steps: Length of the warm-up.
        total_steps: Length of the run.

    Raises:
        ArgumentError: The step lies outside the run, or the warm-up is not shorter than the run.

    Example:
        >>> warmup_cosine(5, peak=0.5, warmup_steps=0, total_steps=10)
        0.25
    """
    _check("warmup_cosine", step, warmup_steps, total_steps)
    if step < warmup_steps:
        return peak * (step + 1) / (warmup_steps + 1)
    return peak * (1 + math.cos(math.pi * (step - warmup_steps) / (total_steps - warmup_steps))) / 2


def _check(who: str, step: int, warmup_steps: int, total_steps: int) -> None:
    if not 0 <= warmup_steps < total_steps:
        raise ArgumentError(
            f"{who}: warmup_steps must be at least 0 and below total_steps={total_steps}, got {warmup_steps}."
        )
    if not 0 <= step <= total_steps:
        raise ArgumentError(f"{who}: step must lie between 0 and total_steps={total_steps}, got {step}.")
