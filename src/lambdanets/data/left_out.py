"""Files that a listing of images leaves out, counted by the reason, the ending and the class."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

# Endings that a sentence names.
_NAMED: Final = 5

# From so many of a hundred files on, what is left out is told before a training.
_NOTICEABLE: Final = 1

# Stand for the ending of a folder, and of a name without one.
FOLDER: Final = "/"
NO_ENDING: Final = "without an ending"


class Reason(Enum):
    """Why a file is left out; in words, of one and of many."""

    ENDING = "file whose ending is no image's", "files whose ending is no image's"
    FORMAT = "image in a format that is not read", "images in formats that are not read"
    STRAY = "image outside of the class folders", "images outside of the class folders"
    UNNAMED = "image that the label file does not name", "images that the label file does not name"
    HIDDEN = "hidden file or folder", "hidden files and folders"
    HIDDEN_IMAGE = "hidden image", "hidden images"
    SYSTEM = (
        "file or folder of the system (thumbnails and the like)",
        "files and folders of the system (thumbnails and the like)",
    )
    RUN = "folder of a run", "folders of runs"
    LOOP = "link that leads back up", "links that lead back up"
    DEAD = "link that leads nowhere", "links that lead nowhere"


# Those of which each may be an image that somebody misses.
_MISSED: Final = (Reason.FORMAT, Reason.STRAY, Reason.UNNAMED, Reason.HIDDEN_IMAGE, Reason.LOOP, Reason.DEAD)


@dataclass
class LeftOut:
    """What a listing has left out.

    Attributes:
        counts: Files by reason, ending and class.
        num_listed: Files that were taken.
        outside: A link that leads out of the folder, and where to; of many the first.
        num_outside: How many there are. What they lead to is taken.
    """

    counts: Counter[tuple[Reason, str, str]] = field(default_factory=Counter)
    num_listed: int = field(default=0, compare=False)
    outside: tuple[str, str] | None = None
    num_outside: int = 0

    def add(self, reason: Reason, ending: str, label: str) -> None:
        """Count a file."""
        self.counts[reason, ending, label] += 1

    def add_outside(self, path: str, target: str) -> None:
        """Count a link that leads out."""
        self.outside = self.outside or (path, target)
        self.num_outside += 1

    def __add__(self, other: "LeftOut") -> "LeftOut":
        return LeftOut(
            self.counts + other.counts,
            self.num_listed + other.num_listed,
            self.outside or other.outside,
            self.num_outside + other.num_outside,
        )

    def endings(self, *reasons: Reason, classes: frozenset[str] | None = None) -> str:
        """Count files by their endings, the most frequent first: `12 .heic, 3 .txt`; empty for none.

        Args:
            reasons: Why they are left out.
            classes: Of these alone; None: of all.
        """
        counts: Counter[str] = Counter()
        for (reason, ending, label), number in self.counts.items():
            if reason in reasons and (classes is None or label in classes):
                counts[ending] += number
        return count_endings(counts)

    def notes(self, *, all: bool = True) -> Iterator[str]:
        """Sentences about what is left out.

        Args:
            all: Also what nobody misses, such as few hidden files.
        """
        unread = self.endings(Reason.FORMAT, Reason.ENDING)
        if unread:
            yield f"files that are not read, by their ending: {unread}"
        counts: Counter[Reason] = Counter()
        for (reason, _, _), number in self.counts.items():
            counts[reason] += number
        others = {one: counts[one] for one in Reason if one not in (Reason.FORMAT, Reason.ENDING)}
        is_noticeable = 100 * sum(others.values()) > _NOTICEABLE * self.num_listed
        if any(others.values()) and (all or is_noticeable or any(counts[one] for one in _MISSED[1:])):
            told = (f"{num:,} {one.value[num > 1]}" for one, num in others.items() if num)
            yield f"left out: {', '.join(told)}"
        if all and self.outside is not None:
            path, target = self.outside
            more = f" and {self.num_outside - 1:,} more links" if self.num_outside > 1 else ""
            yield f"what links lead to is taken from outside of the folder: {path} from {target}{more}"

    def to_list(self) -> list[dict[str, Any]]:
        """Plain data for JSON: a row for each reason, ending and class."""
        rows = sorted((reason.name.lower(), *rest, num) for (reason, *rest), num in self.counts.items())
        return [dict(zip(("reason", "ending", "class", "files"), row, strict=True)) for row in rows]


def count_endings(counts: Counter[str]) -> str:
    """Name the most frequent endings: `12 .heic, 3 .txt`."""
    named = [f"{count:,} {ending}" for ending, count in counts.most_common(_NAMED)]
    return ", ".join([*named, *(["…"] if len(counts) > _NAMED else [])])
