"""Which small network stands for a row of a table, on a data set that some recipe trains."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from lambdanets.data.config import DATA_SETS, DataConfig, FilesConfig
from lambdanets.data.parts import PartsConfig
from lambdanets.data.task import Task
from lambdanets.errors import ArgumentError, did_you_mean
from lambdanets.extensions import import_hint
from lambdanets.models import list_models, on_meta
from lambdanets.models.config import LambdaConfig, NetworkConfig, ResNetConfig
from lambdanets.models.variants import VARIANTS, model_config
from lambdanets.published import Row
from lambdanets.recipes import RECIPES, fit_recipe, get_recipe, recipes_of
from lambdanets.runs.tasks import load_task, make_model
from lambdanets.text import shell_words
from lambdanets.training.config import TrainConfig

# The recipe of a twin with convolutions is called as the other, with this behind it.
_TWIN: Final = "-conv"

# The recipe for images from files.
_FILES: Final = "photos"

# The settings of a network that a row of these tables may change.
_LAYER_SETTINGS: Final = ("layers", *(one.name for one in fields(LambdaConfig)), "share_position", "mixer")


@dataclass(frozen=True)
class Source:
    """A data set and the two networks that are changed for the rows.

    Attributes:
        name: As `--train` has it: a recipe or a data set.
        lambdas: Trains a network with lambda layers.
        convolutions: Trains its twin.
    """

    name: str
    lambdas: TrainConfig
    convolutions: TrainConfig

    @property
    def dataset(self) -> str:
        """What the data are called in results: the folder's own name where images are read from one."""
        data = self.lambdas.data
        return Path(data.root).name if isinstance(data, FilesConfig) else self.name

    @property
    def options(self) -> str:
        """The options of the data, each led by a blank, as a command line has them."""
        return "".join(f" --data.{name} {shell_words(value)}" for name, value in self._changed())

    def _changed(self) -> Iterator[tuple[str, str]]:
        data = self.lambdas.data
        usual = get_recipe(self.lambdas.recipe, TrainConfig).data
        for one in fields(data):
            value = getattr(data, one.name)
            if one.compare and value != getattr(usual, one.name, None):
                typed = data.root_given if one.name == "root" and isinstance(data, PartsConfig) else None
                yield one.name.replace("_", "-"), typed or str(value)

    @functools.cached_property
    def task(self) -> Task:
        """The loaded data set; its classes and channels are those of every seed."""
        return load_task(self.lambdas)


def recipe_for(name: str) -> TrainConfig:
    """The recipe of a classifier by its name, or by the name of the data set that it trains on.

    Raises:
        ArgumentError: There is none.
    """
    known = recipes_of(TrainConfig)
    if name in known:
        return get_recipe(
            name.removesuffix(_TWIN) if name.removesuffix(_TWIN) in known else name, TrainConfig
        )
    kind = DATA_SETS.get(name)
    if kind is not None and issubclass(kind, FilesConfig):
        return get_recipe(_FILES, TrainConfig)
    training = [recipe for recipe in known if get_recipe(recipe, TrainConfig).data.name == name]
    if training:
        return get_recipe(training[0], TrainConfig)
    if kind is not None:
        raise ArgumentError(
            f"tables: train must be a data set that a recipe of a classifier trains, got {name!r}, which "
            "none does. Register one by lambdanets.register_recipe."
        )
    near = did_you_mean(name, {*known, *DATA_SETS, "scenes"})
    raise ArgumentError(
        "tables: train must be a recipe of a classifier (`lambdanets recipes`), a data set or 'scenes', "
        f"got {name!r}.{near}{import_hint('recipe')}"
    )


