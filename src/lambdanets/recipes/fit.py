"""Recipes fitted to their data: other data in place of a recipe's, and settings that follow from them."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Final, TypeVar

from lambdanets.data.config import FilesConfig, switched
from lambdanets.training.config import RunConfig, TrainConfig

Config = TypeVar("Config", bound=RunConfig)

# What a recipe chose for its data, and in words, by the name of the choice, why.
Fitted = tuple[TrainConfig, dict[str, str]]

# Chooses the settings that follow from the data of a config, but those whose dotted names are given.
Fit = Callable[[TrainConfig, Collection[str]], Fitted]

# Least side of images in place of smaller ones, for which a network was made.
_LEAST_SIZE: Final = 32

# Side of the middle square that tests see of such images; the paper's crop would leave half of 32 pixels.
TEST_CROP: Final = 0.95

_FITS: Final[dict[str, Fit]] = {}


def fitted_by(fit: Fit) -> Callable[[Callable[[], Config]], Callable[[], Config]]:
    """Register beside a recipe what fits it to its data, before other options are read: see `fit_recipe`."""

    def register(function: Callable[[], Config]) -> Callable[[], Config]:
        _FITS[function.__name__.replace("_", "-")] = fit
        return function

    return register


def replace_data(
    config: TrainConfig, name: str | None = None, root: str | None = None
) -> tuple[TrainConfig, dict[str, str]]:
    """Give a recipe another data set: the one of a name, or what is in a folder.

    Args:
        config: The recipe.
        name: The name of the data set.
        root: The folder; without a name, images are read from it, from shards where it holds such.

    Returns:
        The config, and a line for each choice that says why.

    Raises:
        ArgumentError: There is no such data set.
    """
    if name is None and root is None:
        return config, {}
    # Help without images needs neither.
    from lambdanets.data.layout import holds_shards
    from lambdanets.models.variants import model_config

    data = config.data
    if name is None and root is not None and (data.name == "folder" or not hasattr(data, "root")):
        name = "shards" if holds_shards(root, getattr(data, "train", "train")) else "folder"
    if name in (None, data.name):
        return config, {}
    assert name is not None, "another name was found"
    changed = switched(data, name)
    if not isinstance(changed, FilesConfig) or hasattr(data, "image_size"):
        return replace(config, data=changed), {}
    model = model_config(config.model.name).image_size
    size = max(_LEAST_SIZE, model if isinstance(model, int) else min(model))
    said = f"{size}×{size} pixels, for the network of {config.recipe}; others by --data.image-size"
    return replace(config, data=replace(changed, image_size=size, test_crop=TEST_CROP)), {"images": said}


def is_fitted(name: str) -> bool:
    """Whether a recipe chooses settings by its data."""
    return name in _FITS


def fit_recipe(config: TrainConfig, given: Collection[str] = ()) -> Fitted:
    """Fit the settings of a recipe to the data of a config, where the recipe can; without torch.

    The same data and the same given settings lead to the same choice.

    Args:
        config: With the place of its data, and with the settings that are given.
        given: Dotted names of the settings that somebody decided, such as `data.image_size`: they stay.

    Returns:
        The config, and a line for each choice that says why; none where the recipe has no choice, or where
        nobody has said where the data are.

    Raises:
        PathError: The data are not there.
        DataError: They are laid out in another way.
    """
    fit = _FITS.get(config.recipe)
    if fit is None or not getattr(config.data, "root", ""):
        return config, {}
    return fit(config, given)


def look_over(config: RunConfig, choices: Mapping[str, str]) -> str:
    """Say what is in the folder of the images, and what follows from it.

    Raises:
        PathError: The images are not there.
        DataError: They are laid out in another way.
    """
    survey = config.data.survey() if isinstance(config, TrainConfig) else None
    lines = [survey.lines()] if survey else []
    lines += [f"{name:<14}{choice}" for name, choice in choices.items()]
    return "".join(f"{line}\n" for line in lines)
