"""The start of a fine-tuning: what a run, a checkpoint or a file says of its network; without torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lambdanets.errors import ArgumentError, CheckpointError, PathError, check_choice
from lambdanets.reading import parse_json, read_json, reading
from lambdanets.tensor_files import DESCRIPTION, read_header
from lambdanets.training.config import ModelConfig, TrainConfig
from lambdanets.training.content import check_description
from lambdanets.training.run_folder import RunFolder
from lambdanets.training.run_names import list_checkpoints

# Weights of other libraries, which have names of their own.
_FOREIGN: Final = {"timm:": "timm", "hf-hub:": "the Hugging Face Hub"}
_WEIGHTS: Final = ".safetensors"


@dataclass(frozen=True, kw_only=True)
class InitSource:
    """Weights to start with, before they are read.

    Attributes:
        path: A run folder, a checkpoint folder or a file.
        described: What describes them: model, labels, preprocessing; None for a file that stands alone.
    """

    path: Path
    described: Mapping[str, Any] | None

    @property
    def model(self) -> ModelConfig | None:
        """The network they are of, where that is known."""
        return None if self.described is None else described_model(self.described)


def described_model(described: Mapping[str, Any]) -> ModelConfig:
    """The network that a description names, without the sizes that follow from the data."""
    return ModelConfig(name=described["model"]["name"], overrides=described["model"]["overrides"])


def find_init(init: str, who: str = "init") -> InitSource:
    """Find the weights that a setting names, and what describes them.

    Args:
        init: A run, one of its checkpoints or a file of weights.
        who: The setting, for messages.

    Raises:
        ArgumentError: Weights of another library.
        PathError: There is nothing, or a run that has no weights yet.
        CheckpointError: The description cannot be understood.
    """
    for prefix, library in _FOREIGN.items():
        if init.startswith(prefix):
            raise ArgumentError(
                f"{who}: weights must be of a run, one of its checkpoints or a {_WEIGHTS} file, got {init!r}."
                f" Weights of {library} come with the integrations; until then, save them with safetensors"
                " under the names of a network of create_model."
            )
    path = Path(init)
    file = next((one for one in _descriptions(path) if one.is_file()), None)
    if file is None:
        raise PathError(
            f"{who}: weights must be of a run, one of its checkpoints or a {_WEIGHTS} file, got {init}, which"
            f" {'has none' if path.exists() else 'does not exist'}."
            + (" They come with the first epoch." if (path / "config.json").is_file() else "")
        )
    return InitSource(path=path, described=_read_description(file, who))


def _descriptions(path: Path) -> Sequence[Path]:
    """The files that may describe weights, the first that is there before the others."""
    if path.is_dir():
        return path / "state.json", path / "best.safetensors"
    if path.suffix == _WEIGHTS and path.is_file():
        return path.with_name("state.json"), path
    return ()


def _read_description(file: Path, who: str) -> Mapping[str, Any] | None:
    with reading(who, file, "describe its network", CheckpointError):
        described = _state_of(file) if file.name == "state.json" else _header_of(file)
        if described is None:
            beside = (file.with_name("best.json"), file.with_name("config.json"))
            described = next((read_json(one) for one in beside if one.is_file()), None)
    if described is not None:
        check_description(described, who, file)
    return described


def _state_of(file: Path) -> Any:
    record = read_json(file, {})
    return record.get("description") or record.get("config", {})


def _header_of(file: Path) -> Any:
    """What `save_weights` wrote into the header of a file."""
    text = read_header(file).metadata.get(DESCRIPTION)
    return text and parse_json(text)


def with_model_of_weights(given: set[str]) -> set[str]:
    """Add the network to the settings that are given, where weights to start with name it."""
    return given | {"model.name", "model.overrides"} if "init" in given else given


def model_to_start_with(init: str, out: Path) -> ModelConfig | None:
    """The network of weights, or that of the run that is continued: its weights are its own by now.

    Args:
        init: The setting.
        out: The run folder, which need not exist.
    """
    folder = RunFolder(out)
    if _goes_on(folder):
        old = folder.read_config(TrainConfig)
        if old.init == init:
            return old.model
    source = find_init(init)
    if source.model is not None and ":" in source.model.name:
        raise ArgumentError(
            f"init: weights must be of a network of `lambdanets models`, got those of {source.model.name} in"
            f" {source.path}."
        )
    return source.model


def check_fine_tuning(config: TrainConfig, folder: RunFolder) -> None:
    """Raise where there are no such stages to freeze, or no such weights to start with.

    Raises:
        ArgumentError: An unknown stage, with those that the network has.
        PathError: There are no weights; a run that is continued needs none.
    """
    if config.freeze:
        from lambdanets.models.variants import model_config

        stages = model_config(config.model.name, **config.model.overrides).stages
        for stage in config.freeze:
            check_choice("train", "freeze", stage, stages)
    if config.init is not None and not _goes_on(folder):
        find_init(config.init)


def _goes_on(folder: RunFolder) -> bool:
    """Whether a run has weights of its own; one that failed before it had any may change its network."""
    return folder.config.is_file() and bool(list_checkpoints(folder.checkpoints))
