"""`lambdanets train`: train a recipe, or continue a run where it stopped."""

from lambdanets.cli._options import Argv, Recipe
from lambdanets.cli._training import DEFAULTS, Options, start_training


def train(config: Recipe, *, argv: Argv, options: Options = DEFAULTS) -> int:
    """Train a recipe, or continue a run where it stopped.

    Args:
        config: All settings.
        argv: The arguments of the command.
        options: Folder, processes and files of the run.
    """
    return start_training(config, argv, options)
