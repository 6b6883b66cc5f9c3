"""A network to look at, and an image as it takes it: from a run folder, or by the name of a model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from lambdanets.data.decode import PlainPreprocessing
from lambdanets.errors import (
    ArgumentError,
    CheckpointError,
    PathError,
    check_positive,
    complaint,
    did_you_mean,
)
from lambdanets.models import create_model, list_models
from lambdanets.models.create import Network
from lambdanets.runs.load import LoadedModel, load_run, require_preprocessing, sizes_of
from lambdanets.training.run_folder import RunFolder
from lambdanets.training.state import load_state

# Of random weights, so that the same command draws the same images.
SEED: Final = 0


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A network with one image.

    Attributes:
        model: In evaluation mode.
        name: Of the model.
        weights: Where they come from, in words.
        inputs: The image as the network takes it, a batch of one.
        shown: The same between 0 and 1, to be drawn.
        prediction: What the network takes the image for, in words; empty where it has not learned labels.
        is_random: Whether nothing was learned.
    """

    model: Network
    name: str
    weights: str
    inputs: Float[Tensor, "1 c height width"]
    shown: Float[np.ndarray, "height width"] | Float[np.ndarray, "height width 3"]
    prediction: str = ""
    is_random: bool = False


def load_subject(
    who: str, source: str, image: Path, *, size: int | None = None, weights: Path | None = None
) -> Subject:
    """Load a network and an image for it.

    Args:
        who: The job that complains.
        source: A run folder, or the name of a model.
        image: An image file.
        size: Shorter side the image gets, in pixels; as the network was made for by default.
        weights: A safetensors file for a model by name; without it, random weights.

    Raises:
        ArgumentError: There is neither a run nor a model of that name; options that do not fit.
        PathError: A file does not exist.
        DataError: The image cannot be read.
        CheckpointError: The weights cannot be read, or belong to another model.
    """
    if size is not None:
        check_positive(who, size=size)
    run = RunFolder(Path(source))
    if source in list_models() and not run.config.is_file():
        return _by_name(who, source, image, size, weights)
    if not run.path.exists():
        raise ArgumentError(
            f"{who}: source must be a run folder or the name of a model, got {source!r}."
            f"{did_you_mean(source, list_models())} `lambdanets models` lists the models."
        )
    if weights is not None:
        raise ArgumentError(
            f"{who}: weights must be left out for a run, which has its own, got {weights}. "
            "They go with the name of a model."
        )
    return _of_run(who, run.path, image, size)


def _of_run(who: str, run: Path, image: Path, size: int | None) -> Subject:
    loaded = load_run(run)
    with complaint(who):
        preprocessing = require_preprocessing(loaded)
    if size is not None:
        preprocessing = preprocessing.resized(size)
    pixels, _ = preprocessing.read(image, who)
    origin = loaded.origin
    metric = origin.metric or {}
    assert isinstance(loaded.model, Network), "create_model made it"
    return Subject(
        model=loaded.model,
        name=origin.model,
        weights=f"trained ({origin.recipe}, epoch {metric['epoch']}, "
        f"{metric['test_accuracy']:.1%} of its test images)",
        inputs=pixels[None],
        shown=preprocessing.shown(pixels),
        prediction=_prediction(loaded, pixels),
    )


@torch.inference_mode()
def _prediction(loaded: LoadedModel, pixels: Float[Tensor, "c height width"]) -> str:
    assert loaded.labels, "stored with the weights"
    probability, label = loaded.model(pixels[None]).softmax(dim=1)[0].max(dim=0)
    return f"taken for {loaded.labels[int(label)]} ({float(probability):.1%})"


def _by_name(who: str, name: str, image: Path, size: int | None, weights: Path | None) -> Subject:
    tensors = {} if weights is None else _read_tensors(who, weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = create_model(name, **sizes_of(tensors))
    if weights is not None:
        load_state(model, tensors, str(weights))
    made_for = model.config.image_size
    preprocessing = PlainPreprocessing(
        size=size or (made_for if isinstance(made_for, int) else min(made_for)),
        channels=model.config.in_channels,
    )
    pixels = preprocessing.read(image, who)
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (preprocessing.mean, preprocessing.std))
    shown = (pixels * std + mean).numpy().clip(0, 1)
    return Subject(
        model=model.eval(),
        name=name,
        weights=f"random weights (seed {SEED})" if weights is None else f"weights of {weights.name}",
        is_random=weights is None,
        inputs=pixels[None],
        shown=shown[0] if len(shown) == 1 else np.moveaxis(shown, 0, -1),
    )


def _read_tensors(who: str, path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise PathError(f"{who}: weights must be a file, got {path}, which does not exist.")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{who}: weights must be a safetensors file, got {path}: {error}.") from error
