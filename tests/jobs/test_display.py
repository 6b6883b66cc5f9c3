"""The lines of a run that is not on a terminal."""

import sys

import pytest

from lambdanets.jobs import display as module
from lambdanets.jobs.display import Display, duration, say


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
    assert duration(seconds) == words


class Clock:
    now = 100.0

    def monotonic(self):
        return self.now


def test_plain_lines_come_when_it_was_quiet_for_long(monkeypatch, capsys):
    clock, logged = Clock(), []
    monkeypatch.setattr(module, "time", clock)
    with Display(logged.append, total_steps=40, first_step=20) as display:
        for step in range(21, 31):
            clock.now += 3.0
            display.step(step, images=60, loss=1.5)
        display.line("epoch 1")
    # Every fourth step is the first after more than ten seconds; 20 pictures a second, 3 seconds a step.
    expected = [
        "step 24 of 40 · loss 1.500 · 20 images/s · 48 s left",
        "step 28 of 40 · loss 1.500 · 20 images/s · 36 s left",
        "epoch 1",
    ]
    assert logged == expected == capsys.readouterr().out.splitlines()


def test_a_reader_who_has_left_is_no_reason_to_stop(monkeypatch):
    class Gone:
        def write(self, text):
            raise BrokenPipeError

        def flush(self):
            pass

    gone = Gone()
    monkeypatch.setattr(sys, "stdout", gone)
    say("first")
    assert sys.stdout is not gone
    say("second")
    sys.stdout.close()
