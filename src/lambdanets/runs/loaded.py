"""A trained network with all that is needed to use it, and where it came from."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, overload

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lambdanets.data.preprocessing import Preprocessing
from lambdanets.errors import ArgumentError, check_positive, complaint
from lambdanets.models.factory import count_parameters, evaluating
from lambdanets.training.config import TrainConfig
from lambdanets.training.run_folder import RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lambdanets.data.decode import ImageInput

    Image = TypeVar("Image", bound=ImageInput)
else:
    # A run is loaded without Pillow and matplotlib, which only images and figures need.
    ImageInput = Image = Figure = Any

Weights = Literal["best", "ema", "raw"]

# A class and its probability, the most likely first.
Ranking = list[tuple[str, float]]

# Images of a list that are computed at a time.
_BATCH: Final = 64


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The origin of a model and its weights.

    Attributes:
        source: The file of the weights, or a name such as `timm:resnet18`.
        model: The name of the model.
        weights: Which weights of a run these are: `best`, `ema` or `raw`; None for other weights.
        is_ema: Whether they are EMA weights, and not the optimizer's own; None where not known. The best
            ones of a run are the better of both.
        recipe: The recipe they were trained by, where known.
        epoch: Epochs they were trained; None within an epoch, or where not known.
        step: Optimizer steps they were trained, where known.
        metric: The evaluation of exactly these weights during training, where there was one.
        sha256: Digest of the names, types, shapes and values of all weights.
        fingerprint: On which data, by which libraries and on what processor they were made; None in files of
            earlier versions.
        warnings: One sentence for each damaged checkpoint that was skipped, and for other libraries and
            another processor than those here.
    """

    source: str
    model: str
    weights: Weights | None = None
    is_ema: bool | None = None
    recipe: str | None = None
    epoch: int | None = None
    step: int | None = None
    metric: Mapping[str, Any] | None = None
    sha256: str
    fingerprint: Mapping[str, Any] | None = None
    warnings: tuple[str, ...] = ()

    def describe(self) -> str:
        """Say in some words which weights these are: `EMA after epoch 30`."""
        kind = {True: "EMA", False: "raw weights", None: "weights"}[self.is_ema]
        if self.epoch is not None:
            return f"{kind} after epoch {self.epoch}"
        return kind if self.step is None else f"{kind} after step {self.step}"


