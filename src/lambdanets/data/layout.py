"""How a folder of images is laid out: its parts, or what is wrong with it and what to type; without torch."""

import os
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from lambdanets.data.listing import ENDINGS, Entries, list_files
from lambdanets.data.parts import VALIDATIONS
from lambdanets.errors import DataError, PathError, did_you_mean
from lambdanets.files import absolute
from lambdanets.text import printable, shell_words

# Fraction that is set aside where the class folders have no parts.
HOLDOUT: Final = 0.2

# Names of parts, the likeliest first. A test beside a validation stays for the end.
_TRAIN: Final = ("train", "training")
_TEST: Final = ("test", "testing")

_ARCHIVES: Final = (".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
_LISTED: Final = 5


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
    return train.endswith(".tar") or any(Path(root).expanduser().glob(f"{train}/*.tar"))


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
    patterns = ("annotations/*.json", "*annotations.coco.json", "*/*annotations.coco.json")
    found = [path for pattern in patterns for path in sorted(root.glob(pattern))]
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
    files = [printable(name) for name in list_files(os.fsencode(folder), b"")]
    beside = [path.name for path in sorted(root.iterdir()) if path.is_file()]
    images = [name for name in files if name.lower().endswith(tuple(map(os.fsdecode, ENDINGS)))]
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
    got = f"files that are not read: {count_endings(files)}" if files else "an empty folder"
    return DataError(f"{wanted}, got {got}. Read are {_endings()}; others must be converted, as to .jpg.")


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
    inner = {name: folders_in(folder / name) for name in folders}
    # A class may have its images in further folders, but not all of a root that was not told its parts.
    if part != "." and len(folders) > 1:
        return
    if any(not inner[name] or _has_images(folder / name) for name in folders):
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
        f" {first}/{inner[first][0]}. The classes are a level further down: {hint}"
    )


def images_of(folder: Path, entries: Entries, classes: Collection[str] | None = None) -> Entries:
    """Leave out the classes without images, where a part may have such.

    Args:
        folder: The folder of the part, for messages.
        entries: What is in it; a class without images stands there once, without a path.
        classes: Those of the training, for a test, which may lack some.

    Raises:
        DataError: There are no images, a class of a training has none, or a class is not among `classes`.
    """
    unknown = sorted({label for label, _ in entries} - {*classes}) if classes is not None else []
    if unknown:
        raise DataError(
            f"data: {folder} must have classes of the training alone, got {listed(unknown)}."
            f"{did_you_mean(unknown[0], classes or ())}"
        )
    images = [entry for entry in entries if entry[1]]
    empty = [label for label, path in entries if not path]
    if not images or (empty and classes is None):
        raise DataError(_empty(folder, empty, bool(images)))
    return images


def _empty(folder: Path, empty: list[str], others: bool) -> str:
    """Say that there are no images in class folders, and what is there instead."""
    files = [printable(name) for label in empty for name in list_files(os.fsencode(folder / label), b"")]
    there = f"; there are {count_endings(files)}" if files else ""
    hint = f"Files are read by their ending ({_endings()}): convert the others, as to .jpg."
    if not files:
        hint = "Remove the folders of classes without images." if others else "Put images into them."
    if others:
        return f"data: each class of {folder} must have images, got none in {listed(empty)}{there}. {hint}"
    return f"data: {folder} must hold images, got none in {len(empty)} class folders{there}. {hint}"


def _has_images(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(os.fsencode(entry.name.lower()).endswith(ENDINGS) for entry in entries)


def count_endings(files: Iterable[str]) -> str:
    """Count files by their endings, the most frequent first: `12 .heic, 3 .txt`."""
    counts = Counter(Path(name).suffix.lower() or "without an ending" for name in files)
    named = [f"{count:,} {ending}" for ending, count in counts.most_common(_LISTED)]
    return ", ".join([*named, *(["…"] if len(counts) > _LISTED else [])])


def _endings() -> str:
    return " ".join(map(os.fsdecode, ENDINGS))


def folders_in(folder: Path) -> list[str]:
    """The folders inside, by name; without those that begin with a dot, or where it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.name[0] != "." and entry.is_dir())
    except OSError:
        return []


def listed(names: Sequence[str]) -> str:
    """Name some things, and count the others: `ant, bee and 3 more`."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(map(printable, names[:_LISTED])) + more
