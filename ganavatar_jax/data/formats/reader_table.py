"""Which reader opens which `data.format`.

A reader is a module with `open_capture(path, *, options)`; a new layout is a new module and a line
here and in `data_config.FormatName`.
"""

import contextlib
import pathlib
from typing import Protocol

from ganavatar_jax.data import data_config, records
from ganavatar_jax.data.formats import (
    colmap,
    eg3d,
    imavatar,
    insta,
    multiface,
    nerface,
    nersemble,
    transforms,
)


class Reader(Protocol):
    """Opens a capture; frames can be loaded while it is open."""

    def __call__(
        self, path: str | pathlib.Path, *, options: data_config.ReaderConfig | None = None
    ) -> contextlib.AbstractContextManager[records.Capture]:
        """Opens the capture at a path."""
        ...


READERS: dict[data_config.FormatName, Reader] = {
    "eg3d": eg3d.open_capture,
    "insta": insta.open_capture,
    "nerface": nerface.open_capture,
    "imavatar": imavatar.open_capture,
    "multiface": multiface.open_capture,
    "colmap": colmap.open_capture,
    "nersemble": nersemble.open_capture,
    "transforms": transforms.open_capture,
}
# Layouts whose cameras are in the head frame already.
ALIGNED: frozenset[data_config.FormatName] = frozenset({"eg3d", "video"})
