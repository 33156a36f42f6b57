"""Signals that end a program, heard even while the main thread is in compiled code.

Python calls a signal's handler only between its own instructions: a compilation of minutes keeps it
waiting. Here a thread hears at once, so that something can be said or done meanwhile.
"""

import contextlib
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator

from ganavatar_jax.runs import together

_PATIENCE_S = 2.0  # for the main thread to leave by itself, with its files tidied up
_HANGUP: int | None = getattr(signal, "SIGHUP", None)  # not on Windows
ENDING = (signal.SIGTERM, *([_HANGUP] if _HANGUP is not None else []))


class Ended(KeyboardInterrupt):
    """A signal ended the program.

    Attributes:
      exit_code: 128 and the signal's number, as shells count.
    """

    def __init__(self, number: int) -> None:
        super().__init__(_say_ended(number))
        self.exit_code = 128 + number


class Watcher:
    """Calls a function in a thread of its own as soon as a signal with a handler arrives.

    Use it as a context manager in the main thread.
    """

    def __init__(self, heard: Callable[[int], None]) -> None:
        """Prepares to hear.

        Args:
          heard: Called with the signal's number.
        """
        self._heard = heard
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._thread = threading.Thread(target=self._listen, name="signals", daemon=True)
        self._before = -1

    def __enter__(self) -> "Watcher":
        self._before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        signal.set_wakeup_fd(self._before)
        os.close(self._write)
        self._thread.join()
        os.close(self._read)

    def _listen(self) -> None:
        while number := os.read(self._read, 1):
            self._heard(number[0])


class Terminal:
    """The terminal the program writes to, which may go away."""

    def __init__(self) -> None:
        self._shown = [number for number in (1, 2) if _is_terminal(number)]

    def leave_if_gone(self) -> None:
        """Writes to nowhere from now on where the terminal is gone: to write there would fail."""
        for number in self._shown:
            if not _is_terminal(number):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, number)
                os.close(nowhere)


def is_ignored(number: int) -> bool:
    """Tells whether who started the program wants a signal ignored, as nohup does.

    Args:
      number: The signal.

    Returns:
      Whether it is the terminal's end, and ignored.
    """
    return number == _HANGUP and signal.getsignal(number) is signal.SIG_IGN


def take_back() -> None:
    """Hears the ending signals again after a library has put its own handlers in their place.

    Python does not see such handlers. Outside the main thread nothing can be changed.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in ENDING:
        handler = signal.getsignal(number)
        if callable(handler):
            signal.signal(number, handler)


def name(number: int) -> str:
    """Names a signal.

    Args:
      number: The signal.

    Returns:
      E.g. "SIGTERM".
    """
    return signal.Signals(number).name


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """Ends the block with `Ended` on SIGTERM and SIGHUP; code that does not return is killed.

    Outside the main thread signals cannot be caught, and nothing changes.

    Yields:
      Nothing.

    Raises:
      Ended: a signal came.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    terminal, obeyed = Terminal(), threading.Event()

    def handle(number: int, frame: types.FrameType | None) -> None:
        terminal.leave_if_gone()
        if not obeyed.is_set():
            obeyed.set()
            together.announce_stop(number)
            raise Ended(number)

    def heard(number: int) -> None:
        if number not in ENDING or obeyed.wait(_PATIENCE_S):
            return
        terminal.leave_if_gone()
        together.announce_stop(number)
        print(_say_ended(number), file=sys.stderr, flush=True)
        os._exit(128 + number)  # what is written is whole or absent at any moment

    before = {number: signal.getsignal(number) for number in ENDING if not is_ignored(number)}
    # What another process got is as if this one had.
    elsewhere = together.hear_stops(lambda number: os.kill(os.getpid(), number))
    with Watcher(heard):
        try:
            for number in before:
                signal.signal(number, handle)
            yield
        finally:
            together.hear_stops(elsewhere)
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def _is_terminal(number: int) -> bool:
    try:
        return os.isatty(number)
    except OSError:
        return False


def _say_ended(number: int) -> str:
    return (
        f"ended by {name(number)}; what complete stages have made is kept, and the same command "
        "goes on from there"
    )
