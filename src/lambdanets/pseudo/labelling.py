"""A teacher's labels, shard by shard: stopped anywhere, the same command goes on at the next shard."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Int
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lambdanets.data.config import read_data_config
from lambdanets.data.pseudo import MANIFEST, SELECTED, select, shard_name
from lambdanets.data.task import Batch, Task, TestData, Unlabelled
from lambdanets.errors import ArgumentError, first_line
from lambdanets.files import replace_file, storing
from lambdanets.pseudo.settings import LabelConfig
from lambdanets.pseudo.teachers import load_teacher
from lambdanets.runs.load import LoadedModel
from lambdanets.runs.tasks import load_task
from lambdanets.training.distributed import select_device
from lambdanets.training.loader import test_batches
from lambdanets.training.weights import tensor_bytes

_SETTINGS = "settings.json"
_FORMAT = 1


@dataclass(frozen=True)
class _Part:
    """The images of one shard."""

    whole: TestData
    first: int
    end: int

    def __len__(self) -> int:
        return self.end - self.first

    def batch(self, indices: Int[Tensor, " b"]) -> Batch:
        return self.whole.batch(self.first + indices)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What came out, in numbers.

    Attributes:
        num_images: Unlabelled images.
        sure: Of each class, the images taken for it with enough confidence.
        selected: Of each class, the labels after balancing, repeated images counted as often.
        wrong: Of all images, of the sure ones and of the selected labels, how many are wrong; None where
            the true labels are not known.
    """

    num_images: int
    sure: dict[str, int]
    selected: dict[str, int]
    wrong: dict[str, int] | None

    @property
    def num_sure(self) -> int:
        """Images of enough confidence."""
        return sum(self.sure.values())

    @property
    def num_selected(self) -> int:
        """Labels to train on."""
        return sum(self.selected.values())

    @property
    def filtered_share(self) -> float:
        """Share of the images that the teacher was not sure enough of."""
        return 1 - self.num_sure / self.num_images

    @property
    def wrong_share(self) -> float | None:
        """Share of the selected labels that are wrong, where that is known."""
        return self.wrong["selected"] / max(self.num_selected, 1) if self.wrong else None


def write_labels(
    config: LabelConfig,
    out: Path,
    *,
    tell: Callable[[str], None],
    num_workers: int = 0,
    device: str = "auto",
) -> Summary:
    """Label the unlabelled images of a data set, or what an earlier process left of them.

    Args:
        config: Who labels what, and what becomes a label.
        out: The folder. The same labelling on the same folder goes on where it stood.
        tell: Is told of each shard.
        num_workers: Processes that read images, beside this one.
        device: cpu, cuda, or auto: cuda where there is one.

    Raises:
        ArgumentError: The folder holds another labelling, the data set has no unlabelled images, or the
            teacher does not take them.
        DependencyError: There is no GPU for cuda.
        StorageError: The folder cannot be written.
    """
    target = select_device("pseudo label", device)
    teacher = load_teacher(config)
    settings = config.to_dict(teacher.origin.sha256)
    _claim(out, settings)
    if (out / MANIFEST).is_file():
        return read_summary(out)
    task = load_task(config.carrier())
    unlabelled = _unlabelled(config, task)
    num_classes = _num_classes(teacher, unlabelled.clean, task)
    teacher.model.to(target)
    size, num = config.rules.shard_size, len(unlabelled.clean)
    num_shards = math.ceil(num / size)
    for number in range(num_shards):
        path = out / shard_name(number)
        part = _Part(unlabelled.clean, number * size, min(num, (number + 1) * size))
        if not _is_whole(path, len(part)):
            batches = test_batches(part, num_workers=num_workers)
            shard = _predictions(teacher, task, batches, target, config.rules.hard)
            replace_file(path, tensor_bytes(shard))
            tell(f"shard {number + 1} of {num_shards}: {len(part):,} images")
        else:
            tell(f"shard {number + 1} of {num_shards}: there already")
    labels = teacher.labels or tuple(str(number) for number in range(num_classes))
    return _finish(config, out, settings, labels, unlabelled, is_named=teacher.labels is not None)


def read_summary(out: Path) -> Summary:
    """The summary of a finished folder."""
    return Summary(**json.loads((out / MANIFEST).read_text())["summary"])


def _claim(out: Path, settings: dict[str, Any]) -> None:
    """Hold the folder for these settings."""
    path = out / _SETTINGS
    with storing(out):
        out.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        replace_file(path, (json.dumps(settings, indent=2) + "\n").encode())
        return
    old = json.loads(path.read_text())
    old["data"] = read_data_config(old["data"]).clean
    changes = [name for name in {**old, **settings} if old.get(name) != settings.get(name)]
    if changes:
        listed = "\n".join(f"  {name}: {old.get(name)} -> {settings.get(name)}" for name in changes)
        raise ArgumentError(
            f"pseudo label: {out} holds labels with other settings, old -> new:\n{listed}\nUse another --out."
        )