@dataclass(frozen=True, kw_only=True, repr=False)
class LoadedModel:
    """A trained network with all that is needed to use it.

    Attributes:
        model: The network, in evaluation mode, on the CPU until `to` moves it.
        preprocessing: Turns images into inputs of the network; None where its images do not come from files,
            or where nothing is known.
        labels: The name of each class, where known.
        origin: Where all this came from.
        folder: The run folder; None for a file of weights and for other networks.
    """

    model: nn.Module
    preprocessing: Preprocessing | None
    labels: tuple[str, ...] | None
    origin: Origin
    folder: Path | None = None

    def __repr__(self) -> str:
        origin, metric = self.origin, self.origin.metric
        classes = "classes not known" if self.labels is None else f"{len(self.labels)} classes"
        accuracy = f", {metric['test_accuracy']:.2%} in training" if metric else ""
        lines = (
            f"{origin.model}: {count_parameters(self.model):,} parameters, {classes}, on {self.device}",
            f"  {origin.source}: {origin.describe()}{accuracy}",
        )
        return "\n".join(lines)

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return next((tensor.device for tensor in self.model.parameters()), torch.device("cpu"))

    def to(self, device: torch.device | str) -> "LoadedModel":
        """Move the network to a device, in place; images follow it there.

        Returns:
            This record.
        """
        self.model.to(device)
        return self

    @property
    def preprocess(self) -> Preprocessing:
        """Makes an input of the network of an image: `run.preprocess(image)`.

        The image is a path, bytes, an image of Pillow, an array or a tensor, as for `predict`. It serves as
        `transform` of a data set of torchvision or timm, also in worker processes.

        Raises:
            ArgumentError: The network's images do not come from files, or nothing is known of them.
        """
        if self.preprocessing is None:
            raise ArgumentError(
                f"run must be one that files can be given to, got {self.origin.source}, whose images are"
                " drawn or not described."
            )
        return self.preprocessing

    @property
    def config(self) -> TrainConfig | None:
        """The settings of the run; None for what has no run folder."""
        return None if self.folder is None else RunFolder.existing(self.folder).read_config(TrainConfig)

    @property
    def history(self) -> list[dict[str, Any]]:
        """The metrics of the run, one row an epoch, all with the same keys; empty without a run folder.

        Read at each call, so that it grows with a run that goes on. A metric that an epoch lacks is None.
        `pandas.DataFrame(run.history)` makes a table.
        """
        records = [] if self.folder is None else RunFolder(self.folder).read_metrics()
        keys = list(dict.fromkeys(key for record in records for key in record))
        return [{key: record.get(key) for key in keys} for record in records]

    def plot(self) -> "Figure":
        """Draw the learning curves of the run: a figure of matplotlib, which a notebook shows.

        Raises:
            ArgumentError: There is no run folder, or no epoch is finished yet.
        """
        from lambdanets.runs.figure_style import png
        from lambdanets.runs.plots import learning_curves

        if self.folder is None:
            raise ArgumentError(
                f"plot: run must be loaded from a run folder, got {self.origin.source}, which has no history."
            )
        records = RunFolder(self.folder).read_metrics()
        if not records:
            raise ArgumentError(f"plot: {self.folder} must have finished an epoch, got none.")
        test_name = self.config.data.test_name if self.config else "test"
        figure = learning_curves(records, f"{self.folder.name}: {self.origin.model}", test_name)
        # What a notebook asks for where pyplot has not been imported.
        vars(figure)["_repr_png_"] = functools.partial(png, figure)
        return figure

    def read(self, image: "ImageInput") -> tuple[Float[Tensor, "c height width"], bool]:
        """Read an image as an input of the network, and whether dark and light were exchanged.

        Raises:
            ArgumentError: The network's images do not come from files, or an array holds no pixels.
            PathError: There is no such file.
            DataError: It cannot be read.
        """
        return self.preprocess.read(image)

    @overload
    def predict(self, image: "ImageInput", top: int = 5) -> Ranking: ...
    @overload
    def predict(self, image: "list[Image] | tuple[Image, ...]", top: int = 5) -> list[Ranking]: ...
    def predict(
        self, image: "ImageInput | list[Image] | tuple[Image, ...]", top: int = 5
    ) -> Ranking | list[Ranking]:
        """Classify an image, or a list of images in batches.

        Args:
            image: The path of a file; the bytes of one; an image of Pillow; an array of shape (height, width)
                or (height, width, channels); a tensor of shape (channels, height, width) or (height, width);
                or a list of these. Arrays and tensors hold bytes (uint8), or floating-point numbers from 0
                to 1.
            top: How many classes, at most. Without `labels` they are called by their numbers.

        Returns:
            The most likely classes with their probabilities, the most likely first; of a list, a list of
            them, in its order.

        Raises:
            PathError: There is no such file.
            DataError: An image cannot be read; a message about one of a list begins with its place.
            ArgumentError: The network's images do not come from files, an array or a tensor has another
                shape or range, or `top` is below 1.
            ArgumentTypeError: Something is no image.
        """
        check_positive("predict", top=top)
        if not isinstance(image, list | tuple):
            with complaint("predict"):
                return self.classify(self.read(image)[0], top)
        rankings: list[Ranking] = []
        for start in range(0, len(image), _BATCH):
            inputs = []
            for place, one in enumerate(image[start : start + _BATCH], start):
                with complaint(f"predict: images[{place}]"):
                    inputs.append(self.read(one)[0])
            rankings += self._classify_all(inputs, top)
        return rankings

    def _classify_all(self, inputs: Sequence[Tensor], top: int) -> list[Ranking]:
        """Classify inputs, all at a time if they have one shape, as they have where squares are cut out."""
        if len({pixels.shape for pixels in inputs}) == 1:
            return self.classify_batch(torch.stack(list(inputs)), top)
        return [self.classify(pixels, top) for pixels in inputs]

    def classify(self, pixels: Float[Tensor, "c height width"], top: int = 5) -> Ranking:
        """Return the most likely classes of one image with their probabilities, most likely first.

        Args:
            pixels: The image as `read` gives it.
            top: How many classes, at most. Without `labels` they are called by their numbers.
        """
        return self.classify_batch(pixels[None], top)[0]

    def classify_batch(self, images: Float[Tensor, "b c height width"], top: int = 5) -> list[Ranking]:
        """Do what `classify` does for each image of a batch, on the device of the network."""
        with evaluating(self.model):
            logits = self.model(images.to(self.device))
        probabilities = logits.float().softmax(dim=1).cpu()
        labels = self.labels or tuple(map(str, range(probabilities.shape[1])))
        values, indices = probabilities.topk(min(top, len(labels)))
        return [
            [(labels[index], value) for index, value in zip(row, chances, strict=True)]
            for row, chances in zip(indices.tolist(), values.tolist(), strict=True)
        ]
