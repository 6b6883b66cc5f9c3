"""The settings of a run: frozen, checked where they are made, read and written as JSON; without torch."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal, TypeVar, get_type_hints

from lambdanets.data.augment import AugmentConfig, PseudoConfig
from lambdanets.data.config import DataConfig, read_data_config
from lambdanets.data.detection import CocoConfig, JitterConfig
from lambdanets.errors import ArgumentError, did_you_mean, require
from lambdanets.extensions import origin_of
from lambdanets.models.references import reference_of
from lambdanets.ranges import (
    Channels,
    Count,
    Decay,
    PositiveScale,
    Probability,
    Range,
    Rate,
    Scale,
    Seed,
    Share,
    Workers,
    check_settings,
    fitted,
)
from lambdanets.reading import parse_json

T = TypeVar("T")

# Names that settings had in earlier versions: old config.json files are read by them.
_RENAMED: Final = {
    "squares_decay": "beta2",
    "max_gradient_norm": "clip_grad_norm",
    "max_unreadable_share": "max_unreadable_fraction",
}

# Settings that earlier versions did not have: where a stored config lacks one, it is at its default.
_ADDED: Final = {"step_at", "layer_decay", "init", "freeze", "root_given"}


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network.

    Attributes:
        name: As `lambdanets models` lists it.
        overrides: Keyword arguments of `create_model` as pairs, beside the recipe's: num_heads 2 layers LLLL.
            Functions and classes of your own by where they are imported from: mixer my_module:name.
    """

    name: str
    overrides: dict[str, int | float | bool | str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_settings(self)
        for name, value in self.overrides.items():
            if callable(value):
                raise ArgumentError(
                    f"ModelConfig: overrides must be what config.json can hold, got a callable for {name}. "
                    f"Write where it is imported from: {reference_of(value)!r}."
                )


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """The optimiser.

    Attributes:
        name: Stochastic gradient descent with Nesterov momentum, AdamW, LAMB, or RMSProp as TensorFlow's.
        learning_rate: The peak, reached after the warm-up.
        base_batch_size: The global batch the learning rate is for; it grows in proportion with a larger
            one. None: it is for whatever batch there is.
        momentum: Fraction of the last update that is kept; of AdamW and LAMB the first beta.
        beta2: Decay of the mean of squared gradients (AdamW, LAMB; alpha of RMSProp); none: 0.999, 0.999 and
            0.9.
        epsilon: Keeps their divisors from zero; none: 1e-8 (AdamW), 1e-6 (LAMB), 1e-3 (RMSProp).
        weight_decay: Decay of the weights; norms and biases have none.
        clip_grad_norm: Largest norm of all gradients together, to which they are clipped; none: no clipping.
        layer_decay: For fine-tuning: the learning rate of a block, over that of the next one. The classifier
            has the full rate, the stem the smallest. 1: all have the same.
    """

    name: Literal["sgd", "adamw", "lamb", "rmsprop"] = "sgd"
    learning_rate: PositiveScale
    base_batch_size: Count | None = None
    momentum: Decay = 0.9
    beta2: Decay | None = None
    epsilon: Decay | None = None
    weight_decay: Scale = 0.0
    # A bound that nothing reaches is a way to say none.
    clip_grad_norm: Annotated[float | None, Range(0, 1e12, "low")] = None
    layer_decay: Share = 1.0

    def __post_init__(self) -> None:
        check_settings(self)
        for name in ("beta2", "epsilon"):
            require(self, name, self.name != "sgd" or getattr(self, name) is None, "be none for sgd")


@dataclass(frozen=True, kw_only=True)
class SchedConfig:
    """The learning rate over time: a linear warm-up, then down.

    Attributes:
        epochs: Passes over the training images.
        warmup_epochs: How many of them warm up; fractions are allowed.
        shape: Half a cosine down to zero, or a factor every few epochs or at some points of the run.
        step_epochs: Epochs from one step down to the next, counted from the start of training.
        step_at: Instead: the fractions of the run at which the rate steps down.
        step_factor: Multiplies the rate at each of them.
    """

    epochs: Count
    warmup_epochs: Scale = 0.0
    shape: Literal["cosine", "step"] = "cosine"
    step_epochs: PositiveScale | None = None
    step_at: tuple[Decay, ...] = ()
    step_factor: Share | None = None

    def __post_init__(self) -> None:
        check_settings(self)
        require(self, "warmup_epochs", self.warmup_epochs < self.epochs, "be at least 0 and below epochs")
        if self.shape == "cosine":
            for name in ("step_epochs", "step_factor"):
                require(self, name, getattr(self, name) is None, "be none for cosine")
            require(self, "step_at", not self.step_at, "be empty for cosine")
        else:
            if self.step_at:
                require(self, "step_epochs", self.step_epochs is None, "be none with step_at")
            else:
                require(self, "step_epochs", self.step_epochs is not None, "be positive for step")
            require(self, "step_factor", self.step_factor is not None, "be positive and at most 1 for step")

    def describe(self) -> str:
        """Say how the rate falls after the warm-up."""
        if self.shape == "cosine":
            return "half a cosine to 0"
        if self.step_at:
            points = ", ".join(f"{100 * fraction:g} %" for fraction in self.step_at)
            return f"× {self.step_factor:g} at {points} of the run"
        epochs = "epoch" if self.step_epochs == 1 else f"{self.step_epochs:g} epochs"
        return f"× {self.step_factor:g} every {epochs}"


@dataclass(frozen=True, kw_only=True)
class CkptConfig:
    """When the state of the run is stored.

    Attributes:
        every_epochs: Epochs from one checkpoint to the next; the last epoch always has one.
        every_minutes: Longest time from one checkpoint to the next, so also inside an epoch.
        keep: How many checkpoints stay on the disk.
        tolerate_failures: Saves in a row that may fail, as on a full disk, before the run ends.
    """

    every_epochs: Count = 1
    every_minutes: PositiveScale = 10.0
    keep: Count = 3
    tolerate_failures: Annotated[int, Range(0, 10**6)] = 3

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class ExecConfig:
    """The device, the precision and the processes of a run.

    Attributes:
        device: cpu, cuda, or auto: cuda where there is one.
        precision: Precision of the products; weights and sums stay float32. auto: bfloat16 on a GPU that has
            it, else float32.
        accumulation: Parts into which each process cuts its shard of a batch, to save memory. Batch norm sees
            the parts.
        num_workers: Processes that read and augment images, for each training process; 0: none beside it.
        channels_last: Keep the channels of a pixel beside each other in memory.
        compile: Compile the network with torch.compile; the first step takes minutes.
        gradient_checkpointing: Compute activations again in backward, to save memory.
        sync_batch_norm: Batch norm over the images of all processes.
        parallel: ddp: each process holds the whole network. fsdp: each holds a part, to save memory.
        deterministic: Kernels that give the same bits in each run, at a price; a CPU does so anyway.
        timeout_s: Longest time that processes wait for one another, in seconds; nine tenths for a batch.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    accumulation: Count = 1
    num_workers: Workers = 0
    channels_last: bool = False
    compile: bool = False
    gradient_checkpointing: bool = False
    sync_batch_norm: bool = False
    parallel: Literal["ddp", "fsdp"] = "ddp"
    deterministic: bool = False
    # Torch counts milliseconds; a million seconds are eleven days.
    timeout_s: Annotated[float, Range(0.001, 1e6)] = 600.0

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def batch_limit_s(self) -> float:
        """Longest time to wait for a batch: who misses one says so before those do that wait for it."""
        return 0.9 * self.timeout_s


@dataclass(frozen=True, kw_only=True)
class FaultConfig:
    """The reaction to what goes wrong.

    Attributes:
        nonfinite: A loss or gradient that is not finite: stop the run, skip the update, or roll back to the
            last checkpoint and skip the step.
        max_nonfinite: Updates in a row that may be skipped, or rollbacks of the run, before it stops.
        max_unreadable_fraction: Fraction of the training files that may be unreadable before the run stops.
        max_unreadable_in_a_row: Unreadable files, one after another, before the run stops.
    """

    nonfinite: Literal["stop", "skip", "rollback"] = "stop"
    max_nonfinite: Count = 10
    max_unreadable_fraction: Probability = 0.01
    max_unreadable_in_a_row: Count = 50

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """What stands behind the backbone of a detector: feature pyramid, proposals and heads.

    Attributes:
        masks: Predict a mask beside each box (Mask R-CNN); without: Faster R-CNN.
        norm: The normalisation of backbone, pyramid and heads. batch: over the images of a process; sync:
            over those of all; group: over groups of channels of an image. frozen: the statistics that the
            backbone's weights came with, and none in pyramid and heads, as in torchvision's 1x training.
        weights: A classification run, or a file of weights, with which the backbone starts.
        channels: Channels of the pyramid, and of the convolutions of the heads.
        anchor_sizes: Side of the anchors in pixels, one for each level of the pyramid, the last of which is
            pooled from the one before.
        box_convs: 3×3 convolutions of the box head.
        box_features: Width of the linear layer behind them; without convolutions there are two.
        mask_convs: 3×3 convolutions of the mask head.
        class_agnostic: One box and one mask for a region, whatever its class: each learns from all objects,
            where there are few of a class. Without, a region has a box and a mask of every class.
        proposals: Regions of an image that the heads look at in a test; as many in training.
        box_samples: Regions of an image that the box head learns from.
        most_detections: Detections of an image.
        least_score: Score below which there is no detection.
    """

    masks: bool = True
    norm: Literal["batch", "sync", "frozen", "group"] = "batch"
    weights: str | None = None
    channels: Channels = 256
    anchor_sizes: Annotated[tuple[float, ...], Range(0, 1e6, "low")] = (32.0, 64.0, 128.0, 256.0, 512.0)
    box_convs: Annotated[int, Range(0, 100)] = 4
    box_features: Channels = 1024
    mask_convs: Annotated[int, Range(1, 100)] = 4
    class_agnostic: bool = False
    proposals: Count = 1000
    box_samples: Count = 512
    most_detections: Count = 100
    least_score: Rate = 0.05

    def __post_init__(self) -> None:
        check_settings(self)
        require(self, "anchor_sizes", len(self.anchor_sizes) >= 2, "be at least 2 positive numbers")
        require(
            self,
            "norm",
            self.norm != "frozen" or self.weights is not None,
            "not be frozen from scratch: give --detector.weights, or use batch, sync or group",
        )


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The settings that every training run has.

    Attributes:
        recipe: Name of the recipe that the settings come from.
        seed: Decides the weights at the start, the order of the images, the augmentation and the dropout.
        num_threads: CPU threads. Sums depend on their number in the last bit, so the config decides it.
        global_batch_size: Images of one step, over all processes; an epoch is cut into equal batches no
            larger.
        ema_decay: Fraction of the EMA weights that one step keeps, once warmed up; None: derived from the
            number of steps, see docs/recipes.md.
    """

    recipe: str
    seed: Seed = 0
    num_threads: Annotated[int, Range(1, 4096)]
    # Batch norm needs two.
    global_batch_size: Annotated[int, Range(2, 10**6)]
    ema_decay: Rate | None = None
    model: ModelConfig
    data: DataConfig | CocoConfig
    optim: OptimConfig
    sched: SchedConfig
    ckpt: CkptConfig = field(default_factory=CkptConfig)
    exec: ExecConfig = field(default_factory=ExecConfig)
    faults: FaultConfig = field(default_factory=FaultConfig)

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def command(self) -> str:
        """The command of `lambdanets` that trains it."""
        return "train"

    def steps_per_epoch(self, num_images: int) -> int:
        """Batches of one epoch over so many images; the last image is never left out."""
        return math.ceil(num_images / self.global_batch_size)

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate after the warm-up, for this global batch."""
        base = self.optim.base_batch_size
        return self.optim.learning_rate * (self.global_batch_size / base if base else 1)

    def replace(self: T, **settings: Any) -> T:
        """Return the config with other values of some settings: `replace(seed=1, sched={"epochs": 3})`.

        A group of settings takes a dictionary, which changes some of them, or a whole object. Another `name`
        of the data set changes the data set.

        Raises:
            ArgumentError: A setting is unknown, with the nearest ones, or out of range.
            ArgumentTypeError: A value is of another type than the setting.
        """
        from lambdanets.training.changes import changed

        return changed("replace", self, settings)

    def __str__(self) -> str:
        from lambdanets.training.changes import described

        return described(self)

    def to_json(self) -> str:
        """Write the config as `config.json` holds it.

        Beside the settings it names the modules that registered a recipe or a data set of the user's own.
        """
        values = dataclasses.asdict(self)
        origins = (origin_of("recipe", self.recipe), origin_of("data set", getattr(self.data, "name", "")))
        if imports := sorted({one for one in origins if one}):
            values["imports"] = imports
        return json.dumps(values, indent=2) + "\n"

    @staticmethod
    def from_json(text: str) -> "RunConfig":
        """Read the config that `to_json` wrote: an equal object.

        Raises:
            ArgumentError: A field is missing, unknown or out of range.
            DependencyError: The data set is one of the user's own that is not registered.
        """
        return RunConfig.from_dict(parse_json(text, {}))

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "RunConfig":
        """Read a config from nested dictionaries, as JSON gives them; only a detector's has `detector`."""
        fields = dict(fitted("RunConfig", "settings", values, Mapping[str, Any]))
        imports = fitted("RunConfig", "imports", fields.pop("imports", ()), tuple[str, ...])
        return _from_dict(DetectConfig if "detector" in fields else TrainConfig, fields, imports)


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RunConfig):
    """All settings of the training of a classifier: with the libraries' versions they decide every number.

    Attributes:
        fast: A smoke run of the same path, about 15 seconds long.
        label_smoothing: Fraction of each label that is spread over all classes.
        init: The weights to start with, for fine-tuning: a run, one of its checkpoints, or a file of weights.
            The network is that of the weights unless `--model.name` is given, with a new classifier where the
            classes are others. None: random weights.
        freeze: Stages that keep the weights and statistics they start with, such as stem c2 c3.
    """

    fast: bool = False
    label_smoothing: Rate = 0.0
    init: str | None = None
    freeze: tuple[str, ...] = ()
    data: DataConfig
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    pseudo: PseudoConfig = field(default_factory=PseudoConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "init", self.init != "", "name a run, a checkpoint or a file of weights")
        self.augment.check_for(self.data)


