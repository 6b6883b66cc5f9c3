"""A teacher's labels, shard by shard: stopped anywhere, the same command continues at the next shard."""

import json
import math
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lambdanets.data.augment import AugmentConfig
from lambdanets.data.config import read_data_config
from lambdanets.data.differences import data_changes
from lambdanets.data.fingerprint import fingerprint_part
from lambdanets.data.pseudo import MANIFEST, SELECTED, shard_name
from lambdanets.data.task import Batch, Task, TestData
from lambdanets.errors import ArgumentError, DataError, first_line
from lambdanets.files import check_empty, make_folder, replace_file
from lambdanets.pseudo.settings import LabelConfig, LabelRules
from lambdanets.pseudo.teachers import load_teacher
from lambdanets.reading import (
    Number,
    UnreadableError,
    check_fields,
    check_sum,
    read_json,
    reading,
    sum_of_file,
    with_sum,
)
from lambdanets.runs.fingerprint import fingerprint, stored_fingerprint
from lambdanets.runs.loaded import LoadedModel
from lambdanets.tensor_files import open_tensors, read_header
from lambdanets.terminal import count
from lambdanets.training.distributed import select_device
from lambdanets.training.loader import TEST_BATCH, load_batches
from lambdanets.training.weights import tensor_bytes

_FINGERPRINT: Final = "fingerprint"
_NUMBERS: Final = {str: Number(int, 0)}
_SUMMARY: Final = {
    "num_images": Number(int, 1),
    "confident": _NUMBERS,
    "selected": _NUMBERS,
    "wrong?": _NUMBERS,
}


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The numbers of a labelling.

    Attributes:
        num_images: How many images were unlabelled.
        confident: Of each class, the images predicted as it with enough confidence.
        selected: Of each class, the labels after balancing, repeated images counted as often.
        wrong: How many labels are wrong of `all` images, of the `confident` ones and of the `selected`; None
            where the true labels are not known.
    """

    num_images: int
    confident: dict[str, int]
    selected: dict[str, int]
    wrong: dict[str, int] | None

    @property
    def num_confident(self) -> int:
        """Images of enough confidence."""
        return sum(self.confident.values())

    @property
    def num_selected(self) -> int:
        """Labels to train on."""
        return sum(self.selected.values())

    @property
    def filtered_fraction(self) -> float:
        """Fraction of the images that the teacher was not confident enough of."""
        return 1 - self.num_confident / self.num_images

    @property
    def wrong_fraction(self) -> float | None:
        """Fraction of the selected labels that are wrong, where that is known."""
        return self.wrong["selected"] / max(self.num_selected, 1) if self.wrong else None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "images": self.num_images,
            "kept": self.num_confident,
            "selected": self.num_selected,
            "filtered_fraction": self.filtered_fraction,
            "wrong_fraction": self.wrong_fraction,
            "wrong": self.wrong,
            "classes": {
                name: {"kept": num, "selected": self.selected[name]} for name, num in self.confident.items()
            },
        }


def write_labels(
    config: LabelConfig,
    out: Path,
    *,
    log: Callable[[str], None],
    num_workers: int = 0,
    device: str = "auto",
) -> Summary:
    """Label the unlabelled images of a data set, or those that an earlier process has left.

    Args:
        config: Teacher, images, and what becomes a label.
        out: The folder. The same labelling on the same folder continues where it stopped.
        log: Called with a line for each shard.
        num_workers: Processes that read images, beside this one.
        device: cpu, cuda, or auto: cuda where there is one.
    """
    target = select_device("pseudo label", device)
    teacher = load_teacher(config)
    settings = config.to_dict(teacher.origin.sha256)
    _claim(out, settings)
    if (out / MANIFEST).is_file():
        return _read_summary(out)
    task = config.data.load(seed=config.seed, augment=AugmentConfig())
    if task.unlabelled is None:
        raise ArgumentError(
            "pseudo label: data.name must be a data set with unlabelled images (semi, or one of files), got"
            f" {config.data.name!r}."
        )
    images = task.unlabelled.clean
    made = _fingerprint(task, images, target)
    _claim_images(out, made)
    for warning in teacher.origin.warnings:
        log(f"warning: {warning}")
    num_classes = _num_classes(teacher, images, task)
    teacher.model.to(target)
    paths = []
    shards = torch.arange(len(images)).split(config.rules.shard_size)
    for number, indices in enumerate(shards):
        paths.append(out / shard_name(number))
        if _is_complete(paths[-1], len(indices)):
            log(f"shard {number + 1} of {len(shards)}: there already")
            continue
        batches = load_batches(images, [(part,) for part in indices.split(TEST_BATCH)], num_workers)
        predictions = _predict(teacher, task, batches, target, config.rules.hard)
        replace_file(paths[-1], tensor_bytes(predictions))
        log(f"shard {number + 1} of {len(shards)}: {count(len(indices), 'image')}")
    labels = teacher.labels or tuple(map(str, range(num_classes)))
    same_labels = teacher.labels is not None and task.unlabelled.labels == labels
    summary = _select(config, out, paths, labels, task.unlabelled.targets if same_labels else None)
    files = (*paths, out / SELECTED)
    manifest = {
        "format": 1,
        "settings": settings,
        "labels": teacher.labels,
        "num_classes": num_classes,
        "num_images": len(images),
        _FINGERPRINT: made,
        "files": {path.name: path.stat().st_size for path in files},
        "sums": {path.name: sum_of_file(path) for path in files},
        "summary": asdict(summary),
    }
    # Written last: the folder is finished.
    replace_file(out / MANIFEST, (json.dumps(with_sum(manifest), indent=2) + "\n").encode())
    return summary


def _read_summary(out: Path) -> Summary:
    """Read the summary of a finished folder."""
    with reading("pseudo label", out / MANIFEST, "be as it was written", hint="Use another --out."):
        manifest = read_json(out / MANIFEST, {"summary": {}})
        check_sum(manifest)
        summary = manifest["summary"]
        check_fields(summary, {"wrong?": {str: Number(int, 0)}})
        # Folders of before 2026-11-28 say `sure`.
        for values in (summary, summary.get("wrong") or {}):
            if "sure" in values:
                values["confident"] = values.pop("sure")
        check_fields(summary, _SUMMARY)
    return Summary(**{name: summary[name] for name in ("num_images", "confident", "selected", "wrong")})


def _claim(out: Path, settings: dict[str, Any]) -> None:
    """Take the folder for these settings, or raise where it holds labels of others."""
    path = out / "settings.json"
    if not os.path.lexists(path):
        check_empty(out, "pseudo label")
        make_folder(out, "pseudo label")
        replace_file(path, (json.dumps(settings, indent=2) + "\n").encode())
        return
    with reading("pseudo label", path, "hold the settings of its labels", hint="Use another --out."):
        old = read_json(path, {"data": {}})
    old["data"] = read_data_config(old["data"]).clean
    old.pop(_FINGERPRINT, None)
    changes = [name for name in {**old, **settings} if old.get(name) != settings.get(name)]
    if changes:
        listed = "\n".join(f"  {name}: {old.get(name)} -> {settings.get(name)}" for name in changes)
        raise ArgumentError(
            f"pseudo label: {out} holds labels with other settings, old -> new:\n{listed}\nUse another --out."
        )


def _fingerprint(task: Task, images: TestData, device: torch.device) -> dict[str, Any]:
    """Describe the images that are labelled, and what labels them."""
    part = fingerprint_part(images, len(task.labels))
    data = {"classes": list(task.labels), "train": part, "test": {"images": 0}}
    return fingerprint(data, device=device.type, threads=torch.get_num_threads())


def _claim_images(out: Path, made: dict[str, Any]) -> None:
    """Keep the fingerprint of the images beside the settings, or raise where others were labelled there."""
    path = out / "settings.json"
    kept = read_json(path, {})
    old = stored_fingerprint(kept, path, DataError)
    if old is None:
        replace_file(path, (json.dumps({**kept, _FINGERPRINT: made}, indent=2) + "\n").encode())
        return
    changes = "; ".join(f"{name}: {text}" for name, text in data_changes(old["data"], made["data"]).items())
    if changes:
        raise DataError(
            f"pseudo label: {out} must hold labels of the images that are there now, got those of others, old"
            f" -> new: {changes}. Use another --out."
        )


@torch.inference_mode()
def _num_classes(teacher: LoadedModel, data: TestData, task: Task) -> int:
    """The number of classes of the teacher, or an error where it does not take such images."""
    images = task.prepare(data.batch(torch.arange(1)).images)
    try:
        return teacher.model(images).shape[1]
    except (RuntimeError, ArgumentError) as error:
        raise ArgumentError(
            f"pseudo label: teacher must take images of shape {tuple(images.shape[1:])}, got"
            f" '{first_line(error)}'."
        ) from error


@torch.inference_mode()
def _predict(
    teacher: LoadedModel, task: Task, batches: Iterable[Batch], device: torch.device, hard: bool
) -> dict[str, Tensor]:
    """The teacher's predictions; the probabilities of all classes only where they become labels."""
    inputs = (task.prepare(batch.images.to(device)) for batch in batches)
    probabilities = torch.cat([teacher.model(images).float().softmax(dim=1).cpu() for images in inputs])
    confidences, classes = probabilities.max(dim=1)
    predictions = {"classes": classes, "confidences": confidences}
    return predictions if hard else {**predictions, "probabilities": probabilities}


