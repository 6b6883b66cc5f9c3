"""The run folder: one config, one process at a time, and the names of its files; without torch."""

import difflib
import json
import os
import platform
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from lambdanets.errors import ArgumentError, CheckpointError, PathError, StorageError
from lambdanets.files import append_line, replace_file
from lambdanets.reading import (
    Number,
    UnreadableError,
    check_fields,
    read_json,
    read_records,
    read_text,
    reading,
)
from lambdanets.text import shown
from lambdanets.training.changes import check_allowed, differences
from lambdanets.training.config import RunConfig, TrainConfig
from lambdanets.training.hold import Hold, check_claim, hold, read_holder
from lambdanets.training.run_names import list_checkpoints

Config = TypeVar("Config", bound=RunConfig)

# Before the names of the numbers of the raw weights in metrics.jsonl; those of the EMA have nothing.
RAW: Final = "raw_"

# What each line of metrics.jsonl holds; the rest depends on the task.
_COUNT: Final = Number(int, 0)
_METRICS: Final = {
    "epoch": _COUNT,
    "step": _COUNT,
    **{f"{kind}test_accuracy?": Number(float, 0, 1) for kind in ("", RAW)},
    **{f"{name}?": _COUNT for name in ("test_correct", f"{RAW}test_correct", "test_total")},
}

# Other runs that a message lists.
_MOST_NAMED: Final = 5

_COMMAND: Final = re.compile(r"lambdanets(\.| (pseudo |detect )?)train(_detector)?\b")


