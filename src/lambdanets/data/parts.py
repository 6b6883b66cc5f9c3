"""The settings of images that lie in two parts below a root, of classifiers and detectors; without torch."""

import re
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final, TypeVar

from lambdanets.errors import ArgumentError
from lambdanets.files import absolute

Parts = TypeVar("Parts", bound="PartsConfig")

# Names of the part to test with that mean images to choose a network by, in small letters.
VALIDATIONS: Final = ("val", "valid", "validation")


@dataclass(frozen=True, kw_only=True)
class PartsConfig:
    """Images in a part to train with and a part to test with.

    Attributes:
        root: The folder that holds both parts.
        root_given: The root as it was typed, where `located` made it absolute. It is kept for messages; a
            field that is not compared is no setting.
        train: The part to train with.
        test: The part to test with.
    """

    root: str = ""
    root_given: str | None = field(default=None, compare=False)
    train: str = "train"
    test: str = "val"

    # What else a root may hold than the two parts.
    _other_layout: ClassVar[str] = ""

    def located(self: Parts) -> Parts:
        """The same with an absolute root; `root_given` keeps what was typed."""
        if not self.root:
            return self
        return replace(self, root=absolute(self.root), root_given=self.root_given or self.root)

    def check_ready(self) -> None:
        """Raise where nobody has said which files."""
        if not self.root:
            raise ArgumentError(
                f"{type(self).__name__}: root must be given, got none. Use --data.root DIR, with the parts"
                f" {self.train} and {self.test}{self._other_layout}."
            )

    @property
    def test_name(self) -> str:
        """What the images to test with are called: "validation" for a part of such a name."""
        words = re.findall("[a-z]+", self.test.lower())
        return "test" if {*VALIDATIONS}.isdisjoint(words) else "validation"
