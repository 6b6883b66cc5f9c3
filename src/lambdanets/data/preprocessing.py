"""From an image to what a network takes: one record, stored beside a network's weights."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lambdanets.errors import ArgumentError, CheckpointError, DataError, complaint
from lambdanets.ranges import Probability, Range, Rate, Share, check_settings

if TYPE_CHECKING:
    import PIL.Image

    from lambdanets.data.decode import ImageInput
else:
    # The record is read without Pillow and numpy, which only images need.
    ImageInput = Any

# Mean and standard deviation of ImageNet's pixels, between 0 and 1.
IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)

# A whole image takes as much memory in a network as so many squares, at most.
_LONGEST: Final = 32

# Left, upper, right and lower edge in pixels, the latter two outside.
Box = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class Foreground:
    """Draws the digit of any image as scikit-learn's bundled digits are drawn.

    The steps: grey; light ink on dark paper, decided by the border; the ink cut out and padded to a square;
    a black and white grid, finer than the result by `oversampling`, whose strokes are thickened until they
    cover `min_coverage`, as those of the bundled digits do (0.31, whatever the digit); the mean of each
    block of it, which is how the bundled digits were made.

    Attributes:
        grid: Side of the result, in cells; None: the size of the network's input.
        oversampling: Cells of the fine grid to one of the result, along each axis.
        min_coverage: Least fraction of the fine grid that ink covers.
    """

    grid: Annotated[int, Range(1, 1024)] | None = None
    oversampling: Annotated[int, Range(1, 64)] = 4
    min_coverage: Rate = 0.25

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How an image becomes the input of a network: cropped, resized and normalised.

    Tests, predictions and explanations all go through it. Paper: §E.2 (evaluation at training resolution).

    Attributes:
        size: Side of the input in pixels; of a whole image, its shorter side.
        crop_mode: The middle square of the image, or the whole image at its own shape.
        crop_fraction: Side of the square as a fraction of the image's shorter side; None:
            size / (size + 32).
        mean: Mean of the pixels of each channel, between 0 and 1; one channel is grey.
        std: Their standard deviation.
        foreground: For files of digits: finds the digit and draws it as the bundled digits are drawn.
    """

    size: Annotated[int, Range(1, 8192)]
    crop_mode: Literal["center", "whole"] = "center"
    crop_fraction: Share | None = None
    mean: tuple[Probability, ...] = IMAGENET_MEAN
    # Pixels are divided by it.
    std: tuple[Annotated[float, Range(1e-6, 10)], ...] = IMAGENET_STD
    foreground: Foreground | None = None

    def __post_init__(self) -> None:
        check_settings(self)
        if len(self.mean) not in (1, 3) or len(self.std) != len(self.mean):
            raise ArgumentError(
                "Preprocessing: mean and std must hold 1 number each (grey) or 3 (colour), got"
                f" {len(self.mean)} and {len(self.std)}."
            )

    @classmethod
    def whole_image(cls, size: int, channels: int = 3) -> "Preprocessing":
        """Keep the whole image; grey, in one channel, has the mean of ImageNet's three.

        Raises:
            ArgumentError: There are no images of so many channels.
        """
        if channels == 1:
            mean, std = (sum(IMAGENET_MEAN) / 3,), (sum(IMAGENET_STD) / 3,)
            return cls(size=size, crop_mode="whole", mean=mean, std=std)
        if channels != 3:
            raise ArgumentError(f"Preprocessing: channels must be 1 (grey) or 3 (colour), got {channels}.")
        return cls(size=size, crop_mode="whole")

    @property
    def channels(self) -> int:
        """Channels of the input: 3 for colour, 1 for grey."""
        return len(self.mean)

    @property
    def background(self) -> Literal["white", "contrast"]:
        """What stands behind transparent parts of an image, as `decode` takes it."""
        return "contrast" if self.foreground else "white"

    def to_dict(self) -> dict[str, Any]:
        """The record as plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Preprocessing":
        """Read what `to_dict` gave, of this version or of earlier ones.

        Raises:
            CheckpointError: The method is unknown, or its settings are not those it has here.
        """
        method = values.get("method")
        try:
            if method is None:
                foreground = values["foreground"]
                channels = {"mean": tuple(values["mean"]), "std": tuple(values["std"])}
                return cls(**{**values, **channels, "foreground": foreground and Foreground(**foreground)})
            if method not in _METHODS:
                raise CheckpointError(
                    f"preprocessing: method must be one of {', '.join(map(repr, _METHODS))}, got {method!r}."
                )
            return _METHODS[method](values)
        except (KeyError, TypeError, ZeroDivisionError, ArgumentError) as error:
            reason = str(error).removesuffix(".")
            raise CheckpointError(
                f"preprocessing: {method or 'description'} must have its settings, got {reason}."
            ) from error

    def __call__(self, image: "ImageInput") -> Float[Tensor, "c height width"]:
        """Make the input of a network of an image, as a transform of a data set of torchvision does.

        The argument and the errors are those of `read`.
        """
        with complaint("preprocess"):
            return self.read(image)[0]

    def read(self, image: "ImageInput") -> tuple[Float[Tensor, "c height width"], bool]:
        """Read an image: the path of a file, its bytes, an image of Pillow, an array or a tensor.

        Args:
            image: See `decode.open_image`: arrays have their channels last, tensors first.

        Returns:
            The input of a network, and whether dark and light were exchanged (only with `foreground`).

        Raises:
            PathError: There is no such file.
            DataError: It cannot be read, or shows no digit where there must be one.
            ArgumentError: An array or a tensor holds no pixels.
        """
        from lambdanets.data.decode import open_image

        opened, name = open_image(image, background=self.background)
        return self.apply(opened, name)

    def apply(self, image: "PIL.Image.Image", name: str) -> tuple[Float[Tensor, "c height width"], bool]:
        """Make the input of a network of an image in red, green and blue.

        Args:
            image: Upright.
            name: Its name, for messages.

        Returns:
            The input, and whether dark and light were exchanged.

        Raises:
            DataError: It shows no digit where there must be one, or is too long for its width.
        """
        inverted = False
        if self.foreground is not None:
            from lambdanets.data.digits import draw_digit, enlarged

            with complaint(name):
                digit, inverted = draw_digit(image, self.foreground.grid or self.size, self.foreground)
            if self.channels == 1:
                mean, std = _by_channel(self.mean), _by_channel(self.std)
                return (torch.from_numpy(digit)[None] - mean) / std, inverted
            image = enlarged(digit).convert("RGB")
        with complaint(name):
            pixels = self.pixels(image)
        return self.normalize(pixels[None])[0], inverted

    def pixels(self, image: "PIL.Image.Image") -> UInt8[Tensor, "c height width"]:
        """Crop and resize an image.

        Raises:
            DataError: A whole image is too long for its width.
        """
        from lambdanets.data.decode import crop_and_resize

        image = image if self.channels == 3 else image.convert("L")
        if self.crop_mode == "center":
            return crop_and_resize(image, self.box(image.width, image.height), (self.size, self.size))
        if max(image.size) > _LONGEST * min(image.size):
            raise DataError(
                f"a whole image must be at most {_LONGEST} times as long as wide, got"
                f" {image.width}×{image.height}. Cut it into pieces."
            )
        scale = self.size / min(image.size)
        height, width = (max(self.size, round(scale * side)) for side in (image.height, image.width))
        return crop_and_resize(image, (0, 0, image.width, image.height), (height, width))

    def box(self, width: int, height: int) -> Box:
        """The box of the middle square of an image of this size."""
        fraction = self.size / (self.size + 32) if self.crop_fraction is None else self.crop_fraction
        side = max(1, int(fraction * min(width, height)))
        left, above = (width - side + 1) // 2, (height - side + 1) // 2
        return left, above, left + side, above + side

    def normalize(self, images: UInt8[Tensor, "b c height width"]) -> Float[Tensor, "b c height width"]:
        """Normalise bytes, on whatever device they are: (x / 255 - mean) / std, by channel."""
        factors = tuple(1 / (255 * std) for std in self.std)
        terms = tuple(-mean / std for mean, std in zip(self.mean, self.std, strict=True))
        device = images.device
        return images.float().mul_(_by_channel(factors, device)).add_(_by_channel(terms, device))

    def shown(self, pixels: Float[Tensor, "c height width"]) -> Float[Tensor, "height width *channels"]:
        """Undo the normalisation, for drawing: numbers between 0 and 1, colours along the last axis."""
        undone = (pixels * _by_channel(self.std) + _by_channel(self.mean)).clamp(0, 1)
        return undone[0] if len(undone) == 1 else undone.movedim(0, -1)

    def resized(self, size: int) -> "Preprocessing":
        """The same for inputs of another size."""
        return replace(self, size=size)


@cache
def _by_channel(numbers: tuple[float, ...], device: torch.device | None = None) -> Float[Tensor, "c 1 1"]:
    # Copied to a device once: each copy would wait for it. Usable for gradients wherever it was made.
    with torch.inference_mode(False):
        return torch.tensor(numbers, device=device)[:, None, None]


# The methods that earlier versions stored, and how their descriptions are read.
_METHODS: Final = {
    "crop": lambda old: Preprocessing(
        size=old["size"], crop_fraction=old["fraction"], mean=tuple(old["mean"]), std=tuple(old["std"])
    ),
    "digit-image": lambda old: Preprocessing(
        size=old["size"],
        crop_fraction=1.0,
        mean=tuple(old["mean"]),
        std=tuple(old["std"]),
        foreground=Foreground(grid=8),
    ),
    "ink": lambda old: Preprocessing(
        size=old["size"],
        mean=(old["mean"],),
        std=(old["std"],),
        foreground=Foreground(oversampling=old["fine_size"] // old["size"], min_coverage=old["ink_share"]),
    ),
}