def _unlabelled(config: LabelConfig, task: Task) -> Unlabelled:
    if task.unlabelled is None:
        raise ArgumentError(
            "pseudo label: data.name must be a data set with unlabelled images (semi, or one of files), got"
            f" {config.data.name!r}."
        )
    return task.unlabelled


@torch.inference_mode()
def _num_classes(teacher: LoadedModel, data: TestData, task: Task) -> int:
    """Classes that the network knows; raise where it cannot take such images."""
    images = task.prepare(data.batch(torch.arange(1)).images)
    try:
        return teacher.model(images).shape[1]
    except (RuntimeError, ArgumentError) as error:
        raise ArgumentError(
            f"pseudo label: teacher must take images of shape {tuple(images.shape[1:])}, got"
            f" '{first_line(error)}'."
        ) from error


@torch.inference_mode()
def _predictions(
    teacher: LoadedModel, task: Task, batches: Iterator[Batch], device: torch.device, hard: bool
) -> dict[str, Tensor]:
    """What the teacher makes of images it sees clean; shares of classes only where they become labels."""
    shares = torch.cat(
        [
            teacher.model(task.prepare(batch.images.to(device))).float().softmax(dim=1).cpu()
            for batch in batches
        ]
    )
    confidences, classes = shares.max(dim=1)
    found = {"classes": classes, "confidences": confidences}
    return found if hard else {**found, "probabilities": shares}


def _is_whole(path: Path, num: int) -> bool:
    """Whether a shard is there; one of another size is written again."""
    try:
        with safe_open(path, framework="pt") as file:
            return list(file.get_slice("classes").get_shape()) == [num]
    except (SafetensorError, OSError):
        return False


def _finish(
    config: LabelConfig,
    out: Path,
    settings: dict[str, Any],
    labels: tuple[str, ...],
    unlabelled: Unlabelled,
    *,
    is_named: bool,
) -> Summary:
    """Filter and balance what the shards say, and write the manifest, last."""
    num = len(unlabelled.clean)
    names = [shard_name(number) for number in range(math.ceil(num / config.rules.shard_size))]
    classes = torch.cat([_column(out / name, "classes") for name in names])
    confidences = torch.cat([_column(out / name, "confidences") for name in names])
    is_sure = confidences >= config.rules.min_confidence
    indices = select(
        classes,
        confidences,
        min_confidence=config.rules.min_confidence,
        num_each=num_of_each(config.rules.balance, classes[is_sure]),
    )
    replace_file(out / SELECTED, tensor_bytes({"indices": indices}))
    truth = unlabelled.targets if is_named and unlabelled.labels == labels else None
    summary = Summary(
        num_images=num,
        sure=_by_class(classes[is_sure], labels),
        selected=_by_class(classes[indices], labels),
        wrong=None if truth is None else _count_wrong(classes != truth, is_sure, indices),
    )
    manifest = {
        "format": _FORMAT,
        "settings": settings,
        "labels": labels if is_named else None,
        "num_classes": len(labels),
        "num_images": num,
        "files": {name: (out / name).stat().st_size for name in (*names, SELECTED)},
        "summary": asdict(summary),
    }
    replace_file(out / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
    return summary


def _column(path: Path, name: str) -> Tensor:
    with safe_open(path, framework="pt") as file:
        return file.get_tensor(name)


def num_of_each(balance: int | str, sure: Int[Tensor, " n"]) -> int | None:
    """How many labels each class gets.

    Args:
        balance: A number; auto: the mean over the classes that have any; none: as many as there are.
        sure: Classes of the images of enough confidence.
    """
    if balance == "none" or not len(sure):
        return None
    return math.ceil(len(sure) / len(sure.unique())) if balance == "auto" else int(balance)


def _by_class(classes: Int[Tensor, " n"], labels: tuple[str, ...]) -> dict[str, int]:
    return dict(zip(labels, classes.bincount(minlength=len(labels)).tolist(), strict=True))


def _count_wrong(
    wrong: Bool[Tensor, " n"], is_sure: Bool[Tensor, " n"], indices: Int[Tensor, " m"]
) -> dict[str, int]:
    parts = {"all": wrong, "sure": wrong[is_sure], "selected": wrong[indices]}
    return {name: int(part.sum()) for name, part in parts.items()}
