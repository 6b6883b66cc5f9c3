"""Race our loader, from a folder and from shards, against timm's and torchvision's on the same images.

    pip install '.[train]'
    python benchmarks/loading.py [--images 1536] [--rounds 5] [--workers 0 1 2] [--batch 64] [--threads 2]
        [--folder DIR] [--out FILE]

The images are drawn (`jpegs.py`), always the same, of ImageNet's sizes and bytes, and lie in the page
cache: no disk takes part. Everyone cuts a random part of 8 to 100 % of the area out, resizes it to 224×224,
bicubic and averaged where it shrinks, mirrors half of them, and hands over batches that are normalised
float32 in the main process, where the clock stands; images travel from workers as bytes where that is
possible, because it is a quarter of the memory. A second race adds two operations of RandAugment of
magnitude 10 (`rand-m10-n2-p1-mmax30`, nearest pixels, as ours).

    lambdanets           `ImageTraining` of `open_folder`, through `load_batches`
    lambdanets-shards    the same of `ShardSource`
    timm                 `create_loader` without its prefetcher: normalised in the workers
    timm-prefetcher      with it: bytes from the workers, normalised in the main process
    torchvision          `ImageFolder`, v2 transforms of Pillow's images, a `DataLoader`
    torchvision-tensor   the same, cropped as a tensor: its reference's `--backend tensor`

An epoch is timed from asking for its iterator to its last batch, so that starting the workers counts for
everyone. Contestants take turns; the first round warms up and is not counted. Prints images/s (median,
slowest and fastest round), and our time over that of the fastest peer of the same round, median and range:
below 1 ours is faster. Like `lambdanets train`, threads that wait for work leave their core to others.

At the end our folder and our shards are read in random order without decoding, once out of the page cache
and once from the disk, that is after the cache was asked to forget them.
"""

import argparse
import itertools
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

# OpenMP reads this when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import jpegs
import torch
from harness import Result, ResultFile, command_line, rounds, spread
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from lambdanets.data.augment import AugmentConfig
from lambdanets.data.folders import open_folder
from lambdanets.data.images import ImageTraining
from lambdanets.data.preprocessing import Preprocessing
from lambdanets.data.shard_writer import write_shards
from lambdanets.data.shards import ShardSource
from lambdanets.data.sources import Source
from lambdanets.data.transforms import TrainTransform
from lambdanets.training.loader import load_batches

SIZE: Final = 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LAYERS, MAGNITUDE = 2, 10
OWN: Final = ("lambdanets", "lambdanets-shards")

# Gives the normalised batches of an epoch, for its number.
Epoch = Callable[[int], Iterable[Tensor]]


def own(source: Source, batch: int, num_workers: int, augmented: bool) -> Epoch:
    """Our loader."""
    augment = AugmentConfig(randaugment_layers=LAYERS if augmented else 0, randaugment_magnitude=MAGNITUDE)
    transform = TrainTransform(size=SIZE, augment=augment)
    data = ImageTraining(source=source, seed=0, transform=transform)
    normalize = Preprocessing(size=SIZE).normalize

    def epoch(number: int) -> Iterator[Tensor]:
        calls = ((number, indices) for indices in data.order(number).split(batch))
        for one in load_batches(data, calls, num_workers):
            yield normalize(one.images)

    return epoch


def timm(root: Path, batch: int, num_workers: int, augmented: bool, *, prefetcher: bool) -> Epoch:
    """timm's loader at the same settings."""
    from timm.data import create_dataset, create_loader

    loader = create_loader(
        create_dataset("", root=str(root), split="train", is_training=True),
        input_size=(3, SIZE, SIZE),
        batch_size=batch,
        is_training=True,
        scale=(0.08, 1.0),
        ratio=(3 / 4, 4 / 3),
        color_jitter=None,
        auto_augment=f"rand-m{MAGNITUDE}-n{LAYERS}-p1-mmax30" if augmented else None,
        interpolation="bicubic",
        mean=MEAN,
        std=STD,
        num_workers=num_workers,
        device=torch.device("cpu"),
        use_prefetcher=prefetcher,
        persistent_workers=False,
    )
    if augmented:
        _take_nearest_pixels(loader)
    return lambda number: (images for images, _ in loader)


