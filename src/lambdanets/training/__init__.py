"""The training loop and what it stands on: config, optimiser, EMA, metrics, checkpoints, processes."""

from typing import TYPE_CHECKING

from lambdanets._lazy import resolve_lazily

if TYPE_CHECKING:
    from lambdanets.training.config import TrainConfig as TrainConfig
    from lambdanets.training.loop import Trainer as Trainer
    from lambdanets.training.metrics import evaluate as evaluate
else:
    # Where a type checker does not see it: to one, a module with __getattr__ has every name.
    __all__, __getattr__, __dir__ = resolve_lazily(__name__)
