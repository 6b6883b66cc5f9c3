"""The images of a folder counted before anything is loaded: how many of each class are on each side."""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lambdanets.data.layout import check_classes, check_part, check_root, images_of, list_part, listed
from lambdanets.data.left_out import LeftOut
from lambdanets.data.listing import Listing, image_key, set_aside
from lambdanets.terminal import table

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
        left_out: The files of both parts that are none of the images.
        notes: One sentence for each thing that a training should not meet unseen.
    """

    root: str
    counts: Mapping[str, Mapping[str, int]]
    holdout: float
    images: tuple[bytes, ...]
    left_out: LeftOut
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
        notes = (*self.notes, *self.left_out.notes(all=False))
        return "\n".join([*text, *(f"warning: {note}" for note in notes)])


def survey_folder(data: "FolderConfig") -> Survey | None:
    """Count the images of class folders, by their names alone.

    Returns:
        The counts; None without a root.

    Raises:
        PathError: The root or a part is not there.
        DataError: The folder is laid out in another way; the message says what to type.
    """
    if not data.root:
        return None
    check_root(data.root, data.root_given)
    root = Path(data.root)
    listing = _list_part(root, data.train, data.train_labels)
    left_out = listing.left_out
    entries = images_of(root / data.train, listing)
    classes = [*dict.fromkeys(label for label, _ in entries)]
    check_classes(str(root / data.train), classes)
    if data.holdout:
        keys = [image_key(*entry) for entry in entries]
        aside = set_aside(keys, [label for label, _ in entries], data.holdout)
        tested = [entry for entry, is_aside in zip(entries, aside, strict=True) if is_aside]
        entries = [entry for entry, is_aside in zip(entries, aside, strict=True) if not is_aside]
    elif data.test:
        listing = _list_part(root, data.test, data.test_labels, option="test")
        left_out = left_out + listing.left_out
        tested = images_of(root / data.test, listing, classes)
    else:
        tested = []
    part = os.fsencode(root / data.train)
    trained = Counter(label for label, _ in entries)
    return Survey(
        root=data.root,
        counts={"train": trained, data.test_name: Counter(label for label, _ in tested)},
        holdout=data.holdout,
        images=tuple(os.path.join(part, path) for _, path in entries),  # noqa: PTH118
        left_out=left_out,
        notes=tuple(_notes(trained)),
    )


def _list_part(root: Path, part: str, label_file: str | None, *, option: str = "train") -> Listing:
    if label_file is None:
        check_part(root, part, option=option)
    return list_part(root / part, None if label_file is None else root / label_file)


def _notes(counts: Mapping[str, int]) -> list[str]:
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
    return notes
