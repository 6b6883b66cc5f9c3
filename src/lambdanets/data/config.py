"""The data sets and their settings: one frozen class each, checked where it is made, without torch.

A new data set is a class here, with its line in `DATA_SETS`, and a file of its own with the function that the
class's `load` calls. Nothing here imports torch, so that `lambdanets --help` is quick.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal

from lambdanets.data.augment import AugmentConfig
from lambdanets.data.parts import PartsConfig
from lambdanets.errors import ArgumentError, DependencyError, check_choice, did_you_mean, require
from lambdanets.extensions import import_hint
from lambdanets.files import from_home
from lambdanets.ranges import Range, Rate, Share, Side, check_settings, fitted

if TYPE_CHECKING:
    from lambdanets.data.sources import Source
    from lambdanets.data.survey import Survey
    from lambdanets.data.task import Task


@dataclass(frozen=True, kw_only=True)
class DataConfig(ABC):
    """The images.

    Attributes:
        name: The data set: digits, semi, relation and pathfinder are made here; folder, shards and
            huggingface are read from files; digit-images are the digits as PNG files. Another name brings
            other settings, and the help lists those.
    """

    name: str

    # Whether images are cropped, flipped and changed by RandAugment, as those of files are.
    augmented: ClassVar[bool] = False

    # The settings that decide which images there are to train with. The others say how they are shown.
    selecting: ClassVar[tuple[str, ...]] = ("name",)

    def __post_init__(self) -> None:
        check_settings(self)

    @abstractmethod
    def load(self, *, seed: int, augment: AugmentConfig, max_unreadable: int = 50) -> "Task":
        """Load the data set.

        Args:
            seed: The seed of the run.
            augment: How training changes the images.
            max_unreadable: Files, one after another, that may be unreadable.
        """

    def check_ready(self) -> None:  # noqa: B027 - most sets need nothing
        """Raise where a setting is missing without which nothing can be loaded."""

    def located(self) -> "DataConfig":
        """The same data set, found from any working directory."""
        return self

    def survey(self) -> "Survey | None":
        """Count the images of class folders before torch is loaded; None for other data.

        Raises:
            PathError: The root or a part is not there.
            DataError: The folder is laid out in another way; the message says what to type.
        """
        return None

    def resized(self, test_image_size: int) -> "DataConfig":
        """The same with test images of another size.

        Raises:
            ArgumentError: The images have one size.
        """
        raise ArgumentError(
            f"{type(self).__name__}: test_image_size must be left out for {self.name}, whose images have one"
            f" size, got {test_image_size}."
        )

    @property
    def test_name(self) -> str:
        """What the images to test with are called: test, or validation."""
        return "test"

    @property
    def seeded(self) -> bool:
        """Whether the seed of a run decides which images there are to train with."""
        return False

    @property
    def selection(self) -> dict[str, Any]:
        """The settings that decide which images there are to train with."""
        return {name: getattr(self, name) for name in self.selecting}

    @property
    def clean(self) -> dict[str, Any]:
        """The settings that decide how the training images look without augmentation."""
        return self.selection


@dataclass(frozen=True, kw_only=True)
class MovedDigitsConfig(DataConfig):
    """Digits that move a little in each epoch.

    Attributes:
        max_shift: Largest shift along each axis, in pixels.
        max_rotation: Largest rotation, in degrees.
        max_scaling: Largest change of size along each axis, as a fraction.
    """

    max_shift: Annotated[float, Range(0, 1000)] = 0.0
    max_rotation: Annotated[float, Range(0, 180)] = 0.0
    max_scaling: Rate = 0.0


@dataclass(frozen=True, kw_only=True)
class DigitsConfig(MovedDigitsConfig):
    """Scikit-learn's bundled handwritten digits: 1,797 grey images of 8×8 pixels."""

    name: Literal["digits"] = "digits"

    def load(self, *, seed: int, augment: AugmentConfig, max_unreadable: int = 50) -> "Task":
        """Load the digits."""
        from lambdanets.data.digits import load

        return load(self, seed)


@dataclass(frozen=True, kw_only=True)
class SemiConfig(MovedDigitsConfig):
    """The digits with 200 labels: what a teacher learns from, and the others for it to label."""

    name: Literal["semi"] = "semi"

    @property
    def seeded(self) -> bool:
        """The seed chooses the labelled digits."""
        return True

    def load(self, *, seed: int, augment: AugmentConfig, max_unreadable: int = 50) -> "Task":
        """Load the digits and choose those that are labelled."""
        from lambdanets.data.digits import load_semi

        return load_semi(self, seed)


@dataclass(frozen=True, kw_only=True)
class RelationConfig(DataConfig):
    """Two marks on an empty map: do they stand at one fixed offset from each other?"""

    name: Literal["relation"] = "relation"

    def load(self, *, seed: int, augment: AugmentConfig, max_unreadable: int = 50) -> "Task":
        """Draw marks."""
        from lambdanets.data.relation import load

        return load(seed)


