"""Faults of COCO files: what each is called, whether a training refuses it, and how it is mended."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from lambdanets.detection.coco import is_box, is_finite, is_size, is_text, is_whole, segmentation_fault
from lambdanets.detection.rle import box_overlaps, mask_library, segmentation_rle

# x, y, width, height.
Box = tuple[float, float, float, float]

# Faults of a kind that are named; all are counted.
_NAMED: Final = 5
# Pixels by which a box may lie outside: files round them.
_ROUNDING: Final = 1.0
# Overlap over union of a box with the box around its segmentation, below which they disagree.
_AGREEMENT: Final = 0.5


class _Rule(NamedTuple):
    """Whether a training refuses a file for a fault, and what a repair does about it."""

    refused: bool
    remedy: str


RULES: Final = {
    "broken image entry": _Rule(True, "dropped, with its objects"),
    "image id twice": _Rule(True, "the first one stays"),
    "missing image file": _Rule(True, "dropped, with its objects"),
    "unreadable image file": _Rule(True, "dropped, with its objects"),
    "broken category entry": _Rule(True, "dropped, with its objects"),
    "category id twice": _Rule(True, "the first one stays"),
    "broken annotation entry": _Rule(True, "dropped"),
    "annotation id missing or twice": _Rule(True, "a new id"),
    "annotation of a missing image": _Rule(True, "dropped"),
    "annotation of an unknown category": _Rule(True, "dropped"),
    "iscrowd neither 0 nor 1": _Rule(True, "0"),
    "iscrowd missing": _Rule(False, "0"),
    "broken segmentation": _Rule(True, "its sound polygons stay; dropped without any"),
    "polygon of fewer than 3 points": _Rule(False, "taken off; dropped without any other"),
    "no segmentation": _Rule(False, "dropped, as other objects have masks"),
    "crowd without run lengths": _Rule(False, "run lengths of its polygons"),
    "box not of four finite numbers": _Rule(True, "the box of its segmentation; dropped without any"),
    "box without area": _Rule(False, "the box of its segmentation; dropped without any"),
    "box outside of the image": _Rule(False, "the box of its segmentation; dropped without any inside"),
    "box reaches out of the image": _Rule(False, "clipped"),
    "box and segmentation disagree": _Rule(False, "the box of its segmentation"),
    "area not a finite number": _Rule(True, "the area of its segmentation, or of its box"),
    "area missing or not positive": _Rule(False, "the area of its segmentation, or of its box"),
}


@dataclass(frozen=True, kw_only=True)
class Faults:
    """How often each fault of `RULES` was found, and the names of the first few."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, kind: str, what: str) -> None:
        """Count a fault of a kind, of an entry such as `annotations[7]`."""
        assert kind in RULES, "each fault has its rule"
        self.counts[kind] += 1
        if len(self.examples[kind]) < _NAMED:
            self.examples[kind].append(what)


def mend_listed(
    key: str, entries: list[Any], fits: Callable[[dict[str, Any]], bool], faults: Faults
) -> Iterator[dict[str, Any]]:
    """The sound entries of a list of images or categories: those that fit, each id once.

    Args:
        key: `images` or `categories`.
        entries: Values of JSON.
        fits: Whether an object of JSON has what it needs.
        faults: Takes what is found.
    """
    kind = {"images": "image", "categories": "category"}[key]
    seen: set[int] = set()
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or not is_whole(entry.get("id")) or not fits(entry):
            faults.add(f"broken {kind} entry", f"{key}[{number}]")
        elif entry["id"] in seen:
            faults.add(f"{kind} id twice", f"{key}[{number}] (id {entry['id']})")
        else:
            seen.add(entry["id"])
            yield entry


def is_image(entry: dict[str, Any]) -> bool:
    """Whether an entry has a file name and a size."""
    return is_text(entry.get("file_name")) and is_size(entry.get("width")) and is_size(entry.get("height"))


def is_category(entry: dict[str, Any]) -> bool:
    """Whether an entry has a name."""
    return is_text(entry.get("name"))


