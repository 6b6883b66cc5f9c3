"""The images of a folder counted before anything is loaded: how many of each class are on each side."""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lambdanets.data.layout import check_part, check_root, count_endings, images_of, listed
from lambdanets.data.listing import ENDINGS, image_key, list_classes, list_files, set_aside
from lambdanets.errors import DataError
from lambdanets.terminal import table
from lambdanets.text import printable

if TYPE_CHECKING:
    from lambdanets.data.config import FolderConfig

# A network learns little from fewer images of a class, and much about the largest class from more of it.
_FEW: Final = 10
_UNEQUAL: Final = 10

# A longer table of classes is not read.
_MOST_CLASSES: Final = 20


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What is in a folder of images.

    Attributes:
        root: The folder.
        counts: Images of each class, of the part to train with and of that to test with, by their names.
        holdout: The fraction that was set aside; 0 where the second part has a folder of its own.
        images: The paths of the images to train with.
        notes: One sentence for each thing that a training should not meet unseen.
    """

    root: str
    counts: Mapping[str, Mapping[str, int]]
    holdout: float
    images: tuple[bytes, ...]
    notes: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        """Classes of the part to train with."""
        return len(next(iter(self.counts.values())))

    def lines(self) -> str:
        """A table of the classes and what is to be noted, for a terminal."""
        train, test = self.counts
        first, second = self.counts.values()
        sums = ("all", f"{sum(first.values()):,}", f"{sum(second.values()):,}")
        rows = [(name, f"{first.get(name, 0):,}", f"{second.get(name, 0):,}") for name in first]
        if len(rows) > _MOST_CLASSES:
            ordered = sorted(rows, key=lambda row: first[row[0]])
            rows = [
                (f"fewest: {ordered[0][0]}", *ordered[0][1:]),
                (f"most: {ordered[-1][0]}", *ordered[-1][1:]),
            ]
        text = [
            f"{self.root}: {len(first):,} classes",
            table(("class", train, test), [*rows, sums], indent=2),
        ]
        if self.holdout:
            text.append(
                f"{test}: {self.holdout:g} of each class, about, by a digest of each file's name"
                " (--data.holdout); the same images every time"
            )
        return "\n".join([*text, *(f"warning: {note}" for note in self.notes)])


def survey_folder(data: "FolderConfig") -> Survey | None:
    """Count the images of class folders, by their names alone.

    Returns:
        The counts; None without a root, and for flat folders with a label file, which are read when they are
        opened.

    Raises:
        PathError: The root or a part is not there.
        DataError: The folder is laid out in another way; the message says what to type.
    """
    if not data.root:
        return None
    check_root(data.root, data.root_given)
    if data.train_labels or data.test_labels:
        return None
    root = Path(data.root)
    check_part(root, data.train)
    folder = root / data.train
    entries = images_of(folder, list_classes(folder))
    classes = [*dict.fromkeys(label for label, _ in entries)]
    if len(classes) < 2:
        raise DataError(
            f"data: {root / data.train} must hold two classes or more, got {classes[0]!r} alone. A network"
            " that is to tell it from anything else needs a folder of other images too."
        )
    if data.holdout:
        keys = [image_key(*entry) for entry in entries]
        aside = set_aside(keys, [label for label, _ in entries], data.holdout)
        tested = [entry for entry, is_aside in zip(entries, aside, strict=True) if is_aside]
        entries = [entry for entry, is_aside in zip(entries, aside, strict=True) if not is_aside]
    elif data.test:
        check_part(root, data.test, option="test")
        folder = root / data.test
        tested = images_of(folder, list_classes(folder), classes)
    else:
        tested = []
    part = os.fsencode(root / data.train)
    trained = Counter(label for label, _ in entries)
    return Survey(
        root=data.root,
        counts={"train": trained, data.test_name: Counter(label for label, _ in tested)},
        holdout=data.holdout,
        images=tuple(os.path.join(part, path) for _, path in entries),  # noqa: PTH118
        notes=tuple(_notes(root, data, trained)),
    )


def _notes(root: Path, data: "FolderConfig", counts: Mapping[str, int]) -> list[str]:
    """What a training should not meet unseen."""
    notes = []
    few = sorted((num, label) for label, num in counts.items() if num < _FEW)
    if few:
        named = listed([f"{label} ({num})" for num, label in few])
        notes.append(f"fewer than {_FEW} images to train with of {named}: add images of these classes")
    fewest, most = (choose(counts, key=lambda label: counts[label]) for choose in (min, max))
    if counts[most] > _UNEQUAL * counts[fewest]:
        notes.append(
            f"unequal classes: {counts[most]:,} images of {most}, {counts[fewest]:,} of {fewest}; a network"
            " may take the rare ones for the frequent ones"
        )
    parts = [data.train] if data.holdout or not data.test else [data.train, data.test]
    files = (name for part in parts for name in list_files(os.fsencode(root / part), b""))
    others = [printable(name) for name in files if not name.lower().endswith(ENDINGS)]
    if others:
        notes.append(f"files that are not read, by their ending: {count_endings(others)}")
    return notes
