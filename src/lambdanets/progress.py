"""Progress of long countings: a bar on a terminal, now and then a line elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import Progress, TextColumn

# Seconds between two plain lines.
_PATIENCE: Final = 10.0


@contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show on the error output how far something has come; what is printed stays free of it.

    Args:
        what: Such as `decoding train`.
        total: How many there are.

    Yields:
        What takes the number done so far.
    """
    console = Console(file=sys.stderr, highlight=False)
    started = spoken = time.monotonic()
    bar = Progress(
        *Progress.get_default_columns(),
        TextColumn("{task.completed:,} of {task.total:,} · {task.fields[speed]:,.0f}/s"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    task = bar.add_task(what, total=total, speed=0.0)

    def show(done: int) -> None:
        nonlocal spoken
        now = time.monotonic()
        speed = done / max(now - started, 1e-9)
        if console.is_terminal:
            bar.update(task, completed=done, speed=speed)
        elif now - spoken > _PATIENCE:
            spoken = now
            print(f"{what}: {done:,} of {total:,} · {speed:,.0f}/s", file=sys.stderr, flush=True)

    with bar:
        yield show