def _take_nearest_pixels(loader: Any) -> None:
    """Let timm's operations take the nearest pixels, as ours: its bicubic ones take longer."""
    from timm.data.auto_augment import RandAugment

    (augment,) = (one for one in loader.dataset.transform.transforms if isinstance(one, RandAugment))
    for operation in augment.ops:
        operation.kwargs["resample"] = Image.Resampling.NEAREST


def torchvision(root: Path, batch: int, num_workers: int, augmented: bool, *, tensor: bool) -> Epoch:
    """torchvision's reference: bytes from the workers, normalised in the main process."""
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    assert not augmented
    crop = [
        v2.RandomResizedCrop(SIZE, interpolation=v2.InterpolationMode.BICUBIC, antialias=True),
        v2.RandomHorizontalFlip(),
    ]
    steps = [v2.PILToTensor(), *crop] if tensor else [*crop, v2.PILToTensor()]
    loader = DataLoader(
        ImageFolder(str(root / "train"), v2.Compose(steps)),
        batch_size=batch,
        shuffle=True,
        num_workers=num_workers,
    )
    mean, std = (255 * torch.tensor(numbers)[:, None, None] for numbers in (MEAN, STD))
    return lambda number: (images.float().sub_(mean).div_(std) for images, _ in loader)


def contestants(root: Path, batch: int, num_workers: int, augmented: bool) -> dict[str, Epoch]:
    """Everyone who takes part."""
    settings = (batch, num_workers, augmented)
    everyone = {
        "lambdanets": own(open_folder(root / "train"), *settings),
        "lambdanets-shards": own(ShardSource(root, "shards"), *settings),
        "timm": timm(root, *settings, prefetcher=False),
        "timm-prefetcher": timm(root, *settings, prefetcher=True),
    }
    if not augmented:
        everyone["torchvision"] = torchvision(root, *settings, tensor=False)
        everyone["torchvision-tensor"] = torchvision(root, *settings, tensor=True)
    return everyone


def seconds(epoch: Epoch, images: int, number: int) -> float:
    """Time of an epoch."""
    start = time.perf_counter()
    count = sum(len(batch) for batch in epoch(number))
    taken = time.perf_counter() - start
    assert count == images, (count, images)
    return taken


def check(name: str, epoch: Epoch) -> dict[str, float]:
    """Mean and standard deviation of an epoch's first batch; nothing is timed that gives something else."""
    batch = next(iter(epoch(0)))
    if batch.shape[1:] != (3, SIZE, SIZE) or batch.dtype != torch.float32:
        raise SystemExit(f"loading: {name} gives {tuple(batch.shape)} of {batch.dtype}.")
    first = {"mean": float(batch.mean()), "std": float(batch.std())}
    # Random crops of unequal images: alike, not equal. Bytes in the place of normalised numbers are not.
    if not (abs(first["mean"]) < 1 and 0.5 < first["std"] < 2):
        raise SystemExit(f"loading: {name} gives numbers of another kind: {first}.")
    return first


def race(root: Path, arguments: argparse.Namespace, num_workers: int, augmented: bool) -> Result:
    """All rounds at one number of workers."""
    epochs = contestants(root, arguments.batch, num_workers, augmented)
    checked = {name: check(name, epoch) for name, epoch in epochs.items()}
    calls = {name: partial(seconds, epoch, arguments.images) for name, epoch in epochs.items()}
    taken = rounds(calls, arguments.rounds)
    rows = {
        name: {
            "images_per_s": spread([arguments.images / one[name] for one in taken]),
            "time_over_fastest_peer": spread([one[name] / _fastest_peer(one) for one in taken]),
            **checked[name],
        }
        for name in epochs
    }
    return {
        "workers": num_workers,
        "randaugment": augmented,
        "contestants": rows,
        "shards_time_over_folder": spread([one["lambdanets-shards"] / one["lambdanets"] for one in taken]),
    }


