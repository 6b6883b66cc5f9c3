"""From a config to its data set, and to the job of training on it."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from torch import nn

from lambdanets.data.config import DataConfig, FilesConfig, switched
from lambdanets.data.differences import part_changes
from lambdanets.data.fingerprint import fingerprint_part, fingerprint_task
from lambdanets.data.layout import check_classes
from lambdanets.data.pseudo import MANIFEST, MixedTraining, PseudoLabels
from lambdanets.data.task import Task, TestData, TrainingData, WholeTest
from lambdanets.data.transforms import mix
from lambdanets.errors import ArgumentError, DataError
from lambdanets.models import create_model
from lambdanets.runs.fingerprint import stored_fingerprint
from lambdanets.runs.report import write_report
from lambdanets.terminal import count
from lambdanets.text import shell_words
from lambdanets.training.config import DetectConfig, ModelConfig, RunConfig, TrainConfig
from lambdanets.training.objective import Classification, Objective

if TYPE_CHECKING:
    from lambdanets.detection.data import DetectionTask


def make_model(config: ModelConfig, task: Task) -> nn.Module:
    """The network of a config for the images and labels of a data set."""
    return create_model(
        config.name, num_classes=len(task.labels), in_channels=task.in_channels, **config.overrides
    )


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is trained, whatever the task.

    Attributes:
        train: The images to train with.
        test: The images to test with.
        objective: What is minimised, and how the network is judged.
        make_model: Makes the network, from the global generator of random numbers.
        model_description: What describes the network beside its name and overrides.
        description: What else the file of the best weights says.
        write_report: Writes the report of a finished run, of its folder, state, EMA model, command line and
            evaluations; returns the closing lines for the terminal.
        data: The name of the data set.
        test_name: What the images to test with are called: `test` or `validation`.
        eval_every: Epochs from one evaluation to the next.
        describe_model: Gives further rows of the lines at the start of a run.
        fingerprint: Describes the data, as `fingerprint_task` does.
    """

    train: TrainingData
    test: TestData
    objective: Objective
    make_model: Callable[[], nn.Module]
    model_description: Mapping[str, Any]
    description: Mapping[str, Any]
    write_report: Callable[..., str]
    data: str
    test_name: str = "test"
    eval_every: int = 1
    describe_model: Callable[[nn.Module], dict[str, str]] = lambda model: {}
    fingerprint: Callable[[], dict[str, Any]]


def make_job(config: RunConfig, task: "Task | DetectionTask") -> Job:
    """Put together what the training of a config needs beside its data set."""
    if isinstance(config, DetectConfig):
        from lambdanets.runs.detect import detection_job

        return detection_job(config, task)
    assert isinstance(config, TrainConfig) and isinstance(task, Task), "a classifier has classified images"
    check_classes(getattr(config.data, "root", "") or config.data.name, task.labels)
    mixup, cutmix = config.augment.mixup, config.augment.cutmix
    blend = functools.partial(mix, num_classes=len(task.labels), mixup=mixup, cutmix=cutmix)
    return Job(
        train=task.train,
        test=_whole_test(config, task),
        objective=Classification(
            num_classes=len(task.labels),
            label_smoothing=config.label_smoothing,
            prepare=task.prepare,
            mix=blend if mixup or cutmix else None,
        ),
        make_model=functools.partial(make_model, config.model, task),
        model_description={"num_classes": len(task.labels), "in_channels": task.in_channels},
        description={
            "labels": list(task.labels),
            "preprocessing": task.preprocessing and task.preprocessing.to_dict(),
        },
        write_report=functools.partial(write_report, config=config, task=task),
        data=config.data.name,
        test_name=task.test_name,
        fingerprint=functools.partial(fingerprint_task, task),
    )


def _whole_test(config: TrainConfig, task: Task) -> TestData:
    """The test images of a training: with files among them, one that cannot be read ends it."""
    data = config.data
    if not isinstance(data, FilesConfig):
        return task.test
    kind = "" if data.name == "folder" else f" --kind {data.name}"
    return WholeTest(
        task.test,
        f"It is one of the {task.test_name} images, all of which must be readable: repair or remove it."
        f" lambdanets data check {shell_words(data.root)}{kind} --decode names all such files; then type the"
        " same command again.",
    )


@overload
def load_task(config: TrainConfig) -> Task: ...
@overload
def load_task(config: RunConfig) -> "Task | DetectionTask": ...
def load_task(config: RunConfig) -> "Task | DetectionTask":
    """Load the data set of a config, and beside it the images that a teacher labelled, if it names any."""
    if isinstance(config, DetectConfig):
        from lambdanets.detection.data import load

        return load(
            config.data,
            config.augment,
            seed=config.seed,
            masks=config.detector.masks,
            max_unreadable=config.faults.max_unreadable_in_a_row,
        )
    assert isinstance(config, TrainConfig), "a run trains a classifier or a detector"
    task = _load(config.data, config)
    if not config.pseudo.labels:
        return task
    pseudo = PseudoLabels.open(Path(config.pseudo.labels))
    labelled = pseudo.data
    if labelled.augmented != config.data.augmented:
        raise ArgumentError(
            f"load_task: pseudo.labels must be of images that can be shown as those of {config.data.name},"
            f" got labels of {labelled.name}."
        )
    known = task.labels if pseudo.labels is None else pseudo.labels
    if known != task.labels or pseudo.num_classes != len(task.labels):
        theirs = count(pseudo.num_classes, "class") if pseudo.labels is None else ", ".join(pseudo.labels)
        raise ArgumentError(
            f"load_task: pseudo.labels must be of the classes {', '.join(task.labels)}, got {theirs}."
        )
    seed = pseudo.settings["seed"]
    if labelled.seeded and seed != config.seed:
        raise ArgumentError(
            f"load_task: pseudo.labels must be of seed {config.seed}, got those of seed {seed}: it decides"
            " which images are unlabelled."
        )
    images = _load(switched(config.data, **labelled.selection), config)
    unlabelled = images.unlabelled
    assert unlabelled is not None, "what was labelled can be labelled"
    _check_labelled(pseudo, unlabelled.shown, images.labels)
    mixed = MixedTraining(
        labelled=task.train,
        unlabelled=unlabelled.shown,
        pseudo=pseudo,
        ratio=config.pseudo.ratio,
        seed=config.seed,
    )
    return replace(task, train=mixed)


def _check_labelled(pseudo: PseudoLabels, shown: TrainingData, labels: tuple[str, ...]) -> None:
    """Raise unless the images are those that were labelled, in their order: labels go by number."""
    made = stored_fingerprint({"fingerprint": pseudo.images}, pseudo.path / MANIFEST, DataError)
    if made is None:
        return
    changes = part_changes(
        (made["data"]["train"], made["data"]["classes"]), (fingerprint_part(shown, len(labels)), labels)
    )
    if changes:
        raise DataError(
            f"load_task: pseudo.labels must be of the images that are there now, got {pseudo.path}, old ->"
            f" new: {changes}. Label again, into another folder."
        )


def _load(data: DataConfig, config: TrainConfig) -> Task:
    return data.load(
        seed=config.seed, augment=config.augment, max_unreadable=config.faults.max_unreadable_in_a_row
    )
