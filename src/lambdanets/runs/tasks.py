"""What a config's data set stands for: training images, test images, labels, preprocessing."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from jaxtyping import Int
from torch import Tensor, nn

from lambdanets.data import digit_images, digits, pathfinder, relation
from lambdanets.data.batches import TestData, TrainingData
from lambdanets.data.digit_images import DigitImagePreprocessing, DigitSource
from lambdanets.data.digits import AugmentedDigits, Digits, load_digits
from lambdanets.data.images import ImageTest, ImageTraining
from lambdanets.data.ink import InkPreprocessing
from lambdanets.data.mixed import MixedTraining
from lambdanets.data.place import DataPlace
from lambdanets.data.preprocessing import CropPreprocessing, Preprocessing
from lambdanets.data.pseudo import PseudoLabels
from lambdanets.data.semi import load_semi
from lambdanets.data.sources import Source, Subset, holdout_split
from lambdanets.data.transforms import Normalization, TestTransform, TrainTransform
from lambdanets.errors import ArgumentError
from lambdanets.models import create_model
from lambdanets.training.config import TrainConfig
from lambdanets.training.settings import DataConfig, ModelConfig, PseudoConfig

# Of the settings of data, those that say which images there are. The others say how they are shown.
WHICH: Final = ("name", "root", "train", "train_labels", "holdout")


def as_they_are(images: Tensor) -> Tensor:
    """The images themselves: they come as the network takes them."""
    return images


@dataclass(frozen=True, kw_only=True)
class Unlabelled:
    """Images that a teacher may label.

    Attributes:
        shown: As training shows them to a student.
        clean: As the teacher sees them.
        labels: The name of each class of `targets`.
        targets: Their true classes, which count a teacher's mistakes and nothing else; None: not known.
    """

    shown: TrainingData
    clean: TestData
    labels: tuple[str, ...] = ()
    targets: Int[Tensor, " n"] | None = None


@dataclass(frozen=True, kw_only=True)
class Task:
    """Images to learn from, images to judge by, and what a foreign image must become.

    Attributes:
        train: As training shows them.
        test: As they are stored.
        labels: The name of each class.
        in_channels: Channels of an image.
        preprocessing: For files from outside; None where there can be none.
        prepare: From images of either to what the network takes, on its device.
        unlabelled: Images for pseudo-labels; None where the data set has none.
    """

    train: TrainingData
    test: TestData
    labels: tuple[str, ...]
    in_channels: int
    preprocessing: Preprocessing | None
    prepare: Callable[[Tensor], Tensor] = as_they_are
    unlabelled: Unlabelled | None = None

    def make_model(self, config: ModelConfig) -> nn.Module:
        """The network for these images and labels."""
        return create_model(
            config.name, num_classes=len(self.labels), in_channels=self.in_channels, **config.overrides
        )


def load_task(config: TrainConfig) -> Task:
    """Load the data set of a config, and beside it the images that a teacher labelled, if it names any.

    Raises:
        ArgumentError: The labels are of other classes, or of another seed's images.
        DataError: The labels are damaged, or the images are others now.
        PathError: There are no finished labels.
    """
    task = _LOADERS[config.data.name](config)
    return _with_pseudo_labels(task, config, Path(config.pseudo.labels)) if config.pseudo.labels else task


def _with_pseudo_labels(task: Task, config: TrainConfig, folder: Path) -> Task:
    pseudo = PseudoLabels.open(folder)
    data = _with_images_of(config.data, pseudo.settings["data"])
    known = pseudo.labels if pseudo.labels is not None else task.labels
    if known != task.labels or pseudo.num_classes != len(task.labels):
        theirs = ", ".join(pseudo.labels) if pseudo.labels is not None else f"{pseudo.num_classes} classes"
        raise ArgumentError(
            f"load_task: pseudo.labels must be of the classes {', '.join(task.labels)}, got {theirs}."
        )
    seed = pseudo.settings["seed"]
    if (data.name == "semi" or data.holdout) and seed != config.seed:
        raise ArgumentError(
            f"load_task: pseudo.labels must be of seed {config.seed}, got those of seed {seed}: it decides"
            " which images are unlabelled."
        )
    unlabelled = _LOADERS[data.name](replace(config, data=data, pseudo=PseudoConfig())).unlabelled
    assert unlabelled is not None, "what was labelled can be labelled"
    mixed = MixedTraining(
        labelled=task.train,
        unlabelled=unlabelled.shown,
        pseudo=pseudo,
        ratio=config.pseudo.ratio,
        seed=config.seed,
    )
    return replace(task, train=mixed)


def _with_images_of(own: DataConfig, labelled: dict[str, Any]) -> DataConfig:
    """The data set that labels were given to, shown as a run's own images are."""
    try:
        return replace(own, **{name: labelled[name] for name in WHICH})
    except ArgumentError as error:
        raise ArgumentError(
            f"load_task: pseudo.labels must be of images that can be shown as those of {own.name}, got"
            f" labels of {labelled['name']}. {error}"
        ) from error


