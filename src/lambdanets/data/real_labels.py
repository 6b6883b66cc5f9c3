"""Reassessed labels: for each test image all the classes that may be called right."""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from lambdanets.errors import DataError, PathError
from lambdanets.reading import read_json, reading

# What stands behind the classes of an image that has fewer than another.
NO_CLASS = -1


def read_real_labels(path: Path, names: Sequence[str], num_classes: int) -> Int[Tensor, "n most"]:
    """Read the sets of labels of the images of a test.

    One label an image is often too few or wrong; an evaluation by such sets counts a prediction as correct
    if it is in the set, and leaves out images whose set is empty.

    Paper: none (ours); the labels of ImageNet's validation images are those of Beyer et al. 2020.

    Args:
        path: JSON. Either a list of lists of classes, in the order of the images sorted by their file
            names, as `real.json` is published; or an object, file name -> list, where names may have folders.
        names: Where each image of the test is, in its order; a file name is what follows the last slash.
        num_classes: Classes are whole numbers below it.

    Returns:
        A row for each image: its classes, and -1 behind them.

    Raises:
        PathError: There is no such file.
        DataError: It does not fit the images.
    """
    if not os.path.lexists(path):
        raise PathError(f"real: {path} must be a file, got none.")
    with reading("real", path, "be JSON"):
        content = read_json(path)
    if not isinstance(content, list | dict):
        raise DataError(
            f"real: {path} must hold a list of lists or an object name -> list, got {content!r:.40}."
        )
    paths = [re.split(r"[/\\]|: ", name) for name in names]
    sets = _by_name(path, content, paths) if isinstance(content, dict) else _in_order(path, content, paths)
    for parts, classes in zip(paths, sets, strict=True):
        if not isinstance(classes, list) or not all(
            type(one) is int and 0 <= one < num_classes for one in classes
        ):
            raise DataError(
                f"real: {path} must give each image a list of classes from 0 to {num_classes - 1},"
                f" got {classes!r:.80} for {parts[-1]}."
            )
    most = max(1, *map(len, sets))
    return torch.tensor([classes + [NO_CLASS] * (most - len(classes)) for classes in sets])


def _in_order(path: Path, content: Sequence[Any], paths: Sequence[Sequence[str]]) -> list[Any]:
    files = [parts[-1] for parts in paths]
    if len(content) != len(files):
        raise DataError(
            f"real: {path} must hold one list for each of the {len(files)} test images, got {len(content)}."
        )
    _require_different(path, files)
    place = {file: index for index, file in enumerate(sorted(files))}
    return [content[place[file]] for file in files]


def _by_name(path: Path, content: Mapping[str, Any], paths: Sequence[Sequence[str]]) -> list[Any]:
    known: list[str] = []
    missing: list[str] = []
    for parts in paths:
        # The longest end of the path that the file knows.
        ends = ("/".join(parts[first:]) for first in range(len(parts)))
        key = next((end for end in ends if end in content), None)
        if key is None:
            missing.append(parts[-1])
        else:
            known.append(key)
    if missing:
        raise DataError(
            f"real: {path} must have an entry for each of the {len(paths)} test images, got none for"
            f" {len(missing)}: {', '.join(missing[:3])}{', …' if len(missing) > 3 else ''}."
        )
    _require_different(path, known)
    return [content[key] for key in known]


def _require_different(path: Path, files: Sequence[str]) -> None:
    twice = [file for file, times in Counter(files).items() if times > 1]
    if twice:
        raise DataError(
            f"real: {path} goes by file names, which must differ, got {twice[0]} more than once."
            " Use an object whose names have their folders."
        )
