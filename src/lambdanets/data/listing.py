"""Image files of folders, listed without torch, and which of them are set aside."""

import glob
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Final

from lambdanets.errors import DataError, PathError
from lambdanets.text import printable

# Endings of the formats that `images.FORMATS` allows.
ENDINGS: Final = (
    *(b".avif", b".bmp", b".gif", b".ico", b".jp2", b".jpeg", b".jpg", b".pbm", b".pcx", b".pgm", b".png"),
    *(b".ppm", b".tga", b".tif", b".tiff", b".webp"),
)

# Class and path, both as they stand in the file system.
Entries = list[tuple[str, bytes]]


def list_classes(folder: Path) -> Entries:
    """List the images of each class folder; a class without any stands there once, without a path.

    Raises:
        DataError: There are no folders, one cannot be listed, or two have one name.
    """
    root = os.fsencode(folder)
    names = [entry.name for entry in _entries(root) if _is_folder(entry)]
    if not names:
        raise DataError(
            f"folder: {folder} must hold a folder for each class, got none. A flat folder needs a label file:"
            " --data.train-labels and --data.test-labels."
        )
    shown = Counter(map(printable, names))
    if len(shown) < len(names):
        twice = [label for label, count in shown.items() if count > 1]
        raise DataError(f"folder: classes of {folder} must have names of their own, got twice {twice[0]!r}.")
    entries: Entries = []
    for name in names:
        label = printable(name)
        paths = [path for path in list_files(root, name) if path.lower().endswith(ENDINGS)]
        entries += [(label, path) for path in paths or [b""]]
    return entries


def list_files(
    root: bytes, inside: bytes, above: frozenset[tuple[int, int]] = frozenset()
) -> Iterator[bytes]:
    """List all files of a folder and of the folders in it, each folder's own first, relative to the root."""
    folder = os.path.join(root, inside)  # noqa: PTH118
    status = os.stat(folder)  # noqa: PTH116
    here = (status.st_dev, status.st_ino)
    # A link that leads back up would be followed for ever.
    if here in above:
        return
    folders = []
    prefix = inside and inside + b"/"
    for entry in _entries(folder):
        path = prefix + entry.name
        if _is_folder(entry):
            folders.append(path)
        else:
            yield path
    for path in folders:
        yield from list_files(root, path, above | {here})


def _entries(folder: bytes) -> list[os.DirEntry[bytes]]:
    try:
        with os.scandir(folder) as entries:
            shown = [entry for entry in entries if not entry.name.startswith(b".")]
    except OSError as error:
        raise DataError(f"folder: {printable(folder)} cannot be listed: {error.strerror}.") from error
    return sorted(shown, key=lambda entry: entry.name)


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link to itself.
        return False


def find_images(given: Iterable[str], who: str, *, out: Path | None = None) -> list[Path]:
    """List image files: each file that is given, those in and below a folder, those that fit a pattern.

    Files of a folder are sorted, and names that begin with a dot are skipped.

    Args:
        given: Paths of files and folders, and patterns of `*`, `?`, `[…]` and `**`.
        who: The command that complains.
        out: A folder whose files are skipped: that of the results.

    Raises:
        PathError: A path does not exist, or there is no image in a folder or for a pattern.
    """
    found: list[Path] = []
    for text in given:
        path = Path(text)
        if path.is_dir():
            below = sorted(one for one in path.rglob("*") if _is_image(one, path, out))
        elif path.exists() or not glob.has_magic(text):
            below = [path] if path.exists() else []
        else:
            matches = map(Path, sorted(glob.glob(text, recursive=True)))  # noqa: PTH207
            below = [one for one in matches if _is_image(one, one.parent, out)]
        if not below:
            reason = ": no image" if path.is_dir() or glob.has_magic(text) else ", which does not exist"
            raise PathError(
                f"{who}: images must be files, folders or patterns, got {printable(text)}{reason}."
            )
        found += below
    return [*dict.fromkeys(found)]


def _is_image(path: Path, folder: Path, out: Path | None) -> bool:
    is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    if is_hidden or os.fsencode(path.suffix.lower()) not in ENDINGS or not path.is_file():
        return False
    return out is None or not path.resolve().is_relative_to(out.resolve())


def image_key(label: str, name: bytes) -> bytes:
    """What decides whether an image is set aside: its class and its name inside its part."""
    return b"/".join((label.encode("utf-8", "backslashreplace"), name))


def set_aside(keys: Sequence[bytes], classes: Sequence[object], fraction: float) -> list[bool]:
    """Decide which images are set aside: each by a digest of its key, whatever the others are.

    So an image stays on its side when others are added or removed. Of each class of two images or more at
    least one is on either side: that with the least digest is set aside, or that with the largest is not.

    Args:
        keys: As `image_key` gives them.
        classes: The class of each image.
        fraction: Which part is set aside, about: the number is as a draw of each image would have it.
    """
    places = [int.from_bytes(blake2b(key, digest_size=8).digest()) / 2**64 for key in keys]
    aside = [place < fraction for place in places]
    members = defaultdict(list)
    for index, label in enumerate(classes):
        members[label].append(index)
    for indices in members.values():
        if len(indices) < 2 or not fraction:
            # A single image is trained with.
            aside[indices[0]] &= len(indices) > 1
        elif not any(aside[index] for index in indices):
            aside[min(indices, key=places.__getitem__)] = True
        elif all(aside[index] for index in indices):
            aside[max(indices, key=places.__getitem__)] = False
    return aside