def _relation(config: TrainConfig) -> Task:
    return Task(
        train=relation.RelationTraining(seed=config.seed),
        test=relation.RelationTest(),
        labels=relation.LABELS,
        in_channels=1,
        preprocessing=None,
    )


def _pathfinder(config: TrainConfig) -> Task:
    data = config.data
    drawn = pathfinder.Pathfinder(
        size=data.image_size or 32, path_length=data.path_length, distractors=data.distractors
    )
    tested = replace(drawn, size=data.test_image_size or drawn.size)
    return Task(
        train=pathfinder.PathfinderTraining(pathfinder=drawn, seed=config.seed),
        test=pathfinder.PathfinderTest(pathfinder=tested),
        labels=pathfinder.LABELS,
        in_channels=1,
        preprocessing=None,
    )


def _digits(config: TrainConfig) -> Task:
    train, test = load_digits()
    return _digits_task(_moving(train, config), test)


def _semi(config: TrainConfig) -> Task:
    semi = load_semi(config.seed)
    unlabelled = Unlabelled(
        shown=_moving(semi.unlabelled, config),
        clean=semi.unlabelled,
        labels=digits.LABELS,
        targets=semi.unlabelled.labels,
    )
    return replace(_digits_task(_moving(semi.labelled, config), semi.test), unlabelled=unlabelled)


def _digits_task(train: AugmentedDigits, test: Digits) -> Task:
    return Task(train=train, test=test, labels=digits.LABELS, in_channels=1, preprocessing=InkPreprocessing())


def _moving(images: Digits, config: TrainConfig) -> AugmentedDigits:
    return AugmentedDigits(
        digits=images,
        seed=config.seed,
        max_shift=config.data.max_shift,
        max_rotation=config.data.max_rotation,
        max_scaling=config.data.max_scaling,
    )


def _digit_images(config: TrainConfig) -> Task:
    size = config.data.image_size or 32
    train, test = (DigitSource(part) for part in load_digits())
    return Task(
        train=_training(config, train, size),
        test=ImageTest(
            source=test,
            transform=TestTransform(size=config.data.test_image_size or size, fraction=digit_images.FRACTION),
        ),
        labels=train.labels,
        in_channels=3,
        preprocessing=DigitImagePreprocessing(size=config.data.test_image_size or size),
        prepare=Normalization(),
    )


def _files(config: TrainConfig) -> Task:
    data = config.data
    data.check_root()
    place = DataPlace(
        root=data.root,
        kind=data.name,
        train=data.train,
        test=data.test,
        train_labels=data.train_labels,
        test_labels=data.test_labels,
    )
    train = place.open_train()
    return _images(config, train, lambda: place.open_test(train.labels))


def _images(config: TrainConfig, train: Source, open_test: Callable[[], Source]) -> Task:
    """The task of images from files.

    Args:
        config: Its settings say whether a part of the training is set aside as the test.
        train: The images to train with.
        open_test: Gives those to test with, where nothing is set aside; of the same classes.
    """
    size = config.data.image_size or 224
    test_size = config.data.test_image_size or size
    train, test = _held_out(config, train) if config.data.holdout else (train, open_test())
    shown, clean = _training(config, train, size), TestTransform(size=test_size)
    return Task(
        train=shown,
        test=ImageTest(source=test, transform=clean),
        labels=train.labels,
        in_channels=3,
        preprocessing=CropPreprocessing(size=test_size),
        prepare=Normalization(),
        # What classes the folders say is not asked.
        unlabelled=Unlabelled(shown=shown, clean=ImageTest(source=train, transform=clean)),
    )


def _training(config: TrainConfig, source: Source, size: int) -> ImageTraining:
    augment = config.augment
    return ImageTraining(
        source=source,
        seed=config.seed,
        transform=TrainTransform(
            size=size,
            min_crop_area=augment.min_crop_area,
            flip=augment.flip,
            randaugment_layers=augment.randaugment_layers,
            randaugment_magnitude=augment.randaugment_magnitude,
        ),
        max_in_a_row=config.faults.max_unreadable_in_a_row,
    )


def _held_out(config: TrainConfig, train: Source) -> tuple[Source, Source]:
    """The training in two parts, one of them in the place of the test."""
    if config.data.test_labels is not None:
        raise ArgumentError(
            f"DataConfig: test_labels must be left out with holdout, got {config.data.test_labels}:"
            " the part of the training that is set aside is the test."
        )
    rest, aside = holdout_split(len(train), config.data.holdout)
    return Subset(train, rest), Subset(train, aside)


# Data set -> what loads it.
_LOADERS: Final[dict[str, Callable[[TrainConfig], Task]]] = {
    "digits": _digits,
    "folder": _files,
    "shards": _files,
    "huggingface": _files,
    "digit-images": _digit_images,
    "semi": _semi,
    "relation": _relation,
    "pathfinder": _pathfinder,
}
