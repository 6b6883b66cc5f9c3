"""Detectors as runs: their job, their report, and a trained one loaded and evaluated."""

import functools
import json
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from torch import nn

from lambdanets.data.decode import decode
from lambdanets.data.sources import read_file
from lambdanets.data.task import Task, TestData
from lambdanets.detection.analysis import ErrorSplit, SizeBin, size_bins, split_errors
from lambdanets.detection.backbones import create_backbone, load_backbone
from lambdanets.detection.bootstrap import Interval, resample
from lambdanets.detection.coco import Category, CocoFile
from lambdanets.detection.data import DetectionTask, changes_of_test, load_test
from lambdanets.detection.evaluation import DetectionScores, write_results
from lambdanets.detection.mask_rcnn import Detector, build_detector, norm_counts
from lambdanets.detection.matching import Evaluator
from lambdanets.detection.objective import Detection, DetectionEvaluation, evaluate_detections
from lambdanets.detection.page import write_page
from lambdanets.detection.predict import Detections, Tiling, detect
from lambdanets.errors import CheckpointError, PathError, complaint
from lambdanets.files import make_folder, replace_file
from lambdanets.runs.finetune import read_init
from lambdanets.runs.load import load_into, read_weights
from lambdanets.runs.loaded import Origin, Weights
from lambdanets.runs.report import draw_figures, finish_report, run_rows
from lambdanets.runs.tasks import Job
from lambdanets.terminal import pairs, table
from lambdanets.training.config import DetectConfig, ExecConfig
from lambdanets.training.distributed import DistributedContext
from lambdanets.training.objective import Evaluations
from lambdanets.training.run_folder import RunFolder
from lambdanets.training.state import TrainState

# Scores in the order of the report's table: the name behind `box_` and `mask_`, and its heading.
_SCORES: Final = {
    "ap": "AP",
    "ap_50": "AP 50",
    "ap_75": "AP 75",
    "ap_small": "small",
    "ap_medium": "medium",
    "ap_large": "large",
    "ar_1": "AR 1",
    "ar_10": "AR 10",
    "ar_100": "AR 100",
}


def detection_job(config: DetectConfig, task: Task | DetectionTask) -> Job:
    """Put together what the training of a detector needs beside its data set."""
    assert isinstance(task, DetectionTask), "a detector has images with objects"
    weights = config.detector.weights
    return Job(
        train=task.train,
        test=task.test,
        objective=Detection(
            test_file=task.test_file,
            side=config.data.image_size,
            most_objects=task.most_objects,
            masks=config.detector.masks,
        ),
        make_model=functools.partial(
            make_detector,
            config,
            len(task.categories),
            None if weights is None else Path(weights),
        ),
        model_description={"num_classes": len(task.categories), "in_channels": 3},
        description={
            "labels": list(task.labels),
            "categories": [asdict(category) for category in task.categories],
        },
        write_report=functools.partial(_write_report, config=config, task=task),
        data=f"COCO from {config.data.root}",
        test_name=config.data.test_name,
        describe_model=_norm_rows,
        eval_every=config.eval_every,
        fingerprint=lambda: task.fingerprint,
    )


def _norm_rows(model: nn.Module) -> dict[str, str]:
    """Say how many norms of which kind the parts of a detector have."""
    assert isinstance(model, Detector), "the network of this job"
    parts = []
    for part, kinds in norm_counts(model).items():
        parts.append(f"{part} {', '.join(f'{count} {kind}' for kind, count in kinds.items())}")
    return {"norms": " · ".join(parts) or "none"}


def make_detector(config: DetectConfig, num_classes: int, weights: Path | None = None) -> Detector:
    """Build the detector of a config, with random weights.

    Args:
        config: The settings of a run.
        num_classes: Number of categories, without the background.
        weights: A run, one of its checkpoints or a file of weights, with which the backbone starts.
    """
    overrides: dict[str, Any] = config.model.overrides
    backbone = create_backbone(config.model.name, **overrides)
    if weights is not None:
        tensors, _, origin = read_init(str(weights), "detector.weights")
        load_backbone(backbone, tensors, origin.source)
    side = None if config.data.shortest_side else config.data.image_size
    return build_detector(backbone, config.detector, num_classes, side)


def _write_report(
    folder: RunFolder,
    state: TrainState,
    model: nn.Module,
    command: str,
    evaluations: Evaluations,
    *,
    config: DetectConfig,
    task: DetectionTask,
) -> str:
    """Write report.md of a detector; the arguments are those of `report.write_report`."""
    assert isinstance(evaluations.ema, DetectionEvaluation), "the network of this job"
    scores, best = evaluations.ema.scores, state.best or {}
    found = " · ".join(f"{kind} AP {percent(scores.named.get(f'{kind}_ap'))}" for kind in _kinds(scores))
    chosen = " · ".join(f"{kind} AP {percent(best.get(f'{kind}_ap'))}" for kind in _kinds(scores))
    title = f"{config.recipe}: {config.model.name}, {found}"
    results = {
        "precision": f"{found} on {scores.num_images} held-out images, after the last epoch (EMA)",
        "best": f"{chosen}, after epoch {best.get('epoch')}; chosen on the same images, so optimistic",
        **run_rows(config, state, len(task.categories)),
    }
    return finish_report(
        folder,
        state,
        command,
        template="detection_report.md",
        results=results,
        images=draw_figures(folder, model, title, {}),
        num_files=len(task.train),
        config=config,
        evaluator=scores.evaluator,
        headings=("", *_SCORES.values()),
        scores=_score_rows(scores),
        classes=_class_rows(scores),
    )


