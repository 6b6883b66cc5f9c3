"""Image files of folders, listed without torch, within bounds; what is left out, and what is set aside."""

import errno
import glob
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Final, NamedTuple

from lambdanets.data.formats import UNREAD_ENDINGS, is_image
from lambdanets.data.left_out import FOLDER, NO_ENDING, LeftOut, Reason
from lambdanets.errors import DataError, PathError
from lambdanets.text import printable

# Class and path, both as they stand in the file system.
Entries = list[tuple[str, bytes]]

# Folders and files that systems make beside images: thumbnails, deleted files, copies of metadata.
_SYSTEM: Final = {
    *(b"@eadir", b"#recycle", b"#snapshot", b"@recycle", b"__macosx", b"$recycle.bin", b"lost+found"),
    *(b"system volume information", b"thumbs.db", b"ehthumbs.db", b"desktop.ini", b"icon\r"),
}

# A folder with both is that of a run, whose figures are no images of a class.
_OF_A_RUN: Final = frozenset({b".lock", b"config.json"})

# Folders below one another; folders that links lead to a second time; and folders in all. Links that fan out
# lead to thousands of millions of folders.
_DEEPEST: Final = 64
_MOST_AGAIN: Final = 1_000
_MOST_FOLDERS: Final = 2**20


class Listing(NamedTuple):
    """The images of a folder.

    Attributes:
        entries: Class and path of each image; a class without any stands there once, without a path.
        left_out: The other files.
    """

    entries: Entries
    left_out: LeftOut


def list_classes(folder: Path) -> Listing:
    """List the images of each class folder; a folder of runs alone is no class.

    Raises:
        DataError: There are no folders, one cannot be listed, there are too many, or two have one name.
    """
    walk = _Walk(os.fsencode(folder))
    names = list(walk.classes())
    shown = Counter(composed(printable(name)) for name in names)
    if len(shown) < len(names):
        twice = next(label for label, count in shown.items() if count > 1)
        raise DataError(
            f"folder: classes of {folder} must have names of their own, got twice {twice!r}. Put the images"
            " into one folder."
        )
    entries: Entries = []
    for name in names:
        label = printable(name)
        images = walk.images(name, label)
        if images or not walk.left_out.counts[Reason.RUN, FOLDER, label]:
            entries += [(label, path) for path in images or [b""]]
    if not entries:
        raise DataError(
            f"folder: {folder} must hold a folder for each class, got none. A flat folder needs a label file:"
            " --data.train-labels and --data.test-labels."
        )
    return Listing(entries, walk.left_out)


def list_files(root: bytes, left_out: LeftOut | None = None) -> Iterator[bytes]:
    """List all files of a folder and of the folders in it, each folder's own first, relative to the root.

    Args:
        root: The folder.
        left_out: Counts hidden files and those that systems make, which are left out.

    Raises:
        DataError: A folder cannot be listed, or there are too many.
    """
    return _Walk(root, left_out).files(b"", "")


