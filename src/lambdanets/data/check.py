"""Check data sets, write them as shards, and index shards: the jobs of `lambdanets data`."""

from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from lambdanets.data.config import FilesConfig, FolderConfig, switched
from lambdanets.data.decode import decode
from lambdanets.data.folders import FolderSource, write_class_names
from lambdanets.data.layout import HOLDOUT, check_root, holds_shards
from lambdanets.data.left_out import LeftOut
from lambdanets.data.listing import composed
from lambdanets.data.shard_index import index_place, read_index
from lambdanets.data.shard_writer import MAX_COUNT, MAX_SHARD_BYTES, write_shards
from lambdanets.data.shards import ShardSource
from lambdanets.data.sources import Source, Subset
from lambdanets.errors import ArgumentError, DataError, PathError
from lambdanets.files import absolute, check_empty, new_folder
from lambdanets.processes import worker_pool
from lambdanets.terminal import counting
from lambdanets.text import shell_words
from lambdanets.waiting import Beside, wait_for

# The settings that say where the parts are.
_PARTS: Final = ("train", "test", "holdout", "train_labels", "test_labels")

# Images that a process decodes before it reports.
_AT_ONCE: Final = 32

# Seconds in which they are decoded, unless something hangs.
_LIMIT_S: Final = 600.0

# Images that are worth a process more: it takes seconds to start.
_WORTH_A_PROCESS: Final = 1000


@dataclass(frozen=True, kw_only=True)
class PartReport:
    """The contents of one part of a data set.

    Attributes:
        part: Its name.
        counts: Images of each class that has any.
        empty: Classes that have none.
        num_bytes: Size of all images that can be read; None where it is not known without reading them.
        pixels: Width and height of the smallest and of the largest image, where all were decoded.
        unreadable: One sentence for each image that cannot be read.
        left_out: The files of a folder that are no images of these.
    """

    part: str
    counts: dict[str, int]
    empty: tuple[str, ...]
    num_bytes: int | None
    pixels: tuple[tuple[int, int], tuple[int, int]] | None
    unreadable: tuple[str, ...]
    left_out: LeftOut

    @property
    def num_images(self) -> int:
        """All, with those that cannot be read."""
        return sum(self.counts.values())


@dataclass(frozen=True, kw_only=True)
class DataReport:
    """The contents of a data set.

    Attributes:
        root: Where it is.
        kind: folder, shards or huggingface.
        decoded: Whether every image was decoded.
        parts: Train, and test where there is one.
        holdout: The fraction of the training that is set aside as the test; 0 where this is a part.
        notes: One sentence for each thing that a training should not meet unseen.
        command: What trains with these images.
    """

    root: str
    kind: str
    decoded: bool
    parts: tuple[PartReport, ...]
    holdout: float = 0.0
    notes: tuple[str, ...] = ()
    command: str = ""

    @property
    def only_in(self) -> dict[str, str]:
        """Class to part, for classes that one of two parts lacks."""
        if len(self.parts) < 2:
            return {}
        first, second = self.parts
        return {
            label: part.part
            for part, other in ((first, second), (second, first))
            for label in part.counts
            if label not in other.counts
        }

    @property
    def is_sound(self) -> bool:
        """Whether everything can be read, and the test has only classes of the training."""
        known = self.parts[0].counts.keys()
        return all(part.counts.keys() <= known and not part.unreadable for part in self.parts)

    @property
    def is_fit(self) -> bool:
        """Whether a training takes the images: they are sound, and of two classes or more."""
        return self.is_sound and len(self.parts[0].counts) > 1

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "root": self.root,
            "kind": self.kind,
            "decoded": self.decoded,
            "fit": self.is_fit,
            "only_in": self.only_in,
            "holdout": self.holdout,
            "notes": self.notes,
            "command": self.command if self.is_fit else None,
            "parts": [
                {
                    "part": part.part,
                    "images": part.num_images,
                    "bytes": part.num_bytes,
                    "pixels": part.pixels,
                    "classes": part.counts,
                    "empty": part.empty,
                    "unreadable": part.unreadable,
                    "left_out": part.left_out.to_list(),
                }
                for part in self.parts
            ],
        }


def check_data(data: FilesConfig, *, decoding: bool = False, num_workers: int = 1) -> DataReport:
    """Count the images of a data set and find those that cannot be read.

    Args:
        data: Where it is.
        decoding: Read and decode every image; else only look at names and sizes.
        num_workers: Processes that decode, at most.

    Raises:
        PathError: A part is not there.
        DataError: A part has no images, or cannot be trusted; a folder is laid out in another way.
    """
    survey, problem = None, None
    try:
        survey = data.survey()
    except (PathError, DataError) as error:
        problem = error
    try:
        opened = _open_parts(data)
    except (PathError, DataError) as error:
        # The survey says what to type.
        raise problem or error from error
    spelled = {composed(label): label for label in opened[0][1].labels}
    parts = [_count(part, source, spelled, decoding, num_workers) for part, source in opened]
    if data.holdout:
        # Both parts come from one folder.
        parts[1:] = [replace(part, left_out=LeftOut()) for part in parts[1:]]
    left_out = sum((part.left_out for part in parts), LeftOut())
    report = DataReport(
        root=data.root_given or data.root,
        kind=data.name,
        decoded=decoding,
        parts=tuple(parts),
        holdout=data.holdout,
        notes=(*(survey.notes if survey else ()), *left_out.notes()),
        command=_command(data),
    )
    if problem and report.is_sound:
        raise problem
    return report


