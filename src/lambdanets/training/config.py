"""What a run is: frozen settings, read and written as JSON, without torch."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, get_type_hints

import tyro

from lambdanets.errors import ArgumentError, check_choice, did_you_mean

T = TypeVar("T")

DATA_SETS: Final = ("digits", "relation")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network.

    Attributes:
        name: As `lambdanets models` lists it.
        overrides: Keyword arguments of `create_model` as pairs, beside the recipe's: num_heads 2 layers LLLL.
    """

    name: str
    overrides: dict[str, int | float | bool | str | None] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The pictures, and how far training may move them.

    Attributes:
        name: The data set.
        max_shift: Largest shift along each axis, in pixels.
        max_rotation: Largest rotation, in degrees.
        max_scaling: Largest change of size along each axis, as a fraction.
    """

    name: str
    max_shift: float = 0.0
    max_rotation: float = 0.0
    max_scaling: float = 0.0

    def __post_init__(self) -> None:
        check_choice("DataConfig", "name", self.name, DATA_SETS)
        _require(self, "max_shift", self.max_shift >= 0, "be at least 0")
        _require(self, "max_rotation", 0 <= self.max_rotation <= 180, "lie between 0 and 180 degrees")
        _require(self, "max_scaling", 0 <= self.max_scaling < 1, "be at least 0 and below 1")
        if self.name == "relation":
            for motion in ("max_shift", "max_rotation", "max_scaling"):
                unmoved = getattr(self, motion) == 0
                _require(self, motion, unmoved, "be 0 for relation, whose pictures are drawn anew")


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Stochastic gradient descent with Nesterov momentum.

    Attributes:
        learning_rate: The peak, reached after the warm-up.
        momentum: Share of the last update that is kept.
        weight_decay: Pull of the weights towards zero; norms and biases have none.
    """

    learning_rate: float
    momentum: float = 0.9
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _require(self, "learning_rate", 0 < self.learning_rate < float("inf"), "be positive and finite")
        _require(self, "momentum", 0 < self.momentum < 1, "lie between 0 and 1, both excluded")
        _require(self, "weight_decay", 0 <= self.weight_decay < float("inf"), "be at least 0 and finite")


@dataclass(frozen=True, kw_only=True)
class SchedConfig:
    """The learning rate over time: a linear warm-up, then half a cosine down to zero.

    Attributes:
        epochs: Passes over the training pictures.
        warmup_epochs: How many of them warm up; fractions are allowed.
    """

    epochs: int
    warmup_epochs: float = 0.0

    def __post_init__(self) -> None:
        _require(self, "epochs", self.epochs >= 1, "be at least 1")
        _require(
            self, "warmup_epochs", 0 <= self.warmup_epochs < self.epochs, "be at least 0 and below epochs"
        )


@dataclass(frozen=True, kw_only=True)
class CkptConfig:
    """When the state of the run is stored.

    Attributes:
        every_epochs: Epochs from one checkpoint to the next; the last epoch always has one.
        keep: How many checkpoints stay on the disk.
    """

    every_epochs: int = 1
    keep: int = 3

    def __post_init__(self) -> None:
        _require(self, "every_epochs", self.every_epochs >= 1, "be at least 1")
        _require(self, "keep", self.keep >= 1, "be at least 1")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run, whole: with the versions of the libraries it decides every number.

    Attributes:
        recipe: Where the settings come from.
        seed: Decides the weights at the start, the order of the pictures, the augmentation and the dropout.
        num_threads: Processor threads. Sums depend on their number in the last bit, so the config decides it.
        fast: A smoke run of the same path, about 15 seconds long.
        global_batch_size: Pictures to one step, over all processes; an epoch is cut into equal batches no
            larger.
        label_smoothing: Share of each label that is spread over all classes.
        ema_decay: Share of the averaged weights that one step keeps, once warmed up.
    """

    recipe: tyro.conf.Fixed[str]
    seed: int = 0
    num_threads: int
    fast: bool = False
    global_batch_size: int
    label_smoothing: float = 0.0
    ema_decay: float = 0.999
    model: ModelConfig
    data: DataConfig
    optim: OptimConfig
    sched: SchedConfig
    ckpt: CkptConfig = field(default_factory=CkptConfig)

    def __post_init__(self) -> None:
        _require(self, "seed", self.seed >= 0, "be at least 0")
        _require(self, "num_threads", self.num_threads >= 1, "be at least 1")
        _require(self, "global_batch_size", self.global_batch_size >= 2, "be at least 2")
        _require(self, "label_smoothing", 0 <= self.label_smoothing < 1, "be at least 0 and below 1")
        _require(self, "ema_decay", 0 <= self.ema_decay < 1, "be at least 0 and below 1")

    def to_json(self) -> str:
        """The whole config, as `config.json` holds it."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "TrainConfig":
        """The config that `to_json` wrote: an equal object.

        Raises:
            ArgumentError: A field is missing, unknown or out of range.
        """
        return cls.from_dict(json.loads(text))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """The config from nested dictionaries, as JSON gives them."""
        return _from_dict(cls, values)


def differences(old: TrainConfig, new: TrainConfig) -> dict[str, tuple[object, object]]:
    """Where two configs differ: dotted name -> (old value, new value)."""
    before, after = flatten(old), flatten(new)
    return {name: (before[name], after[name]) for name in after if before[name] != after[name]}


def flatten(config: TrainConfig) -> dict[str, object]:
    """Every setting by its dotted name, such as `optim.learning_rate`."""
    flat: dict[str, object] = {}
    for name, value in vars(config).items():
        if dataclasses.is_dataclass(value):
            flat |= {f"{name}.{inner}": setting for inner, setting in vars(value).items()}
        else:
            flat[name] = value
    return flat


def _require(config: object, argument: str, fulfilled: bool, requirement: str) -> None:
    if not fulfilled:
        value = getattr(config, argument)
        raise ArgumentError(f"{type(config).__name__}: {argument} must {requirement}, got {value}.")


def _from_dict(kind: type[T], values: Mapping[str, Any]) -> T:
    hints = get_type_hints(kind)
    unknown = sorted(values.keys() - hints.keys())
    missing = sorted(hints.keys() - values.keys())
    if unknown or missing:
        wrong = f"unknown {', '.join(unknown)}" if unknown else f"no {', '.join(missing)}"
        near = did_you_mean(unknown[0], hints) if unknown else ""
        raise ArgumentError(f"{kind.__name__}: fields must be {', '.join(hints)}, got {wrong}.{near}")
    return kind(**{name: _parsed(hint, values[name]) for name, hint in hints.items()})


def _parsed(hint: Any, value: Any) -> Any:
    return _from_dict(hint, value) if isinstance(hint, type) and dataclasses.is_dataclass(hint) else value
