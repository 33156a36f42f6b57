"""Progress lines tell rate and rest; a signal asks the loop to stop, a second one aborts."""

import io
import os
import re
import signal
import threading
import time

import pytest

from ganavatar_jax.runs import progress


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
    begin, first, second, last = log.getvalue().splitlines()
    assert begin == "gan: 10/100 kimg (10%), begins"
    assert first == "gan: 14/100 kimg (14%), 10 s/kimg, 14:20 left, loss 0.5"
    assert second.startswith("gan: 17/100 kimg (17%)")
    assert last.startswith("gan: 18/100 kimg (18%), 10 s/kimg, 13:40 left")


def test_the_compilation_is_said_and_enters_neither_rate_nor_rest():
    clock, log = Clock(), io.StringIO()
    with progress.Progress(
        10, unit="it", title="t", every_s=20, compiles=True, stream=log, clock=clock
    ) as shown:
        assert log.getvalue() == "t: 0/10 it (0%), compiling\n"
        for seconds in (300, 2, 25):
            clock.now_s += seconds
            shown.update(1, metrics={"loss": 0.5})
    assert log.getvalue().splitlines()[1:] == [
        "t: 1/10 it (10%), loss 0.5",
        "t: 3/10 it (30%), 13.5 s/it, 01:34 left, loss 0.5",
    ]


def test_what_an_earlier_run_has_done_does_not_enter_the_rate():
    clock, log = Clock(), io.StringIO()
    with progress.Progress(100, unit="it", title="t", every_s=10, stream=log, clock=clock) as shown:
        shown.update(60)
        for _ in range(5):
            clock.now_s += 2
            shown.update(1)
    assert log.getvalue().splitlines()[1:] == ["t: 65/100 it (65%), 2 s/it, 01:10 left"]


def test_a_terminal_learns_the_rate_without_the_compilation(monkeypatch):
    clock, terminal = Clock(), Terminal()
    monkeypatch.setattr("tqdm.std.time", clock)
    with progress.Progress(10, unit="it", title="t", compiles=True, stream=terminal) as shown:
        assert terminal.getvalue().rstrip().endswith("0/10 it, compiling")
        for seconds in (300, 2, 2):
            clock.now_s += seconds
            shown.update(1)
    text = terminal.getvalue()
    assert "2.00s/it" in text
    assert "00:14" in text  # seven are left
    assert not {"300", "05:00"} & set(re.split(r"[^0-9:]+", text))


def test_a_finished_loop_without_news_adds_no_line():
    clock, log = Clock(), io.StringIO()
    with progress.Progress(1, unit="it", title="t", every_s=1, stream=log, clock=clock) as shown:
        clock.now_s += 5
        shown.update(1)
    assert log.getvalue().splitlines() == ["t: 0/1 it (0%), begins", "t: 1/1 it (100%)"]


def test_a_log_hears_of_a_step_that_takes_long():
    log = io.StringIO()
    with progress.Progress(
        3, unit="frame", title="cameras", every_s=0.05, beats=True, stream=log
    ) as shown:
        shown.update(1)
        deadline = time.monotonic() + 10
        while log.getvalue().count("at it for") < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        shown.update(2)
    begin, *lines = log.getvalue().splitlines()
    assert begin == "cameras: 0/3 frame (0%), begins"
    assert lines[0] == "cameras: 1/3 frame (33%), at it for 0 s"
    assert lines[-1].startswith("cameras: 3/3 frame (100%)")
    time.sleep(0.2)
    assert log.getvalue().splitlines() == [begin, *lines]


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


def test_a_terminal_that_closes_asks_and_never_aborts(caplog):
    with progress.StopRequest() as stop:
        for _ in range(3):  # the system and the shell both tell it
            os.kill(os.getpid(), signal.SIGHUP)
        assert stop.requested
        assert caplog.text.count("SIGHUP: stopping after this step with a checkpoint") == 1
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt, match="aborted"):
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_hangup_that_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with progress.StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.requested
    finally:
        signal.signal(signal.SIGHUP, before)


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def test_the_handlers_are_given_back_at_the_end():
    before = [signal.getsignal(number) for number in SIGNALS]
    with progress.StopRequest():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before
    assert not [thread for thread in threading.enumerate() if thread.name == "signals"]


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
