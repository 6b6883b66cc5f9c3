"""What was measured or trained for the tables: JSON lines, each with where it comes from."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from lambdanets.errors import DataError, StorageError
from lambdanets.paper.tables.record import Finding
from lambdanets.published import Number

# Shows the results of every machine.
ALL_MACHINES: Final = "all"


@dataclass(frozen=True, kw_only=True)
class Result:
    """One line of a result file: ours of one cell.

    Attributes:
        table: Number of the table.
        row: Label of the row.
        column: Key of the column, with the unit in it.
        value: The number; the mean over the seeds.
        kind: How it was obtained.
        machine: In words: processor or accelerator, and how many cores.
        dataset: What was trained on; empty for what was measured.
        seeds: Value of each seed.
        settings: Batch, precision, repetitions, model, … as the kind has them.
        versions: Of Python and the libraries.
        commit: Of this library; `"unknown"` where there is no repository.
        command: That repeats it.
        date: When, in UTC, as ISO 8601 writes it: later ones sort behind.
    """

    table: int
    row: str
    column: str
    value: Number
    kind: Literal["measured", "trained"]
    machine: str
    dataset: str = ""
    seeds: Mapping[str, Number] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    commit: str = "unknown"
    command: str = ""
    date: str = ""

    def finding(self) -> Finding:
        """As a cell shows it."""
        num = len(self.seeds)
        spread = None
        if num > 1:
            squares = sum((value - self.value) ** 2 for value in self.seeds.values())
            spread = (squares / (num - 1)) ** 0.5
        return Finding(
            value=self.value,
            origin=self.kind,
            how=self._how(),
            spread=spread,
            provenance=self._provenance(),
        )

    def _how(self) -> str:
        if self.kind == "trained":
            num = len(self.seeds)
            return f"trained on {self.dataset}, {num} seed{'s' if num != 1 else ''}"
        batch, precision = self.settings.get("batch"), self.settings.get("precision")
        return f"measured on {self.machine}, batch {batch}, {precision}"

    def _provenance(self) -> str:
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        where = f"{self.machine}; " if self.kind == "trained" else ""
        return f"{where}{self.date[:10]}, commit {self.commit}, {versions}; `{self.command}`"


@dataclass(frozen=True, kw_only=True)
class Results:
    """Results of several machines and data sets, of which the newest of each cell counts.

    Attributes:
        results: In any order.
        machine: Whose measurements are shown: a part of its name, `"all"`, or None for this machine's where
            there are any and otherwise the newest.
        here: The name of this machine.
    """

    results: tuple[Result, ...] = ()
    machine: str | None = None
    here: str = ""

    def findings(self, table: int, row: str, column: str) -> tuple[Finding, ...]:
        """What is known of one cell: one for each data set and, where all are asked for, machine."""
        place = (table, row, column)
        found = [one for one in self.results if (one.table, one.row, one.column) == place]
        measured = self._chosen(_newest(one for one in found if one.kind == "measured"))
        trained = _newest(one for one in found if one.kind == "trained")
        return tuple(one.finding() for one in (*measured, *_one_machine_each(trained)))

    def _chosen(self, measured: list[Result]) -> list[Result]:
        if self.machine == ALL_MACHINES:
            return measured
        if self.machine is not None:
            return [one for one in measured if self.machine.lower() in one.machine.lower()]
        own = [one for one in measured if one.machine == self.here]
        return (own or measured)[-1:]


def _newest(results: Iterable[Result]) -> list[Result]:
    """The newest of each machine and data set, the newest last."""
    newest = {(one.machine, one.dataset): one for one in sorted(results, key=lambda one: one.date)}
    return sorted(newest.values(), key=lambda one: one.date)


def _one_machine_each(trained: list[Result]) -> list[Result]:
    """An accuracy is no matter of the machine: the newest of each data set, in the order of their names."""
    return sorted({one.dataset: one for one in trained}.values(), key=lambda one: one.dataset)


def read_results(folder: Path) -> tuple[Result, ...]:
    """All results of a folder, from its files `*.jsonl`; none where there is no folder.

    Raises:
        DataError: A line is no result.
    """
    results = []
    for path in sorted(folder.glob("*.jsonl")):
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            try:
                results.append(Result(**json.loads(line)))
            except (ValueError, TypeError) as error:
                raise DataError(
                    f"tables: {path} must hold one result a line, got '{error}' in line {number}."
                    " Remove the line."
                ) from error
    return tuple(results)


def append_result(folder: Path, result: Result) -> None:
    """Add a result to the file of its table.

    Raises:
        StorageError: The folder cannot be written.
    """
    path = folder / f"table_{result.table:02d}.jsonl"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(json.dumps(dataclasses.asdict(result), ensure_ascii=False) + "\n")
    except OSError as error:
        raise StorageError(
            f"tables: {path} must be writable, got '{error.strerror or error}'."
            " Free some space or use --results."
        ) from error