def _score_rows(scores: DetectionScores) -> list[tuple[str, ...]]:
    """The rows of boxes and masks under the headings of `_SCORES`, in percent."""
    return [
        (kind, *(percent(scores.named.get(f"{kind}_{name}")) for name in _SCORES)) for kind in _kinds(scores)
    ]


def _class_rows(scores: DetectionScores) -> list[tuple[str, ...]]:
    """The objects and the average precision of each class, in percent."""
    return [
        (
            one.name,
            str(one.num_objects),
            *(percent(one.scores.get(f"{kind}_ap")) for kind in ("box", "mask")),
        )
        for one in scores.classes
    ]


def percent(value: float | None) -> str:
    """A fraction in percent; a dash where there is no object."""
    return "–" if value is None else f"{100 * value:.1f}"


def _kinds(scores: DetectionScores) -> tuple[str, ...]:
    return ("box",) if scores.mask is None else ("box", "mask")


def _size_row(one: SizeBin) -> tuple[str, ...]:
    objects = str(one.num_objects)
    return f"{one.low:.1f} to {one.high:.1f}", objects, percent(one.box_ap), percent(one.mask_ap)


@dataclass(frozen=True, kw_only=True)
class LoadedDetector:
    """A trained detector with all that is needed to use it.

    Attributes:
        model: The detector, in evaluation mode, on the CPU.
        categories: The categories of its labels 1, 2, …, with the ids of the file it was trained on.
        config: The settings of its run, with how images are resized.
        origin: Where its weights came from.
    """

    model: Detector
    categories: tuple[Category, ...]
    config: DetectConfig
    origin: Origin

    def detect(
        self, image: str | Path, *, min_score: float = 0.5, tiling: Tiling | None = None
    ) -> Detections:
        """Find the objects of an image file, in pixels of the upright image.

        Args:
            image: The file.
            min_score: Least score.
            tiling: Look at overlapping parts too, for small objects of large images.

        Raises:
            PathError: There is no such file.
            DataError: It cannot be read.
        """
        path = Path(image)
        if not path.is_file():
            raise PathError(f"detect: image must be a file, got {path}, which does not exist.")
        with complaint("detect"):
            pixels = decode(read_file(os.fsencode(path), str(path)), str(path))
        return detect(self.model, pixels, self.config.data, min_score=min_score, tiling=tiling)


def load_detector(path: str | Path, weights: Weights = "best") -> LoadedDetector:
    """Load the detector of a run.

    Args:
        path: A run folder.
        weights: As for `load_run`.

    Raises:
        PathError: There is no run, or it has not stored such weights yet.
        ArgumentError: It is the run of a classifier.
        CheckpointError: The weights are damaged, or of another detector.

    Example:
        ::

            loaded = lambdanets.load_detector("runs/scenes-demo")
            found = loaded.detect("scene.png")
            print([loaded.categories[label - 1].name for label in found.labels])
    """
    path = Path(path)
    config = RunFolder.existing(path).read_config(DetectConfig)
    tensors, described, origin = read_weights(path, weights)
    try:
        categories = tuple(Category(**category) for category in described["categories"])
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"load_detector: {origin.source} must name its categories, got '{error}'."
        ) from error
    model = make_detector(config, len(categories))
    load_into(model, tensors, origin)
    return LoadedDetector(model=model.eval(), categories=categories, config=config, origin=origin)


