"""A copy of a run folder on object storage, for machines whose disks do not last.

What is copied is named by one object, `mirror.json`, which is written after everything it names and
before anything it no longer names is deleted: whoever reads it at any moment finds a whole run. A
copy that fails is told and tried again with the next one; it never ends a training.
"""

import json
import logging
import os
import pathlib
import threading
from collections.abc import Sequence

from ganavatar_jax.core import errors, files

_LOG = logging.getLogger(__name__)
INDEX = "mirror.json"
# What a run consists of; what can be made again from it (renders, traces) stays where it is.
PARTS = ("checkpoints", "stages", "dataset", "evaluation", "weights")
FILES = ("config.json", "config_changes.jsonl", "commit.txt", "environment.txt", "metrics.jsonl")


class Mirror:
    """Copies a run folder to a place that fsspec reaches, and back. Safe in threads."""

    def __init__(self, url: str, folder: pathlib.Path) -> None:
        """Connects to the place.

        Args:
          url: E.g. gs://bucket/run, s3://bucket/run, local:///mnt/run, memory://run.
          folder: The run folder.

        Raises:
          MissingDependencyError: the package that reaches such places is not installed.
          ConfigError: there are no such places.
        """
        import fsspec  # here: orbax brings it along, but slowly

        self.url, self._folder = url, folder
        self._lock = threading.Lock()
        self._copied: dict[str, tuple[int, int]] = {}
        try:
            self._store, root = fsspec.core.url_to_fs(url)
        except ImportError as error:
            raise errors.MissingDependencyError(
                f"mirror: {url} needs a package of fsspec ({error}), e.g. pip install gcsfs for "
                "gs:// and s3fs for s3://."
            ) from error
        except ValueError as error:
            raise errors.ConfigError(f"mirror: {url} cannot be used: {error}") from error
        self._root = root.rstrip("/")

    def pull(self) -> int:
        """Fills a run folder that was never used from the copy, if there is one.

        Returns:
          Number of files that were fetched.

        Raises:
          RunError: the copy cannot be read.
        """
        if (self._folder / "config.json").is_file():
            return 0
        try:
            if not self._store.exists(self._where(INDEX)):
                return 0
            index = json.loads(self._store.cat_file(self._where(INDEX)))
            # Last, because a folder with a config counts as used.
            names = sorted(index["files"], key=lambda name: name == "config.json")
            for name in names:
                self._fetch(name)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise errors.RunError(
                f"{self.url}: the copy of the run cannot be read ({_first_line(error)}); mend the "
                "access, or set mirror to another place."
            ) from error
        _LOG.info("%s: %d files fetched from %s.", self._folder, len(names), self.url)
        return len(names)

    def push(self) -> bool:
        """Copies what has changed.

        Returns:
          Whether all of it is there.
        """
        with self._lock:
            try:
                self._push()
            except Exception as error:  # stores have errors of their own
                _LOG.warning(
                    "%s: not copied to %s (%s); it is tried again with the next checkpoint.",
                    self._folder,
                    self.url,
                    _first_line(error),
                )
                return False
        return True

    def _push(self) -> None:
        """Sends what is new, then the index, then deletes what the index no longer names."""
        found = dict(self._list())
        changed = [name for name, mark in found.items() if self._copied.get(name) != mark]
        gone = self._copied.keys() - found.keys()
        if not changed and not gone:
            return
        for name in changed:
            try:
                self._send(name)
            except FileNotFoundError:  # deleted since: a checkpoint that has become too old
                del found[name]
        index = {"files": {name: size for name, (size, _) in found.items()}}
        self._store.pipe_file(self._where(INDEX), json.dumps(index).encode())
        for name in self._stored() - found.keys() - {INDEX}:
            self._store.rm_file(self._where(name))
        self._copied = found

    def _list(self) -> Sequence[tuple[str, tuple[int, int]]]:
        """Names the files of the run with what changes when they do."""
        paths = [self._folder / name for name in FILES]
        for part in PARTS:
            paths += (self._folder / part).rglob("*")
        listed = []
        for path in paths:
            relative = path.relative_to(self._folder)
            # What is being written, here or by orbax, has such names.
            if any(p.startswith(".") or "orbax-checkpoint-tmp" in p for p in relative.parts):
                continue
            try:
                status = path.stat()
            except OSError:
                continue
            if path.is_file():
                listed.append((relative.as_posix(), (status.st_size, status.st_mtime_ns)))
        return listed

    def _send(self, name: str) -> None:
        target = self._where(name)
        self._store.makedirs(target.rpartition("/")[0], exist_ok=True)
        self._store.put_file(os.fspath(self._folder / name), target)

    def _fetch(self, name: str) -> None:
        path = self._folder / name
        if not path.resolve().is_relative_to(self._folder.resolve()):
            raise ValueError(f"{INDEX} names {name!r}")
        with files.atomic_path(path) as temporary:
            self._store.get_file(self._where(name), os.fspath(temporary))

    def _stored(self) -> set[str]:
        start = len(self._root) + 1
        return {found[start:] for found in self._store.find(self._root)}

    def _where(self, name: str) -> str:
        return f"{self._root}/{name}"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]
