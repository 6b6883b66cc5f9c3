"""What a run is: frozen settings, read and written as JSON, without torch."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, get_type_hints

import tyro

from lambdanets.data.config import AugmentConfig, DataConfig, PseudoConfig, read_data_config
from lambdanets.errors import ArgumentError, did_you_mean, require
from lambdanets.training.settings import (
    CkptConfig,
    ExecConfig,
    FaultConfig,
    ModelConfig,
    OptimConfig,
    SchedConfig,
)

T = TypeVar("T")

# Names that settings had in earlier versions: old config.json files are read by them.
_RENAMED: Final = {
    "squares_decay": "beta2",
    "max_gradient_norm": "clip_grad_norm",
    "max_unreadable_share": "max_unreadable_fraction",
}


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run, whole: with the versions of the libraries it decides every number.

    Attributes:
        recipe: Where the settings come from.
        seed: Decides the weights at the start, the order of the images, the augmentation and the dropout.
        num_threads: Processor threads. Sums depend on their number in the last bit, so the config decides it.
        fast: A smoke run of the same path, about 15 seconds long.
        global_batch_size: Images to one step, over all processes; an epoch is cut into equal batches no
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
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    pseudo: PseudoConfig = field(default_factory=PseudoConfig)
    optim: OptimConfig
    sched: SchedConfig
    ckpt: CkptConfig = field(default_factory=CkptConfig)
    exec: ExecConfig = field(default_factory=ExecConfig)
    faults: FaultConfig = field(default_factory=FaultConfig)

    def __post_init__(self) -> None:
        require(self, "seed", self.seed >= 0, "be at least 0")
        require(self, "num_threads", self.num_threads >= 1, "be at least 1")
        require(self, "global_batch_size", self.global_batch_size >= 2, "be at least 2")
        require(self, "label_smoothing", 0 <= self.label_smoothing < 1, "be at least 0 and below 1")
        require(self, "ema_decay", 0 <= self.ema_decay < 1, "be at least 0 and below 1")
        self.augment.check_for(self.data)

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate after the warm-up, for this global batch."""
        base = self.optim.base_batch_size
        return self.optim.learning_rate * (self.global_batch_size / base if base else 1)

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
    # Another data set has settings of its own.
    pairs = {name: (before.get(name), after.get(name)) for name in {**before, **after}}
    return {name: (old_value, value) for name, (old_value, value) in pairs.items() if old_value != value}


def flatten(config: TrainConfig) -> dict[str, object]:
    """Every setting by its dotted name, such as `optim.learning_rate`."""
    flat: dict[str, object] = {}
    for name, value in vars(config).items():
        if dataclasses.is_dataclass(value):
            flat |= {f"{name}.{inner}": setting for inner, setting in vars(value).items()}
        else:
            flat[name] = value
    return flat


def non_defaults(config: TrainConfig) -> dict[str, object]:
    """The settings, by dotted name, that are not left at the defaults of their groups."""
    defaults = {
        f"{prefix}{field.name}": field.default
        for prefix, group in [("", config), *((f"{name}.", value) for name, value in vars(config).items())]
        if dataclasses.is_dataclass(group)
        for field in dataclasses.fields(group)
    }
    return {name: value for name, value in flatten(config).items() if value != defaults[name] and value != {}}


def _from_dict(kind: type[T], values: Mapping[str, Any]) -> T:
    hints = get_type_hints(kind)
    values = {_RENAMED.get(name, name): value for name, value in values.items()}
    unknown = sorted(values.keys() - hints.keys())
    missing = sorted(hints.keys() - values.keys())
    if unknown or missing:
        wrong = f"unknown {', '.join(unknown)}" if unknown else f"no {', '.join(missing)}"
        near = did_you_mean(unknown[0], hints) if unknown else ""
        raise ArgumentError(f"{kind.__name__}: fields must be {', '.join(hints)}, got {wrong}.{near}")
    return kind(**{name: _parsed(hint, values[name]) for name, hint in hints.items()})


def _parsed(hint: Any, value: Any) -> Any:
    if hint is DataConfig:
        return read_data_config(value)
    return _from_dict(hint, value) if isinstance(hint, type) and dataclasses.is_dataclass(hint) else value
