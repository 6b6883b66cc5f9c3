"""The request to stop."""

import os
import signal
import threading

import pytest

from lambdanets.training.process import StopRequest


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_is_a_request_and_the_old_handler_returns(number):
    before = signal.getsignal(number)
    stop = StopRequest()
    with stop.listening():
        assert not stop()
        os.kill(os.getpid(), number)
        assert stop() and stop.received == number.name
    assert signal.getsignal(number) == before


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
