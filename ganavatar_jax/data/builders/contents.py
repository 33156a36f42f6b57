"""What the files of a finished dataset must hold, noted beside them when they were written.

`contents.json` names every file with its size and sha256, so that a damaged dataset is made again
instead of trusted, and so that later stages know whether two datasets hold the same: equal captures
give equal files, whatever became of the capture's own times and place.
"""

import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from ganavatar_jax.core import files

NAME = "contents.json"


def note(folder: str | pathlib.Path) -> None:
    """Writes down what the files of a dataset hold.

    Args:
      folder: A finished dataset.

    Raises:
      RunError: the note cannot be written.
    """
    folder = pathlib.Path(folder)
    noted = {
        path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != NAME
    }
    files.write_atomic(folder / NAME, json.dumps({"files": noted}, indent=1) + "\n")


def find_damage(folder: str | pathlib.Path, *, thorough: bool) -> str | None:
    """Looks for files that are not as they were written.

    Args:
      folder: A finished dataset.
      thorough: Read every file, instead of comparing sizes alone.

    Returns:
      What is wrong, e.g. "a.json is missing"; None where nothing is, or where an earlier version
      noted nothing.
    """
    folder = pathlib.Path(folder)
    if not (folder / NAME).is_file():
        return None
    noted = _read(folder)
    if noted is None:
        return f"{NAME} is damaged"
    for name, facts in noted.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != facts["bytes"]:
            return f"{name} has {path.stat().st_size} bytes instead of {facts['bytes']}"
        if thorough and _sha256(path) != facts["sha256"]:
            return f"{name} has changed"
    return None


def identify(
    folder: str | pathlib.Path, metadata: Mapping[str, Any], *, keys: Sequence[str]
) -> str:
    """Computes what is equal for datasets that hold the same examples with the same meaning.

    Args:
      folder: A finished dataset.
      metadata: What is stored beside the examples.
      keys: Which of it says what the examples mean.

    Returns:
      Hexadecimal SHA-256.
    """
    folder = pathlib.Path(folder)
    noted = _read(folder) or {
        path.name: {"sha256": _sha256(path)} for path in folder.glob("*.array_record*")
    }
    records = {name: facts["sha256"] for name, facts in noted.items() if ".array_record" in name}
    content = {"records": records, "metadata": {key: metadata.get(key) for key in keys}}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read(folder: pathlib.Path) -> dict[str, dict[str, Any]] | None:
    """The noted files; None where there is no note or it is not one of ours."""
    try:
        noted = json.loads((folder / NAME).read_text("utf-8"))["files"]
        for name, facts in noted.items():
            if pathlib.PurePath(name).name != name or not isinstance(facts["bytes"], int):
                return None
            str(facts["sha256"])
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None
    return noted


def _sha256(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