@dataclass(frozen=True, kw_only=True)
class SizedConfig(DataConfig):
    """Images that come in any size.

    Attributes:
        image_size: Side of the images in training, in pixels.
        test_image_size: Side of the images in tests, where another.
    """

    image_size: Side = 32
    test_image_size: Side | None = None

    @property
    def test_size(self) -> int:
        """Side of the test images."""
        return self.test_image_size or self.image_size

    def resized(self, test_image_size: int) -> DataConfig:
        """The same with test images of another size."""
        return replace(self, test_image_size=test_image_size)

    @property
    def clean(self) -> dict[str, Any]:
        """The training images as a test shows them."""
        return {**self.selection, "test_image_size": self.test_size}


@dataclass(frozen=True, kw_only=True)
class PathfinderConfig(SizedConfig):
    """Two dots among dashed paths: does one path join them?

    Attributes:
        path_length: Dashes of a path.
        distractors: Other paths beside it.
    """

    name: Literal["pathfinder"] = "pathfinder"
    path_length: Annotated[int, Range(1, 1000)] = 6
    distractors: Annotated[int, Range(0, 1000)] = 2

    def load(self, *, seed: int, augment: AugmentConfig, max_unreadable: int = 50) -> "Task":
        """Draw paths."""
        from lambdanets.data.pathfinder import load

        return load(self, seed)


@dataclass(frozen=True, kw_only=True)
class DigitImagesConfig(SizedConfig):
    """The bundled digits as PNG files: all that is done to images from files, without files."""

    name: Literal["digit-images"] = "digit-images"
    augmented: ClassVar[bool] = True

    def load(self, *, seed: int, augment: AugmentConfig, max_unreadable: int = 50) -> "Task":
        """Load the digits as files."""
        from lambdanets.data.digits import load_images

        return load_images(self, seed, augment, max_unreadable)


@dataclass(frozen=True, kw_only=True)
class FilesConfig(PartsConfig, SizedConfig):
    """Images that are read from files.

    Attributes:
        root: The folder that holds both parts, or the name of a Hugging Face data set.
        train: The part to train with: a folder or a pattern of shards below root, or a split.
        holdout: Fraction of the training images that is set aside and tested with, in place of the test.
        test_crop: Side of the square that a test cuts out of the middle, over the image's shorter side; none:
            size / (size + 32), the paper's 224 of 256, which leaves little of small images.
    """

    holdout: Rate = 0.0
    test_crop: Share | None = None
    image_size: Side = 224

    augmented: ClassVar[bool] = True
    selecting: ClassVar[tuple[str, ...]] = ("name", "root", "train", "holdout")

    def load(self, *, seed: int, augment: AugmentConfig, max_unreadable: int = 50) -> "Task":
        """List the files of both parts."""
        from lambdanets.data.images import load

        self.check_ready()
        return load(self, seed, augment, max_unreadable)

    @property
    def test_name(self) -> str:
        """What the images to test with are called: those that are set aside are a validation."""
        return "validation" if self.holdout else super().test_name

    def open_train(self) -> "Source":
        """The images to train with."""
        return self._open(self.train, None)

    def open_test(self, labels: tuple[str, ...] | None = None) -> "Source":
        """The images to test with.

        Args:
            labels: The classes of the training, where these must be the same.
        """
        return self._open(self.test, labels)

    def open_parts(self) -> "tuple[Source, Source]":
        """The images to train with, and those to test with: a part of their own, or set aside."""
        train = self.open_train()
        if not self.holdout:
            return train, self.open_test(train.labels)
        from lambdanets.data.sources import Subset, holdout_split

        rest, aside = holdout_split(train, self.holdout)
        return Subset(train, rest), Subset(train, aside)

    @abstractmethod
    def _open(self, part: str, labels: tuple[str, ...] | None) -> "Source": ...


@dataclass(frozen=True, kw_only=True)
class FolderConfig(FilesConfig):
    """Folders of image files: a folder for each class, or a flat one with a label file.

    Attributes:
        train_labels: A label file (CSV or JSON) for a flat folder, below root.
        test_labels: The same for the test.
    """

    name: Literal["folder"] = "folder"
    _other_layout: ClassVar[str] = ", or with a folder for each class"
    train_labels: str | None = None
    test_labels: str | None = None

    selecting: ClassVar[tuple[str, ...]] = ("name", "root", "train", "train_labels", "holdout")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self,
            "test_labels",
            not (self.holdout and self.test_labels),
            "be left out with holdout: the part of the training that is set aside is the test",
        )

    def located(self) -> "FolderConfig":
        """The same with an absolute root, and with the parts that are found there.

        Where the parts are left at `train` and `val`: other usual names of these, or class folders without
        parts, of which a fifth is set aside.
        """
        data = super().located()
        if (self.train, self.test) != (FolderConfig.train, FolderConfig.test) or not data.root:
            return data
        from lambdanets.data.layout import find_parts

        parts = None if self.train_labels or self.test_labels else find_parts(Path(data.root), self.holdout)
        return replace(data, **parts._asdict()) if parts else data

    def survey(self) -> "Survey | None":
        """Count the images of class folders."""
        from lambdanets.data.survey import survey_folder

        return survey_folder(self)

    def open_train(self) -> "Source":
        """The images to train with."""
        return self._open(self.train, None, self.train_labels)

    def open_test(self, labels: tuple[str, ...] | None = None) -> "Source":
        """The images to test with."""
        return self._open(self.test, labels, self.test_labels)

    def _open(self, part: str, labels: tuple[str, ...] | None, label_file: str | None = None) -> "Source":
        from lambdanets.data.folders import open_folder
        from lambdanets.data.layout import check_root

        root = Path(self.root)
        if not root.is_dir():
            # Says where the images were, and which option says where they are.
            check_root(self.root, self.root_given)
        return open_folder(root / part, label_file=root / label_file if label_file else None, labels=labels)


