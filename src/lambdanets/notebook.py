"""Progress in the output of a notebook's cell: one place that is written anew, beside the printed lines."""

import importlib
import sys
import time
from typing import Any, Final

# Seconds between two drawings: each is a message to the browser.
_SPACING: Final = 0.25
_CELLS: Final = 30


class NotebookBar:
    """A bar with two lines of text in the output of the cell that runs."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._drawn = 0.0

    def show(self, title: str, fraction: float, status: str) -> None:
        """Draw the bar, unless that was done a moment ago.

        Args:
            title: Stands before the bar.
            fraction: What is done, from 0 to 1.
            status: Stands below it.
        """
        now = time.monotonic()
        if now - self._drawn < _SPACING:
            return
        self._drawn = now
        filled = round(_CELLS * min(max(fraction, 0.0), 1.0))
        bar = "█" * filled + "░" * (_CELLS - filled)
        # Imported with the command line, which has no use for it.
        import html

        text = f"{title} {bar} {fraction:.0%}\n{status}"
        self._draw({"text/plain": text, "text/html": f"<pre>{html.escape(text)}</pre>"})

    def clear(self) -> None:
        """Take the bar away: the printed lines say how it went."""
        if self._handle is not None:
            self._draw({"text/plain": "", "text/html": ""})

    def _draw(self, content: dict[str, str]) -> None:
        # A notebook has it; nothing else needs it.
        display = importlib.import_module("IPython.display").display
        if self._handle is None:
            self._handle = display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)


def notebook_bar() -> NotebookBar | None:
    """A bar for the cell that runs; None outside a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    # IPython in a terminal has no kernel.
    return NotebookBar() if getattr(shell, "kernel", None) is not None else None