@dataclass(frozen=True, kw_only=True)
class DetectorEvaluation:
    """The evaluation of the detector of a run.

    Attributes:
        run: The run folder.
        loaded: The detector.
        file: The objects of the test images.
        evaluation: Scores, losses and detections.
        seconds: Duration of the pass.
    """

    run: Path
    loaded: LoadedDetector
    file: CocoFile
    evaluation: DetectionEvaluation
    seconds: float

    @functools.cached_property
    def errors(self) -> ErrorSplit:
        """The wrong detections by kind, and the missed objects."""
        return split_errors(self.file, self.evaluation.results)

    @functools.cached_property
    def sizes(self) -> list[SizeBin]:
        """Average precision by the size of the objects."""
        return size_bins(self.file, self.evaluation.results, masks=self.evaluation.scores.mask is not None)

    @functools.cached_property
    def intervals(self) -> dict[str, Interval]:
        """What other images of the same kind may give: `box_ap` and, with masks, `mask_ap`."""
        masks = self.evaluation.scores.mask is not None
        resampled = resample(self.file, self.evaluation.results, masks=masks)
        return {f"{kind}_ap": resampled.interval(f"{kind}_ap") for kind in _kinds(self.evaluation.scores)}

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        origin = self.loaded.origin
        return {
            "run": str(self.run),
            "weights": origin.source,
            "step": origin.step,
            "annotations": str(self.file.path),
            "loss": self.evaluation.loss,
            **self.evaluation.losses,
            **self.evaluation.scores.to_dict(),
            "intervals": {name: interval.to_dict() for name, interval in self.intervals.items()},
            "errors": self.errors.to_dict(),
            "sizes": [one.to_dict() for one in self.sizes],
            "seconds": self.seconds,
        }

    def lines(self) -> list[str]:
        """What a terminal shows."""
        scores, origin = self.evaluation.scores, self.loaded.origin
        after = f"epoch {origin.epoch}" if origin.epoch is not None else f"step {origin.step}"
        losses = " + ".join(f"{value:.4f}" for value in self.evaluation.losses.values())
        rows = {
            "weights": f"{origin.source}, after {after}",
            "images": f"{scores.num_images} of {scores.of_images} in {self.file.path}",
            "loss": f"{self.evaluation.loss:.4f} = {losses}",
            "speed": f"{scores.num_images / self.seconds:,.1f} images/s, with their losses",
            **{
                f"{name.removesuffix('_ap')} AP": f"{percent(one.value)} %, from {percent(one.low)} to"
                f" {percent(one.high)} on 95 % of images drawn again"
                for name, one in self.intervals.items()
            },
        }
        return [
            f"{self.run}: {self.loaded.config.recipe}, {self.loaded.config.model.name}",
            pairs(rows),
            "",
            table(("%", *_SCORES.values()), _score_rows(scores)),
            "",
            table(("class", "objects", "box AP", "mask AP"), _class_rows(scores)),
            "",
            table(("size in pixels", "objects", "box AP", "mask AP"), [_size_row(one) for one in self.sizes]),
            "",
            table(
                ("wrong detections", "number", "costs of box AP 50"),
                [
                    (kind, f"{number:,}", percent(self.errors.costs[kind]))
                    for kind, number in self.errors.counts.items()
                ],
            ),
        ]

    def write(self, folder: Path) -> list[Path]:
        """Write results.json, as COCO's tools read it, scores.json and detections.html; give their names."""
        results, scores = folder / "results.json", folder / "scores.json"
        make_folder(folder, "detect eval", "Use another --out.")
        write_results(results, self.evaluation.results)
        replace_file(scores, (json.dumps(self.to_dict(), indent=2) + "\n").encode(), "detect eval")
        config, scores_by_name = self.loaded.config, self.evaluation.scores.named
        write_page(
            folder / "detections.html",
            self.file,
            self.evaluation.results,
            title=f"{self.run.name}: {config.model.name} of {config.recipe}",
            scores={
                f"{kind} {heading}": scores_by_name.get(f"{kind}_{name}")
                for kind in _kinds(self.evaluation.scores)
                for name, heading in _SCORES.items()
                if name.startswith("ap")
            },
        )
        return [results, scores, folder / "detections.html"]


def evaluate_detector(
    run: Path,
    *,
    weights: Weights,
    evaluator: Evaluator,
    root: Path | None,
    execution: ExecConfig,
    ctx: DistributedContext,
) -> DetectorEvaluation:
    """Evaluate the detector of a run on its test images; every process must call it.

    Args:
        run: The run folder.
        weights: Which of its weights.
        evaluator: The library that scores.
        root: The folder of the data set, where it is not that of the training.
        execution: Device, precision and workers.
        ctx: This process among others, and its device.

    Raises:
        DataError: An image cannot be read, or the categories are not those of the training.
    """

    def load() -> tuple[LoadedDetector, TestData, CocoFile]:
        loaded = load_detector(run, weights)
        data, masks = loaded.config.data, loaded.config.detector.masks
        if root is not None:
            data = replace(data, root=str(root))
        test, file = load_test(data, loaded.categories, str(run), masks=masks)
        return loaded if root is not None else _told_of_changes(run, loaded, file), test, file

    loaded, test, file = ctx.agree(load, "detect eval: every process must load the run")
    started = time.perf_counter()
    evaluation = evaluate_detections(
        loaded.model.to(ctx.device),
        test,
        file,
        execution,
        ctx,
        masks=loaded.config.detector.masks,
        evaluator=evaluator,
    )
    seconds = time.perf_counter() - started
    return DetectorEvaluation(run=run, loaded=loaded, file=file, evaluation=evaluation, seconds=seconds)


def _told_of_changes(run: Path, loaded: LoadedDetector, file: CocoFile) -> LoadedDetector:
    """Add a warning where the test images are others than those that the weights were judged by."""
    made = loaded.origin.fingerprint
    changes = changes_of_test(made["data"], file) if made else ""
    if not changes:
        return loaded
    told = f"{run}: the test images are others than in training: {changes}"
    return replace(loaded, origin=replace(loaded.origin, warnings=(*loaded.origin.warnings, told)))
