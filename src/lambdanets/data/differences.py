"""Fingerprints of data compared: which classes moved, which images are others, in words; without numpy."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from lambdanets.data.layout import listed
from lambdanets.text import printable

# The size of a file that could not be read.
UNKNOWN_SIZE: Final = -1
_LISTED: Final = 3


def data_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, str]:
    """Compare two fingerprints: one of `DATA_NAMES` -> what differs, in words."""
    changes = {}
    if classes := _class_changes(old["classes"], new["classes"]):
        changes["data.classes"] = classes
    named = [(old["classes"], old), (new["classes"], new)]
    parts = {
        part: part_changes(*(({**one[part]}, classes) for classes, one in named))
        for part in ("train", "test")
    }
    if images := "; ".join(f"{part}: {text}" for part, text in parts.items() if text):
        changes["data.images"] = images
    if old.get("pseudo") != new.get("pseudo"):
        counts = [(one.get("pseudo") or {"images": 0})["images"] for one in (old, new)]
        changes["data.pseudo"] = f"{counts[0]:,} -> {counts[1]:,} pseudo-labels, others"
    return changes


def _class_changes(old: Sequence[str], new: Sequence[str]) -> str:
    """Say which classes have other numbers; empty where none has."""
    if list(old) == list(new):
        return ""
    before, after = ({name: number for number, name in enumerate(names)} for names in (old, new))
    moved = [
        f"{printable(name)} was {before[name]} and is {after[name]}"
        for name in new
        if name in before and before[name] != after[name]
    ]
    gone, added = (
        [name for name in one if name not in other] for one, other in ((old, after), (new, before))
    )
    texts = [f"{len(old)} -> {len(new)} classes"] if len(old) != len(new) else []
    texts += [f"gone {listed(gone)}"] if gone else []
    texts += [f"new {listed(added)}"] if added else []
    texts += moved[:_LISTED] + ([f"{len(moved) - _LISTED} more moved"] if len(moved) > _LISTED else [])
    return ", ".join(texts) or "other names"


_Part = tuple[Mapping[str, Any], Sequence[str]]


def part_changes(old: _Part, new: _Part) -> str:
    """Say how some images differ from others; empty where they do not, or nothing is known.

    Args:
        old: The fingerprint of the images, and the names of the classes.
        new: The same of the others.
    """
    (before, old_classes), (after, new_classes) = old, new
    counts = [f"{one['images']:,}" for one in (before, after)]
    texts = [f"{' -> '.join(counts)} images"] if counts[0] != counts[1] else []
    if before.get("by_class") is not None and after.get("by_class") is not None:
        texts += _count_changes(
            dict(zip(old_classes, before["by_class"], strict=False)),
            dict(zip(new_classes, after["by_class"], strict=False)),
            " objects" if "objects" in after else "",
        )
    if texts:
        return ", ".join(texts)
    digests = {one["digest"] for one in (before, after) if one.get("digest")}
    if len(digests) > 1:
        return "equal counts, other names or sizes, or another order"
    return _size_changes(before.get("sizes") or (), after.get("sizes") or ())


def _count_changes(before: Mapping[str, int], after: Mapping[str, int], unit: str) -> list[str]:
    differences = {name: after.get(name, 0) - before.get(name, 0) for name in {**before, **after}}
    changed = [f"{printable(name)} {by:+,}{unit}" for name, by in differences.items() if by]
    more = len(changed) - _LISTED
    return changed[:_LISTED] + ([f"{more:,} more classes"] if more > 0 else [])


def _size_changes(before: Sequence[int], after: Sequence[int]) -> str:
    """Say of how many files the sizes differ; those that cannot be read are not compared."""
    pairs = [pair for pair in zip(before, after, strict=False) if UNKNOWN_SIZE not in pair]
    other = sum(1 for old, new in pairs if old != new)
    return f"equal names, other sizes of {other:,} of {len(pairs):,} files" if other else ""
