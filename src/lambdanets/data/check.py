"""The job `data check`: how many images of which class there are, and which cannot be read."""

import os
import stat
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any, Final, NamedTuple

from lambdanets.data.config import FilesConfig
from lambdanets.data.decode import decode
from lambdanets.data.folders import FolderSource
from lambdanets.data.shards import ShardSource
from lambdanets.data.sources import Source
from lambdanets.errors import DataError
from lambdanets.terminal import counting

# Images that a process decodes before it reports.
_AT_ONCE: Final = 32

# Images that are worth a process more: it takes seconds to start.
_WORTH_A_PROCESS: Final = 1000


@dataclass(frozen=True, kw_only=True)
class PartReport:
    """What is in one part of a data set.

    Attributes:
        part: Its name.
        counts: Images of each class that has any.
        empty: Classes that have none.
        num_bytes: Of all images that can be read; none where that is not known without reading them.
        pixels: Width and height of the smallest and of the largest image, where all were decoded.
        unreadable: One sentence for each image that cannot be read.
    """

    part: str
    counts: dict[str, int]
    empty: tuple[str, ...]
    num_bytes: int | None
    pixels: tuple[tuple[int, int], tuple[int, int]] | None
    unreadable: tuple[str, ...]

    @property
    def num_images(self) -> int:
        """All, with those that cannot be read."""
        return sum(self.counts.values())


@dataclass(frozen=True, kw_only=True)
class DataReport:
    """What is in a data set.

    Attributes:
        root: Where it is.
        kind: folder, shards or huggingface.
        decoded: Whether every image was decoded.
        parts: Train, and test where there is one.
    """

    root: str
    kind: str
    decoded: bool
    parts: tuple[PartReport, ...]

    @property
    def only_in(self) -> dict[str, str]:
        """Class to part, for classes that one of two parts lacks."""
        if len(self.parts) < 2:
            return {}
        first, second = self.parts
        lonely = [(label, first.part) for label in first.counts if label not in second.counts]
        return dict(
            [*lonely, *((label, second.part) for label in second.counts if label not in first.counts)]
        )

    @property
    def is_fit(self) -> bool:
        """Whether everything can be read, and the test has no class that the training has not."""
        known = self.parts[0].counts.keys()
        return all(part.counts.keys() <= known and not part.unreadable for part in self.parts)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "root": self.root,
            "kind": self.kind,
            "decoded": self.decoded,
            "fit": self.is_fit,
            "only_in": self.only_in,
            "parts": [
                {
                    "part": part.part,
                    "images": part.num_images,
                    "bytes": part.num_bytes,
                    "pixels": part.pixels,
                    "classes": part.counts,
                    "empty": part.empty,
                    "unreadable": part.unreadable,
                }
                for part in self.parts
            ],
        }


def check_data(data: FilesConfig, *, decoding: bool = False, num_workers: int = 1) -> DataReport:
    """Count the images of a data set and find those that cannot be read.

    Args:
        data: Where it is.
        decoding: Read and decode every image; else only what costs no reading is found out.
        num_workers: Processes that decode, at most.

    Raises:
        PathError: A part is not there.
        DataError: A part has no images, or cannot be trusted.
    """
    parts = [(data.train, data.open_train)]
    if data.test:
        parts.append((data.test, data.open_test))
    reports = []
    for part, open_part in parts:
        source = open_part()
        seen = _decoded(source, part, num_workers) if decoding else _listed(source, part)
        reports.append(_report(source, part, list(seen)))
    return DataReport(root=data.root, kind=data.name, decoded=decoding, parts=tuple(reports))


class _Seen(NamedTuple):
    """What became of one image: its bytes and its size, or why it cannot be read."""

    num_bytes: int | None = None
    size: tuple[int, int] | None = None
    why: str | None = None


def _report(source: Source, part: str, seen: list[_Seen]) -> PartReport:
    counts = Counter(source.targets.tolist())
    known = [one.num_bytes for one in seen if one.num_bytes is not None]
    sizes = sorted((one.size for one in seen if one.size), key=lambda size: size[0] * size[1])
    return PartReport(
        part=part,
        counts={source.labels[target]: counts[target] for target in sorted(counts)},
        empty=tuple(label for target, label in enumerate(source.labels) if target not in counts),
        num_bytes=sum(known) if known else None,
        pixels=(sizes[0], sizes[-1]) if sizes else None,
        unreadable=tuple(one.why for one in seen if one.why),
    )


def _listed(source: Source, part: str) -> Iterator[_Seen]:
    """What is known of each image without reading it."""
    with counting(f"listing {part}", len(source)) as show:
        for index in range(len(source)):
            try:
                num_bytes = _num_bytes(source, index)
                if num_bytes == 0:
                    raise DataError(f"{source.name(index)}: must not be empty.")
                yield _Seen(num_bytes)
            except DataError as error:
                yield _Seen(why=str(error))
            show(index + 1)


def _num_bytes(source: Source, index: int) -> int | None:
    if isinstance(source, ShardSource):
        return source.size(index)
    if not isinstance(source, FolderSource):
        return None
    path = os.path.join(os.fsencode(source.folder), source.paths[index])  # noqa: PTH118
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError as error:
        raise DataError(f"{source.name(index)}: cannot be read: {error.strerror}.") from error
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{source.name(index)}: must be a file, got a folder, a pipe or a device.")
    if not os.access(path, os.R_OK):
        raise DataError(f"{source.name(index)}: cannot be read: Permission denied.")
    return status.st_size


def _decoded(source: Source, part: str, num_workers: int) -> Iterator[_Seen]:
    """What comes of decoding each image, in their order."""
    pieces = [range(start, min(start + _AT_ONCE, len(source))) for start in range(0, len(source), _AT_ONCE)]
    done = 0
    with counting(f"decoding {part}", len(source)) as show:
        for seen in _in_processes(source, pieces, num_workers):
            done += len(seen)
            show(done)
            yield from seen


def _in_processes(source: Source, pieces: list[range], num_workers: int) -> Iterator[list[_Seen]]:
    num_workers = min(num_workers, len(source) // _WORTH_A_PROCESS)
    if num_workers < 2:
        yield from map(partial(_decode_all, source), pieces)
        return
    # Started anew instead of forked: torch's threads do not survive a fork.
    pool = ProcessPoolExecutor(num_workers, get_context("spawn"), _take, (source,))
    try:
        yield from pool.map(_decode_taken, pieces)
    except BrokenProcessPool as error:
        raise DataError(
            "data check: processes that decode must live, got one that was killed, probably for memory."
            " Use fewer with --workers."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _decode_all(source: Source, indices: range) -> list[_Seen]:
    return [_decode_one(source, index) for index in indices]


def _decode_one(source: Source, index: int) -> _Seen:
    try:
        content = source.read(index)
        return _Seen(len(content), decode(content, source.name(index)).size)
    except DataError as error:
        return _Seen(why=str(error))


# What a process decodes: given once, when it starts, and not with each piece.
_taken: list[Source] = []


def _take(source: Source) -> None:
    _taken[:] = [source]


def _decode_taken(indices: range) -> list[_Seen]:
    return _decode_all(_taken[0], indices)
