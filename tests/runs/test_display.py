"""How a run shows its progress: lines where there is no terminal, two lines that move where there is one."""

import io

import pytest
from rich.console import Console

from lambdanets import terminal
from lambdanets.runs import display as module
from lambdanets.runs.display import TrainingProgress


class Clock:
    now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    for each in (module, terminal):
        monkeypatch.setattr(each, "time", clock)
    monkeypatch.setattr(
        "lambdanets.analysis.memory.peak_bytes_of_process", lambda device: {"cpu": 312_000_000}[device]
    )
    return clock


def _progress(log=lambda line: None, *, total=400, first=0, per_epoch=20, **options):
    return TrainingProgress(log, total_steps=total, first_step=first, steps_per_epoch=per_epoch, **options)


def test_plain_lines_come_when_it_was_quiet_for_long(clock, capsys):
    logged = []
    with _progress(logged.append, total=40, first=20) as progress:
        clock.now += 2.2
        for step in range(21, 31):
            clock.now += 3.0
            progress.show_step(step, images=60, loss=1.5, accuracy=0.5)
        progress.print("epoch 1")
    # Every fourth step is the first after more than ten seconds; 20 images a second, 3 seconds a step: the
    # first step took longer, and does not count.
    expected = [
        "first step after 5.2 s",
        "epoch 2 of 2 · 45 s left · step 25 of 40 · loss 1.500 · accuracy 50.0% · 20 images/s · 312 MB",
        "epoch 2 of 2 · 33 s left · step 29 of 40 · loss 1.500 · accuracy 50.0% · 20 images/s · 312 MB",
        "epoch 1",
    ]
    assert logged == expected == capsys.readouterr().out.splitlines()


def test_the_time_to_the_first_step_counts_from_the_start_of_the_command(clock):
    logged = []
    clock.now += 11.0
    _progress(logged.append, started=60.0).show_step(1, images=256, loss=1.5)
    assert logged == ["first step after 51 s"]


def test_the_step_that_closes_an_epoch_belongs_to_it(clock):
    logged = []
    progress = _progress(logged.append, total=60)
    for step in (19, 20, 21):
        clock.now += 11.0
        progress.show_step(step, images=1, loss=1.5)
    assert [line.split(" ·")[0] for line in logged[1:]] == ["epoch 1 of 3", "epoch 2 of 3"]


def test_the_speed_is_that_of_the_last_half_minute(clock):
    progress = _progress(total=1000)
    for step in range(1, 101):
        clock.now += 1.0
        progress.show_step(step, images=10, loss=1.0)
    assert progress.images_per_s() == pytest.approx(10, rel=1e-6)
    for step in range(101, 141):
        clock.now += 0.5
        progress.show_step(step, images=10, loss=1.0)
    assert progress.images_per_s() == pytest.approx((10 * 10 + 20 * 20) / 30, rel=0.05)
    for step in range(141, 241):
        clock.now += 0.5
        progress.show_step(step, images=10, loss=1.0)
    assert progress.images_per_s() == pytest.approx(20, rel=1e-6)


def test_the_time_left_outlives_a_rollback(clock):
    progress = _progress(total=100, first=40)
    for step in (41, 42, 43, 31, 32):
        clock.now += 2.0
        progress.show_step(step, images=10, loss=1.0)
    assert progress.time_left() == "2 min 16 s left"


def test_a_run_of_one_step_has_a_speed(clock):
    progress = _progress(total=1, per_epoch=1)
    clock.now += 2.0
    progress.show_step(1, images=10, loss=1.0)
    assert progress.images_per_s() == 5.0 and progress.time_left() == "0.0 s left"


def test_a_terminal_of_80_columns_shows_all_there_is_in_two_lines(clock, monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(
        terminal,
        "Console",
        lambda **options: Console(
            **(options | {"file": screen, "force_terminal": True, "width": 80, "_environ": {}})
        ),
    )
    progress = _progress(total=109_200, first=14_000, per_epoch=312)

    def shown():
        console = Console(width=80, file=io.StringIO())
        console.print(progress._render())
        head, status, *rest = console.file.getvalue().splitlines()
        assert not any(rest) and len(head) == 80 and len(status) <= 80
        return head, status

    head, status = shown()
    assert head.startswith("epoch 45 of 350 · first step … ━") and status == "step 14,000 of 109,200"
    for step in (14_001, 14_002):
        clock.now += 0.0211
        progress.show_step(step, images=256, loss=2.345, accuracy=0.612)
    head, status = shown()
    assert head.startswith("epoch 45 of 350 · 33 min 29 s left ━") and head.endswith(" 13%")
    assert status == "step 14,002 of 109,200 · loss 2.345 · accuracy 61.2% · 12,133 images/s · 312 MB"
