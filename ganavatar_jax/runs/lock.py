"""One command at a time works in a run folder; a second one is told who does.

The file run.lock in the folder names the process, and the system keeps it locked (`flock`) for as
long as that process lives: a lock that a killed process left is taken over. Between machines that
share a folder the system's lock may not be seen; there, what the file says counts, and a left lock
has to be deleted by hand.
"""

import contextlib
import dataclasses
import errno
import json
import os
import pathlib
from collections.abc import Iterator

from ganavatar_jax.core import errors, files
from ganavatar_jax.runs import owner as owner_lib

try:
    import fcntl
except ImportError:  # not on Windows: only what the file says counts there
    fcntl = None

NAME = "run.lock"
_HELD = (errno.EAGAIN, errno.EACCES)
_MAX_BYTES = 4096
_held: set[str] = set()  # of this process: a task that calls another one waits for nobody


@contextlib.contextmanager
def hold(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Keeps other commands out of a folder until the block ends.

    Args:
      folder: The run folder; it must exist.

    Yields:
      Nothing.

    Raises:
      RunError: another process works in the folder, or may do so on another machine; or the lock
        cannot be written.
    """
    path = pathlib.Path(folder).resolve() / NAME
    if str(path) in _held:
        yield
        return
    file = _take(path)
    _held.add(str(path))
    try:
        yield
    finally:
        _held.discard(str(path))
        # Emptied, not removed: another process may have opened it and wait to lock it.
        with contextlib.suppress(OSError):
            os.ftruncate(file, 0)
        os.close(file)


def holder(folder: str | os.PathLike[str]) -> owner_lib.Owner | None:
    """Looks who works in a folder, without touching its lock.

    Args:
      folder: The run folder.

    Returns:
      The process; None where there is none, or it is dead.
    """
    try:
        content = json.loads((pathlib.Path(folder) / NAME).read_text("utf-8") or "null")
    except (OSError, ValueError, RecursionError):
        return None
    known = owner_lib.from_json(content) if isinstance(content, dict) else None
    return None if known is None or known.is_alive() is False else known


def _take(path: pathlib.Path) -> int:
    """Opens and locks the file, and writes this process into it."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise files.write_error(path, error) from error
    try:
        free = _lock(file)
        _refuse(path, _read(file), free=free)
        content = json.dumps(dataclasses.asdict(owner_lib.current())) + "\n"
        os.ftruncate(file, 0)
        os.pwrite(file, content.encode(), 0)
    except OSError as error:
        os.close(file)
        raise files.write_error(path, error) from error
    except BaseException:
        os.close(file)
        raise
    return file


def _lock(file: int) -> bool | None:
    """Asks the system for the lock: whether it was free; None where it has no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in _HELD else None
    return True


def _read(file: int) -> owner_lib.Owner | None:
    try:
        content = json.loads(os.pread(file, _MAX_BYTES, 0) or b"null")
    except (ValueError, RecursionError):
        return None  # half written by a process that was killed
    return owner_lib.from_json(content) if isinstance(content, dict) else None


def _refuse(path: pathlib.Path, known: owner_lib.Owner | None, *, free: bool | None) -> None:
    """Refuses a folder in which another process works."""
    who = known.describe() if known is not None else "which has not written its name yet"
    if free is False:
        raise errors.RunError(
            f"{path.parent}: another process works in this run folder ({who}); wait until it has "
            "ended, or choose another --workdir."
        )
    if known is None:
        return
    here = owner_lib.current()
    same_system = known.boot == here.boot and bool(here.boot)
    # A lock of the same running system that is free was left by a process that is no more.
    alive = False if free and same_system else known.is_alive()
    if alive:
        raise errors.RunError(
            f"{path.parent}: another process works in this run folder ({who}); wait until it has "
            "ended, or choose another --workdir."
        )
    if alive is None:
        raise errors.RunError(
            f"{path.parent}: another process works in this run folder, or was killed while it did "
            f"({who}, which cannot be seen from here); if it is dead, delete {path}."
        )
