"""How a folder of images is laid out: its parts, or what is wrong with it and what to type; without torch."""

import glob
import os
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from lambdanets.data.formats import is_image
from lambdanets.data.label_file import list_labelled
from lambdanets.data.left_out import NO_ENDING, LeftOut, Reason, count_endings
from lambdanets.data.listing import Entries, Listing, composed, is_shown, list_classes, list_files
from lambdanets.data.parts import VALIDATIONS
from lambdanets.errors import DataError, PathError, did_you_mean
from lambdanets.files import absolute, from_home
from lambdanets.text import printable, shell_words

# Fraction that is set aside where the class folders have no parts.
HOLDOUT: Final = 0.2

# Names of parts, the likeliest first. A test beside a validation stays for the end.
_TRAIN: Final = ("train", "training")
_TEST: Final = ("test", "testing")

_ARCHIVES: Final = (".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
_LISTED: Final = 5

# The best known of `ENDINGS`, for messages.
_READ: Final = ".jpg .jpeg .png .webp .gif .bmp .tif .avif and some more"


class Parts(NamedTuple):
    """The parts of a folder: names of folders below it, and the fraction that is set aside, if any."""

    train: str
    test: str
    holdout: float


def find_parts(root: Path, holdout: float) -> Parts | None:
    """Find the parts of a folder that holds `train` and `val`, other names of these, or class folders alone.

    Args:
        root: The folder.
        holdout: The fraction that is set aside, where that is known.

    Returns:
        The parts; None where there are none, or more than one way to read the names.
    """
    folders = folders_in(root)
    if not folders:
        return None
    trains = [name for name in folders if name.lower() in _TRAIN]
    others = [name for name in folders if name.lower() not in (*_TRAIN, *VALIDATIONS, *_TEST)]
    if trains and not (others and not folders_in(root / trains[0])):
        tests = tests_among(folders)
        if len(trains) > 1 or (len(tests) != 1 and not holdout):
            return None
        return Parts(trains[0], tests[0] if tests else "val", holdout)
    return Parts(".", "val", holdout or HOLDOUT) if others else None


def tests_among(folders: Iterable[str]) -> list[str]:
    """The folders that may be the part to test with: validations, or without any, tests."""
    validations = [name for name in folders if name.lower() in VALIDATIONS]
    return validations or [name for name in folders if name.lower() in _TEST]


def holds_shards(root: str, train: str) -> bool:
    """Whether a part of a root is one of tar archives."""
    return train.endswith(".tar") or any(from_home(root).glob(f"{train}/*.tar"))


def check_root(root: str, given: str | None = None) -> None:
    """Raise where a root is no folder, or one whose images are not in folders.

    Args:
        root: The place, absolute.
        given: How it was typed.
    """
    place = Path(root)
    typed = f" (given as {given} from another folder)" if given and absolute(given) != root else ""
    if place.is_file():
        raise PathError(f"data: root must be a folder, got the file {root}{typed}.{_unpacking(place)}")
    if not place.is_dir():
        above = place.parent
        while not above.is_dir():
            above = above.parent
        near = did_you_mean(place.name, folders_in(above)) if above == place.parent else f" {above} is there."
        raise PathError(
            f"data: root must be a folder, got {root}{typed}, which is not there.{near}"
            " Where the images are now, say --data.root DIR."
        )
    objects = _object_files(place)
    if objects:
        raise DataError(
            f"data: root must be a folder of classes for a classifier, got COCO's JSON in {root}"
            f" ({printable(objects[0])}). Detectors learn from it: lambdanets detect train RECIPE --data.root"
            f" {shell_words(root)}"
        )


def _unpacking(file: Path) -> str:
    if file.name.lower().endswith(".zip"):
        return f" Unpack it first: unzip {shell_words(file.name)} -d {shell_words(file.stem)}"
    if file.name.lower().endswith((*_ARCHIVES, ".tar")):
        stem = shell_words(file.name.partition(".")[0])
        return f" Unpack it first: mkdir {stem} && tar -xf {shell_words(file.name)} -C {stem}"
    return f" Try the folder that holds it: --data.root {shell_words(file.parent)}"


def _object_files(root: Path) -> list[str]:
    """Files of COCO's JSON, where no part holds class folders."""
    if any(folders_in(root / name) for name in (*_TRAIN, *VALIDATIONS) if (root / name).is_dir()):
        return []
    # Not in all folders: a hundred thousand may be classes.
    parts = [name for name in folders_in(root) if name.lower() in (*_TRAIN, *VALIDATIONS, *_TEST)]
    patterns = [f"{glob.escape(name)}/*annotations.coco.json" for name in parts]
    found = [
        path
        for pattern in ("annotations/*.json", "*annotations.coco.json", *patterns)
        for path in sorted(root.glob(pattern))
    ]
    return [str(path.relative_to(root)) for path in found]


def check_part(root: Path, part: str, *, option: str = "train") -> None:
    """Raise where a part does not hold a folder for each class.

    Args:
        root: The folder of the data.
        part: The part, below it.
        option: `train` or `test`, as the option is called that names it.
    """
    folder = root / part
    if not folder.is_dir():
        raise _missing_part(root, part, option)
    folders = folders_in(folder)
    if not folders:
        raise _without_classes(root, folder, option)
    if option == "train":
        _check_depth(root, part, folders)


def _missing_part(root: Path, part: str, option: str) -> PathError | DataError:
    folders = folders_in(root)
    if option == "train" and not folders:
        return _without_classes(root, root, option)
    tests = [name for name in folders if name.lower() in (*VALIDATIONS, *_TEST)]
    if option == "train":
        hint = f" There is {listed(tests)} alone." if tests == folders else f" There is {listed(folders)}."
        return PathError(
            f"data: {root} must hold the part {part}, got none.{hint} --data.train FOLDER names another."
        )
    if len(tests) > 1:
        return PathError(
            f"data: {root} must hold one part to test with, got {listed(tests)}. Say which: --data.test"
            f" {tests[0]}"
        )
    return PathError(
        f"data: {root} must hold the part {part} beside the part to train with, got none. Set a fifth of the"
        f" training aside by --data.holdout {HOLDOUT:g}, or name another part: --data.test FOLDER"
    )


def _without_classes(root: Path, folder: Path, option: str) -> DataError:
    """A folder in which no folders are: why, by the files in it."""
    files = [printable(name) for name in list_files(os.fsencode(folder))]
    beside = [path.name for path in sorted(root.iterdir()) if path.is_file()]
    images = [name for name in files if is_image(os.fsencode(name))]
    shards = [name for name in files if name.lower().endswith(".tar")]
    archives = [name for name in files if name.lower().endswith(_ARCHIVES)]
    labels = [name for name in beside if name.lower().endswith((".csv", ".json"))]
    wanted = f"data: {folder} must hold a folder for each class"
    if shards:
        return DataError(f"{wanted}, got {_shards(root, folder, shards)}")
    if images and labels:
        inside = folder.name if folder != root else "."
        return DataError(
            f"{wanted}, got {len(images):,} images and the file {printable(labels[0])}. If it says the"
            f" class of each: --data.{option} {shell_words(inside)}"
            f" --data.{option}-labels {shell_words(labels[0])}"
            + (f" --data.holdout {HOLDOUT:g}" if option == "train" and inside == "." else "")
        )
    if images:
        return DataError(
            f"{wanted}, got {len(images):,} images and no folder. If these are the images of one class, the"
            f" root is the folder above: --data.root {shell_words(folder.parent)}"
        )
    if archives:
        return DataError(f"{wanted}, got the archive {archives[0]}.{_unpacking(Path(archives[0]))}")
    endings = count_endings(Counter(Path(name).suffix.lower() or NO_ENDING for name in files))
    got = f"files that are not read: {endings}" if files else "an empty folder"
    return DataError(f"{wanted}, got {got}. Read are {_READ}; others must be converted, as to .jpg.")


def _shards(root: Path, folder: Path, shards: list[str]) -> str:
    counted = f"{len(shards):,} tar archives"
    if folder != root:
        return f"{counted}. Train with them: --data.name shards --data.root {shell_words(root)}"
    return (
        f"{counted}. Say which of them are for what: --data.name shards --data.root {shell_words(root)}"
        " --data.train 'train-*.tar' --data.test 'val-*.tar'"
    )


def _check_depth(root: Path, part: str, folders: list[str]) -> None:
    """Raise where the class folders are one level further down."""
    folder = root / part
    # A class may have its images in further folders, but not all of a root that was not told its parts.
    if part != "." and len(folders) > 1:
        return
    if any(not folders_in(folder / name) or _has_images(folder / name) for name in folders):
        return
    first = folders[0]
    if part != ".":
        hint = f"--data.train {shell_words(f'{part}/{first}')}, and --data.test accordingly"
    elif len(folders) == 1:
        hint = f"--data.root {shell_words(folder / first)}"
    else:
        hint = (
            f"--data.root {shell_words(folder / first)}, or for the classes {listed(folders)} --data.train ./"
        )
        hint += f" --data.holdout {HOLDOUT:g}"
    raise DataError(
        f"data: {folder} must hold a folder of images for each class, got folders of folders, such as"
        f" {first}/{folders_in(folder / first)[0]}. The classes are a level further down: {hint}"
    )


def list_part(folder: Path, label_file: Path | None) -> Listing:
    """List the images of a part: of class folders, or of a flat one by its label file.

    Raises:
        PathError: There is no such label file.
        DataError: A folder cannot be listed, or the label file cannot be understood.
    """
    return list_classes(folder) if label_file is None else list_labelled(folder, label_file)


def images_of(folder: Path, listing: Listing, classes: Collection[str] | None = None) -> Entries:
    """Leave out the classes without images, where a part may have such.

    Args:
        folder: The folder of the part, for messages.
        listing: What is in it.
        classes: Those of the training, for a test, which may lack some. Names are compared as `composed`
            gives them.

    Returns:
        Class and path of each image; classes are spelled as those of the training.

    Raises:
        DataError: There are no images, a class of a training has none, or a class is not among `classes`.
    """
    entries = listing.entries
    if classes is not None:
        spelled = {composed(label): label for label in classes}
        found = {label: spelled.get(composed(label)) for label in dict.fromkeys(one for one, _ in entries)}
        unknown = sorted(label for label, known in found.items() if known is None)
        if unknown:
            raise DataError(
                f"data: {folder} must have classes of the training alone, got {listed(unknown)}."
                f"{did_you_mean(unknown[0], classes)}"
            )
        entries = [(found[label] or label, path) for label, path in entries]
    images = [entry for entry in entries if entry[1]]
    empty = [label for label, path in entries if not path]
    if not images or (empty and classes is None):
        raise DataError(_empty(folder, empty, bool(images), listing.left_out))
    return images


def check_classes(place: str, classes: Sequence[str]) -> None:
    """Raise where a training would have nothing to tell apart.

    Args:
        place: Where the images are, for the message.
        classes: The names of the classes.
    """
    if len(classes) < 2:
        raise DataError(
            f"data: {place} must hold two classes or more, got {classes[0]!r} alone. A network"
            " that is to tell it from anything else needs a folder of other images too."
        )


def _empty(folder: Path, empty: list[str], others: bool, left_out: LeftOut) -> str:
    """Say that there are no images in class folders, and what is there instead."""
    files = left_out.endings(Reason.FORMAT, Reason.ENDING, classes=frozenset(empty))
    there = f"; there are {files}" if files else ""
    hint = f"Files are read by their ending ({_READ}): convert the others, as to .jpg."
    if not files:
        hint = "Remove the folders of classes without images." if others else "Put images into them."
    if others:
        return f"data: each class of {folder} must have images, got none in {listed(empty)}{there}. {hint}"
    return f"data: {folder} must hold images, got none in {len(empty)} class folders{there}. {hint}"


def _has_images(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(is_image(os.fsencode(entry.name)) for entry in entries)


def folders_in(folder: Path) -> list[str]:
    """The folders inside, by name; without hidden ones and the system's, or where it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if is_shown(entry.name) and entry.is_dir())
    except OSError:
        return []


def listed(names: Sequence[str]) -> str:
    """Name some things, and count the others: `ant, bee and 3 more`."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(map(printable, names[:_LISTED])) + more
