"""What a training reads from, and where its results go."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ganavatar_jax.training import state

# Maps numbers of frames to u8 [b h w]: 255 where something was filmed, 0 beyond.
ReadFilmed = Callable[[np.ndarray], np.ndarray]


@runtime_checkable
class Batches(Protocol):
    """Endless stream of batches that can be resumed; grain's iterators are such streams."""

    def __next__(self) -> dict[str, np.ndarray]:
        """Returns the next {"image" u8 [b h w 3], "label25" [b 25]} of this process.

        Where images reach beyond what was filmed, "filmed" u8 [b h w] says where.
        """
        ...

    def get_state(self) -> dict[str, Any]:
        """Returns the position, JSON-serialisable."""
        ...

    def set_state(self, state: Any) -> None:
        """Goes to a position."""
        ...


@dataclasses.dataclass(frozen=True)
class Outputs:
    """Where the results of a run go.

    Attributes:
      checkpoints: Folder of the checkpoints.
      writer_options: Arguments of MetricWriter besides stage and resumed_step.
      draw_samples: Called with (state with whole arrays, thousands of images) to draw pictures;
        returns what it measures of them.
      saved: Called in a thread after each checkpoint.
      profile: Folder of the trace of the first iterations, where one is asked for.
      facts: Saved with each checkpoint, JSON-serialisable.
    """

    checkpoints: pathlib.Path
    writer_options: dict[str, Any]
    draw_samples: Callable[[state.GanState, float], Mapping[str, float]]
    saved: Callable[[], None] | None = None
    profile: pathlib.Path | None = None
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
