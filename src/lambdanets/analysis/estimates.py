"""What each implementation of an operator would cost, or why it cannot run."""

from dataclasses import dataclass

from lambdanets.functional._dispatch import Problem, choose
from lambdanets.functional.position import IMPLEMENTATIONS
from lambdanets.functional.relative_position import check_scope


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One implementation in one direction.

    Attributes:
        implementation: Its name.
        direction: `output` or `gradients`.
        milliseconds: Estimated, None where it cannot run.
        reason: Why it cannot run, None where it can.
        chosen: Whether `impl="auto"` takes it.
    """

    implementation: str
    direction: str
    milliseconds: float | None
    reason: str | None
    chosen: bool


def estimate(problem: Problem) -> list[Estimate]:
    """Estimate `position_output` by every implementation, in both directions, without running anything.

    Args:
        problem: Sizes, with the scope as wide as the table is; its direction is not read.
    """
    check_scope("bench", problem.scope, len(problem.size))
    problem = problem._replace(scope=problem.reachable_scope)
    rows = []
    for direction in ("output", "gradients"):
        asked = problem._replace(backward=direction == "gradients")
        taken = choose(IMPLEMENTATIONS, asked)
        for one in IMPLEMENTATIONS:
            reason = one.why_not(asked)
            rows.append(
                Estimate(
                    implementation=one.name,
                    direction=direction,
                    milliseconds=None if reason else 1e3 * one.cost(asked),
                    reason=reason,
                    chosen=one is taken,
                )
            )
    return rows