def _open_parts(data: FilesConfig) -> list[tuple[str, Source]]:
    """The parts by their names; both may have one name."""
    if data.holdout:
        return [*zip(("train", data.test_name), data.open_parts(), strict=True)]
    parts = [(data.train, data.open_train())]
    return [*parts, (data.test, data.open_test())] if data.test else parts


def _count(
    part: str, source: Source, spelled: Mapping[str, str], decoding: bool, num_workers: int
) -> PartReport:
    """Look at the images of a part; `spelled` gives the names of the classes of the training."""
    checked = list(_decoded(source, part, num_workers) if decoding else _listed(source, part))
    counts = Counter(source.targets.tolist())
    labels = [spelled.get(composed(label), label) for label in source.labels]
    known = [one.num_bytes for one in checked if one.num_bytes is not None]
    sizes = sorted((one.size for one in checked if one.size), key=lambda size: size[0] * size[1])
    return PartReport(
        part=part,
        counts={labels[target]: counts[target] for target in sorted(counts)},
        empty=tuple(label for target, label in enumerate(labels) if target not in counts),
        num_bytes=sum(known) if known else None,
        pixels=(sizes[0], sizes[-1]) if sizes else None,
        unreadable=tuple(one.reason for one in checked if one.reason),
        left_out=_left_out(source),
    )


def _left_out(source: Source) -> LeftOut:
    """The files of a folder that are none of its images."""
    if isinstance(source, Subset):
        return _left_out(source.source)
    return source.left_out if isinstance(source, FolderSource) else LeftOut()


def _command(data: FilesConfig) -> str:
    """The command that trains with images where they are, with the options that their parts need."""
    root = data.root_given or data.root
    words = ["lambdanets", "train", "photos", "--data.root", root]
    is_seen = data.name == "folder" or (data.name == "shards" and holds_shards(data.root, FilesConfig.train))
    words += [] if is_seen else ["--data.name", data.name]
    defaults: dict[str, Any] = {field.name: field.default for field in fields(data) if field.name in _PARTS}
    plain = replace(data, **defaults).located()
    if not (data.test or data.holdout):
        data = replace(data, test=plain.test, holdout=HOLDOUT)
    for name in defaults:
        if (value := getattr(data, name)) != getattr(plain, name):
            words += [f"--data.{name.replace('_', '-')}", str(value)]
    return shell_words(*words)


class _Checked(NamedTuple):
    """One image: its bytes and its size, or the reason why it cannot be read."""

    num_bytes: int | None = None
    size: tuple[int, int] | None = None
    reason: str | None = None


def _listed(source: Source, part: str) -> Iterator[_Checked]:
    """Look at each image without reading it."""
    with counting(f"listing {part}", len(source)) as show:
        for index in range(len(source)):
            try:
                num_bytes = _size(source, index)
                if num_bytes == 0:
                    raise DataError(f"{source.name(index)}: must not be empty.")
                yield _Checked(num_bytes)
            except DataError as error:
                yield _Checked(reason=str(error))
            show(index + 1)


def _size(source: Source, index: int) -> int | None:
    if isinstance(source, Subset):
        return _size(source.source, int(source.indices[index]))
    return source.size(index) if isinstance(source, FolderSource | ShardSource) else None


def _decoded(source: Source, part: str, num_workers: int) -> Iterator[_Checked]:
    """Decode each image, in their order."""
    pieces = [range(start, min(start + _AT_ONCE, len(source))) for start in range(0, len(source), _AT_ONCE)]
    done = 0
    with counting(f"decoding {part}", len(source)) as show:
        for checked in _in_processes(source, pieces, num_workers):
            done += len(checked)
            show(done)
            yield from checked