class RunFolder:
    """The files of one run.

    `config.json · metrics.jsonl · train.log · report.md · curves.png · confusion.png · lambdas.png ·
    confusion.json · checkpoints/ · best.safetensors · best.json`, `init.json` if it started with trained
    weights, and `.lock`, which names the process at work, counts the sessions and says when all is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.json"
        self.metrics = path / "metrics.jsonl"
        self.log = path / "train.log"
        self.report = path / "report.md"
        self.checkpoints = path / "checkpoints"
        self.best = path / "best.safetensors"
        self.init = path / "init.json"
        self._held: Hold | None = None

    @classmethod
    def existing(cls, path: Path) -> "RunFolder":
        """Open the folder of a run."""
        folder = cls(path)
        if not folder.config.is_file():
            raise PathError(
                f"run folder: {path} must be a folder of `lambdanets train` with config.json, got none."
                f"{_near_runs(path)}"
            )
        return folder

    def check_claim(self) -> None:
        """Raise unless a run may have the folder: it is new, empty or a run's. Nothing is changed.

        Raises:
            ArgumentError: It holds something else.
        """
        check_claim(self.path)

    @contextmanager
    def locked(self, config: RunConfig, allow: Collection[str] = ()) -> Iterator["RunFolder"]:
        """Hold the folder for this process and config; settings in `allow` may differ from those there."""
        with hold(self.path) as held:
            changes = self.changes(config, allow)
            held.write({**self._holder(), "pid": os.getpid(), "host": platform.node()})
            self._held = held
            try:
                if not self.config.exists() or (changes and not self._is_bound()):
                    self.settle(config)
                yield self
            finally:
                self._held = None

    def check_held(self) -> None:
        """Raise where the folder was moved, deleted or replaced since this process holds it.

        Raises:
            StorageError: It is no longer there.
        """
        if self._held:
            self._held.check()

    def settle(self, config: RunConfig) -> None:
        """Write config.json, unless it says the same: once nothing refuses to go on with these settings."""
        if not self.config.exists() or differences(self.read_config(RunConfig), config):
            replace_file(self.config, config.to_json().encode())
            if self._held:
                self._held.seize_config()

    def changes(self, config: RunConfig, allow: Collection[str] = ()) -> dict[str, tuple[object, object]]:
        """Compare a config with that of the run that is there: dotted name -> (old value, new value).

        Settings bind from the first result on, but for those in `allow`: a run that failed before it can be
        corrected.
        """
        old = self.read_config(RunConfig) if self.config.exists() else config
        check_allowed(allow, old, config)
        changes = differences(old, config)
        is_bound = bool(changes) and self._is_bound()
        refused = {name: change for name, change in changes.items() if is_bound and name not in allow}
        if refused:
            listed = "\n".join(f"  {name}: {old} -> {new}" for name, (old, new) in refused.items())
            raise ArgumentError(
                f"run folder: {self.path} holds a run with other settings, old -> new:\n{listed}\n"
                "Use another --out, or the old settings to continue that run, or go on with the new ones:"
                f" --resume-allow {' '.join(refused)}"
            )
        return changes

    def _is_bound(self) -> bool:
        """Whether there are results."""
        return bool(self.read_metrics() or list_checkpoints(self.checkpoints))

    def read_config(self, kind: type[Config]) -> Config:
        """Read config.json.

        Args:
            kind: `TrainConfig`, `DetectConfig`, or `RunConfig` for either.

        Raises:
            CheckpointError: The file cannot be understood.
            ArgumentError: It is the run of another kind of network.
        """
        try:
            config = RunConfig.from_json(read_text(self.config))
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise CheckpointError(f"run folder: {self.config} must hold a config, got '{error}'.") from error
        if not isinstance(config, kind):
            wanted, found = ("classifier", "detector") if kind is TrainConfig else ("detector", "classifier")
            group = "detect " if found == "detector" else ""
            raise ArgumentError(
                f"run folder: {self.path} must be of the run of a {wanted}, got that of a {found}."
                f" lambdanets {group}eval, {group}predict and {group}compare take it."
            )
        return config

    def read_metrics(self) -> list[dict[str, Any]]:
        """Read metrics.jsonl, without a line that a kill cut short.

        Raises:
            CheckpointError: It cannot be read, or was changed.
        """
        if not os.path.lexists(self.metrics):
            return []
        with reading("run folder", self.metrics, "hold a line for each epoch", CheckpointError):
            records = read_records(self.metrics)
            for record in records:
                _check_metrics(record)
        return records

    def read_init(self) -> dict[str, Any] | None:
        """Read init.json, the weights that the run started with; None where there is none."""
        try:
            return dict(read_json(self.init, {}))
        except UnreadableError:
            return None

    def append_metrics(self, record: dict[str, Any]) -> None:
        """Add a line to metrics.jsonl."""
        append_line(self.metrics, json.dumps(record))

    def drop_metrics_after(self, step: int, unwritten: Iterable[dict[str, Any]] = ()) -> None:
        """Forget the lines beyond a step: they will be written again, with the same numbers.

        Args:
            step: The last one that is kept.
            unwritten: Lines that the disk has not taken before.
        """
        known = {record["step"]: record for record in (*unwritten, *self.read_metrics())}
        kept = (json.dumps(known[number]) + "\n" for number in sorted(known) if number <= step)
        replace_file(self.metrics, "".join(kept).encode())

    def append_log(self, text: str) -> None:
        """Add lines with the time to train.log. A full disk is no reason to stop: nothing needs the log."""
        now = datetime.now().isoformat(sep=" ", timespec="seconds")
        lines = [f"{now}  {line}" for line in shown(text).splitlines()]
        with suppress(StorageError):
            self.check_held()
            if lines:
                append_line(self.log, "\n".join(lines))

    def finished(self, config: RunConfig) -> str | None:
        """Describe a complete run, for a command that would train it again; None if it is not complete."""
        records = self.read_metrics()
        # The report is written last; one that is there may be of fewer epochs. Earlier versions say no more.
        is_written = self.report.exists() and self._holder().get("finished", True)
        if not (is_written and records and records[-1]["epoch"] == config.sched.epochs):
            return None
        last = records[-1]
        found = " ".join(headline(last).split())
        return (
            f"{self.path} is already finished: {found} after epoch {last['epoch']}.\n"
            f"Its page is {self.report}. Use another --out to train again."
        )

    def warnings(self) -> list[str]:
        """The warnings of all sessions, from train.log."""
        return [line.partition("warning: ")[2] for line in _lines(self.log) if "  warning: " in line]

    def last_command(self) -> str | None:
        """The command line of the last session, from train.log; None where there is none."""
        lines = [line.partition("  ")[2] for line in _lines(self.log)]
        return next((line for line in reversed(lines) if _COMMAND.match(line)), None)

    def sessions(self) -> int:
        """Number of sessions that have worked on the run."""
        return int(self._holder().get("sessions", 0))

    def count_session(self) -> int:
        """Count this session of a run that is not finished, and give its number: 1 for the first."""
        number = self.sessions() + 1
        self._write_holder(sessions=number, finished=False)
        return number

    def mark_finished(self) -> None:
        """Write down that everything is written."""
        self._write_holder(finished=True)

    def _holder(self) -> dict[str, Any]:
        return read_holder(self.path)

    def _write_holder(self, **changes: Any) -> None:
        if self._held:
            self._held.write({**self._holder(), **changes})


def _check_metrics(record: Mapping[str, Any]) -> None:
    """Raise unless a line of metrics.jsonl is of an epoch and its accuracies are those of its counts."""
    check_fields(record, _METRICS)
    for kind in ("", RAW):
        names = (f"{kind}test_accuracy", f"{kind}test_correct", "test_total")
        if all(record.get(name) is not None for name in names):
            accuracy, correct, total = (record[name] for name in names)
            # They may have been rounded, but never by an image.
            if abs(accuracy * total - correct) > 0.75:
                raise UnreadableError(
                    f"{names[0]} {accuracy} of {correct} among {total} in epoch {record['epoch']}"
                )


def headline(record: Mapping[str, Any]) -> str:
    """Say in some words what a line of metrics.jsonl holds."""
    if "raw_test_accuracy" in record:
        # Of one width, so that they stand below each other.
        ema, raw = (f"{record[name]:7.2%}" for name in ("test_accuracy", "raw_test_accuracy"))
        return f"EMA {ema} · raw {raw} of {record['test_total']}"
    if "test_accuracy" in record:
        return f"{record['test_accuracy']:.2%} ({record['test_correct']} of {record['test_total']})"
    kinds = [kind for kind in ("box", "mask") if record.get(f"{kind}_ap") is not None]
    return " · ".join(f"{kind} AP {100 * record[f'{kind}_ap']:.1f}" for kind in kinds) or "no objects"


def record_of_raw(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """Give a line of metrics.jsonl with the raw weights in place of the EMA; None without them."""
    raw = {name.removeprefix(RAW): value for name, value in record.items() if name.startswith(RAW)}
    if not raw:
        return None
    return {name: value for name, value in record.items() if not name.startswith(RAW)} | raw


def _near_runs(path: Path) -> str:
    """A sentence with the runs in a folder or beside it, led by a blank; empty where there are none."""
    for place in (path, path.parent):
        runs = sorted(config.parent for config in place.glob("*/config.json"))
        if runs:
            near = {run.name: run for run in runs}
            named = difflib.get_close_matches(path.name, near, n=3) if place != path else []
            listed = [str(near[name]) for name in named] or [*map(str, runs[:_MOST_NAMED])]
            more = len(runs) - len(listed) if not named else 0
            return f" Runs there: {', '.join(listed)}{f' and {more} more' if more else ''}."
    return ""


def _lines(path: Path) -> list[str]:
    try:
        return read_text(path, errors="replace").splitlines()
    except UnreadableError:
        return []
