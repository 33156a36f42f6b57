"""Reads JSON files that anyone may have edited, and refuses what would only fail later."""

import json
import os
import pathlib
from typing import Any

from ganavatar_jax.core import errors

MAX_DEPTH = 32  # objects and lists within each other; ours have a handful


def read_object(path: str | os.PathLike[str], *, fix: str) -> dict[str, Any]:
    """Reads a JSON file that holds an object.

    Args:
      path: The file.
      fix: What the user can do where it is damaged, for the message.

    Returns:
      Its content.

    Raises:
      RunError: it cannot be read, is no JSON, holds something else or is nested too deeply.
    """
    path = pathlib.Path(path)
    try:
        content = json.loads(path.read_text())
    except RecursionError as error:
        raise _too_deep(path, fix) from error
    except (OSError, ValueError) as error:
        raise errors.RunError(f"{path}: expected JSON, got {error}; {fix}.") from error
    if not isinstance(content, dict):
        raise errors.RunError(f"{path}: expected a JSON object; {fix}.")
    if _depth(content) > MAX_DEPTH:
        raise _too_deep(path, fix)
    return content


def _too_deep(path: pathlib.Path, fix: str) -> errors.RunError:
    return errors.RunError(
        f"{path}: expected JSON nested at most {MAX_DEPTH} times, got more; {fix}."
    )


def _depth(content: Any) -> int:
    """Counts the levels without calling itself, which is what a deep file would break."""
    level, depth = [content], 0
    while level := [value for value in level if isinstance(value, dict | list) and value]:
        depth += 1
        if depth > MAX_DEPTH:
            break
        level = [
            inner
            for value in level
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
    return depth
