"""Two detectors on the same images: scores with intervals, by size of objects, and errors, side by side."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lambdanets.data.detection import CocoConfig
from lambdanets.detection.analysis import ErrorSplit, SizeBin, size_bins, split_errors
from lambdanets.detection.bootstrap import Paired, pair, resample
from lambdanets.detection.coco import CocoFile, find_part, read_coco, read_part
from lambdanets.detection.evaluation import read_results
from lambdanets.errors import ArgumentError, PathError
from lambdanets.text import shell_words
from lambdanets.training.config import DetectConfig
from lambdanets.training.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two runs, `a` and `b`, side by side.

    Attributes:
        runs: Where each is.
        annotations: The file of the objects.
        num_images: How many images it has.
        num_resamples: How often they were drawn.
        scores: `box_ap` and so on of both; those of masks where both have them.
        sizes: Scores by the size of the objects, for each run.
        errors: The errors of boxes of each run.
    """

    runs: tuple[Path, Path]
    annotations: Path
    num_images: int
    num_resamples: int
    scores: dict[str, Paired]
    sizes: tuple[list[SizeBin], list[SizeBin]]
    errors: tuple[ErrorSplit, ErrorSplit]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        names = ("a", "b")
        return {
            "runs": dict(zip(names, map(str, self.runs), strict=True)),
            "annotations": str(self.annotations),
            "images": self.num_images,
            "resamples": self.num_resamples,
            "scores": {name: score.to_dict() for name, score in self.scores.items()},
            "sizes": {
                name: [one.to_dict() for one in bins] for name, bins in zip(names, self.sizes, strict=True)
            },
            "errors": {name: errors.to_dict() for name, errors in zip(names, self.errors, strict=True)},
        }


def compare_runs(
    a: Path, b: Path, *, annotations: Path | None = None, num_resamples: int = 1000, seed: int = 0
) -> Comparison:
    """Compare two runs on the images of one file.

    Args:
        a: A run folder with results.json, or a file of COCO's JSON of results.
        b: The other.
        annotations: The file of the objects; that of the run folders unless given.
        num_resamples: How often images are drawn for the intervals.
        seed: Decides the draws.

    Raises:
        ArgumentError: It is not known which file the objects are in.
        PathError: A file is not there.
        DataError: Results do not fit the file.
    """
    configs = [RunFolder.existing(run).read_config(DetectConfig).data for run in (a, b) if run.is_dir()]
    results = [read_results(_results_of(run)) for run in (a, b)]
    file = _objects(configs, annotations, {result["category_id"] for run in results for result in run})
    masks = all("segmentation" in result for run in results for result in run)
    resampled = [resample(file, run, masks=masks, num_resamples=num_resamples, seed=seed) for run in results]
    sizes = [size_bins(file, run, masks=masks) for run in results]
    errors = [split_errors(file, run) for run in results]
    return Comparison(
        runs=(a, b),
        annotations=file.path,
        num_images=len(file.images),
        num_resamples=num_resamples,
        scores=pair(resampled[0], resampled[1]),
        sizes=(sizes[0], sizes[1]),
        errors=(errors[0], errors[1]),
    )


def _objects(configs: Sequence[CocoConfig], annotations: Path | None, found: Collection[int]) -> CocoFile:
    """The file of the objects, with the categories of the training where the runs found others than its."""
    places = {find_part(Path(config.root), config.test)[0] for config in configs}
    if annotations is None and len(places) != 1:
        listed = " and ".join(sorted(map(str, places))) or "none"
        raise ArgumentError(
            f"detect compare: the file of the objects must be one, got {listed}. Use --annotations FILE."
        )
    file = read_coco(places.pop() if annotations is None else annotations)
    if configs and set(found) - {category.id for category in file.categories}:
        trained = read_part(Path(configs[0].root), configs[0].train)
        return replace(file, categories=trained.categories)
    return file


def _results_of(run: Path) -> Path:
    """The file of results of a run folder, or the file itself."""
    if not run.is_dir():
        return run
    path = run / "results.json"
    if not path.is_file():
        raise PathError(
            f"detect compare: {run} must hold results.json, got none. `lambdanets detect eval"
            f" {shell_words(run)}` writes it."
        )
    return path
