"""A read-only view of a capture's files, the same for a folder and a zip archive.

Names are relative to the root and use "/". Hidden files and the resource forks that macOS adds to
archives are left out. Nothing is ever extracted.
"""

import contextlib
import hashlib
import pathlib
import zipfile
import zlib
from collections.abc import Iterator

from ganavatar_jax.core import errors

# No image or label file of a capture comes near; an archive may claim any size for its files.
MAX_FILE_BYTES = 2**29


class FolderTree:
    """Files below a folder."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        found = (p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
        self.names: tuple[str, ...] = tuple(sorted(name for name in found if _is_visible(name)))
        self.known = frozenset(self.names)

    def read(self, name: str) -> bytes:
        """Reads a whole file.

        Args:
          name: Relative name, one of `names`.

        Returns:
          Its bytes.

        Raises:
          DataFormatError: the file cannot be read.
        """
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise errors.DataFormatError(
                f"{self.path}: {name} cannot be read ({error.strerror}). Check its permissions."
            ) from error

    def digest(self) -> str:
        """Computes a hash of the .json files and of all names, sizes and modification times.

        Images are not read, so that checking a large folder stays instant.

        Returns:
          Hexadecimal SHA-256.
        """
        sha = hashlib.sha256()
        for name in self.names:
            status = (self.path / name).stat()
            sha.update(f"{name}\0{status.st_size}\0".encode())
            if name.endswith(".json"):
                sha.update(self.read(name))
            else:
                sha.update(str(status.st_mtime_ns).encode())
        return sha.hexdigest()


class ZipTree:
    """Files of an open zip archive."""

    def __init__(self, path: pathlib.Path, archive: zipfile.ZipFile):
        self.path = path
        self._archive = archive
        entries = [info for info in archive.infolist() if not info.is_dir()]
        names = sorted(info.filename for info in entries if _is_visible(info.filename))
        for name, following in zip(names, names[1:], strict=False):
            if name == following:
                raise errors.DataFormatError(
                    f"{path}: the archive holds {name} twice. Zip the capture again."
                )
        self.names: tuple[str, ...] = tuple(names)
        self.known = frozenset(names)

    def read(self, name: str) -> bytes:
        """Reads a whole file and checks its checksum.

        Args:
          name: Relative name, one of `names`.

        Returns:
          Its bytes.

        Raises:
          DataFormatError: the archive is damaged there, encrypted, compressed by a method other
            than stored or deflated, or claims a file of more than `MAX_FILE_BYTES`.
        """
        size = self._archive.getinfo(name).file_size
        if size > MAX_FILE_BYTES:
            raise errors.DataFormatError(
                f"{self.path}: {name} claims {size} bytes unpacked; at most {MAX_FILE_BYTES} are "
                "read. Check where the archive comes from, or use a folder."
            )
        try:
            return self._archive.read(name)
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OSError) as e:
            raise errors.DataFormatError(
                f"{self.path}: {name} cannot be read from the archive ({e}). Zip the capture "
                "again, stored or deflated and without a password."
            ) from e

    def digest(self) -> str:
        """Computes a hash of all names, sizes and checksums; independent of file times.

        Returns:
          Hexadecimal SHA-256.
        """
        sha = hashlib.sha256()
        for name in self.names:
            info = self._archive.getinfo(name)
            sha.update(f"{name}\0{info.file_size}\0{info.CRC}\0".encode())
        return sha.hexdigest()


# What a reader needs of either: `path`, `names` (all files, sorted), `known` (the same, to look a
# frame's files up in), `read`, `digest`.
FileTree = FolderTree | ZipTree


@contextlib.contextmanager
def open_tree(path: str | pathlib.Path) -> Iterator[FileTree]:
    """Opens a folder or a zip archive (stored or deflated) for reading.

    Args:
      path: The folder or archive.

    Returns:
      A context manager that yields the tree and closes the archive.

    Raises:
      DataFormatError: there is no such path, or it is neither a folder nor a readable zip.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        yield FolderTree(path)
    elif not path.exists():
        raise errors.DataFormatError(
            f"{path}: no such folder or zip. Set data.source to an existing capture or to "
            '"package:actor".'
        )
    else:
        try:
            archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise errors.DataFormatError(
                f"{path}: expected a folder or a zip archive; it cannot be read as a zip "
                f"({error}). Set data.source to a capture, or zip it again; for a video, set "
                "--config.data.format=video."
            ) from error
        with archive:
            yield ZipTree(path, archive)


def _is_visible(name: str) -> bool:
    return not any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))
