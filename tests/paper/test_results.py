"""Result files: written, read, and which of several results a cell shows."""

import json
from pathlib import Path

import pytest

from lambdanets.errors import DataError, StorageError
from lambdanets.paper.results import Result, _choose_results, _read_results, append_result
from support.tables import measured, trained

PLACE = (12, "C-C-C-C", "inference_images_per_s")


def values(results: list[Result], **options: str) -> list[object]:
    return [one.value for one in _choose_results(results, **options).get(PLACE, ())]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    results = (measured(), trained(), measured(3.0, table=4, row="lambda layer"))
    for result in results:
        append_result(tmp_path / "new", result)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["table_04.jsonl", "table_12.jsonl"]
    assert {json.dumps(vars(one)) for one in _read_results(tmp_path / "new")} == {
        json.dumps(vars(one)) for one in results
    }
    assert _read_results(tmp_path / "none") == ()


def test_the_newest_of_each_machine_counts() -> None:
    old, new = measured(1.0, date="2026-11-20T00:00:00"), measured(2.0)
    other = measured(3.0, machine="NVIDIA H200", date="2026-11-19T00:00:00")
    assert values([new, old, other]) == [2.0]
    assert values([old, other]) == [1.0]
    assert values([new, old, other], machine="all") == [3.0, 2.0]
    assert values([new, old, other], machine="h200") == [3.0]
    assert values([new, old, other], machine="M3") == []


def test_the_results_of_this_machine_come_first() -> None:
    here = measured(1.0, machine="Mine, 2 cores", date="2020-01-01T00:00:00")
    assert values([measured(2.0), here], here="Mine, 2 cores") == [1.0]
    assert values([measured(2.0), here], here="Yours") == [2.0]


def test_other_cells_are_left_alone() -> None:
    assert values([measured(row="L-L-L-L"), measured(table=3), measured(column="top1")]) == []


def test_every_data_set_is_shown_with_mean_and_spread() -> None:
    results = (
        trained((50.0,), dataset="relation"),
        trained((98.0, 99.0, 100.0)),
        trained((1.0,), date="2026-01-01T00:00:00"),
    )
    digits, relation = _choose_results(results)[12, "C-C-C-C", "top1"]
    assert (digits.value, digits.spread, digits.how) == (99.0, 1.0, "trained on digits, 3 seeds")
    assert (relation.value, relation.spread, relation.how) == (50.0, None, "trained on relation, 1 seed")
    assert digits.provenance == (
        "Chip, 2 cores; 2026-11-21, commit abc, torch 2.13; `lambdanets tables 12 --measure`"
    )


def test_a_measured_number_says_where() -> None:
    result = measured()
    assert result.how == "measured on Chip, 2 cores, batch 8, float32"
    assert result.provenance == "2026-11-21, commit abc, torch 2.13; `lambdanets tables 12 --measure`"


@pytest.mark.parametrize("line", ["{", '{"table": 12}', "[]"])
def test_a_line_that_is_no_result_is_named(line: str, tmp_path: Path) -> None:
    append_result(tmp_path, measured())
    with (tmp_path / "table_12.jsonl").open("a") as file:
        file.write(line + "\n")
    message = r"tables: .*table_12\.jsonl must hold one result a line, got '.*' in line 2\. Remove the line\."
    with pytest.raises(DataError, match=message):
        _read_results(tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    message = r"tables: .* must be writable, got 'Not a directory'\. Free some space or use --results\."
    with pytest.raises(StorageError, match=message):
        append_result(tmp_path / "file" / "folder", measured())
