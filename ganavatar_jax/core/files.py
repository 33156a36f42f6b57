"""Files that are either whole or absent: written beside their place, then renamed into it.

A run may be killed at any moment; a reader must never meet half a file. Light to import: the
program starts with it.
"""

import contextlib
import errno
import os
import pathlib
import tempfile
import uuid
from collections.abc import Iterator

from ganavatar_jax.core import errors

# What the system answers when there is no room for, or no way to, what is being written.
_NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Yields a temporary path that becomes `path` when the block ends without an exception.

    Args:
      path: Where the file shall be; missing parent folders are made. The temporary name keeps
        the suffix, for writers that choose their format by it.

    Returns:
      A context manager whose value is the path to write to.

    Raises:
      RunError: the folder cannot be made, the file cannot be written (a full disk), or it cannot
        be moved into place. Other errors of the block, e.g. of what it reads, pass as they are.
    """
    target = pathlib.Path(path)
    # Not the process number: containers that share a folder may share it.
    temporary = target.with_name(f".{target.stem}.{uuid.uuid4().hex}.tmp{target.suffix}")
    make_folder(target.parent)
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        if not _is_of_writing(error, (temporary, target)):
            raise
        raise write_error(target, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Writes a whole file at once, so that a kill leaves the old content or the new one.

    Args:
      path: The file; missing parent folders are made.
      content: Text (stored as UTF-8) or bytes.

    Raises:
      RunError: the file cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def make_folder(path: str | os.PathLike[str]) -> pathlib.Path:
    """Makes a folder and its parents unless they are there.

    Args:
      path: The folder.

    Returns:
      The folder's path.

    Raises:
      RunError: a file is in the way, or there is no permission.
    """
    folder = pathlib.Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        blocker = next(p for p in (folder, *folder.parents) if p.exists() and not p.is_dir())
        raise errors.RunError(
            f"{folder}: expected a folder, but {blocker} is a file; choose another folder or move "
            f"that file away."
        ) from error
    except OSError as error:
        raise write_error(folder, error) from error
    return folder


def expand_user(path: str | os.PathLike[str]) -> pathlib.Path:
    """Puts the home folder for a leading `~`.

    Args:
      path: A path as the user gave it.

    Returns:
      The path; it may be relative.

    Raises:
      RunError: it begins with `~`, and this user has no home folder.
    """
    try:
        return pathlib.Path(path).expanduser()
    except RuntimeError as error:  # e.g. a container's unknown user
        raise errors.RunError(
            f"{path}: ~ stands for the home folder, and this user has none; set HOME or give the "
            "whole path."
        ) from error


def check_writable(path: str | os.PathLike[str]) -> pathlib.Path:
    """Makes a folder and proves that files can be written into it.

    Args:
      path: The folder; `~` stands for the home folder.

    Returns:
      Its absolute path.

    Raises:
      RunError: a file is in the way, or there is no permission, or no home folder for `~`.
    """
    folder = make_folder(expand_user(path).absolute())
    try:
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise write_error(folder, error) from error


def write_error(path: str | os.PathLike[str], error: OSError) -> errors.RunError:
    """Words an operating-system error as one line for the user.

    Args:
      path: What could not be written.
      error: Why.

    Returns:
      The error to raise.
    """
    return errors.RunError(
        f"{os.fspath(path)}: cannot be written ({error.strerror or error}); check the permissions "
        f"and the free space, or choose another folder."
    )


def _is_of_writing(error: OSError, written: tuple[pathlib.Path, ...]) -> bool:
    """Tells a failed write from another failure, which names another file or has another cause."""
    if error.filename is not None:
        named = os.fsdecode(error.filename) if not isinstance(error.filename, int) else ""
        return pathlib.Path(named) in written
    # Pillow forgets the number: "encoder error -2 when writing image file".
    return error.errno in _NOT_WRITTEN or (error.errno is None and "when writing" in str(error))
