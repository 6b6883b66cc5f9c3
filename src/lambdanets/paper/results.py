"""Our numbers, each with its origin; what was measured or trained is kept as JSON lines."""

import dataclasses
import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from lambdanets.errors import DataError
from lambdanets.files import append_line, make_folder
from lambdanets.published import Number, Row, Value
from lambdanets.reading import parse_json, read_text, reading
from lambdanets.runs.origin import commit, machine_name, now, versions

Kind = Literal["stated", "computed", "counted", "measured", "trained"]
# Neither a machine nor a data set decides these: they can be compared with the paper.
EXACT: Final = ("computed", "counted")

_FIELDS: Final = {
    "table": int,
    **dict.fromkeys(("row", "column", "kind"), str),
    "value": (int, float, str),
    "seeds?": {str: float},
    "settings?": {},
    **{f"{name}?": str for name in ("machine", "dataset", "commit", "command", "date")},
    "versions?": {str: str},
}


@dataclass(frozen=True, kw_only=True)
class Result:
    """One of our numbers. The fields are the keys of a line in a result file.

    Attributes:
        table: Number of the table.
        row: Label of the row.
        column: Key of the column, with the unit in it.
        value: The number, or words where the paper has words; the mean over the seeds.
        kind: Stated (a name), computed (a closed form or a recipe), counted (from modules), measured or
            trained.
        machine: In words: processor or accelerator, and how many cores.
        dataset: Trained on; empty for a measurement.
        seeds: Value of each seed.
        settings: Batch, precision, repetitions, model, …
        versions: Python and the libraries.
        commit: Commit of this library; `"unknown"` without a repository.
        command: Repeats it.
        date: In UTC, in ISO 8601, so that later dates sort behind.
    """

    table: int
    row: str
    column: str
    value: Value
    kind: Kind
    machine: str = ""
    dataset: str = ""
    seeds: Mapping[str, Number] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    commit: str = "unknown"
    command: str = ""
    date: str = ""

    @property
    def spread(self) -> float | None:
        """Standard deviation over the seeds; None without several."""
        return statistics.stdev(self.seeds.values()) if len(self.seeds) > 1 else None

    @property
    def how(self) -> str:
        """The kind with its circumstances: `trained on digits, 5 seeds`."""
        if self.kind == "trained":
            return f"trained on {self.dataset}, {len(self.seeds)} seed{'s' if len(self.seeds) != 1 else ''}"
        if self.kind == "measured":
            batch, precision = self.settings.get("batch"), self.settings.get("precision")
            return f"measured on {self.machine}, batch {batch}, {precision}"
        return self.kind

    @property
    def provenance(self) -> str:
        """Date, commit, versions and command of a run; empty for what needs none."""
        if self.kind not in ("measured", "trained"):
            return ""
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        machine = f"{self.machine}; " if self.kind == "trained" else ""
        return f"{machine}{self.date[:10]}, commit {self.commit}, {versions}; `{self.command}`"


def new_result(
    row: Row, column: str, value: Number, kind: Kind, *, device: str = "cpu", **fields: Any
) -> Result:
    """Make the result of a run that ends now, on this machine and with this library; see `Result`."""
    return Result(
        table=row.table,
        row=row.label,
        column=column,
        value=value,
        kind=kind,
        machine=machine_name(device),
        versions=versions(),
        commit=commit(),
        date=now(),
        **fields,
    )


# What each cell shows, by table, row and column: one result for each data set and, if wanted, each machine.
Results = Mapping[tuple[int, str, str], tuple[Result, ...]]


def _choose_results(results: Iterable[Result], machine: str | None = None, here: str = "") -> Results:
    """Choose the results that each cell shows; of each machine and data set the newest counts.

    Args:
        results: In any order.
        machine: Whose measurements are shown: a part of its name, `"all"`, or None for this machine's where
            there are any and otherwise the newest.
        here: The name of this machine.
    """
    cells: dict[tuple[int, str, str], list[Result]] = {}
    for result in sorted(results, key=lambda one: one.date):
        cells.setdefault((result.table, result.row, result.column), []).append(result)
    return {place: _choose(found, machine, here) for place, found in cells.items()}


def _choose(found: list[Result], machine: str | None, here: str) -> tuple[Result, ...]:
    newest = {one.machine: one for one in found if one.kind == "measured"}
    measured = sorted(newest.values(), key=lambda one: one.date)
    if machine is None:
        measured = ([one for one in measured if one.machine == here] or measured)[-1:]
    elif machine != "all":
        measured = [one for one in measured if machine.lower() in one.machine.lower()]
    # An accuracy does not depend on the machine: one for each data set, by name.
    trained = {one.dataset: one for one in found if one.kind == "trained"}
    return (*measured, *(trained[name] for name in sorted(trained)))


def load_results(folder: Path, machine: str | None = None) -> Results:
    """Read a folder of result files, to show the measurements of `machine`, as in `lambdanets tables`."""
    return _choose_results(_read_results(folder), machine, here=machine_name())


def _read_results(folder: Path) -> tuple[Result, ...]:
    results = []
    for path in sorted(folder.glob("*.jsonl")):
        with reading("tables", path, "hold one result a line"):
            lines = read_text(path).splitlines()
        for number, line in enumerate(lines, start=1):
            try:
                results.append(Result(**parse_json(line, _FIELDS)))
            except (ValueError, TypeError) as error:
                raise DataError(
                    f"tables: {path} must hold one result a line, got '{error}' in line {number}."
                    " Remove the line."
                ) from error
    return tuple(results)


def append_result(folder: Path, result: Result) -> None:
    """Append a result to the file of its table.

    Raises:
        StorageError: The folder cannot be written.
    """
    path = folder / f"table_{result.table:02d}.jsonl"
    advice = "Free some space or use --results."
    make_folder(folder, "tables", advice)
    append_line(path, json.dumps(dataclasses.asdict(result), ensure_ascii=False), "tables", advice)
