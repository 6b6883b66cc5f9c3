"""A table that scrolls inside a box of its own, with columns that a button sorts."""

from collections.abc import Iterable, Sequence

from lambdanets.runs.markup import Html, element, joined


def scrolling_table(anchor: str, caption: str, head: Sequence[Html], rows: Iterable[Html]) -> Html:
    """A table in its box.

    Args:
        anchor: The `id` of the section; its heading has `ANCHOR-title`.
        caption: What the table shows.
        head: Rows of headings.
        rows: Rows of cells.
    """
    # The caption stays in sight while the table moves: as wide as the box, and not as the table.
    shown = element("caption", element("span", caption, class_="caption"))
    table = element("table", shown, element("thead", *head), element("tbody", *rows))
    # What scrolls must be reachable by keys, and have a name.
    return element("div", table, class_="box", role="region", tabindex=0, aria_labelledby=f"{anchor}-title")


def sorting_heading(place: int, text: str, group: str = "", **attributes: str | int) -> Html:
    """The heading of a column: a button that sorts by it.

    Args:
        place: Of the column in a row of cells, from 0.
        text: What is seen.
        group: What the column belongs to, for those who do not see the heading above it.
        attributes: Of the heading.
    """
    hidden = element("span", f"{group}: ", class_="unseen") if group else ""
    button = element("button", hidden, text, type="button", data_column=place)
    return element("th", button, scope="col", aria_sort="none", **attributes)


def plain_table(anchor: str, caption: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Html:
    """A table of words: one heading a column, and the first cell of a row names it."""
    head = element("tr", *(sorting_heading(place, text) for place, text in enumerate(headings)))
    body = (
        element(
            "tr",
            element("th", cells[0], scope="row"),
            *(element("td", cell, class_="prose") for cell in cells[1:]),
        )
        for cells in rows
    )
    return scrolling_table(anchor, caption, [head], body)


def section(anchor: str, title: str, *parts: str) -> Html:
    """A part of the page that the contents lead to."""
    heading = element("h2", title, id=f"{anchor}-title")
    return Html(f"{element('section', heading, joined(parts), id=anchor)}\n")
