"""How a run shows its progress: lines where there is no terminal, two lines that move where there is one."""

import io
import sys

import pytest
from rich.console import Console

from lambdanets.runs import display as module
from lambdanets.runs.display import Display, format_bytes, format_duration, format_seconds, print_line


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185.0, "3 min 05 s"),
        (3599.6, "1 h 00 min"),
        (7805.0, "2 h 10 min"),
    ],
)
def test_times_in_words(seconds, words):
    assert format_duration(seconds) == words


class Clock:
    now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_plain_lines_come_when_it_was_quiet_for_long(clock, capsys):
    logged = []
    with Display(logged.append, total_steps=40, first_step=20) as display:
        clock.now += 2.2
        for step in range(21, 31):
            clock.now += 3.0
            display.step(step, images=60, loss=1.5)
        display.line("epoch 1")
    # Every fourth step is the first after more than ten seconds; 20 images a second, 3 seconds a step: the
    # first step took longer, and does not count.
    expected = [
        "first step after 5.2 s",
        "step 25 of 40 · loss 1.500 · 20 images/s · 45 s left",
        "step 29 of 40 · loss 1.500 · 20 images/s · 33 s left",
        "epoch 1",
    ]
    assert logged == expected == capsys.readouterr().out.splitlines()


def test_lines_name_epoch_and_accuracy_where_they_are_known(clock):
    logged = []
    display = Display(logged.append, total_steps=400, first_step=99, steps_per_epoch=20, started=60.0)
    for step in range(100, 103):
        clock.now += 11.0
        display.step(step, images=256, loss=1.5, accuracy=0.5)
    assert logged == [
        "first step after 51.0 s",
        "epoch 6 of 20 · step 101 of 400 · loss 1.500 · accuracy 50.0% · 23 images/s · 54 min 49 s left",
        "epoch 6 of 20 · step 102 of 400 · loss 1.500 · accuracy 50.0% · 23 images/s · 54 min 38 s left",
    ]


def test_the_step_that_closes_an_epoch_belongs_to_it(clock):
    logged = []
    display = Display(logged.append, total_steps=60, first_step=0, steps_per_epoch=20)
    for step in (19, 20, 21):
        clock.now += 11.0
        display.step(step, images=1, loss=1.5)
    assert [line.split(" ·")[0] for line in logged[1:]] == ["epoch 1 of 3", "epoch 2 of 3"]


def test_the_speed_is_that_of_the_last_half_minute(clock):
    display = Display(lambda line: None, total_steps=1000, first_step=0)
    for step in range(1, 101):
        clock.now += 1.0
        display.step(step, images=10, loss=1.0)
    assert display.images_per_s() == pytest.approx(10, rel=1e-6)
    for step in range(101, 141):
        clock.now += 0.5
        display.step(step, images=10, loss=1.0)
    assert display.images_per_s() == pytest.approx((10 * 10 + 20 * 20) / 30, rel=0.05)
    for step in range(141, 241):
        clock.now += 0.5
        display.step(step, images=10, loss=1.0)
    assert display.images_per_s() == pytest.approx(20, rel=1e-6)


def test_the_time_left_outlives_a_rollback(clock):
    display = Display(lambda line: None, total_steps=100, first_step=40)
    for step in (41, 42, 43, 31, 32):
        clock.now += 2.0
        display.step(step, images=10, loss=1.0)
    assert display.pace(32).endswith(" · 2 min 16 s left")


def test_a_run_of_one_step_has_a_pace(clock):
    display = Display(lambda line: None, total_steps=1, first_step=0)
    clock.now += 2.0
    display.step(1, images=10, loss=1.0)
    assert display.pace(1) == "5 images/s · 0 s left"


@pytest.fixture
def terminal(monkeypatch):
    """A terminal of 80 columns that is a string."""
    screen = io.StringIO()
    monkeypatch.setattr(
        module,
        "Console",
        lambda **options: Console(file=screen, force_terminal=True, width=80, _environ={}, **options),
    )
    return screen


def test_a_terminal_of_80_columns_shows_all_there_is_in_two_lines(clock, terminal):
    display = Display(
        lambda line: None, total_steps=109_200, first_step=14_000, steps_per_epoch=312, device="cpu"
    )
    for step in (14_001, 14_002):
        clock.now += 0.0211
        display.step(step, images=256, loss=2.345, accuracy=0.612)
    console = Console(width=80, file=io.StringIO())
    console.print(display._image())
    head, scores, *rest = console.file.getvalue().splitlines()
    assert not any(rest) and len(head) == 80
    assert head.startswith("epoch 45 of 350 ━") and head.endswith(" 13% · 33 min 29 s left")
    words = scores.split(" · ")
    assert words[:4] == ["step 14,002 of 109,200", "loss 2.345", "accuracy 61.2%", "12,133 images/s"]
    assert words[4].endswith((" MB", " GB")) and len(scores) <= 80


def test_before_the_first_step_there_is_no_speed(clock, terminal):
    console = Console(width=80, file=io.StringIO())
    console.print(Display(lambda line: None, total_steps=10, first_step=0)._image())
    head, place, *_ = console.file.getvalue().splitlines()
    assert head.endswith("0% · first step …") and place == "step 0 of 10"


def test_lines_stand_above_the_progress(terminal):
    logged = []
    with Display(logged.append, total_steps=10, first_step=0, steps_per_epoch=5) as display:
        display.step(1, images=10, loss=1.0)
        display.line("epoch 1 of 2 · loss [1.0]")
    shown = terminal.getvalue()
    assert logged[1] == "epoch 1 of 2 · loss [1.0]"
    assert shown.index("first step after") < shown.index(logged[1]) and "━" in shown


def test_a_terminal_without_a_cursor_gets_plain_lines(clock, monkeypatch, capsys):
    monkeypatch.setattr(
        module,
        "Console",
        lambda **options: Console(force_terminal=True, _environ={"TERM": "dumb"}, **options),
    )
    with Display(lambda line: None, total_steps=10, first_step=0) as display:
        clock.now += 1.0
        display.step(1, images=10, loss=1.0)
    assert capsys.readouterr().out == "first step after 1.0 s\n"


@pytest.mark.parametrize(
    ("num_bytes", "words"), [(312_400_000, "312 MB"), (999_600_000, "1.0 GB"), (12_340_000_000, "12.3 GB")]
)
def test_sizes_in_words(num_bytes, words):
    assert format_bytes(num_bytes) == words


@pytest.mark.parametrize(("seconds", "words"), [(3.21, "3.2 s"), (59.94, "59.9 s"), (59.96, "1 min 00 s")])
def test_short_times_in_words(seconds, words):
    assert format_seconds(seconds) == words


def test_a_reader_who_has_left_is_no_reason_to_stop(monkeypatch):
    class Gone:
        def write(self, text):
            raise BrokenPipeError

        def flush(self):
            pass

    gone = Gone()
    monkeypatch.setattr(sys, "stdout", gone)
    print_line("first")
    assert sys.stdout is not gone
    print_line("second")
    sys.stdout.close()