def _fastest_peer(taken: dict[str, float]) -> float:
    return min(one for name, one in taken.items() if name not in OWN)


def show(result: Result) -> None:
    """One line a contestant."""
    print(f"{result['workers']} workers{', RandAugment' if result['randaugment'] else ''}")
    for name, row in result["contestants"].items():
        rate, ratio = row["images_per_s"], row["time_over_fastest_peer"]
        print(
            f"  {name:<20} {rate['median']:7.1f} images/s ({rate['min']:.1f} to {rate['max']:.1f})"
            f"  {ratio['median']:5.2f} of the fastest peer's time ({ratio['min']:.2f} to {ratio['max']:.2f})"
        )
    print(f"  {_shards_line(result)}", flush=True)


def _shards_line(result: Result) -> str:
    ratio = result["shards_time_over_folder"]
    return (
        f"shards take {ratio['median']:.3f} of the folder's time ({ratio['min']:.3f} to {ratio['max']:.3f})"
    )


def read_alone(root: Path, arguments: argparse.Namespace, is_cold: bool) -> Result:
    """Folder and shards without decoding, in random order."""
    sources: dict[str, Source] = {
        "folder": open_folder(root / "train"),
        "shards": ShardSource(root, "shards"),
    }
    calls = {name: partial(read_all, source, root if is_cold else None) for name, source in sources.items()}
    taken = rounds(calls, arguments.rounds)
    return {
        "cold": is_cold,
        "images_per_s": {name: spread([arguments.images / one[name] for one in taken]) for name in sources},
        "shards_time_over_folder": spread([one["shards"] / one["folder"] for one in taken]),
    }


def read_all(source: Source, forgotten: Path | None, number: int) -> float:
    """Seconds to read every image in random order, perhaps after a folder has left the page cache."""
    order = list(range(len(source)))
    random.Random(number).shuffle(order)
    if forgotten:
        os.sync()
        for path in forgotten.rglob("*"):
            if path.is_file():
                forget(path)
    start = time.perf_counter()
    for index in order:
        source.read(index)
    return time.perf_counter() - start


def forget(path: Path) -> None:
    """Ask the page cache to drop a file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def prepare(root: Path, count: int) -> Result:
    """The folder and the shards, and what they weigh."""
    total = jpegs.write_folder(root, count)
    if not (root / "shards").exists():
        write_shards(open_folder(root / "train"), root / "shards", "train", max_count=500)
    return {"images": count, "mean_kilobytes": total / count / 1e3, "sizes": jpegs.SIZES}


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Prepare, race, print and write."""
    root = root / f"images-{arguments.images}"
    images = prepare(root, arguments.images)
    print(f"{images['images']} images of {images['mean_kilobytes']:.0f} kB")
    file, results = ResultFile(arguments.out), []
    file.add(data=images, batch=arguments.batch)
    for augmented, num_workers in itertools.product((False, True), arguments.workers):
        results.append(race(root, arguments, num_workers, augmented))
        show(results[-1])
        file.add(results=results)
    reading = [read_alone(root, arguments, is_cold) for is_cold in (False, True)]
    for one in reading:
        rates = ", ".join(f"{name} {rate['median']:,.0f}" for name, rate in one["images_per_s"].items())
        print(f"reading alone, {'cold' if one['cold'] else 'warm'}: {rates} images/s; {_shards_line(one)}")
    file.add(reading=reading)


def main() -> None:
    """Race in a folder that is kept, or in a temporary one."""
    parser = command_line(__doc__, images=1536, rounds=5, batch=64)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, help="where the images are kept (a temporary folder)")
    arguments = parser.parse_args()
    if arguments.images % arguments.batch:
        parser.error("images must be a multiple of batch: timm drops a rest")
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        run(arguments.folder or Path(folder), arguments)


if __name__ == "__main__":
    main()
