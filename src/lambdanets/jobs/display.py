"""Live progress: a bar on a terminal, plain lines elsewhere; every line goes to the log as well."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

# Seconds between two plain lines inside an epoch.
_PATIENCE: Final = 10.0


class Display:
    """Shows how a run goes.

    Args:
        log: Takes each line too.
        total_steps: Updates of the whole run.
        first_step: Where this process begins.
    """

    def __init__(self, log: Callable[[str], None], *, total_steps: int, first_step: int) -> None:
        self._log = log
        self._total = total_steps
        self._first = first_step
        self._console = Console(highlight=False)
        self._started = self._spoken = time.monotonic()
        self._images = 0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("step {task.completed} of {task.total} · {task.fields[speed]:,.0f} images/s · left"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("training", total=total_steps, completed=first_step, speed=0.0)

    def __enter__(self) -> "Display":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def line(self, text: str) -> None:
        """Show one line above the bar and log it."""
        self._log(text)
        self._spoken = time.monotonic()
        say(text, self._console if self._console.is_terminal else None)

    def step(self, step: int, images: int, loss: float) -> None:
        """Move the bar; elsewhere speak up when it has been quiet for long."""
        self._images += images
        self._bar.update(self._task, completed=step, speed=self.images_per_s())
        if not self._console.is_terminal and time.monotonic() - self._spoken > _PATIENCE:
            self.line(f"step {step} of {self._total} · loss {loss:.3f} · {self.pace(step)}")

    def pace(self, step: int) -> str:
        """Speed and time left, in words."""
        elapsed = time.monotonic() - self._started
        left = elapsed / max(step - self._first, 1) * (self._total - step)
        return f"{self.images_per_s():,.0f} images/s · {duration(left)} left"

    def images_per_s(self) -> float:
        """Pictures a second since this process began to train, with evaluation and saving."""
        return self._images / max(time.monotonic() - self._started, 1e-9)


def say(text: str, console: Console | None = None) -> None:
    """Print a line. A reader who has left is no reason to stop training."""
    try:
        if console:
            console.print(text, markup=False, soft_wrap=True)
        else:
            print(text, flush=True)
    except BrokenPipeError:
        sys.stdout = open("/dev/null", "w")  # noqa: SIM115, PTH123


def duration(seconds: float) -> str:
    """Give a time in words: 42 s, 3 min 05 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
