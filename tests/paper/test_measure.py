"""Measuring: jobs from rows, the child process, batches that are too large, and results with their origin."""

import json
import subprocess
from dataclasses import asdict, replace

import pytest
import torch

from lambdanets.errors import ArgumentError
from lambdanets.paper import measure
from lambdanets.paper.measure import MEASURED, _job_of, _result_of, measure_tables, run
from lambdanets.paper.measure_one import OUT_OF_MEMORY, Job, Measurement
from lambdanets.paper.tables import _CAPTIONS, rows_of

TINY = Job(model="lambda_resnet_digits", image_size=8, mode="training", batch=4, seconds=0.01)
FOUND = Measurement(seconds=0.5, fastest=0.4, slowest=0.7, repeats=3, peak_bytes=2**30, threads=2)


class Child:
    """Stands where the process would: too large a batch, then an answer."""

    def __init__(self, fits: int, fails: int = OUT_OF_MEMORY) -> None:
        self.fits, self.fails, self.batches = fits, fails, []

    def __call__(self, job: Job, seconds: float) -> subprocess.CompletedProcess[str]:
        self.batches.append(job.batch)
        if job.batch > self.fits:
            return subprocess.CompletedProcess([], self.fails, "", "Traceback\nValueError: of some kind")
        return subprocess.CompletedProcess([], 0, json.dumps(asdict(FOUND)), "")


@pytest.mark.slow
def test_a_model_is_measured_in_a_process_of_its_own() -> None:
    # A peak of this process that its child must not report.
    torch.ones(2**27)
    said: list[str] = []
    found = run(TINY, 120.0, said.append)
    assert found is not None, said
    job, measurement = found
    assert job == TINY
    assert 0 < measurement.fastest <= measurement.seconds <= measurement.slowest < 60
    assert measurement.repeats >= 3
    # 36 thousand weights, their gradients and momentum, and little else.
    assert 36_000 * 12 < measurement.peak_bytes < 2**28
    assert "batch 4" in said[0]


@pytest.mark.slow
def test_a_batch_that_does_not_fit_is_halved() -> None:
    """Images of 100 MB where 300 MB may be taken: a layer's outputs are several times as much."""
    large = replace(TINY, image_size=128, mode="inference", batch=512, memory_bytes=300 * 2**20)
    said: list[str] = []
    found = run(large, 240.0, said.append)
    assert found is not None and found[0].batch < 512
    assert said[0] == "memory is short, batch 256 now"


@pytest.mark.parametrize("code", [OUT_OF_MEMORY, -9])
def test_batches_are_halved_until_one_fits(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    child = Child(fits=3, fails=code)
    monkeypatch.setattr(measure, "_start", child)
    found = run(replace(TINY, batch=12), 10.0, lambda text: None)
    assert child.batches == [12, 6, 3]
    assert found == (replace(TINY, batch=3), FOUND)


@pytest.mark.parametrize(
    ("child", "message"),
    [
        (Child(fits=0), "left out, one image does not fit into memory"),
        (Child(fits=0, fails=1), "left out, it failed: ValueError: of some kind"),
    ],
)
def test_what_cannot_be_measured_is_left_out(child, message, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_start", child)
    said: list[str] = []
    assert run(TINY, 10.0, said.append) is None
    assert said[-1] == message


def test_a_network_that_takes_too_long_is_left_out() -> None:
    said: list[str] = []
    assert run(TINY, 0.2, said.append) is None
    assert said == ["left out, more than 0.2 s"]


def test_equal_networks_are_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    child = Child(fits=99)
    monkeypatch.setattr(measure, "_start", child)
    said: list[str] = []
    results = list(measure_tables((12, 3), batch=8, rows="*o*", log=said.append))
    plain = list(measure_tables((3, 12), batch=8, rows="[cC]*[nC]", log=said.append))
    assert {one.table for one in results} == {3}
    places = {(one.table, one.row) for one in plain}
    assert {(3, "convolution"), (12, "C-C-C-C")} <= places
    assert len(child.batches) == len(results) + len(plain) - 1
    assert said[0].startswith("[1 of ")


def test_what_is_measured_has_a_column() -> None:
    for number, quantities in MEASURED.items():
        assert set(quantities) <= {column.key for column in _CAPTIONS[number].columns}


@pytest.mark.parametrize(
    ("quantity", "value"),
    [
        ("inference_images_per_s", 16.0),
        ("training_images_per_s", 16.0),
        ("step_s", 64.0),
        ("peak_gib", 1.0),
    ],
)
def test_values_follow_from_the_measurement(quantity: str, value: float) -> None:
    row = rows_of(18)[0]
    job = _job_of(row, quantity, "cpu")
    found = _result_of(row, quantity, job, FOUND)
    assert (found.value, found.column, found.kind, found.row) == (value, quantity, "measured", row.label)
    assert found.settings == {
        "model": "lambda_resnet50",
        "image_size": 128,
        "overrides": {},
        "mode": job.mode,
        "batch": 8,
        "precision": "float32",
        "device": "cpu",
        **asdict(FOUND),
    }
    assert {"python", "torch"} <= found.versions.keys()
    assert found.date.startswith("20") and found.machine.endswith("cores")


def test_the_papers_settings() -> None:
    """Table 18 is bfloat16 on an accelerator; Tables 4, 12 and 13 are float32 everywhere."""
    modes = {
        (table, quantity): _job_of(rows_of(table)[0], quantity, "cuda")
        for table, quantities in MEASURED.items()
        for quantity in quantities
    }
    assert {place for place, job in modes.items() if job.precision == "bfloat16"} == {
        (5, "training_images_per_s"),
        (5, "inference_images_per_s"),
        (18, "step_s"),
    }
    assert {place for place, job in modes.items() if job.mode == "training"} == {
        (4, "peak_gib"),
        (5, "training_images_per_s"),
        (18, "step_s"),
    }
    assert {job.batch for job in modes.values()} == {128}
    assert _job_of(rows_of(18)[0], "step_s", "cpu").precision == "float32"
    assert _job_of(rows_of(4)[4], "peak_gib", "cuda", batch=6) == Job(
        model="resnet50_llll",
        image_size=224,
        overrides={"query_depth": 8},
        mode="training",
        batch=6,
        device="cuda",
    )


def test_tables_without_anything_to_measure_are_named() -> None:
    message = r"numbers to measure must be among 3, 4, 5, 12, 13, 18 with rows that fit '\*', got 8\."
    with pytest.raises(ArgumentError, match=message):
        list(measure_tables((8,), log=print))
