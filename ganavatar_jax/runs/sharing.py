"""Whether all processes of a run see one run folder."""

import contextlib
import pathlib
import secrets
import time

from ganavatar_jax.core import errors, files
from ganavatar_jax.runs import together

_PATIENCE_S = 20.0  # for network file systems to show what another machine wrote


def check(folder: pathlib.Path) -> None:
    """Insists that what the first process writes into the run folder is there for all.

    Args:
      folder: The run folder.

    Raises:
      RunError: it is not, or cannot be written.
    """
    if together.is_alone():
        return
    name = f".shared-{secrets.token_hex(8)}"
    if together.is_first():
        files.write_atomic(folder / name, name)
    name = together.tell(name)
    mark = folder / name
    deadline = time.monotonic() + _PATIENCE_S
    while not (seen := mark.is_file()) and time.monotonic() < deadline:
        time.sleep(0.2)
    if not seen:
        raise errors.RunError(
            f"{folder}: the processes of this run do not share this folder: what process 0 writes "
            "there is not seen by this one. Give a --workdir on a file system that all machines "
            "mount."
        )
    together.meet("the run folder is shared")
    if together.is_first():
        with contextlib.suppress(OSError):
            mark.unlink()
