"""Evaluation of a run's network on its test images."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from lambdanets.data.config import FilesConfig, FolderConfig
from lambdanets.data.decode import decode
from lambdanets.data.differences import part_changes
from lambdanets.data.fingerprint import fingerprint_part
from lambdanets.data.images import ImageTest
from lambdanets.data.layout import folders_in, listed
from lambdanets.data.preprocessing import Preprocessing
from lambdanets.data.real_labels import read_real_labels
from lambdanets.data.sources import Source
from lambdanets.data.task import Batch, ReadableTest, Task, TestData, identity
from lambdanets.errors import DataError, did_you_mean
from lambdanets.ranges import Count, Side, Workers, check_settings
from lambdanets.runs.class_report import LARGEST_MATRIX, ClassCount, class_counts
from lambdanets.runs.load import load_run
from lambdanets.runs.loaded import LoadedModel, Origin, Weights
from lambdanets.runs.other_data import OtherData, check_there, describe_place
from lambdanets.runs.tasks import load_task
from lambdanets.text import printable
from lambdanets.training.config import TrainConfig
from lambdanets.training.distributed import DistributedContext, autocast_dtype, select_device
from lambdanets.training.loader import TEST_BATCH, test_batches
from lambdanets.training.metrics import Evaluation, evaluate
from lambdanets.training.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class EvalSettings:
    """How runs are evaluated.

    Attributes:
        weights: Which weights of a run, as in `load_run`.
        data: Other images than those of the training.
        size: Side of the test images instead of the run's; for data sets whose images have any size.
        real: A file with the sets of labels of the test images (ReaL).
        skip_bad: Leave unreadable images out, instead of an error at the first.
        batch: Images at a time.
        num_workers: Processes that read images, beside this one.
        device: cpu, cuda, or auto: cuda where there is one.
    """

    weights: Weights = "best"
    data: OtherData = field(default_factory=OtherData)
    size: Side | None = None
    real: Path | None = None
    skip_bad: bool = False
    batch: Count = TEST_BATCH
    num_workers: Workers = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def __post_init__(self) -> None:
        check_settings(self)


_DEFAULT: Final = EvalSettings()


@dataclass(frozen=True, kw_only=True)
class RunEvaluation:
    """The evaluation of a run.

    Attributes:
        run: The run folder.
        evaluation: The counts.
        labels: The name of each class.
        config: The settings of the run.
        origin: Which weights were evaluated, and how far they were trained.
        data: Where the images are.
        test_name: What they are called: test or validation.
        is_other: Whether they are others than the training's.
        image_size: Height and width of the network's inputs.
        device: Where the network ran.
        seconds: Duration of the pass.
    """

    run: Path
    evaluation: Evaluation
    labels: tuple[str, ...]
    config: TrainConfig
    origin: Origin
    data: str
    test_name: str
    is_other: bool
    image_size: tuple[int, int] | None
    device: str
    seconds: float

    @property
    def images_per_s(self) -> float:
        """Speed with reading, over all processes."""
        return (self.evaluation.total + self.evaluation.left_out) / self.seconds

    def per_class(self) -> list[ClassCount]:
        """The counts by class."""
        return class_counts(self.evaluation.confusion, self.labels)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON. The matrix is left out for many classes: `taken_for` holds the same."""
        evaluation = self.evaluation
        return {
            "run": str(self.run),
            "recipe": self.config.recipe,
            "model": self.config.model.name,
            "weights": self.origin.weights,
            "epoch": self.origin.epoch,
            "step": self.origin.step,
            "is_ema": self.origin.is_ema,
            "data": self.data,
            "test_name": self.test_name,
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


def evaluate_run(
    run: Path, settings: EvalSettings = _DEFAULT, *, ctx: DistributedContext | None = None
) -> RunEvaluation:
    """Evaluate a network of a run on its test images.

    Args:
        run: A run folder.
        settings: Which of its weights, and how.
        ctx: This process among others, and its device; None: this one alone, on the device of the settings.

    Raises:
        PathError: There is no run, or it has not evaluated or stored anything yet.
        ArgumentError: The data set's images have one size, and `size` is another.
        CheckpointError: The weights are damaged.
        DataError: An image cannot be read, or the images are not those of the training.
    """
    context = ctx or DistributedContext(device=select_device("eval", settings.device))
    config, task, loaded, real = context.agree(
        lambda: _load(run, settings, context), "eval: every process must load the run"
    )
    image_size: tuple[int, int] | None = None

    def prepare(images: Tensor) -> Tensor:
        nonlocal image_size
        prepared = task.prepare(images)
        image_size = (prepared.shape[-2], prepared.shape[-1])
        return prepared

    data = ReadableTest(task.test) if settings.skip_bad else task.test
    started = time.perf_counter()
    evaluation = evaluate(
        loaded.model.to(context.device),
        test_batches(data, settings.batch, ctx=context, num_workers=settings.num_workers),
        len(task.labels),
        prepare=prepare,
        precision=autocast_dtype(config.exec.precision, context.device),
        ctx=context,
        real=real,
    ).require_whole(len(data))
    return RunEvaluation(
        run=run,
        evaluation=evaluation,
        labels=task.labels,
        config=config,
        origin=replace(loaded.origin, warnings=(*loaded.origin.warnings, *task.warnings)),
        data=task.place,
        test_name=task.test_name,
        is_other=settings.data.is_given,
        image_size=image_size,
        device=str(context.device),
        seconds=time.perf_counter() - started,
    )


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """The images that a run is judged by: what `Task` holds of them, where they are, what is odd."""

    test: TestData
    labels: tuple[str, ...]
    prepare: Callable[[Tensor], Tensor]
    test_name: str
    place: str
    warnings: tuple[str, ...] = ()


def _load(
    run: Path, settings: EvalSettings, ctx: DistributedContext
) -> tuple[TrainConfig, _Judged, LoadedModel, Int[Tensor, "n most"] | None]:
    """Load all that an evaluation needs; of the sets of labels, those of this process's images."""
    loaded = load_run(run, settings.weights)
    config = RunFolder.existing(run).read_config(TrainConfig)
    if settings.data.is_given:
        judged = _other_images(run, config, loaded, settings)
    else:
        judged = _own_images(run, config, loaded, settings)
    if settings.real is None:
        return config, judged, loaded, None
    # Images that are drawn go by their number.
    source, width = getattr(judged.test, "source", None), len(str(len(judged.test)))
    names = [source.name(i) if source else f"{i:0{width}d}" for i in range(len(judged.test))]
    real = read_real_labels(settings.real, names, len(judged.labels))
    return config, judged, loaded, real[ctx.rank :: ctx.size]


def _own_images(run: Path, config: TrainConfig, loaded: LoadedModel, settings: EvalSettings) -> _Judged:
    """The images that training judged the run by."""
    check_there(run, config.data)
    if settings.size is not None:
        config = replace(config, data=config.data.resized(settings.size))
    task = load_task(config)
    if loaded.labels is not None and loaded.labels != task.labels:
        differing = sorted({*loaded.labels} ^ {*task.labels})
        difference = f"without or beside {', '.join(differing[:3])}" if differing else "in another order"
        raise DataError(
            f"eval: the test images must have the {len(loaded.labels)} classes that {run} was trained on, got"
            f" {len(task.labels)}, {difference}. --data.root evaluates other images, by the names of classes."
        )
    return _Judged(
        test=task.test,
        labels=task.labels,
        prepare=task.prepare,
        test_name=task.test_name,
        place=describe_place(config.data),
        warnings=_other_than_in_training(run, task, loaded),
    )


def _other_than_in_training(run: Path, task: Task, loaded: LoadedModel) -> tuple[str, ...]:
    """Say where the images are others than those that the weights were judged by."""
    made = loaded.origin.fingerprint
    if made is None:
        return ()
    now = fingerprint_part(task.test, len(task.labels))
    changes = part_changes((made["data"]["test"], made["data"]["classes"]), (now, task.labels))
    return (f"{run}: the test images are others than in training: {changes}",) if changes else ()


def _other_images(run: Path, config: TrainConfig, loaded: LoadedModel, settings: EvalSettings) -> _Judged:
    """Other images, in the classes of the run."""
    preprocessing = loaded.preprocess
    if loaded.labels is None:
        raise DataError(f"eval: {loaded.origin.source} must name the classes of other data, got no names.")
    if settings.size is not None:
        if preprocessing.foreground is not None:
            config.data.resized(settings.size)
        preprocessing = preprocessing.resized(settings.size)
    data = settings.data.settings(run, config.data)
    place = describe_place(data)
    source = _in_classes_of(run, loaded.labels, _open(data, loaded.labels), place)
    is_plain = preprocessing.foreground is None and preprocessing.channels == 3
    return _Judged(
        test=(ImageTest if is_plain else _PreparedTest)(source=source, preprocessing=preprocessing),
        labels=loaded.labels,
        prepare=preprocessing.normalize if is_plain else identity,
        test_name=data.test_name,
        place=place,
    )


def _open(data: FilesConfig, labels: tuple[str, ...]) -> Source:
    if data.holdout:
        return data.open_parts()[1]
    folders = folders_in(Path(data.root) / data.test)
    has_classes = isinstance(data, FolderConfig) and data.test_labels is None
    # Where all classes are known, some of them may have no images.
    are_known = has_classes and {*map(printable, folders)} <= {*labels}
    return data.open_test(labels if are_known else None)


def _in_classes_of(run: Path, labels: tuple[str, ...], source: Source, place: str) -> Source:
    """Number the classes of a source as those of the run with the same names."""
    numbers = {label: number for number, label in enumerate(labels)}
    used = [source.labels[index] for index in source.targets.unique().tolist()]
    unknown = [label for label in used if label not in numbers]
    if unknown:
        raise DataError(
            f"eval: {place} must hold classes of {run} alone, got {listed(unknown)}. The classes of the run"
            f" are {listed(labels)}.{did_you_mean(unknown[0], labels)} Rename them, or name another part:"
            " --data.test PART"
        )
    places = torch.tensor([numbers.get(label, -1) for label in source.labels])
    return _Numbered(source=source, labels=labels, targets=places[source.targets])


@dataclass(frozen=True, eq=False, kw_only=True)
class _Numbered:
    """A source with the classes of a run."""

    source: Source
    labels: tuple[str, ...]
    targets: Int[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.source)

    def name(self, index: int) -> str:
        return self.source.name(index)

    def relative_name(self, index: int) -> bytes:
        return self.source.relative_name(index)

    def read(self, index: int) -> bytes:
        return self.source.read(index)


@dataclass(frozen=True, kw_only=True)
class _PreparedTest:
    """Images from files as a network takes them whose preprocessing does more than to crop."""

    source: Source
    preprocessing: Preprocessing

    def __len__(self) -> int:
        return len(self.source)

    def batch(self, indices: Int[Tensor, " b"]) -> Batch:
        images = [self._read(index) for index in indices.tolist()]
        return Batch(torch.stack(images), self.source.targets[indices])

    def _read(self, index: int) -> Tensor:
        name = self.source.name(index)
        image = decode(self.source.read(index), name, background=self.preprocessing.background)
        return self.preprocessing.apply(image, name)[0]
