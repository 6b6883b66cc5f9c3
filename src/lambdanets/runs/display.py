"""Progress of a training run: epoch and time left, then step, loss, accuracy, speed and memory."""

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from lambdanets.terminal import Progress, format_bytes, format_duration

# Seconds over which the speed is averaged, and between two of its samples.
_WINDOW: Final = 30.0
_SPACING: Final = 1.0


class TrainingProgress(Progress):
    """Shows how a run goes: a bar on a terminal, plain lines elsewhere.

    Args:
        log: Receives each printed line too.
        total_steps: Steps of the whole run.
        first_step: Step at which this process begins.
        steps_per_epoch: Steps of an epoch.
        device: Type of the device whose memory is shown; on `cpu` that of this process.
        started: When this process began, on the clock of `time.monotonic`; now, where it is not given.
    """

    def __init__(
        self,
        log: Callable[[str], None],
        *,
        total_steps: int,
        first_step: int,
        steps_per_epoch: int,
        device: str = "cpu",
        started: float | None = None,
    ) -> None:
        self._steps_per_epoch = steps_per_epoch
        self._device = device
        self._started = time.monotonic() if started is None else started
        self._scores = ""
        self._steps = 0
        self._images = 0
        # From the first step on: compilation and the like are no part of the speed.
        self._first = 0.0
        # Times with the images until then.
        self._recent: deque[tuple[float, int]] = deque()
        super().__init__("", total_steps, self._step_line, completed=first_step, log=log)
        self.title = self._epoch_title()

    def show_step(self, step: int, images: int, loss: float, accuracy: float | None = None) -> None:
        """Show a step.

        Args:
            step: Steps made.
            images: Images of this one.
            loss: Mean over the epoch so far.
            accuracy: The same of the training images, where it means something.
        """
        now = time.monotonic()
        self._completed = step
        self._steps += 1
        self._images += images
        self._scores = f"loss {loss:.3f}" + ("" if accuracy is None else f" · accuracy {accuracy:.1%}")
        if self._steps == 1:
            self._first = now
            self._recent.append((now, images))
            self.print(f"first step after {format_duration(now - self._started)}")
        if now - self._recent[-1][0] >= _SPACING:
            self._recent.append((now, self._images))
            while len(self._recent) > 2 and now - self._recent[1][0] > _WINDOW:
                self._recent.popleft()
        self.title = self._epoch_title()
        self.update(step)

    def time_left(self) -> str:
        """Time to the end of the run."""
        if not self._steps:
            return "first step …"
        # Steps are counted here: after a rollback their numbers begin anew.
        begun, steps = (self._first, self._steps - 1) if self._steps > 1 else (self._started, 1)
        seconds = (time.monotonic() - begun) / steps * (self._total - self._completed)
        return f"{format_duration(seconds)} left"

    def images_per_s(self) -> float:
        """Images a second in the last half minute, with evaluation and saving."""
        if self._steps < 2:
            # Better the first step's own time than nothing.
            return self._images / max(time.monotonic() - self._started, 1e-9)
        then, images = self._recent[0]
        return (self._images - images) / max(time.monotonic() - then, 1e-9)

    def _epoch_title(self) -> str:
        # The step that closes an epoch still belongs to it.
        epoch = max(self._completed - 1, 0) // self._steps_per_epoch + 1
        return f"epoch {epoch} of {self._total // self._steps_per_epoch} · {self.time_left()}"

    def _step_line(self) -> str:
        parts = [f"step {self._completed:,} of {self._total:,}"]
        if self._steps:
            # Here: torch takes a second to load, and nothing else in this file needs it.
            from lambdanets.analysis.memory import peak_bytes_of_process

            memory = format_bytes(peak_bytes_of_process(self._device))
            parts += [self._scores, f"{self.images_per_s():,.0f} images/s", memory]
        return " · ".join(parts)
