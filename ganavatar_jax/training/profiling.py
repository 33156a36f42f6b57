"""A trace of a few early iterations: where the time of a run goes, before it is spent."""

import pathlib
import types

import jax

from ganavatar_jax.core import files
from ganavatar_jax.core.arrays import PyTree


class Profile:
    """Traces some iterations of a loop; use it as a context manager around the loop."""

    def __init__(self, folder: pathlib.Path | None, *, first: int, count: int) -> None:
        """Says what to trace.

        Args:
          folder: Where the trace goes; None traces nothing.
          first: First iteration traced. The one before it should have compiled all it needs.
          count: How many; 0 traces nothing.
        """
        self._folder = folder if count else None
        self._first, self._last = first, first + count - 1
        self._running = False

    def begin(self, iteration: int) -> None:
        """Starts the trace if it is time; call it before each iteration.

        Args:
          iteration: 0-based iteration.

        Raises:
          RunError: the folder cannot be made.
        """
        if self._folder is not None and iteration == self._first:
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0  # every Python call would be hundreds of MB
            jax.profiler.start_trace(files.make_folder(self._folder), profiler_options=options)
            self._running = True

    def end(self, iteration: int, result: PyTree) -> None:
        """Writes the trace if it is complete; call it after each iteration.

        Args:
          iteration: 0-based iteration.
          result: What the iteration has started to compute; waited for.
        """
        if self._running and iteration >= self._last:
            jax.block_until_ready(result)
            self._stop()

    def __enter__(self) -> "Profile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        if self._running:
            self._stop()

    def _stop(self) -> None:
        """Ends the trace, which writes it."""
        self._running = False
        jax.profiler.stop_trace()
