"""A read-only view of a capture's files, the same for a folder and a zip archive.

Names are relative to the root and use "/". Hidden files and the resource forks that macOS adds to
archives are left out. Links are followed: those of a folder wherever they lead, those of an archive
within it. Nothing is ever extracted. `names` finds the file that a capture means by a name.
"""

import contextlib
import functools
import hashlib
import os
import pathlib
import posixpath
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator

from ganavatar_jax.core import errors

# No image or label file of a capture comes near; an archive may claim any size for its files.
MAX_FILE_BYTES = 2**29
MAX_TEXT_BYTES = 2**22  # Of one camera's or one frame's numbers.
_LONGEST_LINK_BYTES = 4096  # A link of an archive holds the path it leads to.


class _Tree:
    """What folders and archives have in common: names, and tables to find them by."""

    path: pathlib.Path
    names: tuple[str, ...]

    def _list(self, names: Iterable[str]) -> None:
        self.names = tuple(sorted(names))
        self.known = frozenset(self.names)

    @functools.cached_property
    def folded(self) -> dict[str, list[str]]:
        """Files by their name without regard to case and to how accents are composed."""
        return _group(self.known, fold)

    @functools.cached_property
    def stems(self) -> dict[str, list[str]]:
        """Files by their folded name without its ending."""
        return _group(self.known, lambda name: fold(_without_ending(name)))