@dataclass(frozen=True, kw_only=True)
class ShardsConfig(FilesConfig):
    """Tar shards of WebDataset's form."""

    name: Literal["shards"] = "shards"

    def _open(self, part: str, labels: tuple[str, ...] | None) -> "Source":
        from lambdanets.data.shards import ShardSource

        return ShardSource(Path(self.root), part, labels)


@dataclass(frozen=True, kw_only=True)
class HuggingFaceConfig(FilesConfig):
    """A data set that the library `datasets` loads, from the Hub or a folder."""

    name: Literal["huggingface"] = "huggingface"

    def located(self) -> "HuggingFaceConfig":
        """The same with an absolute root, where it is a folder and no name on the Hub."""
        return super().located() if from_home(self.root).is_dir() else self

    def _open(self, part: str, labels: tuple[str, ...] | None) -> "Source":
        from lambdanets.data.huggingface import HuggingFaceSource

        return HuggingFaceSource(self.root, part, labels)


# Every data set, by its name on the command line.
DATA_SETS: Final[dict[str, type[DataConfig]]] = {
    "digits": DigitsConfig,
    "semi": SemiConfig,
    "relation": RelationConfig,
    "pathfinder": PathfinderConfig,
    "folder": FolderConfig,
    "shards": ShardsConfig,
    "huggingface": HuggingFaceConfig,
    "digit-images": DigitImagesConfig,
}

# What configs held before each data set had settings of its own: all of these, whatever the data set.
_COMMON_ONCE: Final[dict[str, Any]] = {
    "root": "",
    "train": "train",
    "test": "val",
    "train_labels": None,
    "test_labels": None,
    "holdout": 0.0,
    "image_size": None,
    "test_image_size": None,
    "path_length": 6,
    "distractors": 2,
    "max_shift": 0.0,
    "max_rotation": 0.0,
    "max_scaling": 0.0,
}


def _data_set(name: str, imports: Sequence[str] = ()) -> type[DataConfig]:
    """The class of a data set's settings."""
    if name not in DATA_SETS and imports:
        raise DependencyError(
            f"data set {name!r} must be registered, got none of that name.{import_hint('data set', imports)}"
        )
    try:
        check_choice("DataConfig", "name", name, DATA_SETS)
    except ArgumentError as error:
        raise ArgumentError(f"{error}{import_hint('data set')}") from None
    return DATA_SETS[name]


def read_data_config(values: Mapping[str, Any], imports: Sequence[str] = ()) -> DataConfig:
    """The settings of a data set from a dictionary, as JSON gives it; what is missing is at its default.

    Args:
        values: The settings.
        imports: The modules or files that registered the data set, if it is one of the user's own.

    Raises:
        ArgumentError: A setting is unknown, of another data set, or out of range.
        DependencyError: The data set is registered by a module that is not imported.
    """
    values = fitted("DataConfig", "settings", values, Mapping[str, Any])
    kind = _data_set(str(values.get("name")), imports)
    own: dict[str, Any] = {field.name: field.default for field in fields(kind)}
    # Configs of old hold the settings of every data set, and none where each set has a default of its own.
    kept: dict[str, Any] = {
        name: own[name] if value is None and name in own else tuple(value) if type(value) is list else value
        for name, value in values.items()
        if name in own or name not in _COMMON_ONCE or value != _COMMON_ONCE[name]
    }
    unknown = sorted(kept.keys() - own.keys())
    if unknown:
        raise ArgumentError(
            f"{kind.__name__}: fields must be {', '.join(own)}, got unknown {', '.join(unknown)}."
            f"{did_you_mean(unknown[0], own)}"
        )
    return kind(**kept)


def switched(data: DataConfig, name: str, **settings: Any) -> DataConfig:
    """Another data set, with the settings that both have.

    Args:
        data: Gives its settings.
        name: The other data set.
        settings: In the place of what `data` says.

    Raises:
        ArgumentError: There is no such data set, or a setting is none of its.
    """
    kind = _data_set(name)
    known = {field.name for field in fields(kind)}
    for setting in settings.keys() - known:
        raise ArgumentError(f"{kind.__name__}: settings must be {', '.join(sorted(known))}, got {setting}.")
    shared = {field: getattr(data, field) for field in known if hasattr(data, field)}
    return kind(**{**shared, **settings, "name": name})
