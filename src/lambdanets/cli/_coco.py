"""What `lambdanets data check` prints of images with objects."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lambdanets.cli._options import Format, print_json
from lambdanets.streams import print_line
from lambdanets.terminal import count, pairs, table

if TYPE_CHECKING:
    from lambdanets.detection.check import CocoReport

# A longer list of categories is not read, and JSON has them all.
_MOST_CATEGORIES: Final = 100


def check_objects(
    root: Path, parts: tuple[str, ...], *, decoding: bool, repair: Path | None, format: Format
) -> int:
    """Check the parts, print the result, and return the exit code."""
    from lambdanets.detection.check import check_coco

    reports = check_coco(root, parts, decoding=decoding, repair=repair)
    is_fit = all(report.is_fit for report in reports)
    if format == "json":
        content = [report.to_dict() for report in reports]
        print_json({"root": str(root), "kind": "coco", "decoded": decoding, "fit": is_fit, "parts": content})
    else:
        print_line(f"{root}: coco{', all decoded' if decoding else ''}")
        for report in reports:
            print_line("\n".join(_lines(report)))
        print_line(_verdict(reports, decoding))
    return 0 if is_fit else 4


def _lines(report: "CocoReport") -> Iterator[str]:
    num_objects = sum(report.objects.values())
    rows = {
        report.part: f"{report.path}, images in {report.image_folder}",
        "images": f"{report.num_images:,}: {report.num_with_objects:,} with objects,"
        f" {report.num_images - report.num_with_objects:,} without",
        "objects": f"{num_objects:,} of {count(len(report.objects), 'category')};"
        f" crowds: {report.num_crowds:,}",
        "sizes": ", ".join(f"{size} {num:,}" for size, num in report.sizes.items()),
    }
    if report.empty:
        more = ", …" if len(report.empty) > _MOST_CATEGORIES else ""
        named = ", ".join(report.empty[:_MOST_CATEGORIES])
        rows["empty"] = f"{count(len(report.empty), 'category')} without objects ({named}{more})"
    yield pairs(rows)
    if 0 < len(report.objects) <= _MOST_CATEGORIES:
        counts = [(name, f"{num:,}") for name, num in report.objects.items()]
        yield table(["category", "objects"], counts, indent=2)
    for fault in report.to_dict()["faults"]:
        yield (
            f"{'fault' if fault['refused'] else 'note'}:"
            f" {fault['count']:,} × {fault['fault']}"
            f" ({'; '.join(fault['first'])}{'; …' if fault['count'] > len(fault['first']) else ''})."
            f" Repair: {fault['repair']}."
        )
    yield from (f"warning: {report.part}: {note}" for note in report.left_out.notes())
    if report.repaired:
        place = report.repaired.resolve()
        yield f"repaired: {place}, for --data.train or --data.test; the images stay where they are"


def _verdict(reports: tuple["CocoReport", ...], decoding: bool) -> str:
    unfit = [report.part for report in reports if not report.is_fit]
    if unfit:
        advice = "" if any(report.repaired for report in reports) else " --repair OUT writes mended copies."
        return f"not fit: {', '.join(unfit)}.{advice}"
    if any(report.faults.counts for report in reports):
        return "fit to train with; --repair OUT mends what is noted"
    return "nothing wrong" if decoding else "nothing wrong; --decode reads each image"