def _in_processes(source: Source, pieces: list[range], num_workers: int) -> Iterator[list[_Checked]]:
    num_workers = min(num_workers, len(source) // _WORTH_A_PROCESS)
    if num_workers < 2:
        with closing(Beside()) as beside:
            for piece in pieces:
                yield wait_for(beside.submit(partial(_decode_all, source, piece)), _LIMIT_S, _late)
        return
    try:
        with worker_pool(num_workers, "nothing was changed.", _take, (source,)) as pool:
            for future in [pool.submit(_decode_taken, piece) for piece in pieces]:
                yield wait_for(future, _LIMIT_S, _late)
    except BrokenProcessPool as error:
        raise DataError(
            "data check: processes that decode must live, got one that was killed, probably for memory."
            " Use fewer with --workers."
        ) from error


def _late() -> DataError:
    return DataError(
        f"data check: {_AT_ONCE} images must be decoded within {_LIMIT_S:g} s, got none. The usual cause is a"
        " disk that does not answer, or processes that were stopped."
    )


def _decode_all(source: Source, indices: range) -> list[_Checked]:
    checked = []
    for index in indices:
        try:
            content = source.read(index)
            checked.append(_Checked(len(content), decode(content, source.name(index)).size))
        except DataError as error:
            checked.append(_Checked(reason=str(error)))
    return checked


# What a process decodes: given once, when it starts, and not with each piece.
_taken: list[Source] = []


def _take(source: Source) -> None:
    _taken[:] = [source]


def _decode_taken(indices: range) -> list[_Checked]:
    return _decode_all(_taken[0], indices)


def find_files(
    root: str,
    kind: str | None = None,
    *,
    train: str = "train",
    test: str = "val",
    train_labels: str | None = None,
    test_labels: str | None = None,
    holdout: float = 0.0,
) -> FilesConfig:
    """The config of a data set, by how its folder looks: shards where `train` holds tar archives.

    Args:
        root: The folder, or the name of a Hugging Face data set.
        kind: folder, shards or huggingface, where that is known.
        train: As in `FolderConfig`, like the other parts.
        test: Empty where there is none.
        train_labels: For a folder alone.
        test_labels: For a folder alone.
        holdout: The fraction of the training that is set aside as the test.

    Raises:
        ArgumentError: `train` is empty, or label files are given for something else than a folder.
        PathError: There is no such folder.
    """
    if not train:
        raise ArgumentError("data: train must name a folder, a pattern or a split, got nothing.")
    if kind is None:
        try:
            check_root(absolute(root))
        except PathError as error:
            if Path(root).exists():
                raise
            raise PathError(f"{error} A data set of Hugging Face needs --kind huggingface.") from error
        kind = "shards" if holds_shards(root, train) else "folder"
    settings = {"root": root, "train": train, "test": test, "holdout": holdout}
    labels = {"train_labels": train_labels, "test_labels": test_labels}
    given = {name: file for name, file in labels.items() if file is not None}
    config = switched(FolderConfig(), kind, **settings, **given)
    assert isinstance(config, FilesConfig), "only files are looked for"
    return config.located()


class Written(NamedTuple):
    """A part that was written as shards, and the files of its folder that were not."""

    part: str
    num_images: int
    shards: list[Path]
    left_out: LeftOut


def shard_data(
    data: FilesConfig,
    out: Path,
    *,
    max_bytes: int = MAX_SHARD_BYTES,
    max_count: int = MAX_COUNT,
    shuffle_seed: int | None = None,
) -> list[Written]:
    """Write a data set as shards: `train/` and `val/` in a new folder, with the names of the classes.

    The folder is there when all of it is on the disk, or not at all. The options are those of `write_shards`.

    Raises:
        ArgumentError: Something is in the folder.
        PathError: A part is not there.
        DataError: An image cannot be read, or is none; or the test has a class that the training has not.
        StorageError: The folder cannot be written.
    """
    check_empty(out, "data shard")
    if data.test or data.holdout:
        train, test = data.open_parts()
        sources = {"train": train, "val": test}
    else:
        train = data.open_train()
        sources = {"train": train}
    written = []
    with new_folder(out, "data shard") as beside:
        write_class_names(beside, train.labels)
        for part, source in sources.items():
            with counting(f"writing {part}", len(source)) as show:
                shards = write_shards(
                    source,
                    beside / part,
                    part,
                    max_bytes=max_bytes,
                    max_count=max_count,
                    shuffle_seed=shuffle_seed,
                    progress=show,
                )
                # So that the first reader need not.
                for shard in shards:
                    read_index(shard)
            placed = [out / part / shard.name for shard in shards]
            written.append(Written(part, len(source), placed, _left_out(source)))
    return written


class Indexed(NamedTuple):
    """A shard, and the place of its index; none where it could not be kept."""

    shard: Path
    num_images: int
    place: Path | None


def index_data(root: Path) -> list[Indexed]:
    """Make the index of every shard below a folder, where it is not there yet.

    Raises:
        PathError: There is no such folder, or no shard in it.
        DataError: A shard is damaged or not to be trusted.
    """
    shards = sorted(root.rglob("*.tar"))
    if not shards:
        raise PathError(f"data index: root must be a folder with *.tar in it or below, got {root}.")
    indexed = []
    with counting("indexing", len(shards)) as show:
        for number, shard in enumerate(shards, 1):
            index = read_index(shard)
            indexed.append(Indexed(shard, len(index.names), index_place(shard, index.stamp)))
            show(number)
    return indexed
