"""`lambdanets data`: check a data set, write it as shards, index shards, draw scenes for detectors."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import tyro

from lambdanets.cli._coco import check_objects
from lambdanets.cli._options import Format, print_json
from lambdanets.data.detection import SceneConfig
from lambdanets.errors import ArgumentError
from lambdanets.ranges import Count, Processes, Range, Rate, Seed
from lambdanets.streams import print_line
from lambdanets.terminal import count, format_bytes, pairs, table
from lambdanets.text import shell_words

if TYPE_CHECKING:
    from lambdanets.data.check import DataReport, PartReport
    from lambdanets.data.config import FilesConfig

# A longer list of classes is not read, and JSON has them all.
_MOST_CLASSES: Final = 20
_MOST_UNREADABLE: Final = 1_000


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """The parts of a data set.

    Attributes:
        kind: How it is stored; as the folder looks unless given. coco: images with objects, for a check
            alone.
        train: The part to train with: a folder, a pattern of shards or a split, or a part of COCO's.
        test: The part to test with; '' for none.
        train_labels: A label file for a flat folder, below the root.
        test_labels: The same for the test.
        holdout: Fraction of the training that is set aside as the test; of class folders without parts a
            fifth, unless given.
    """

    kind: Literal["folder", "shards", "huggingface", "coco"] | None = None
    train: str = "train"
    test: str = "val"
    train_labels: str | None = None
    test_labels: str | None = None
    holdout: Rate = 0.0

    def below(self, root: str) -> "FilesConfig":
        from lambdanets.data.check import find_files

        return find_files(root=root, **vars(self))

    def with_objects(self, root: str) -> tuple[str, ...] | None:
        """The parts with objects in COCO's form; None where they have no such files."""
        if self.kind not in ("coco", None) or self.train_labels or self.test_labels or not self.train:
            return None
        from lambdanets.detection.check import find_coco_parts
        from lambdanets.detection.coco import find_part

        parts = find_coco_parts(Path(root), self.train, self.test)
        if parts is None and self.kind == "coco":
            # Says where it was looked for.
            find_part(Path(root), self.train)
        return parts


_PARTS: Final = _Parts()
_SCENES: Final = SceneConfig()
_Options = Annotated[_Parts, tyro.conf.arg(name="")]
_SceneOptions = Annotated[SceneConfig, tyro.conf.arg(name="")]


def check(
    root: str,
    /,
    *,
    parts: _Options = _PARTS,
    decode: bool = False,
    workers: Processes | None = None,
    repair: Path | None = None,
    format: Format = "text",
) -> int:
    """Count images and classes, and name what cannot be read.

    The exit code is 4 if the data set is not fit to train with. Where a JSON file of COCO's describes a part,
    objects are counted too, and their faults.

    Args:
        root: A folder, or the name of a Hugging Face data set.
        parts: The parts of the data set.
        decode: Read and decode every image.
        workers: Processes that decode; one for each core unless given. Images of COCO's are decoded by one.
        repair: A folder for repaired copies of COCO's JSON files. Images are not copied.
        format: text, or json with the counts of all classes; --json is short for it.
    """
    coco_parts = parts.with_objects(root)
    if coco_parts:
        return check_objects(Path(root), coco_parts, decoding=decode, repair=repair, format=format)
    if repair is not None:
        raise ArgumentError(f"data check: repair must be for files of COCO's JSON, got none in {root}.")
    from lambdanets.data.check import check_data

    workers = workers if workers is not None else os.cpu_count() or 1
    report = check_data(parts.below(root), decoding=decode, num_workers=workers)
    if format == "json":
        print_json(report.to_dict())
    else:
        print_line("\n".join(_lines(report)))
    return 0 if report.is_fit else 4


def shard(
    root: str,
    out: Path,
    /,
    *,
    parts: _Options = _PARTS,
    max_bytes: Annotated[int, Range(1, 2**50)] = 256 * 2**20,
    max_count: Count = 10_000,
    shuffle: Seed | None = None,
    format: Format = "text",
) -> None:
    """Write a data set as tar shards with the same bytes.

    Args:
        root: A folder, or the name of a Hugging Face data set.
        out: A new folder: train/, val/, classes.txt.
        parts: The parts of the data set.
        max_bytes: Largest size of a shard.
        max_count: Most images in a shard.
        shuffle: Seed of an order at random, for readers that go from a shard's start to its end.
        format: text or json; --json is short for the latter.
    """
    from lambdanets.data.check import shard_data

    written = shard_data(
        parts.below(root), out, max_bytes=max_bytes, max_count=max_count, shuffle_seed=shuffle
    )
    if format == "json":
        found = [{"part": one.part, "images": one.num_images, "shards": one.shards} for one in written]
        print_json({"root": out, "kind": "shards", "parts": found})
        return
    rows = {
        one.part: f"{count(one.num_images, 'image')} in {count(len(one.shards), 'shard')}" for one in written
    }
    print_line(pairs(rows))
    for note in dict.fromkeys(note for one in written for note in one.left_out.notes()):
        print_line(f"warning: {note}")
    print_line(f"train with --data.name shards --data.root {shell_words(out)}")