class _Walk:
    """One pass over a folder and those below it, links followed, within bounds; counts what it leaves out."""

    def __init__(self, root: bytes, left_out: LeftOut | None = None) -> None:
        self.left_out = LeftOut() if left_out is None else left_out
        self._root = root
        self._real = os.path.realpath(root)
        self._seen: set[tuple[int, int]] = set()
        self._num_again = 0

    def classes(self) -> Iterator[bytes]:
        """The names of the folders at the top; the files there are left out."""
        for entry in self._entries(self._root):
            if self._is_left_out(entry, entry.name, ""):
                continue
            if self._is_folder(entry):
                yield entry.name
            elif is_image(entry.name):
                self.left_out.add(Reason.STRAY, _ending(entry.name), "")
            elif _is_dead(entry):
                target = printable(os.readlink(os.path.join(self._root, entry.name)))  # noqa: PTH115, PTH118
                raise DataError(
                    f"folder: {printable(os.path.join(self._root, entry.name))} cannot be listed: it is a"  # noqa: PTH118
                    f" link to {target}, which is not there."
                )
            else:
                _count_ending(self.left_out, entry.name, "")

    def images(self, inside: bytes, label: str) -> list[bytes]:
        """The images of a folder and of those in it."""
        paths = []
        for path in self.files(inside, label):
            if is_image(path):
                paths.append(path)
            else:
                _count_ending(self.left_out, path, label)
        self.left_out.num_listed += len(paths)
        return paths

    def files(
        self, inside: bytes, label: str, above: frozenset[tuple[int, int]] = frozenset()
    ) -> Iterator[bytes]:
        """All files of a folder and of those in it, each folder's own first."""
        folder = os.path.join(self._root, inside)  # noqa: PTH118
        entries = self._entries(folder)
        here = self._visit(folder, len(above))
        # A link that leads back up would be followed for ever.
        if here in above:
            self.left_out.add(Reason.LOOP, FOLDER, label)
            return
        if inside and _OF_A_RUN.issubset(entry.name for entry in entries):
            self.left_out.add(Reason.RUN, FOLDER, label)
            return
        folders = []
        prefix = inside and inside + b"/"
        for entry in entries:
            path = prefix + entry.name
            if self._is_left_out(entry, path, label):
                continue
            if self._is_folder(entry):
                folders.append(path)
            elif entry.is_symlink() and not is_image(entry.name) and _is_dead(entry):
                self.left_out.add(Reason.DEAD, _ending(entry.name), label)
            else:
                yield path
        for path in folders:
            yield from self.files(path, label, above | {here})

    def _visit(self, folder: bytes, depth: int) -> tuple[int, int]:
        """Count a folder: too many are refused."""
        status = os.stat(folder)  # noqa: PTH116
        here = (status.st_dev, status.st_ino)
        self._num_again += here in self._seen
        self._seen.add(here)
        for number, most, what in (
            (depth, _DEEPEST, "folders below one another"),
            (self._num_again, _MOST_AGAIN, "folders that links lead to a second time"),
            (len(self._seen), _MOST_FOLDERS, "folders"),
        ):
            if number > most:
                raise DataError(
                    f"folder: {printable(self._root)} must hold at most {most:,} {what}, got more, such as"
                    f" {_shortened(printable(folder))}."
                )
        return here

    def _entries(self, folder: bytes) -> list[os.DirEntry[bytes]]:
        try:
            with os.scandir(folder) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise _unlisted(folder, error) from error

    def _is_left_out(self, entry: os.DirEntry[bytes], path: bytes, label: str) -> bool:
        """Count what is hidden and what systems make; and links that lead out, which are taken."""
        name = entry.name
        is_system = name.lower() in _SYSTEM
        if not is_system and not name.startswith(b"."):
            if entry.is_symlink():
                self._look_outside(path)
            return False
        ending = FOLDER if _is_plain_folder(entry) else _ending(name)
        # `._x.jpg` are the copies of metadata that macOS makes.
        is_missed = not is_system and not name.startswith(b"._") and ending != FOLDER and is_image(name)
        hidden = Reason.HIDDEN_IMAGE if is_missed else Reason.HIDDEN
        self.left_out.add(Reason.SYSTEM if is_system else hidden, ending, label)
        return True

    def _look_outside(self, path: bytes) -> None:
        """Count a link that leads out of the folder, by where it says that it leads."""
        link = os.path.join(self._root, path)  # noqa: PTH118
        target = os.readlink(link)  # noqa: PTH115
        place = os.path.normpath(os.path.join(self._real, os.path.dirname(path), target))  # noqa: PTH118, PTH120
        if not place.startswith((self._real + b"/", os.path.abspath(self._root) + b"/")):  # noqa: PTH100
            self.left_out.add_outside(printable(path), printable(target))

    def _is_folder(self, entry: os.DirEntry[bytes]) -> bool:
        try:
            return entry.is_dir()
        except OSError as error:
            # A link to itself, or to a file that cannot be reached: it is listed, so that it is counted.
            if error.errno == errno.ELOOP or is_image(entry.name):
                return False
            raise _unlisted(entry.path, error) from error


def is_shown(name: str) -> bool:
    """Whether a name is neither hidden nor one that systems give."""
    return not name.startswith(".") and os.fsencode(name).lower() not in _SYSTEM


