"""Reads JSON files that anyone may have edited, and refuses what would only fail later."""

import os
import pathlib
from typing import Any

from ganavatar_jax.core import errors
from ganavatar_jax.core.readers import text_files


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
        content = text_files.parse_json(text_files.read_bytes(path))
    except (OSError, ValueError) as error:
        raise errors.RunError(f"{path}: expected JSON, got {error}; {fix}.") from error
    if not isinstance(content, dict):
        raise errors.RunError(f"{path}: expected a JSON object; {fix}.")
    return content
