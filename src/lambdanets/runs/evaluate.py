"""Evaluation of a run's network on its test images, as one job."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, get_args

from jaxtyping import Int
from torch import Tensor

from lambdanets.data.readable import ReadableTest
from lambdanets.data.real_labels import read_real_labels
from lambdanets.data.task import Task, TestData
from lambdanets.errors import DataError, check_choice, require
from lambdanets.runs.class_report import LARGEST_MATRIX, ClassCount, class_counts
from lambdanets.runs.load import LoadedModel, Origin, Weights, load_run
from lambdanets.runs.tasks import load_task
from lambdanets.training.config import TrainConfig
from lambdanets.training.distributed import DistributedContext, autocast_dtype, select_device
from lambdanets.training.loader import TEST_BATCH, test_batches
from lambdanets.training.metrics import Evaluation, evaluate
from lambdanets.training.run_folder import RunFolder

DEVICES: Final = ("auto", "cpu", "cuda")


@dataclass(frozen=True, kw_only=True)
class EvalSettings:
    """How runs are evaluated.

    Attributes:
        weights: Of the best epoch, or of the last checkpoint: the moving average, or the network itself.
        size: Side of the test images in the place of the run's; for data sets whose images have any.
        real: A file with the sets of labels of the test images.
        skip_bad: Leave out images that cannot be read, in the place of an error at the first.
        batch: Images at a time.
        num_workers: Processes that read images, beside this one.
        device: cpu, cuda, or auto: cuda where there is one.
    """

    weights: Weights = "best"
    size: int | None = None
    real: Path | None = None
    skip_bad: bool = False
    batch: int = TEST_BATCH
    num_workers: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def __post_init__(self) -> None:
        check_choice("eval", "weights", self.weights, get_args(Weights))
        check_choice("eval", "device", self.device, DEVICES)
        require(self, "batch", self.batch >= 1, "be at least 1")
        require(self, "num_workers", self.num_workers >= 0, "be at least 0")


_DEFAULT: Final = EvalSettings()


@dataclass(frozen=True, kw_only=True)
class RunEvaluation:
    """What a network of a run makes of the test images.

    Attributes:
        run: The run folder.
        evaluation: The counts.
        labels: The name of each class.
        config: The settings of the run.
        weights: Weights network: `best`, `ema` or `raw`.
        file: Where its weights are, below the run folder.
        epoch: How many epochs it was trained; none within one.
        step: How many steps it was trained.
        image_size: Height and width of what the network was given.
        device: What it computed on.
        seconds: Time that the pass took.
    """

    run: Path
    evaluation: Evaluation
    labels: tuple[str, ...]
    config: TrainConfig
    origin: Origin
    image_size: tuple[int, int] | None
    device: str
    seconds: float

    @property
    def images_per_s(self) -> float:
        """Speed with reading, over all processes."""
        return (self.evaluation.total + self.evaluation.left_out) / self.seconds

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON. The matrix is left out for many classes: `taken_for` says the same."""
        evaluation = self.evaluation
        return {
            "run": str(self.run),
            "recipe": self.config.recipe,
            "model": self.config.model.name,
            "weights": self.origin.weights,
            "epoch": self.origin.epoch,
            "step": self.origin.step,
            "image_size": self.image_size,
            "accuracy": evaluation.accuracy,
            "correct": evaluation.correct,
            "total": evaluation.total,
            "top5_accuracy": evaluation.top5_accuracy,
            "top5_correct": evaluation.top5_correct,
            "real_accuracy": evaluation.real_accuracy,
            "real_correct": evaluation.real_correct,
            "real_total": evaluation.real_total,
            "loss": evaluation.loss,
            "left_out": evaluation.left_out,
            "unreadable": list(evaluation.unreadable),
            "device": self.device,
            "images_per_s": self.images_per_s,
            "classes": [count.to_dict() for count in self.per_class()],
            "confusion": evaluation.confusion.tolist() if len(self.labels) <= LARGEST_MATRIX else None,
        }

    def per_class(self) -> list[ClassCount]:
        """For each class how many there are, how many are found, and what is most often taken for what."""
        return class_counts(self.evaluation.confusion, self.labels)


def evaluate_run(
    run: Path,
    settings: EvalSettings = _DEFAULT,
    *,
    ctx: DistributedContext | None = None,
) -> RunEvaluation:
    """Evaluate a network of a run on its test images.

    Args:
        run: A run folder.
        settings: Which of its networks, and how.
        ctx: This process and its device; none: this process alone, on the device of the settings.

    Raises:
        PathError: There is no run, or it has not evaluated or stored anything yet.
        ArgumentError: The data set's images have one size, and another was asked for.
        CheckpointError: The weights are damaged.
        DataError: An image cannot be read, or the images are not those of the training.
    """
    context = ctx or DistributedContext(device=select_device("eval", settings.device))
    subject = context.agree(lambda: _subject(run, settings, context), "eval: every process must load the run")
    task, loaded = subject.task, subject.loaded
    sizes: list[tuple[int, int]] = []

    def prepare(images: Tensor) -> Tensor:
        prepared = task.prepare(images)
        sizes[:] = [(prepared.shape[-2], prepared.shape[-1])]
        return prepared

    data = ReadableTest(task.test) if settings.skip_bad else task.test
    started = time.perf_counter()
    evaluation = evaluate(
        loaded.model.to(context.device).eval(),
        test_batches(data, settings.batch, ctx=context, num_workers=settings.num_workers),
        len(task.labels),
        prepare=prepare,
        precision=autocast_dtype(subject.config.exec.precision, context.device),
        ctx=context,
        real=subject.real,
    ).require_whole(len(data))
    return RunEvaluation(
        run=run,
        evaluation=evaluation,
        labels=task.labels,
        config=subject.config,
        origin=loaded.origin,
        image_size=sizes[0] if sizes else None,
        device=str(context.device),
        seconds=time.perf_counter() - started,
    )


@dataclass(frozen=True, kw_only=True)
class _Subject:
    """All that an evaluation needs."""

    config: TrainConfig
    task: Task
    loaded: LoadedModel
    real: Tensor | None


def _subject(run: Path, settings: EvalSettings, ctx: DistributedContext) -> _Subject:
    loaded = load_run(run, settings.weights)
    config = RunFolder.existing(run).read_config()
    if settings.size is not None:
        config = replace(config, data=config.data.resized(settings.size))
    task = load_task(config)
    _require_classes(loaded.labels, task.labels, run)
    return _Subject(
        config=config,
        task=task,
        loaded=loaded,
        real=_real_labels(settings.real, task, ctx),
    )


def _require_classes(trained: tuple[str, ...] | None, tested: tuple[str, ...], run: Path) -> None:
    if trained is None or trained == tested:
        return
    differing = sorted({*trained} ^ {*tested})
    difference = f"without or beside {', '.join(differing[:3])}" if differing else "in another order"
    raise DataError(
        f"eval: the test images must have the {len(trained)} classes that {run} was trained on, got"
        f" {len(tested)}, {difference}."
    )


def _real_labels(path: Path | None, task: Task, ctx: DistributedContext) -> Int[Tensor, "n most"] | None:
    if path is None:
        return None
    return read_real_labels(path, _names(task.test), len(task.labels))[ctx.rank :: ctx.size]


def _names(test: TestData) -> list[str]:
    """Where each test image is; images that are made here are known by their number."""
    source = getattr(test, "source", None)
    width = len(str(len(test)))
    return [source.name(index) if source else f"{index:0{width}d}" for index in range(len(test))]
