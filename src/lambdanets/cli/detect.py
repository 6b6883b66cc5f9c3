"""`lambdanets detect`: detectors and what they find."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lambdanets.cli._options import Format, print_json
from lambdanets.terminal import table

if TYPE_CHECKING:
    from lambdanets.detection.bootstrap import Paired
    from lambdanets.detection.comparison import Comparison


def compare(
    a: Path,
    b: Path,
    /,
    *,
    annotations: Path | None = None,
    resamples: int = 1000,
    seed: int = 0,
    format: Format = "text",
) -> None:
    """Compare two detectors image by image, with intervals over images.

    Args:
        a: A run folder with results.json, or such a file.
        b: The other.
        annotations: COCO's JSON of the objects; that of the run folders unless given.
        resamples: How often images are drawn with replacement.
        seed: Another one draws others.
        format: text or json; --json is short for the latter.
    """
    from lambdanets.detection.comparison import compare_runs

    found = compare_runs(a, b, annotations=annotations, num_resamples=resamples, seed=seed)
    if format == "json":
        print_json(found.to_dict())
    else:
        print("\n".join(_comparison(found)))


def _comparison(found: "Comparison") -> Iterator[str]:
    yield f"A  {found.runs[0]}\nB  {found.runs[1]}"
    yield (
        f"{found.num_images:,} images of {found.annotations}; intervals of 95 % over {found.num_resamples:,}"
        " draws of as many images\n"
    )
    headings = ("", "A", "B", "A - B", "interval", "A better")
    yield table(headings, [_score(name, score) for name, score in found.scores.items()])
    yield ""
    kinds = ("box", "mask") if "mask_ap" in found.scores else ("box",)
    yield table(
        ("objects of", "number", *(f"{kind} AP {run}" for kind in kinds for run in "AB")),
        [
            (
                f"{a.low:g} to {a.high:g} px",
                f"{a.num_objects:,}",
                *(_number(getattr(one, f"{kind}_ap")) for kind in kinds for one in (a, b)),
            )
            for a, b in zip(*found.sizes, strict=True)
        ],
    )
    yield ""
    yield table(
        ("errors of boxes", "A", "B", "cost in AP50 A", "B"),
        [
            (
                error,
                *(f"{one.counts[error]:,}" for one in found.errors),
                *(_number(one.costs[error]) for one in found.errors),
            )
            for error in found.errors[0].counts
        ],
    )


def _score(name: str, score: "Paired") -> tuple[str, ...]:
    kind, _, rest = name.partition("_ap")
    difference = score.difference
    interval = "none"
    if difference.low is not None and difference.high is not None:
        interval = f"{difference.low:+.4f} to {difference.high:+.4f}"
    return (
        f"{kind} AP{rest.replace('_', ' ')}",
        _number(score.a.value),
        _number(score.b.value),
        "none" if difference.value is None else f"{difference.value:+.4f}",
        interval,
        "none" if score.a_better is None else f"{score.a_better:.1%}",
    )


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"
