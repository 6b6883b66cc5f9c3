"""The training loop and what it stands on: config, schedule, optimiser, averages, metrics, checkpoints."""

from typing import TYPE_CHECKING

from lambdanets._lazy import resolve_lazily

if TYPE_CHECKING:
    from lambdanets.training.config import TrainConfig as TrainConfig
    from lambdanets.training.loop import fit as fit
    from lambdanets.training.metrics import evaluate as evaluate

__all__, __getattr__, __dir__ = resolve_lazily(__name__)