def find_source(name: str, data: DataConfig | None, log: Callable[[str], None]) -> Source:
    """The trainings of a data set whose networks stand for the rows.

    Args:
        name: A recipe of a classifier, or a data set that one trains.
        data: The data set with other settings than the recipe's.
        log: Receives a line about each setting that the recipe chooses by the data.

    Raises:
        ArgumentError: There is no such recipe; its network is no ResNet; nobody said where the data are.
    """
    recipe = recipe_for(name)
    # As many trainings at a time as there are cores.
    config = replace(recipe, num_threads=1, data=(data or recipe.data).located())
    config.data.check_ready()
    size = getattr(config.data, "image_size", None)
    given = () if size == getattr(recipe.data, "image_size", size) else ("data.image_size",)
    config, choices = fit_recipe(config, given)
    for line in choices.values():
        log(f"{config.recipe}: {line}")
    network = _network_of(config)
    if not isinstance(network, ResNetConfig):
        raise ArgumentError(
            f"tables: train must be a recipe of a ResNet, whose layers are the rows', got {name!r} with "
            f"{config.model.name}."
        )
    twin = config.recipe + _TWIN
    if twin in RECIPES:
        convolutions = replace(get_recipe(twin, TrainConfig), num_threads=1, data=config.data)
    else:
        convolutions = _with_layers(config, network, "CCCC")
    if set(network.layers) != {"C"} or network.lambda_blocks:
        return Source(name, config, convolutions)
    return Source(name, _with_layers(config, network, "LLLL"), config)


def config_of(row: Row, source: Source, seed: int) -> TrainConfig | str:
    """Make the training of a data set with the layers of a row, or say why there is none.

    The letters of the row, and the settings by which it differs from an all-lambda or plain ResNet-50, are
    put into the small network, which keeps its own depths, widths and window otherwise.
    """
    if row.model not in list_models("resnet50*"):
        return f"{row.model} is no ResNet-50"
    is_plain = row.model == "resnet50"
    usual = _settings(model_config("resnet50" if is_plain else "resnet50_llll"))
    settings = _settings(model_config(row.model, **row.overrides))
    different = {name for name, value in usual.items() if settings[name] != value}
    if not different <= {*_LAYER_SETTINGS}:
        others = sorted(different - {*_LAYER_SETTINGS})
        return f"it differs in more than its layers: {', '.join(others)}"
    base = source.convolutions if is_plain else source.lambdas
    network = _network_of(base)
    assert isinstance(network, ResNetConfig)
    changed = (different | row.overrides.keys()) - {"layers"}
    if network.layers != settings["layers"] or network.lambda_blocks:
        changed.add("layers")
    own = {name: value for name, value in base.model.overrides.items() if name != "lambda_blocks"}
    overrides: dict[str, Any] = {
        **(own if "layers" in changed else base.model.overrides),
        **{name: settings[name] for name in _LAYER_SETTINGS if name in changed},
    }
    config = replace(base, seed=seed, model=replace(base.model, overrides=overrides))
    # Loaded with memory.
    task = source.task
    try:
        with on_meta():
            make_model(config.model, task)
    except ArgumentError as error:
        return str(error)
    return config


def _with_layers(config: TrainConfig, network: ResNetConfig, layers: str) -> TrainConfig:
    """The same training of a network of other letters: one that has a name, or by an override."""
    wanted = replace(network, layers=layers, lambda_blocks={}, mixer=None)
    name = next((name for name, one in VARIANTS.items() if one == wanted), config.model.name)
    if name != config.model.name:
        return replace(config, model=replace(config.model, name=name, overrides={}))
    dropped = ("lambda_blocks", "mixer")
    kept = {name: value for name, value in config.model.overrides.items() if name not in dropped}
    return replace(config, model=replace(config.model, overrides={**kept, "layers": layers}))


def _network_of(config: TrainConfig) -> NetworkConfig:
    return model_config(config.model.name, **config.model.overrides)


def _settings(config: NetworkConfig) -> dict[str, Any]:
    """The settings of a network, with those of its lambda layers among them."""
    settings = asdict(config)
    return {**settings.pop("lambda_layer"), **settings}
