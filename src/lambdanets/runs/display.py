"""Live progress: two lines on a terminal, plain lines elsewhere; every line goes to the log as well."""

import sys
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Final

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

# Seconds between two plain lines inside an epoch.
_PATIENCE: Final = 10.0
# Seconds over which the speed is averaged, and between two of its samples.
_WINDOW: Final = 30.0
_SPACING: Final = 1.0


class Display:
    """Shows how a run goes.

    Args:
        log: Takes each line too.
        total_steps: Updates of the whole run.
        first_step: Where this process begins.
        steps_per_epoch: Updates of an epoch, where the display should name it.
        device: Whose memory is shown: `cuda`, or this process's on `cpu`.
        started: When this process began, on the clock of `time.monotonic`; now, where it is not given.
    """

    def __init__(
        self,
        log: Callable[[str], None],
        *,
        total_steps: int,
        first_step: int,
        steps_per_epoch: int | None = None,
        device: str = "cpu",
        started: float | None = None,
    ) -> None:
        self._log = log
        self._total = total_steps
        self._steps_per_epoch = steps_per_epoch
        self._device = device
        self._console = Console(highlight=False)
        self._spoken = time.monotonic()
        self._started = self._spoken if started is None else started
        self._step = first_step
        self._scores = ""
        self._steps = 0
        self._images = 0
        # From the first step on: compilation and the like are no part of the speed.
        self._first = 0.0
        # Time and images so far.
        self._recent: deque[tuple[float, int]] = deque()
        # A terminal that cannot move its cursor gets plain lines too.
        self._lively = self._console.is_terminal and not self._console.is_dumb_terminal
        self._live = Live(
            console=self._console, transient=True, get_renderable=self._image, refresh_per_second=4
        )

    def __enter__(self) -> "Display":
        if self._lively:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def line(self, text: str) -> None:
        """Show one line above the progress and log it."""
        self._log(text)
        self._spoken = time.monotonic()
        print_line(text, self._console if self._lively else None)

    def step(self, step: int, images: int, loss: float, accuracy: float | None = None) -> None:
        """Take note of a step; where there is no live progress, speak up when it has been quiet for long.

        Args:
            step: Updates made.
            images: Images of this one.
            loss: Mean of the epoch so far.
            accuracy: The same, as training sees the images.
        """
        now = time.monotonic()
        self._step = step
        self._steps += 1
        self._images += images
        shown = "" if accuracy is None else f" · accuracy {accuracy:.1%}"
        self._scores = f"loss {loss:.3f}{shown}"
        if self._steps == 1:
            self._first = now
            self._recent.append((now, images))
            self.line(f"first step after {format_seconds(now - self._started)}")
        if now - self._recent[-1][0] >= _SPACING:
            self._recent.append((now, self._images))
            while len(self._recent) > 2 and now - self._recent[1][0] > _WINDOW:
                self._recent.popleft()
        if not self._lively and now - self._spoken > _PATIENCE:
            self.line(" · ".join([*self._place(), self._scores, self.pace(step)]))

    def pace(self, step: int) -> str:
        """Speed and time left, in words."""
        return f"{self.images_per_s():,.0f} images/s · {self.time_left(step)}"

    def time_left(self, step: int) -> str:
        """Time left, in words."""
        return f"{format_duration(self._seconds_left(step))} left"

    def images_per_s(self) -> float:
        """Images a second in the last half minute, with evaluation and saving."""
        if self._steps < 2:
            # Better the first step's own time than nothing.
            return self._images / max(time.monotonic() - self._started, 1e-9)
        then, images = self._recent[0]
        return (self._images - images) / max(time.monotonic() - then, 1e-9)

    def _seconds_left(self, step: int) -> float:
        # Steps are counted here: after a rollback their numbers begin anew.
        begun, steps = (self._first, self._steps - 1) if self._steps > 1 else (self._started, 1)
        return (time.monotonic() - begun) / steps * (self._total - step)

    def _place(self) -> list[str]:
        step = f"step {self._step:,} of {self._total:,}"
        return [step] if self._steps_per_epoch is None else [self._epoch(), step]

    def _epoch(self) -> str:
        per_epoch = self._steps_per_epoch or self._total
        # The step that closes an epoch still belongs to it.
        epoch = max(self._step - 1, 0) // per_epoch + 1
        return f"epoch {epoch} of {self._total // per_epoch}"

    def _image(self) -> Group:
        """What the terminal shows now: how far, then how well and how fast."""
        bar = ProgressBar(total=self._total, completed=self._step)
        left = f"{format_duration(self._seconds_left(self._step))} left" if self._steps else "first step …"
        head = Table.grid(expand=True, padding=(0, 1))
        head.add_column(no_wrap=True)
        head.add_column(ratio=1)
        head.add_column(no_wrap=True)
        name = "" if self._steps_per_epoch is None else self._epoch()
        head.add_row(name, bar, f"{self._step / self._total:.0%} · {left}")
        parts = [f"step {self._step:,} of {self._total:,}"]
        if self._steps:
            parts += [self._scores, f"{self.images_per_s():,.0f} images/s", self._memory()]
        return Group(head, Text(" · ".join(parts), no_wrap=True, overflow="ellipsis"))

    def _memory(self) -> str:
        # Here: torch takes a second to load, and nothing else in this file needs it.
        from lambdanets.analysis.memory import peak_bytes_of_process

        return format_bytes(peak_bytes_of_process(self._device))


def print_line(text: str, console: Console | None = None) -> None:
    """Print a line. A reader who has left is no reason to stop training."""
    try:
        if console:
            console.print(text, markup=False, soft_wrap=True)
        else:
            print(text, flush=True)
    except BrokenPipeError:
        sys.stdout = open("/dev/null", "w")  # noqa: SIM115, PTH123


def format_duration(seconds: float) -> str:
    """Give a time in words: 42 s, 3 min 05 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def format_seconds(seconds: float) -> str:
    """Give a short time with a digit more: 3.2 s."""
    return f"{seconds:.1f} s" if seconds < 59.95 else format_duration(seconds)


def format_bytes(num_bytes: int) -> str:
    """Give a size in words: 312 MB, 12.3 GB."""
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 9.995e8 else f"{num_bytes / 1e6:.0f} MB"
