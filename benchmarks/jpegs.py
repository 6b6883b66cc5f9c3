"""Images as costly to decode as photographs: drawn, always the same, of ImageNet's sizes and bytes."""

import io
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

# Width and height: how most of ImageNet's images are, whose means are 482×415 pixels and 110 kB.
SIZES: Final = ((500, 375), (500, 375), (500, 333), (375, 500), (500, 500), (400, 400))
QUALITY: Final = 90
NUM_CLASSES: Final = 10
# Standard deviations of shades, colours and grain, of 255.
SHADES, COLOURS, GRAIN = 52.0, 16.0, 4.5


def jpeg(index: int) -> bytes:
    """The image of an index: amplitudes fall with the frequency, as in photographs, and some grain."""
    generator = np.random.default_rng((0, index))
    width, height = SIZES[index % len(SIZES)]
    shades = SHADES * _cloud(generator, width, height)
    colours = [COLOURS * _cloud(generator, width, height) for _ in range(2)]
    red, blue = shades + colours[0], shades + colours[1]
    green = shades - (colours[0] + colours[1]) / 2
    grain = GRAIN * generator.standard_normal((height, width, 1))
    pixels = 120 + np.stack([red, green, blue], axis=2) + grain
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def _cloud(generator: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Noise whose amplitude is 1 / frequency, of deviation 1."""
    across, down = np.fft.rfftfreq(width), np.fft.fftfreq(height)
    frequency = np.hypot(across[None], down[:, None])
    frequency[0, 0] = np.inf
    phases = np.exp(2j * np.pi * generator.random(frequency.shape))
    cloud = np.fft.irfft2(phases / frequency, s=(height, width))
    return cloud / cloud.std()


def write_folder(root: Path, count: int) -> int:
    """Write the first images into class folders of `root/train`; give their bytes in all."""
    total = 0
    for index in range(count):
        folder = root / "train" / f"class{index % NUM_CLASSES}"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{index:06d}.jpg"
        if not path.exists():
            path.write_bytes(jpeg(index))
        total += path.stat().st_size
    return total
