"""What torchrun tells its processes, and the request to stop."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from lambdanets.training.torchrun import (
    StopRequest,
    global_rank,
    local_rank,
    world_size,
)
from lambdanets.variables import World, read_world


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_is_a_request_and_the_old_handler_returns(number):
    before = signal.getsignal(number)
    stop = StopRequest()
    with stop.listening():
        assert not stop()
        os.kill(os.getpid(), number)
        assert stop() and stop.received == number.name
    assert signal.getsignal(number) == before


@pytest.mark.parametrize(
    ("number", "is_heard"),
    [(signal.SIGINT, False), (signal.SIGHUP, False), (signal.SIGUSR1, True), (signal.SIGTERM, True)],
)
def test_what_a_terminal_sends_stays_ignored_where_it_is(number, is_heard):
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with StopRequest().listening() as stop:
            os.kill(os.getpid(), number)
            assert stop() == is_heard
    finally:
        signal.signal(number, before)


def test_the_second_ctrl_c_leaves_at_once():
    with pytest.raises(KeyboardInterrupt), StopRequest().listening():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_other_threads_leave_signals_alone():
    before = signal.getsignal(signal.SIGTERM)

    def listen():
        with StopRequest().listening() as stop:
            assert not stop()
            assert signal.getsignal(signal.SIGTERM) == before

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()


def test_ranks_are_read_from_the_environment(monkeypatch):
    assert (global_rank(), local_rank(), world_size(), read_world()) == (0, 0, 1, World())
    for name, value in {"RANK": 5, "LOCAL_RANK": 1, "WORLD_SIZE": 8, "TORCHELASTIC_RESTART_COUNT": 2}.items():
        monkeypatch.setenv(name, str(value))
    assert (global_rank(), local_rank(), world_size(), read_world().restarts) == (5, 1, 8, 2)


@pytest.mark.skipif(sys.platform != "linux", reason="a call of Linux")
def test_a_process_is_asked_to_stop_when_its_parent_dies(tmp_path):
    child = (
        "import pathlib, signal, sys, time\n"
        "from lambdanets.processes import die_with_parent\n"
        "signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path(sys.argv[1]).touch(), sys.exit()))\n"
        "die_with_parent(); pathlib.Path(sys.argv[1] + '.ready').touch(); time.sleep(30)\n"
    )
    marker = tmp_path / "asked"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}, {str(marker)!r}])"
    process = subprocess.Popen([sys.executable, "-c", parent])
    assert _becomes_true(marker.with_name("asked.ready").exists)
    process.kill()
    process.wait()
    assert _becomes_true(marker.exists)


def _becomes_true(condition):
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()
