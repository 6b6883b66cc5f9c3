"""Frozen settings of a labelling, checked where they are made, without torch."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from lambdanets.data.config import DataConfig
from lambdanets.errors import require
from lambdanets.ranges import Count, Probability, Seed, check_settings
from lambdanets.training.config import TrainConfig
from lambdanets.training.run_folder import RunFolder

# Prefixes of teachers that are no run folder.
TIMM: Final = "timm:"
HUB: Final = "hub:"


@dataclass(frozen=True, kw_only=True)
class LabelRules:
    """What becomes a label.

    Attributes:
        hard: Labels are the most likely class; otherwise the probabilities of all classes.
        min_confidence: Least probability of the most likely class for an image to be kept; Noisy Student's
            is 0.3.
        balance: Images of each class, the most confident ones, repeated where there are fewer; auto: the mean
            number kept of a class; none: as many as are kept.
        shard_size: Images in one file of predictions.
    """

    hard: bool = False
    min_confidence: Probability = 0.3
    balance: Count | Literal["auto", "none"] = "auto"
    shard_size: Count = 10_000

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class LabelConfig:
    """All settings of one labelling.

    Attributes:
        teacher: A run folder, `timm:` with the name of a model, or `hub:` with the name of a repository.
        weights: A safetensors file with the weights of a model of timm; none: those timm downloads.
        data: The data set whose unlabelled images are labelled.
        seed: The seed of the data set: which digits of semi are unlabelled, and what a holdout leaves.
        rules: What becomes a label.
    """

    teacher: str
    weights: str | None = None
    data: DataConfig
    seed: Seed = 0
    rules: LabelRules = LabelRules()

    def __post_init__(self) -> None:
        check_settings(self)
        require(
            self,
            "weights",
            self.weights is None or self.teacher.startswith(TIMM),
            f"be left out for a teacher that is not {TIMM}NAME",
        )

    def to_dict(self, teacher_digest: str) -> dict[str, Any]:
        """All that decides the labels, for the folder: another command must not continue them."""
        return {
            "teacher": self.teacher,
            "teacher_sha256": teacher_digest,
            "data": self.data.clean,
            "seed": self.seed,
            **asdict(self.rules),
        }


def run_config(teacher: str) -> TrainConfig | None:
    """Read the config of a teacher that is a run; None where it is another one."""
    if teacher.startswith((TIMM, HUB)):
        return None
    return RunFolder.existing(Path(teacher)).read_config(TrainConfig)
