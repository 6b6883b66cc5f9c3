"""HTML from Python: every text is escaped unless it is markup already."""

from collections.abc import Iterable
from html import escape
from typing import Final

_WITHOUT_END: Final = frozenset({"img", "br", "meta"})


class Html(str):
    """Text that is HTML already, and is not escaped again."""

    __slots__ = ()


def element(name: str, *parts: str, **attributes: str | int) -> Html:
    """An element with its parts.

    Args:
        name: Of the element.
        parts: Inside it; what is not `Html` is escaped.
        attributes: By their names, with `_` for `-` and a last `_` for a name that Python keeps (`class_`).
            False gives none.
    """
    words = "".join(_attribute(key, value) for key, value in attributes.items() if value is not False)
    if name in _WITHOUT_END:
        return Html(f"<{name}{words}>")
    return Html(f"<{name}{words}>{joined(parts)}</{name}>")


def joined(parts: Iterable[str]) -> Html:
    """Parts one after the other."""
    return Html("".join(part if isinstance(part, Html) else escape(part) for part in parts))


def _attribute(key: str, value: str | int) -> str:
    name = key.rstrip("_").replace("_", "-")
    return f' {name}="{escape(str(value))}"'
