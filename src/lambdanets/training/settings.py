"""The groups of settings of a run: frozen, checked where they are made, without torch."""

from dataclasses import dataclass, field
from typing import Literal

from lambdanets.errors import check_choice, require


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
class OptimConfig:
    """The optimiser.

    Attributes:
        name: Stochastic gradient descent with Nesterov momentum, AdamW, LAMB, or RMSProp as TensorFlow's.
        learning_rate: The peak, reached after the warm-up.
        base_batch_size: The global batch the learning rate is for; it grows in proportion with a larger
            one. None: it is for whatever batch there is.
        momentum: Share of the last update that is kept; of AdamW and LAMB their first beta.
        beta2: Share of the averaged squared gradients that is kept (AdamW, LAMB, RMSProp).
        epsilon: Keeps their divisors from zero; none: 1e-8 (AdamW), 1e-6 (LAMB), 1e-3 (RMSProp).
        weight_decay: Pull of the weights towards zero; norms and biases have none.
        clip_grad_norm: Longer gradients are shortened to it; none: they are left as they are.
    """

    name: Literal["sgd", "adamw", "lamb", "rmsprop"] = "sgd"
    learning_rate: float
    base_batch_size: int | None = None
    momentum: float = 0.9
    beta2: float | None = None
    epsilon: float | None = None
    weight_decay: float = 0.0
    clip_grad_norm: float | None = None

    def __post_init__(self) -> None:
        check_choice("OptimConfig", "name", self.name, ("sgd", "adamw", "lamb", "rmsprop"))
        require(self, "learning_rate", 0 < self.learning_rate < float("inf"), "be positive and finite")
        require(self, "base_batch_size", self.base_batch_size is None or self.base_batch_size >= 1,
                "be at least 1")  # fmt: skip
        require(self, "momentum", 0 < self.momentum < 1, "lie between 0 and 1, both excluded")
        for name in ("beta2", "epsilon"):
            require(self, name, self.name != "sgd" or getattr(self, name) is None, "be none for sgd")
            require(self, name, 0 < (getattr(self, name) or 0.5) < 1, "lie between 0 and 1, both excluded")
        require(self, "weight_decay", 0 <= self.weight_decay < float("inf"), "be at least 0 and finite")
        longest = self.clip_grad_norm
        require(self, "clip_grad_norm", longest is None or longest > 0, "be positive")


@dataclass(frozen=True, kw_only=True)
class SchedConfig:
    """The learning rate over time: a linear warm-up, then down.

    Attributes:
        epochs: Passes over the training images.
        warmup_epochs: How many of them warm up; fractions are allowed.
        shape: Half a cosine down to zero, or a factor every few epochs.
        step_epochs: Epochs from one step down to the next, counted from the start of training.
        step_factor: What each step multiplies the rate with.
    """

    epochs: int
    warmup_epochs: float = 0.0
    shape: Literal["cosine", "step"] = "cosine"
    step_epochs: float | None = None
    step_factor: float | None = None

    def __post_init__(self) -> None:
        require(self, "epochs", self.epochs >= 1, "be at least 1")
        require(
            self, "warmup_epochs", 0 <= self.warmup_epochs < self.epochs, "be at least 0 and below epochs"
        )
        check_choice("SchedConfig", "shape", self.shape, ("cosine", "step"))
        if self.shape == "cosine":
            for name in ("step_epochs", "step_factor"):
                require(self, name, getattr(self, name) is None, "be none for cosine")
        else:
            require(self, "step_epochs", (self.step_epochs or 0) > 0, "be positive for step")
            require(
                self, "step_factor", 0 < (self.step_factor or 0) <= 1, "be positive and at most 1 for step"
            )


@dataclass(frozen=True, kw_only=True)
class CkptConfig:
    """When the state of the run is stored.

    Attributes:
        every_epochs: Epochs from one checkpoint to the next; the last epoch always has one.
        every_minutes: Longest time from one checkpoint to the next, so also inside an epoch.
        keep: How many checkpoints stay on the disk.
        tolerate_failures: Saves in a row that may fail, as on a full disk, before the run ends.
    """

    every_epochs: int = 1
    every_minutes: float = 10.0
    keep: int = 3
    tolerate_failures: int = 3

    def __post_init__(self) -> None:
        require(self, "every_epochs", self.every_epochs >= 1, "be at least 1")
        require(self, "every_minutes", self.every_minutes > 0, "be positive")
        require(self, "keep", self.keep >= 1, "be at least 1")
        require(self, "tolerate_failures", self.tolerate_failures >= 0, "be at least 0")


@dataclass(frozen=True, kw_only=True)
class ExecConfig:
    """How the arithmetic is carried out.

    Attributes:
        device: cpu, cuda, or auto: cuda where there is one.
        precision: Of the products; weights and sums stay float32. auto: bfloat16 on a GPU that has it, else
            float32.
        accumulation: Parts that each process cuts its share of a batch into, to save memory. Batch norm sees
            the parts.
        num_workers: Processes that read and augment images, for each training process; 0: none beside it.
        channels_last: Keep the channels of a pixel beside each other in memory.
        compile: Compile the network with torch.compile; the first step takes minutes.
        gradient_checkpointing: Compute activations again in backward, to save memory.
        sync_batch_norm: Batch norm over the images of all processes.
        parallel: ddp: each process holds the whole network. fsdp: each holds a part, to save memory.
        deterministic: Kernels that give the same bits in each run, at a price; a CPU does so anyway.
        timeout_s: Longest time that processes wait for one another, in seconds.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    accumulation: int = 1
    num_workers: int = 0
    channels_last: bool = False
    compile: bool = False
    gradient_checkpointing: bool = False
    sync_batch_norm: bool = False
    parallel: Literal["ddp", "fsdp"] = "ddp"
    deterministic: bool = False
    timeout_s: float = 600.0

    def __post_init__(self) -> None:
        check_choice("ExecConfig", "device", self.device, ("auto", "cpu", "cuda"))
        check_choice("ExecConfig", "precision", self.precision, ("auto", "float32", "bfloat16", "float16"))
        check_choice("ExecConfig", "parallel", self.parallel, ("ddp", "fsdp"))
        require(self, "accumulation", self.accumulation >= 1, "be at least 1")
        require(self, "num_workers", self.num_workers >= 0, "be at least 0")
        require(self, "timeout_s", self.timeout_s > 0, "be positive")


@dataclass(frozen=True, kw_only=True)
class FaultConfig:
    """What happens when something goes wrong.

    Attributes:
        nonfinite: A loss or gradient that is not finite: stop the run, skip the update, or roll back to the
            last checkpoint and pass over the step.
        max_nonfinite: Updates in a row that may be skipped, or rollbacks of the run, before it stops.
        max_unreadable_fraction: Share of the training files that may be unreadable before the run stops.
        max_unreadable_in_a_row: Unreadable files, one after another, before the run stops.
    """

    nonfinite: Literal["stop", "skip", "rollback"] = "stop"
    max_nonfinite: int = 10
    max_unreadable_fraction: float = 0.01
    max_unreadable_in_a_row: int = 50

    def __post_init__(self) -> None:
        check_choice("FaultConfig", "nonfinite", self.nonfinite, ("stop", "skip", "rollback"))
        require(self, "max_nonfinite", self.max_nonfinite >= 1, "be at least 1")
        require(
            self, "max_unreadable_fraction", 0 <= self.max_unreadable_fraction <= 1, "lie between 0 and 1"
        )
        require(self, "max_unreadable_in_a_row", self.max_unreadable_in_a_row >= 1, "be at least 1")
