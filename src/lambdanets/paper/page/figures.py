"""Images inside the page."""

import base64
from dataclasses import dataclass
from typing import Final

from lambdanets.errors import DataError
from lambdanets.runs.markup import Html, element

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
# An image that is wider scrolls on a phone and is not made too small to be read.
_READABLE_WIDTH: Final = "44rem"


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image with what it shows.

    Attributes:
        title: In a few words; what is read aloud in its place.
        caption: What it shows and where its numbers come from.
        png: The file.
    """

    title: str
    caption: str
    png: bytes

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, as the file says.

        Raises:
            DataError: It is no PNG.
        """
        if not self.png.startswith(_SIGNATURE) or len(self.png) < 24:
            raise DataError(
                f"report: '{self.title}' must be a PNG file, got {self.png[:8]!r} at its beginning."
            )
        return int.from_bytes(self.png[16:20]), int.from_bytes(self.png[20:24])


def figure(image: Image) -> Html:
    """The image in a box that scrolls, and its caption."""
    width, height = image.size
    img = element(
        "img",
        src=f"data:image/png;base64,{base64.b64encode(image.png).decode()}",
        alt=image.title,
        width=width,
        height=height,
        style=f"min-width: min({width}px, {_READABLE_WIDTH})",
    )
    box = element("div", img, class_="image", role="region", tabindex=0, aria_label=image.title)
    return element("figure", box, element("figcaption", image.caption))
