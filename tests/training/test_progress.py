"""Progress lines tell rate and rest; a signal asks the loop to stop, a second one aborts."""

import io
import os
import signal
import threading

import pytest

from ganavatar_jax.training import progress


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_log_gets_one_line_per_interval_with_rate_and_rest():
    clock, log = Clock(), io.StringIO()
    with progress.Progress(
        100, unit="kimg", title="gan", initial=10, every_s=30, stream=log, clock=clock
    ) as shown:
        for _ in range(8):
            clock.now_s += 10
            shown.update(1.0, metrics={"loss": 0.5})
    first, second, last = log.getvalue().splitlines()
    assert first == "gan: 13/100 kimg (13%), 10 s/kimg, 14:30 left, loss 0.5"
    assert second.startswith("gan: 16/100 kimg (16%)")
    assert last.startswith("gan: 18/100 kimg (18%), 10 s/kimg, 13:40 left")


def test_the_rate_is_that_of_the_last_interval_and_not_of_the_compilation():
    clock, log = Clock(), io.StringIO()
    with progress.Progress(10, unit="it", title="t", every_s=1, stream=log, clock=clock) as shown:
        for seconds in (300, 2):
            clock.now_s += seconds
            shown.update(1)
    assert [line.split(", ")[1] for line in log.getvalue().splitlines()] == ["300 s/it", "2 s/it"]


def test_a_finished_loop_without_news_adds_no_line():
    clock, log = Clock(), io.StringIO()
    with progress.Progress(1, unit="it", title="t", every_s=1, stream=log, clock=clock) as shown:
        clock.now_s += 5
        shown.update(1)
    assert len(log.getvalue().splitlines()) == 1


def test_a_terminal_gets_a_bar():
    terminal = Terminal()
    with progress.Progress(4, unit="kimg", title="gan", stream=terminal) as shown:
        shown.update(2, metrics={"loss": 0.25})
    text = terminal.getvalue()
    assert "\r" in text
    assert "gan:  50%" in text
    assert "2/4 kimg" in text
    assert "loss=0.25" in text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_aborts(number, caplog):
    before = signal.getsignal(number)
    with progress.StopRequest() as stop:
        assert not stop.requested
        os.kill(os.getpid(), number)
        assert stop.requested
        assert "stopping after this step with a checkpoint" in caplog.text
        with pytest.raises(KeyboardInterrupt, match="aborted"):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_the_handlers_are_given_back_at_the_end():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with progress.StopRequest():
        pass
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_outside_the_main_thread_the_flag_stays_down():
    flags = []

    def work():
        with progress.StopRequest() as stop:
            flags.append(stop.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert flags == [False]


def test_stopped_is_an_interrupt_with_a_message():
    with pytest.raises(KeyboardInterrupt, match="saved"):
        raise progress.Stopped("stopped at 3 kimg; checkpoint saved")