class Mender:
    """Find the faults of annotations, and mend what can be mended.

    Args:
        images: Sound entries of images.
        categories: Sound entries of categories.
        annotations: Values of JSON.
        faults: Takes what is found.
    """

    def __init__(
        self,
        images: list[dict[str, Any]],
        categories: list[dict[str, Any]],
        annotations: list[Any],
        faults: Faults,
    ) -> None:
        self._sizes = {image["id"]: (image["height"], image["width"]) for image in images}
        self._categories = {category["id"] for category in categories}
        self._annotations = annotations
        self._faults = faults
        objects = [entry for entry in annotations if isinstance(entry, dict)]
        self._has_masks = any(entry.get("segmentation") for entry in objects)
        ids = [entry["id"] for entry in objects if is_whole(entry.get("id"))]
        self._next_id = max(ids, default=0) + 1
        self._seen: set[int] = set()

    def mended(self) -> Iterator[dict[str, Any]]:
        """The annotations after the rules of `RULES`, as copies; those that are dropped are left out."""
        for number, entry in enumerate(self._annotations):
            what = f"annotations[{number}]"
            if isinstance(entry, dict) and is_whole(entry.get("id")):
                what += f" (id {entry['id']})"
            if self._belongs(entry, what):
                copy = dict(entry)
                self._mend_id(copy, what)
                self._mend_crowd(copy, what)
                if self._mend_segmentation(copy, what) and self._mend_box(copy, what):
                    self._mend_area(copy, what)
                    yield copy

    def _belongs(self, entry: Any, what: str) -> bool:
        """Whether an object has an image and a category."""
        if not isinstance(entry, dict) or not all(map(is_whole, map(entry.get, ("image_id", "category_id")))):
            self._faults.add("broken annotation entry", what)
            return False
        if entry["image_id"] not in self._sizes:
            self._faults.add("annotation of a missing image", f"{what}: image {entry['image_id']}")
            return False
        if entry["category_id"] not in self._categories:
            self._faults.add("annotation of an unknown category", f"{what}: category {entry['category_id']}")
            return False
        return True

    def _mend_id(self, entry: dict[str, Any], what: str) -> None:
        if not is_whole(entry.get("id")) or entry["id"] in self._seen:
            self._faults.add("annotation id missing or twice", what)
            entry["id"] = self._next_id
            self._next_id += 1
        self._seen.add(entry["id"])

    def _mend_crowd(self, entry: dict[str, Any], what: str) -> None:
        if "iscrowd" not in entry:
            self._faults.add("iscrowd missing", what)
        elif entry["iscrowd"] not in (0, 1):
            self._faults.add("iscrowd neither 0 nor 1", what)
        crowd = entry.get("iscrowd")
        entry["iscrowd"] = int(crowd in (0, 1) and bool(crowd))

    def _mend_segmentation(self, entry: dict[str, Any], what: str) -> bool:
        """Whether the object has the mask that it needs."""
        given = entry.get("segmentation") or []
        if not given:
            entry["segmentation"] = []
            if self._has_masks:
                self._faults.add("no segmentation", what)
            return not self._has_masks
        size = self._sizes[entry["image_id"]]
        fault = segmentation_fault(given, *size)
        if fault:
            self._faults.add("broken segmentation", f"{what}: must be {fault}")
            polygons = given if isinstance(given, list) else []
            given = [one for one in polygons if not segmentation_fault([one], *size)]
        if isinstance(given, list):
            whole = [polygon for polygon in given if len(polygon) >= 6]
            if len(whole) < len(given):
                self._faults.add("polygon of fewer than 3 points", what)
            given = whole
        if given and entry["iscrowd"] and isinstance(given, list):
            self._faults.add("crowd without run lengths", what)
            given = segmentation_rle(given, size)
        entry["segmentation"] = given
        return bool(given)

    def _mend_box(self, entry: dict[str, Any], what: str) -> bool:
        """Whether the object has a box in the image."""
        height, width = self._sizes[entry["image_id"]]
        around = _clipped(_box_around(entry["segmentation"], (height, width)), width, height)
        kind = self._box_fault(entry.get("bbox"), around, (height, width))
        if not kind:
            return True
        self._faults.add(kind, f"{what}: {entry.get('bbox')!r:.60}")
        if kind == "box reaches out of the image":
            around = _clipped(tuple(map(float, entry["bbox"])), width, height)  # type: ignore[arg-type]
        if around is not None:
            entry["bbox"] = list(around)
        return around is not None

    def _box_fault(self, given: Any, around: Box | None, size: tuple[int, int]) -> str | None:
        if not is_box(given):
            return "box not of four finite numbers"
        left, top, width, height = map(float, given)
        if width <= 0 or height <= 0:
            return "box without area"
        clipped = _clipped((left, top, width, height), size[1], size[0])
        if clipped is None:
            return "box outside of the image"
        if around is not None and box_overlaps([clipped], [around])[0, 0] < _AGREEMENT:
            return "box and segmentation disagree"
        beyond = max(-left, -top, left + width - size[1], top + height - size[0])
        return "box reaches out of the image" if beyond > _ROUNDING else None

    def _mend_area(self, entry: dict[str, Any], what: str) -> None:
        area = entry.get("area")
        if is_finite(area) and area > 0:  # type: ignore[operator]
            return
        broken = area is not None and not is_finite(area)
        self._faults.add("area not a finite number" if broken else "area missing or not positive", what)
        encoded = segmentation_rle(entry["segmentation"], self._sizes[entry["image_id"]])
        drawn = float(mask_library().area(encoded)) if encoded else 0.0
        entry["area"] = drawn or entry["bbox"][2] * entry["bbox"][3]


def _box_around(segmentation: Any, size: tuple[int, int]) -> Box | None:
    """The box around polygons, or around the pixels of run lengths; None without any."""
    if isinstance(segmentation, dict):
        left, top, width, height = mask_library().toBbox(segmentation_rle(segmentation, size)).tolist()
        return left, top, width, height
    if not segmentation:
        return None
    across = [float(x) for polygon in segmentation for x in polygon[::2]]
    down = [float(y) for polygon in segmentation for y in polygon[1::2]]
    return min(across), min(down), max(across) - min(across), max(down) - min(down)


def _clipped(box: Box | None, width: int, height: int) -> Box | None:
    """The part of a box in an image; None where there is none."""
    if box is None:
        return None
    left, top = max(box[0], 0.0), max(box[1], 0.0)
    right, bottom = min(box[0] + box[2], float(width)), min(box[1] + box[3], float(height))
    if not (right > left and bottom > top):
        return None
    return left, top, right - left, bottom - top
