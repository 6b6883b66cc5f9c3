"""Classification of many image files: in batches, and whatever some of them are."""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from jaxtyping import Int
from torch import Tensor

from lambdanets.data.decode import decode
from lambdanets.data.left_out import LeftOut
from lambdanets.data.listing import find_images
from lambdanets.data.preprocessing import Preprocessing
from lambdanets.data.sources import read_file
from lambdanets.data.task import Batch, ReadableTest
from lambdanets.errors import ArgumentError, check_positive
from lambdanets.runs.loaded import LoadedModel, Ranking
from lambdanets.text import printable
from lambdanets.training.loader import test_batches

# The path that stands for those on the standard input.
_STDIN: Final = "-"
_SIGNATURES: Final = (b"\x89PNG", b"\xff\xd8\xff")


@dataclass(frozen=True, kw_only=True)
class FilePrediction:
    """What a network says of a file.

    Attributes:
        path: The file, as it was given or found.
        ranking: The most likely classes with their probabilities; empty for a file that cannot be read.
        inverted: Whether dark and light were exchanged; None where the preprocessing never does that.
        error: What is wrong with a file that cannot be read.
    """

    path: str
    ranking: Ranking
    inverted: bool | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        if self.error is not None:
            return {"image": self.path, "error": self.error}
        inverted = {} if self.inverted is None else {"inverted": self.inverted}
        top = [{"label": label, "probability": chance} for label, chance in self.ranking]
        return {"image": self.path, **inverted, "top": top}


def list_paths(given: Sequence[str], left_out: LeftOut | None = None) -> list[str]:
    """List image files: those that are given, in folders, that fit patterns, and on the standard input.

    Args:
        given: As for `find_images`; `-` stands for paths on the standard input, one a line, or with a zero
            byte behind each (`find -print0`). Those are files, and are not looked at yet. What is given
            twice is listed twice.
        left_out: Counts the files of folders and patterns that are left out.

    Raises:
        PathError: A path does not exist, or there is no image in a folder or for a pattern.
        ArgumentError: The standard input holds no paths.
    """
    paths: list[str] = []
    for text in given:
        paths += (
            _read_paths() if text == _STDIN else map(str, find_images([text], "predict", left_out=left_out))
        )
    return paths


def _read_paths() -> list[str]:
    content = sys.stdin.buffer.read()
    requirement = "predict: the standard input must hold paths, one a line, got"
    if content.startswith(_SIGNATURES):
        raise ArgumentError(
            f"{requirement} the bytes of an image. Give its path; in Python, `predict` of a run takes bytes."
        )
    separator = b"\0" if b"\0" in content else b"\n"
    paths = [os.fsdecode(line.removesuffix(b"\r")) for line in content.split(separator) if line.strip()]
    if not paths:
        raise ArgumentError(f"{requirement} none.")
    return paths


def predict_files(
    loaded: LoadedModel, paths: Sequence[str], *, top: int = 5, batch: int = 64, num_workers: int = 0
) -> Iterator[list[FilePrediction]]:
    """Classify image files, some at a time, in their order; no more than these are in memory.

    Args:
        loaded: The network.
        paths: The files.
        top: How many classes, at most.
        batch: Images at a time.
        num_workers: Processes that read images, beside this one.

    Raises:
        ArgumentError: The network's images do not come from files.
    """
    check_positive("predict", top=top, batch=batch)
    preprocessing = loaded.preprocess
    data = ReadableTest(_Files(paths=paths, preprocessing=preprocessing))
    start = 0
    for images, targets, unreadable in test_batches(data, batch, num_workers=num_workers):
        errors, readable = iter(unreadable), targets >= 0
        rankings = iter(loaded.classify_batch(images[readable], top) if readable.any() else ())
        found = []
        for path, target in zip(paths[start : start + len(targets)], targets.tolist(), strict=True):
            if target < 0:
                found.append(FilePrediction(path=path, ranking=[], error=next(errors)))
                continue
            inverted = None if preprocessing.foreground is None else bool(target)
            found.append(FilePrediction(path=path, ranking=next(rankings), inverted=inverted))
        yield found
        start += len(targets)


@dataclass(frozen=True, kw_only=True)
class _Files:
    """Files as inputs of a network; their targets say whether dark and light were exchanged."""

    paths: Sequence[str]
    preprocessing: Preprocessing

    def __len__(self) -> int:
        return len(self.paths)

    def batch(self, indices: Int[Tensor, " b"]) -> Batch:
        read = [self._read(self.paths[index]) for index in indices.tolist()]
        return Batch(
            torch.stack([pixels for pixels, _ in read]), torch.tensor([int(flag) for _, flag in read])
        )

    def _read(self, path: str) -> tuple[Tensor, bool]:
        name = printable(path)
        background = self.preprocessing.background
        image = decode(read_file(os.fsencode(path), name), name, background=background)
        return self.preprocessing.apply(image, name)