def index(root: Path, /, *, format: Format = "text") -> None:
    """Index the shards below a folder, before many processes read them.

    Args:
        root: A folder with *.tar in it or below.
        format: text or json; --json is short for the latter.
    """
    from lambdanets.data.check import index_data

    indexed = index_data(root)
    total = sum(one.num_images for one in indexed)
    if format == "json":
        shards = [{"shard": one.shard, "images": one.num_images, "index": one.place} for one in indexed]
        print_json({"root": root, "images": total, "shards": shards})
        return
    for one in indexed:
        place = one.place or "nowhere: no folder can be written"
        print_line(f"{one.shard}  {count(one.num_images, 'image')}, index {place}")
    print_line(f"{count(len(indexed), 'shard')}, {count(total, 'image')}")


def scenes(
    out: Path, *, config: _SceneOptions = _SCENES, digits: Path | None = None, format: Format = "text"
) -> None:
    """Draw scenes of handwritten digits with exact masks, as COCO files.

    Args:
        out: A new folder: train/, val/, annotations/.
        config: How many, and what is in them.
        digits: Own digits: MNIST's files, or a folder for each class; scikit-learn's unless given.
        format: text or json; --json is short for the latter.
    """
    from lambdanets.detection.scenes import write_scenes

    counts = write_scenes(out, config, digits)
    totals = {"train": config.train, "val": config.val}
    if format == "json":
        parts = [{"part": part, "images": totals[part], "objects": num} for part, num in counts.items()]
        print_json({"root": out, "parts": parts})
        return
    rows = {part: f"{count(totals[part], 'image')}, {count(num, 'object')}" for part, num in counts.items()}
    print_line(pairs(rows))
    print_line(f"train with --data.root {shell_words(out)} --data.train train --data.test val")


def _lines(report: "DataReport") -> Iterator[str]:
    yield f"{report.root}: {report.kind}{', all decoded' if report.decoded else ''}"
    yield pairs({part.part: _details(part) for part in report.parts})
    if len(report.only_in) <= _MOST_CLASSES:
        yield from (f"only in {part}: {label}" for label, part in report.only_in.items())
    else:
        yield f"{len(report.only_in):,} classes are in one part only; --json names them"
    for part in report.parts:
        if part.empty:
            more = ", …" if len(part.empty) > _MOST_CLASSES else ""
            named = f"{', '.join(part.empty[:_MOST_CLASSES])}{more}"
            yield f"no images in {part.part}: {count(len(part.empty), 'class')} ({named})"
    if report.holdout:
        yield (
            f"{report.parts[-1].part}: {report.holdout:g} of each class, about, by a digest of each file's"
            " name; --holdout sets another fraction aside"
        )
    unreadable = [reason for part in report.parts for reason in part.unreadable]
    yield from (f"unreadable: {reason}" for reason in unreadable[:_MOST_UNREADABLE])
    if len(unreadable) > _MOST_UNREADABLE:
        yield f"unreadable: {len(unreadable) - _MOST_UNREADABLE:,} more; --json names them"
    yield from (f"warning: {note}" for note in report.notes)
    yield _verdict(report)
    if report.is_fit:
        yield f"train with: {report.command}"


def _details(part: "PartReport") -> str:
    lines = [f"{count(part.num_images, 'image')} of {count(len(part.counts), 'class')}"]
    if part.num_bytes is not None:
        mean = round(part.num_bytes / max(part.num_images - len(part.unreadable), 1))
        lines.append(f"{format_bytes(part.num_bytes)}, {format_bytes(mean)} each")
    if part.pixels is not None:
        (width, height), (widest, highest) = part.pixels
        lines.append(f"from {width}×{height} to {widest}×{highest} pixels")
    if len(part.counts) <= _MOST_CLASSES:
        counts = [(label, f"{num:,}") for label, num in part.counts.items()]
        # It stands in a cell, which folds it.
        return "\n".join([*lines, table(None, counts, width=None)])
    for extreme, choose in (("fewest", min), ("most", max)):
        label = choose(part.counts, key=lambda label: part.counts[label])
        lines.append(f"{extreme} {part.counts[label]:,}, in {label}")
    return "\n".join(lines)


def _verdict(report: "DataReport") -> str:
    num = sum(len(part.unreadable) for part in report.parts)
    if num:
        total = sum(part.num_images for part in report.parts)
        return f"{num:,} of {count(total, 'image')} cannot be read"
    if report.is_sound and not report.is_fit:
        return "not fit: one class alone; a network needs images of something else too"
    if not report.is_fit:
        return f"not fit: {report.parts[-1].part} has classes that {report.parts[0].part} does not have"
    return "every image can be decoded" if report.decoded else "nothing wrong; --decode reads each image"