def _unlisted(folder: bytes, error: OSError) -> DataError:
    return DataError(f"folder: {printable(folder)} cannot be listed: {error.strerror}.")


def _is_plain_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_dead(entry: os.DirEntry[bytes]) -> bool:
    return entry.is_symlink() and not os.path.exists(entry.path)  # noqa: PTH110


def _ending(path: bytes) -> str:
    return printable(os.path.splitext(path)[1].lower()) or NO_ENDING  # noqa: PTH122


def _count_ending(left_out: LeftOut, path: bytes, label: str) -> None:
    ending = _ending(path)
    left_out.add(Reason.FORMAT if ending in UNREAD_ENDINGS else Reason.ENDING, ending, label)


def _shortened(path: str) -> str:
    return path if len(path) <= 120 else f"{path[:60]}…{path[-60:]}"


def find_images(
    given: Iterable[str], who: str, *, out: Path | None = None, left_out: LeftOut | None = None
) -> list[Path]:
    """List image files: each file that is given, those in and below a folder, those that fit a pattern.

    Files of a folder are sorted, and names that begin with a dot are skipped.

    Args:
        given: Paths of files and folders, and patterns of `*`, `?`, `[…]` and `**`.
        who: The command that complains.
        out: A folder whose files are skipped: that of the results.
        left_out: Counts what is left out.

    Raises:
        PathError: A path does not exist, or there is no image in a folder or for a pattern.
        DataError: A folder cannot be listed, or there are too many.
    """
    left_out = LeftOut() if left_out is None else left_out
    own = None if out is None else out.resolve()

    @cache
    def is_own(folder: Path) -> bool:
        return own is not None and folder.resolve().is_relative_to(own)

    found: list[Path] = []
    for text in given:
        path = Path(text)
        if path.is_dir():
            below = _below(path, ["**"], left_out)
        elif path.exists() or not glob.has_magic(text):
            below = [path] if path.exists() else []
        elif "**" in path.parts:
            start = next(place for place, part in enumerate(path.parts) if glob.has_magic(part))
            below = _below(Path(*path.parts[:start]), path.parts[start:], left_out)
        else:
            matches = map(Path, sorted(glob.glob(text)))  # noqa: PTH207
            below = [one for one in matches if not one.is_dir() and _is_taken(os.fsencode(one), left_out)]
        if not path.exists() or path.is_dir():
            below = [one for one in below if not is_own(one.parent)]
        if not below:
            raise PathError(
                f"{who}: images must be files, folders or patterns, got {printable(text)}"
                f"{_absence(path, text, left_out)}."
            )
        found += below
    return [*dict.fromkeys(found)]


def _absence(path: Path, text: str, left_out: LeftOut) -> str:
    if not path.is_dir() and not glob.has_magic(text):
        return ", which does not exist"
    others = left_out.endings(Reason.FORMAT, Reason.ENDING)
    return f": no image{f', but {others}, which are not read' if others else ''}"


def _below(folder: Path, pattern: Sequence[str], left_out: LeftOut) -> list[Path]:
    """The images in and below a folder whose paths there fit a pattern."""
    if not folder.is_dir():
        return []
    names = map(os.fsdecode, list_files(os.fsencode(folder), left_out))
    fitting = (name for name in names if _fits(name.split("/"), pattern))
    return sorted(folder / name for name in fitting if _is_taken(os.fsencode(name), left_out))


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path fits a pattern, part by part; `**` stands for any number of parts."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_fits(parts[start:], pattern[1:]) for start in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])


def _is_taken(name: bytes, left_out: LeftOut) -> bool:
    if is_image(name):
        left_out.num_listed += 1
        return True
    _count_ending(left_out, name, "")
    return False


def composed(name: str) -> str:
    """A name as names are compared: a letter and its accent are one character (NFC), whoever wrote it."""
    return unicodedata.normalize("NFC", name)


def locate(folder: Path, name: str) -> Path:
    """The path of a file in a folder: as written, or else with other accents or slashes, if that is there."""
    plain = name.replace("\\", "/")
    forms = (name, plain, composed(plain), unicodedata.normalize("NFD", plain))
    return next((folder / form for form in forms if (folder / form).is_file()), folder / name)


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