class FolderTree(_Tree):
    """Files below a folder."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        self._list(_walk(path))

    def read(self, name: str) -> bytes:
        """Reads a whole file.

        Args:
          name: Relative name, one of `names`.

        Returns:
          Its bytes.

        Raises:
          DataFormatError: the file cannot be read, or is larger than `MAX_FILE_BYTES`.
        """
        path = self.path / name
        try:
            size = path.stat().st_size
            if size > MAX_FILE_BYTES:
                raise errors.DataFormatError(
                    f"{self.path}: {name} has {size} bytes; at most {MAX_FILE_BYTES} are read. "
                    "Check whether it belongs to the capture, or export it in parts."
                )
            return path.read_bytes()
        except OSError as error:
            raise errors.DataFormatError(
                f"{self.path}: {name} cannot be read ({error.strerror}). Check its permissions."
            ) from error

    def identify(self, name: str) -> object:
        """Tells files apart that are one, reached by two names.

        Args:
          name: Relative name, one of `names`.

        Returns:
          Equal for names of one file.
        """
        status = (self.path / name).stat()
        return status.st_dev, status.st_ino

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


class ZipTree(_Tree):
    """Files of an open zip archive."""

    def __init__(self, path: pathlib.Path, archive: zipfile.ZipFile):
        self.path = path
        self._archive = archive
        self._entries: dict[str, zipfile.ZipInfo] = {}
        links: dict[str, zipfile.ZipInfo] = {}
        for info in archive.infolist():
            name = _inside(info.filename, path)
            if info.is_dir() or info.filename.endswith(("/", "\\")) or not _is_visible(name):
                continue
            if name in self._entries or name in links:
                raise errors.DataFormatError(
                    f"{path}: the archive holds {name} twice. Zip the capture again."
                )
            is_link = stat.S_ISLNK(info.external_attr >> 16)
            (links if is_link else self._entries)[name] = info
        self._follow(links)
        self._list(self._entries)

    def _follow(self, links: dict[str, zipfile.ZipInfo]) -> None:
        """Gives what links lead to a second name; a link out of the archive is refused."""
        stored = dict(self._entries)
        targets = {name: self._read_link(name, info) for name, info in links.items()}
        for name, target in targets.items():
            for _ in range(len(targets)):  # A link may lead to another one.
                target = targets.get(target, target)
            if target in stored:
                self._entries[name] = stored[target]
            below = f"{target}/" if target != "." else ""
            for file, info in stored.items() if name not in self._entries else ():
                if file.startswith(below):
                    self._entries[f"{name}/{file[len(below) :]}"] = info

    def _read_link(self, name: str, info: zipfile.ZipInfo) -> str:
        try:
            if info.file_size > _LONGEST_LINK_BYTES:
                raise OSError("a link of that length")
            target = self._archive.read(info).decode("utf-8").replace("\\", "/")
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OSError) as e:
            raise self._refuse_link(name, f"cannot be read ({e})") from e
        except UnicodeDecodeError as e:
            raise self._refuse_link(name, "leads to a name that is no text") from e
        joined = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
        if joined.startswith(("/", "../")) or joined == "..":
            raise self._refuse_link(name, f"leads out of the archive, to {target!r:.80}")
        return joined

    def _refuse_link(self, name: str, why: str) -> errors.DataFormatError:
        return errors.DataFormatError(
            f"{self.path}: {name} is a link that {why}. Zip the files themselves (zip -r follows "
            "links unless told otherwise)."
        )

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
        size = self._entries[name].file_size
        if size > MAX_FILE_BYTES:
            raise errors.DataFormatError(
                f"{self.path}: {name} claims {size} bytes unpacked; at most {MAX_FILE_BYTES} are "
                "read. Check where the archive comes from, or use a folder."
            )
        try:
            return self._archive.read(self._entries[name])
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OSError) as e:
            raise errors.DataFormatError(
                f"{self.path}: {name} cannot be read from the archive ({e}). Zip the capture "
                "again, stored or deflated and without a password."
            ) from e

    def identify(self, name: str) -> object:
        """Tells files apart that are one, reached by two names.

        Args:
          name: Relative name, one of `names`.

        Returns:
          Equal for names of one file.
        """
        return self._entries[name].header_offset

    def digest(self) -> str:
        """Computes a hash of all names, sizes and checksums; independent of file times.

        Returns:
          Hexadecimal SHA-256.
        """
        sha = hashlib.sha256()
        for name in self.names:
            info = self._entries[name]
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


def read_small(tree: FileTree, name: str) -> bytes:
    """Reads a text of numbers, of which a large one would fill the memory.

    Args:
      tree: The capture.
      name: One of its files.

    Returns:
      Its bytes.

    Raises:
      DataFormatError: it cannot be read, or has more than `MAX_TEXT_BYTES`.
    """
    data = tree.read(name)
    if len(data) > MAX_TEXT_BYTES:
        raise errors.DataFormatError(
            f"{tree.path}: {name} has {len(data)} bytes; at most {MAX_TEXT_BYTES} are read. Export "
            "it again."
        )
    return data


def fold(name: str) -> str:
    """Makes names equal that differ in case or in composed accents (macOS takes them apart).

    Args:
      name: A file name.

    Returns:
      The form to look it up by.
    """
    return name.casefold() if name.isascii() else unicodedata.normalize("NFC", name).casefold()


def _without_ending(name: str) -> str:
    head, _, last = name.rpartition("/")
    stem = last.rpartition(".")[0] or last
    return f"{head}/{stem}" if head else stem


def _group(names: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        groups.setdefault(key(name), []).append(name)
    return groups


def _walk(root: pathlib.Path) -> Iterator[str]:
    """Lists files, links followed; one that leads to a folder around itself ends there."""
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while waiting:
        folder, around = waiting.pop()
        try:
            status = os.stat(root / folder)
            here = (status.st_dev, status.st_ino)
            entries = list(os.scandir(root / folder)) if here not in around else []
        except OSError as error:
            raise errors.DataFormatError(
                f"{root}: the folder {folder or '.'} cannot be read ({error.strerror}). Check its "
                "permissions."
            ) from error
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            if not _is_visible(entry.name):
                continue
            if entry.is_dir():
                waiting.append((name, around | {here}))
            elif entry.is_file():
                yield name


def _inside(name: str, path: pathlib.Path) -> str:
    """Names an archive's file as we do; Windows' programs write backslashes."""
    plain = posixpath.normpath(name.replace("\\", "/")).lstrip("/")
    if plain == ".." or plain.startswith("../"):
        raise errors.DataFormatError(
            f"{path}: the archive holds {name!r:.80}, which lies outside of it. Zip the capture "
            "again."
        )
    return plain