def _is_complete(path: Path, num: int) -> bool:
    """Whether a shard is there, undamaged and of this size."""
    with suppress(UnreadableError):
        return read_header(path).shapes.get("classes") == (num,)
    return False


def _select(
    config: LabelConfig,
    out: Path,
    paths: list[Path],
    labels: tuple[str, ...],
    targets: Int[Tensor, " n"] | None,
) -> Summary:
    """Filter and balance the predictions of all shards, and count."""
    columns: dict[str, list[Tensor]] = {"classes": [], "confidences": []}
    for path in paths:
        with open_tensors(path) as file:
            for name, parts in columns.items():
                parts.append(file.get_tensor(name))
    classes, confidences = (torch.cat(parts) for parts in columns.values())
    indices = select(classes, confidences, config.rules)
    replace_file(out / SELECTED, tensor_bytes({"indices": indices}))
    is_confident = confidences >= config.rules.min_confidence
    confident, selected = (
        dict(zip(labels, chosen.bincount(minlength=len(labels)).tolist(), strict=True))
        for chosen in (classes[is_confident], classes[indices])
    )
    wrong = None
    if targets is not None:
        is_wrong = classes != targets
        counted = {"all": is_wrong, "confident": is_wrong[is_confident], "selected": is_wrong[indices]}
        wrong = {name: int(part.sum()) for name, part in counted.items()}
    return Summary(num_images=len(classes), confident=confident, selected=selected, wrong=wrong)


def select(
    classes: Int[Tensor, " n"], confidences: Float[Tensor, " n"], rules: LabelRules
) -> Int[Tensor, " m"]:
    """Choose the images to learn from: those the teacher is confident of, as many of each class.

    The most confident images of each class are kept. A class that has fewer is filled up with its own images
    again, the most confident first; one that has none stays empty.

    Paper: none (ours); filter and balance are Noisy Student's, which the paper follows.

    Args:
        classes: The most likely class of each image.
        confidences: The probability of that class.
        rules: Least confidence, and how many images of each class.

    Returns:
        Indices of images, ascending, some of them repeatedly.
    """
    (kept,) = torch.nonzero(confidences >= rules.min_confidence, as_tuple=True)
    if rules.balance == "none" or not len(kept):
        return kept
    labels = classes[kept].unique()
    num_each = math.ceil(len(kept) / len(labels)) if rules.balance == "auto" else rules.balance
    chosen = []
    for label in labels:
        those = kept[classes[kept] == label]
        ranked = those[confidences[those].argsort(descending=True, stable=True)]
        chosen.append(ranked[torch.arange(num_each) % len(ranked)])
    return torch.cat(chosen).sort().values