@dataclass(frozen=True, kw_only=True)
class DetectConfig(RunConfig):
    """All settings of the training of a detector.

    Attributes:
        eval_every: Epochs from one evaluation to the next; the last epoch always has one.
    """

    eval_every: Count = 1
    data: CocoConfig
    augment: JitterConfig = field(default_factory=JitterConfig)
    detector: DetectorConfig = field(default_factory=DetectorConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, setting in (("sync_batch_norm", "--detector.norm sync"), ("parallel", "ddp")):
            require(
                self.exec,
                name,
                getattr(self.exec, name) == getattr(ExecConfig, name),
                f"be left at {getattr(ExecConfig, name)!r} for a detector (use {setting})",
            )

    @property
    def command(self) -> str:
        """The command of `lambdanets` that trains it."""
        return "detect train"


def _from_dict(kind: type[T], values: Mapping[str, Any], imports: Sequence[str] = ()) -> T:
    who = kind.__name__
    values = fitted(who, "settings", values, Mapping[str, Any])
    of_class = get_type_hints(kind)
    hints = {one.name: of_class[one.name] for one in dataclasses.fields(kind)}  # type: ignore[arg-type]
    fields = {_RENAMED.get(name, name): value for name, value in values.items()}
    unknown = sorted(fields.keys() - hints.keys())
    missing = sorted(hints.keys() - fields.keys() - _ADDED)
    if unknown or missing:
        wrong = f"unknown {', '.join(unknown)}" if unknown else f"no {', '.join(missing)}"
        near = did_you_mean(unknown[0], hints) if unknown else ""
        raise ArgumentError(f"{who}: fields must be {', '.join(hints)}, got {wrong}.{near}")
    for name, hint in hints.items():
        if name not in fields:
            continue
        if hint == DataConfig:
            fields[name] = read_data_config(fields[name], imports)
        elif isinstance(hint, type) and dataclasses.is_dataclass(hint):
            fields[name] = _from_dict(hint, fields[name])
        elif isinstance(fields[name], list):
            fields[name] = tuple(fields[name])
    return kind(**fields)
