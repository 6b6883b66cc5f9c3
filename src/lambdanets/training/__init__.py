"""The training loop and what it stands on: config, schedule, optimiser, averages, metrics, checkpoints."""

from typing import TYPE_CHECKING

from lambdanets._lazy import resolve_lazily

if TYPE_CHECKING:
    from lambdanets.training.config import TrainConfig
    from lambdanets.training.loop import fit
    from lambdanets.training.metrics import evaluate

__all__ = ["TrainConfig", "evaluate", "fit"]

__getattr__, __dir__ = resolve_lazily(
    __name__,
    {
        "TrainConfig": "lambdanets.training.config",
        "evaluate": "lambdanets.training.metrics",
        "fit": "lambdanets.training.loop",
    },
)
