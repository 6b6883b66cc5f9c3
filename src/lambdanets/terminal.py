"""Tables, numbers and progress for a terminal; plain lines where there is none."""

import io
import os
import re
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from types import TracebackType
from typing import Final, Literal

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lambdanets.notebook import notebook_bar
from lambdanets.streams import print_line
from lambdanets.text import shown

# Seconds between two plain lines.
_PATIENCE: Final = 10.0
_WIDEST: Final = 10_000
_GAP: Final = 2
_NUMBER: Final = re.compile(r"([-+±≈<>]? ?[\d,.]+( ?%)?( ± [\d,.]+%?)?|nan|none|-|)")


@contextmanager
def result_alone(as_json: bool) -> Iterator[None]:
    """Send what is printed meanwhile to the standard error, by processes started here too.

    Args:
        as_json: Else nothing changes.
    """
    if not as_json:
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def terminal_width() -> int | None:
    """Columns of the terminal; None where the output goes to a file, whose lines have any length."""
    console = Console()
    return console.width if console.is_terminal else None


def table(
    headings: Sequence[str] | None,
    rows: Iterable[Sequence[object]],
    *,
    width: int | Literal["terminal"] | None = "terminal",
    indent: int = 0,
) -> str:
    """Align rows below their headings, as text.

    The first column is aligned to the left, any other that holds nothing but numbers to the right.

    Args:
        headings: One for each column; None for a table without.
        rows: Cells of each row; a row may be shorter than the others.
        width: Longest line; longer cells are folded, numbers last. None: as long as needed. The terminal's
            unless given, and as long as needed where there is none.
        indent: Blanks before each line.
    """
    cells = [[shown(str(cell)) for cell in row] for row in rows]
    num_columns = max([len(headings or ()), *map(len, cells)])
    grid = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), show_header=headings is not None)
    for place in range(num_columns):
        numeric = place > 0 and all(_NUMBER.fullmatch(row[place]) for row in cells if place < len(row))
        heading = headings[place] if headings and place < len(headings) else ""
        justify: Literal["left", "right"] = "right" if numeric else "left"
        grid.add_column(Text(heading), justify=justify, overflow="fold", no_wrap=numeric)
    for row in cells:
        grid.add_row(*map(Text, row))
    if width == "terminal":
        width = terminal_width()
    console = Console(
        file=io.StringIO(), force_jupyter=False, width=(width or _WIDEST) - indent, color_system=None
    )
    with console.capture() as captured:
        console.print(grid)
    return "\n".join(f"{'':{indent}}{line}".rstrip() for line in captured.get().splitlines())


def pairs(
    rows: Mapping[str, object], *, width: int | Literal["terminal"] | None = "terminal", indent: int = 0
) -> str:
    """Align names and their values, one pair a line; see `table`."""
    return table(None, rows.items(), width=width, indent=indent)


def fill(text: str) -> str:
    """Wrap a paragraph at the terminal's width; without a terminal it is one line."""
    width = terminal_width()
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False) if width else text


def count(num: int | float, noun: str) -> str:
    """Write a number of things: 1 image, 1,200 classes, 0.5 epochs, 2 categories."""
    number = f"{num:,}" if isinstance(num, int) else f"{num:g}"
    return f"{number} {noun if num == 1 else _plural(noun)}"


def _plural(noun: str) -> str:
    if re.search(r"[^aeiou]y$", noun):
        return f"{noun[:-1]}ies"
    return f"{noun}es" if re.search(r"(s|x|tch|sh)$", noun) else f"{noun}s"


def format_duration(seconds: float) -> str:
    """Format a time: 3.2 s, 42 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def format_bytes(size: int) -> str:
    """Format a size in decimal units with three digits: 312 MB, 12.3 GB."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= 0.9995 * unit:
            return f"{size / unit:.3g} {name}" if size < 999.5 * unit else f"{size / unit:,.0f} {name}"
    return f"{size} B"


class Progress:
    """Progress of a long task: a bar and a line of text on a terminal, elsewhere a plain line now and then.

    Args:
        title: Stands before the bar; may be set again later.
        total: Number of steps.
        status: Makes the line of text, when it is shown.
        completed: Number of steps already done.
        log: Receives every printed line too.
        stderr: Print to the standard error instead of the standard output.
    """

    def __init__(
        self,
        title: str,
        total: int,
        status: Callable[[], str],
        *,
        completed: int = 0,
        log: Callable[[str], None] | None = None,
        stderr: bool = False,
    ) -> None:
        self.title = title
        self._total = total
        self._completed = completed
        self._status = status
        self._log = log
        self._console = Console(stderr=stderr, highlight=False, force_jupyter=False)
        self._printed = time.monotonic()
        # A terminal that cannot move its cursor gets plain lines too.
        self._is_live = self._console.is_terminal and not self._console.is_dumb_terminal
        self._cell = notebook_bar()
        self._live = Live(
            console=self._console, transient=True, get_renderable=self._render, refresh_per_second=4
        )

    def __enter__(self) -> "Progress":
        if self._is_live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()
        if self._cell:
            self._cell.clear()

    def print(self, text: str) -> None:
        """Print one line, above the bar."""
        if self._log:
            self._log(text)
        self._printed = time.monotonic()
        if self._is_live:
            self._console.print(Text(shown(text)), soft_wrap=True)
        else:
            print_line(text, file=self._console.file)

    def update(self, completed: int) -> None:
        """Set the number of steps done; without a bar, print a line if there was none for ten seconds."""
        self._completed = completed
        if self._cell:
            self._cell.show(self.title, completed / max(self._total, 1), self._status())
        elif not self._is_live and time.monotonic() - self._printed > _PATIENCE:
            self.print(" · ".join(filter(None, (self.title, self._status()))))

    def _render(self) -> Group:
        head = Table.grid(expand=True, padding=(0, 1))
        head.add_column(no_wrap=True)
        head.add_column(ratio=1)
        head.add_column(no_wrap=True)
        bar = ProgressBar(total=self._total, completed=self._completed)
        head.add_row(Text(shown(self.title)), bar, f"{self._completed / max(self._total, 1):.0%}")
        return Group(head, Text(shown(self._status()), no_wrap=True, overflow="ellipsis"))


@contextmanager
def counting(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show on the standard error how many of `total` are done; yields a function that takes their number.

    Args:
        title: Such as `decoding train`.
        total: How many there are.
    """
    started = time.monotonic()
    done = 0

    def status() -> str:
        speed = done / max(time.monotonic() - started, 1e-9)
        return f"{done:,} of {total:,} · {speed:,.0f}/s"

    with Progress(title, total, status, stderr=True) as progress:

        def show(completed: int) -> None:
            nonlocal done
            done = completed
            progress.update(completed)

        yield show
