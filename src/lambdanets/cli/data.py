"""`lambdanets data`: look a data set over, write it as shards, index shards."""

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from lambdanets.errors import ArgumentError

if TYPE_CHECKING:
    from lambdanets.data.check import DataReport, PartReport
    from lambdanets.data.config import FilesConfig

KINDS = ("folder", "shards", "huggingface")

# A table with more classes is not read, and JSON has them all.
_MOST_CLASSES = 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the three jobs with their options."""
    jobs = parser.add_subparsers(dest="job", metavar="JOB", required=True)
    check = jobs.add_parser("check", help="count images and classes, and name what cannot be read")
    check.add_argument("root", metavar="ROOT", help="a folder, or the name of a Hugging Face data set")
    _add_parts(check)
    check.add_argument("--decode", action="store_true", help="read and decode every image")
    check.add_argument("--workers", type=int, metavar="N", help="processes that decode (one for each core)")
    check.add_argument("--json", action="store_true", help="print JSON, with the counts of all classes")
    check.set_defaults(job_main=_check)
    shard = jobs.add_parser("shard", help="write a data set as tar shards with the same bytes")
    shard.add_argument("root", metavar="FOLDER", help="a folder, or the name of a Hugging Face data set")
    shard.add_argument("out", metavar="OUT", type=Path, help="a new folder: train/, val/, classes.txt")
    _add_parts(shard)
    shard.add_argument(
        "--max-bytes", type=int, default=256 * 2**20, metavar="N", help="of a shard (268435456)"
    )
    shard.add_argument("--max-count", type=int, default=10_000, metavar="N", help="images in it (10000)")
    shard.add_argument(
        "--shuffle",
        type=int,
        metavar="SEED",
        help="for other readers, which go from a shard's start to its end",
    )
    shard.set_defaults(job_main=_shard)
    index = jobs.add_parser("index", help="index the shards below a folder, before many processes read them")
    index.add_argument("root", metavar="ROOT", type=Path, help="a folder")
    index.set_defaults(job_main=_index)


def main(arguments: argparse.Namespace) -> int:
    """Do one of the three; `check` gives 4 where something is not fit to train with."""
    return int(arguments.job_main(arguments))


def _add_parts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kind", choices=KINDS, help="(as the folder looks)")
    parser.add_argument("--train", metavar="PART", default="train", help="folder, pattern or split (train)")
    parser.add_argument("--test", metavar="PART", default="val", help="the same, '' for none (val)")
    parser.add_argument("--train-labels", metavar="FILE", help="label file of a flat folder, below ROOT")
    parser.add_argument("--test-labels", metavar="FILE", help="the same for the test")


def _place(arguments: argparse.Namespace) -> "FilesConfig":
    from lambdanets.data.sharding import find_files

    names = ("root", "kind", "train", "test", "train_labels", "test_labels")
    return find_files(**{name: getattr(arguments, name) for name in names})


def _check(arguments: argparse.Namespace) -> int:
    from lambdanets.data.check import check_data

    workers = arguments.workers if arguments.workers is not None else os.cpu_count() or 1
    if workers < 1:
        raise ArgumentError(f"data check: workers must be at least 1, got {workers}.")
    report = check_data(_place(arguments), decoding=arguments.decode, num_workers=workers)
    if arguments.json:
        print(json.dumps(report.to_dict(), indent=2))
    else:
        print("\n".join(_described(report)))
    return 0 if report.is_fit else 4


def _shard(arguments: argparse.Namespace) -> int:
    from lambdanets.data.sharding import shard_data

    written = shard_data(
        _place(arguments),
        arguments.out,
        max_bytes=arguments.max_bytes,
        max_count=arguments.max_count,
        shuffle_seed=arguments.shuffle,
    )
    for one in written:
        print(f"{one.part:<7}{one.num_images:,} images in {len(one.shards):,} shards")
    print(f"train with --data.name shards --data.root {arguments.out}")
    return 0


def _index(arguments: argparse.Namespace) -> int:
    from lambdanets.data.sharding import index_data

    indexed = index_data(arguments.root)
    for one in indexed:
        place = one.place or "nowhere: no folder takes it"
        print(f"{one.shard}  {one.num_images:,} images, index {place}")
    print(f"{len(indexed):,} shards, {sum(one.num_images for one in indexed):,} images")
    return 0


def _described(report: "DataReport") -> list[str]:
    lines = [f"{report.root}: {report.kind}{', all decoded' if report.decoded else ''}"]
    for part in report.parts:
        lines.append(f"{part.part:<12}{part.num_images:,} images of {len(part.counts):,} classes")
        lines += [f"{'':<12}{line}" for line in _details(part)]
    if report.only_in and len(report.only_in) <= _MOST_CLASSES:
        lines += [f"only in {part}: {label}" for label, part in report.only_in.items()]
    elif report.only_in:
        lines.append(f"{len(report.only_in):,} classes are in one part only; --json names them")
    for part in report.parts:
        if part.empty:
            shown = ", ".join(part.empty[:_MOST_CLASSES]) + (", …" if len(part.empty) > _MOST_CLASSES else "")
            lines.append(f"no images in {part.part}: {len(part.empty):,} classes ({shown})")
    lines += [f"unreadable: {why}" for part in report.parts for why in part.unreadable]
    lines.append(_verdict(report))
    return lines


def _details(part: "PartReport") -> list[str]:
    lines = []
    if part.num_bytes is not None:
        mean = part.num_bytes / max(part.num_images - len(part.unreadable), 1)
        lines.append(f"{part.num_bytes / 1e6:,.1f} MB, {mean / 1e3:,.1f} kB each")
    if part.pixels is not None:
        (width, height), (widest, highest) = part.pixels
        lines.append(f"from {width}×{height} to {widest}×{highest} pixels")
    if len(part.counts) <= _MOST_CLASSES:
        return lines + [f"{count:>9,}  {label}" for label, count in part.counts.items()]
    for word, choose in (("fewest", min), ("most", max)):
        label = choose(part.counts, key=lambda label: part.counts[label])
        lines.append(f"{word} {part.counts[label]:,}, in {label}")
    return lines


def _verdict(report: "DataReport") -> str:
    count = sum(len(part.unreadable) for part in report.parts)
    if count:
        total = sum(part.num_images for part in report.parts)
        return f"{count:,} of {total:,} images cannot be read"
    if not report.is_fit:
        return f"not fit: {report.parts[-1].part} has classes that {report.parts[0].part} has not"
    return "every image can be decoded" if report.decoded else "nothing wrong; --decode looks into each image"
