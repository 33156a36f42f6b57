"""Progress that reads well in a terminal and in a log file, and a stop that loses nothing.

In a terminal: one tqdm bar. In a log: a line at once, then one every `every_s` seconds, so that the
file stays short. The first update is left out of rate and rest, because a first step compiles or
finds done what was done before. Ctrl-C, SIGTERM or a terminal that is closed asks the loop to save
and leave; asking again aborts.
"""

import io
import logging
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Mapping
from typing import Any

import tqdm

from ganavatar_jax.runs import signals, together

_LOG = logging.getLogger(__name__)
_ABORTING = (signal.SIGINT, signal.SIGTERM)
_SIGNALS = (signal.SIGINT, *signals.ENDING)
_PATIENCE_S = 0.2  # for the main thread to say it itself
_STARTING = "{desc}: {percentage:3.0f}%|{bar}| {n:.6g}/{total:.6g} {unit}{postfix}"
_RUNNING = (
    "{desc}: {percentage:3.0f}%|{bar}| {n:.6g}/{total:.6g} {unit} "
    "[{elapsed}<{remaining}, {rate_inv_fmt}{postfix}]"
)


class Stopped(KeyboardInterrupt):
    """The user asked to stop and the state is saved; `main` prints the message.

    Attributes:
      exit_code: 128 and the number of the signal that asked, as shells count.
    """

    def __init__(self, message: str, number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


class Progress:
    """Shows how far a loop is, its seconds per unit and the time it still needs.

    Attributes:
      done: Units done, those before a resume included.
    """

    def __init__(
        self,
        total: float,
        *,
        unit: str,
        title: str,
        initial: float = 0,
        every_s: float = 30,
        compiles: bool = False,
        beats: bool = False,
        stream: io.TextIOBase | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts the clock.

        Args:
          total: Units of the whole loop.
          unit: What is counted: "kimg", "it", "frame".
          title: Put before every line, e.g. the stage.
          initial: Units done before, when resumed.
          every_s: Seconds between lines when the stream is not a terminal.
          compiles: Whether the first step compiles; it is said until that step is done.
          beats: Whether a log gets its lines also while a single step takes long; until `close`.
          stream: Where to write; None is stderr.
          clock: Seconds, monotonic.
        """
        self.done = initial
        self._total, self._unit, self._title = total, unit, title
        self._stream: Any = stream if stream is not None else sys.stderr
        self._clock, self._every_s = clock, every_s
        self._line_time, self._line_done = clock(), initial
        self._timed = False  # whether the clock stands at the end of an update
        self._shown: dict[str, float] = {}
        self._bar = self._make_bar(_STARTING, leave=False) if self._stream.isatty() else None
        if compiles and self._bar is not None:
            self._bar.set_postfix_str("compiling")
        elif self._bar is None and initial < total:
            self._print("compiling" if compiles else "begins")
        self._closed = threading.Event()
        if beats and self._bar is None:
            threading.Thread(target=self._beat, daemon=True, name="progress").start()

    def update(self, amount: float, *, metrics: Mapping[str, float] | None = None) -> None:
        """Counts work done and shows it when it is time.

        Args:
          amount: Units done since the last call.
          metrics: Name -> value to show from now on; None keeps the last ones.
        """
        self.done += amount
        if metrics is not None:
            self._shown = dict(metrics)
        if not self._timed:
            self._start_timing()
        elif self._bar is not None:
            self._bar.set_postfix(self._shown, refresh=False)
            self._bar.update(amount)
        elif self.done > self._line_done and self._clock() - self._line_time >= self._every_s:
            self._write_line()

    def close(self) -> None:
        """Shows the final state."""
        self._closed.set()
        if self._bar is not None:
            self._bar.close()
        elif self.done > self._line_done:
            self._write_line()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self.close()

    def _beat(self) -> None:
        """Says in a thread that a long step goes on, where nothing else has been said."""
        begun, said = time.monotonic(), self._line_time
        while not self._closed.wait(self._every_s):
            now_s = time.monotonic() - begun
            if said == self._line_time and self.done < self._total:
                self._print(f"at it for {now_s:.0f} s")
            said = self._line_time

    def _start_timing(self) -> None:
        """Ends the first update: rates count from here."""
        self._timed = True
        if self._bar is not None:
            self._bar.close()
            self._bar = self._make_bar(_RUNNING, leave=True)
            self._bar.set_postfix(self._shown)
            return
        now = self._clock()
        if now - self._line_time >= self._every_s or self.done >= self._total:
            self._print(*self._metrics())
        self._line_time, self._line_done = now, self.done

    def _make_bar(self, layout: str, *, leave: bool) -> tqdm.tqdm:
        return tqdm.tqdm(
            total=self._total,
            initial=self.done,
            unit=self._unit,
            desc=self._title,
            file=self._stream,
            dynamic_ncols=True,
            bar_format=layout,
            leave=leave,
        )

    def _write_line(self) -> None:
        now = self._clock()
        rate_s = (now - self._line_time) / (self.done - self._line_done)
        left_s = max(self._total - self.done, 0.0) * rate_s
        rest = f"{tqdm.tqdm.format_interval(left_s)} left"
        self._print(f"{rate_s:.3g} s/{self._unit}", rest, *self._metrics())
        self._line_time, self._line_done = now, self.done

    def _metrics(self) -> list[str]:
        return [f"{name} {value:.4g}" for name, value in self._shown.items()]

    def _print(self, *facts: str) -> None:
        share = self.done / self._total if self._total else 1.0
        state = f"{self.done:.6g}/{self._total:.6g} {self._unit} ({share:.0%})"
        print(f"{self._title}: {', '.join([state, *facts])}", file=self._stream, flush=True)


class StopRequest:
    """Turns the first SIGINT, SIGTERM or SIGHUP into a flag; the second aborts the program.

    Use it as a context manager around a loop that looks at `requested` between steps. What was
    asked for is said at once, also while a step compiles. Closed terminals hang up more than once:
    SIGHUP never aborts. Outside the main thread signals cannot be caught, and the flag stays down.

    Attributes:
      requested: Whether the loop should save and leave.
      number: The signal that asked first.
    """

    def __init__(self) -> None:
        self.requested = False
        self.number = int(signal.SIGINT)
        self._previous: dict[int, object] = {}
        self._handled = threading.Event()
        self._asked = 0  # signals but SIGHUP
        self._heard = 0  # the same, with those the handler was not called for
        self._said = threading.Lock()  # taken once, by whoever says it
        self._terminal = signals.Terminal()
        self._watcher: signals.Watcher | None = None
        self._elsewhere: Callable[[int], None] | None = None

    def __enter__(self) -> "StopRequest":
        self._elsewhere = together.hear_stops(self._hear_from_elsewhere)
        if threading.current_thread() is threading.main_thread():
            self._watcher = signals.Watcher(self._hear)
            self._watcher.__enter__()
            for number in _SIGNALS:
                if not signals.is_ignored(number):
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        together.hear_stops(self._elsewhere)
        self._restore()
        if self._watcher is not None:
            self._watcher.__exit__(kind, error, trace)

    def _hear(self, number: int) -> None:
        """Speaks where the main thread cannot; runs in a thread."""
        if number not in _SIGNALS:
            return
        together.announce_stop(number)
        self._heard += number in _ABORTING
        if not self._handled.wait(_PATIENCE_S):
            self._say(number)

    def _hear_from_elsewhere(self, number: int) -> None:
        """Another process of the run was asked; runs in a thread."""
        if not self.requested:
            self.requested, self.number = True, number
        self._say(number)

    def _handle(self, number: int, frame: types.FrameType | None) -> None:
        together.announce_stop(number)
        self._terminal.leave_if_gone()
        self._handled.set()
        if not self.requested:
            self.requested, self.number = True, number
        self._asked += number in _ABORTING
        if number in _ABORTING and max(self._asked, self._heard) > 1:
            self._restore()
            raise KeyboardInterrupt("aborted; what was done since the last checkpoint is lost")
        self._say(number)

    def _say(self, number: int) -> None:
        # Not `with`: the handler may interrupt the very thread that logs.
        if self._said.acquire(blocking=False):
            _LOG.warning(
                "%s: stopping after this step with a checkpoint, and if it is being compiled, "
                "after that; once more aborts.",
                signals.name(number),
            )

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._previous.clear()
