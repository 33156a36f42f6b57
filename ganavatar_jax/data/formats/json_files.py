"""Reads the JSON files of captures and takes numbers out of them, each message naming its place."""

import re
from typing import Any

import numpy as np

from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import Float
from ganavatar_jax.core.readers import text_files
from ganavatar_jax.data import labels, records
from ganavatar_jax.data.formats import file_tree

_DEEPEST = 8  # Nested lists of numbers; matrices have two levels.


def read_object(tree: file_tree.FileTree, name: str) -> dict[str, Any]:
    """Reads a JSON file that holds an object.

    Args:
      tree: The capture.
      name: File name within it.

    Returns:
      Its content.

    Raises:
      DataFormatError: it is no JSON, holds something else, or would not fit into memory.
    """
    try:
        content = text_files.parse_json(tree.read(name))
    except ValueError as error:
        raise errors.DataFormatError(
            f"{tree.path}: {name} is not valid JSON ({error}). Write it again."
        ) from error
    if not isinstance(content, dict):
        raise errors.DataFormatError(
            f"{tree.path}: {name} must hold a JSON object; got a {type(content).__name__}. Wrap "
            "its content in {...} as the layout asks."
        )
    return content


def frames(content: dict[str, Any], *, where: str) -> list[dict[str, Any]]:
    """Takes the list of frames out of a transforms-like file.

    Args:
      content: The file's object.
      where: File name, for messages.

    Returns:
      At least one object.

    Raises:
      DataFormatError: "frames" is missing, empty, or holds something else than objects.
    """
    found = content.get("frames")
    if not isinstance(found, list) or not found or not all(isinstance(f, dict) for f in found):
        got = "an empty list" if found == [] else f"a {type(found).__name__}"
        raise errors.DataFormatError(
            f'{where}: expected "frames", a list of objects with at least one; got {got}. Export '
            "the capture again."
        )
    return found


def array(
    content: dict[str, Any], key: str, shape: tuple[int, ...], *, where: str
) -> Float[np.ndarray, "..."]:
    """Takes an array of finite numbers out of an object.

    Args:
      content: The object.
      key: Its entry.
      shape: What is expected; -1 matches any length.
      where: File and frame, for messages.

    Returns:
      The numbers as float64.

    Raises:
      DataFormatError: the entry is missing, of another shape, or holds something that is no finite
        number.
    """
    if key not in content:
        raise errors.DataFormatError(
            f'{where}: "{key}" is missing; expected numbers of shape {_shape(shape)}. Export the '
            "capture again."
        )
    return as_array(content[key], shape, where=f'{where}: "{key}"')


def as_array(values: Any, shape: tuple[int, ...], *, where: str) -> Float[np.ndarray, "..."]:
    """Turns nested lists into an array of finite numbers.

    Args:
      values: Nested lists, as JSON gives them.
      shape: What is expected; -1 matches any length.
      where: File, frame and key, for messages.

    Returns:
      The numbers as float64.

    Raises:
      DataFormatError: the shape differs, or an entry is no finite number.
    """
    flat, found = _flatten(values, _DEEPEST)
    fits = found is not None and len(found) == len(shape)
    if not fits or any(w not in (-1, f) for w, f in zip(shape, found or (), strict=False)):
        got = "something else" if found is None else f"shape {_shape(found)}"
        raise errors.DataFormatError(
            f"{where}: expected numbers of shape {_shape(shape)}; got {got}. Export it again."
        )
    index = labels.find_no_number(flat)
    if index is None:
        index = labels.find_not_finite(flat)
    if index is not None:
        raise errors.DataFormatError(
            f"{where}: entry {index} must be a finite number; got {flat[index]!r:.40}. Remove the "
            "frame or track it again."
        )
    return np.array(flat, np.float64).reshape(found or ())


def number(content: dict[str, Any], key: str, *, where: str) -> float:
    """Takes one finite number out of an object.

    Args:
      content: The object.
      key: Its entry.
      where: File and frame, for messages.

    Returns:
      The number.

    Raises:
      DataFormatError: the entry is missing or no finite number.
    """
    return float(array(content, key, (), where=where))


def text(content: dict[str, Any], key: str, *, where: str) -> str:
    """Takes a text out of an object.

    Args:
      content: The object.
      key: Its entry.
      where: File and frame, for messages.

    Returns:
      The text, not empty.

    Raises:
      DataFormatError: the entry is missing, empty or no text.
    """
    value = content.get(key)
    if not isinstance(value, str) or not value:
        raise errors.DataFormatError(
            f'{where}: expected a text "{key}"; got {value!r:.40}. Export the capture again.'
        )
    return value


def _flatten(values: Any, depth: int) -> tuple[list[Any], tuple[int, ...] | None]:
    """Flattens nested lists of equal lengths; the shape is None where lengths or depths differ."""
    if not isinstance(values, list):
        return [values], ()
    if depth == 0:
        return [], None
    parts = [_flatten(value, depth - 1) for value in values]
    shapes = {shape for _, shape in parts}
    flat = [entry for part, _ in parts for entry in part]
    if not parts:
        return [], (0,)
    inner = shapes.pop()
    return flat, None if shapes or inner is None else (len(parts), *inner)


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join("n" if side == -1 else str(side) for side in shape) or "one number"


def split_files(
    tree: file_tree.FileTree, stem: str, *, needed: str
) -> list[tuple[str, records.SplitName | None]]:
    """Finds stem_train.json, stem_val.json and stem_test.json, or stem.json alone.

    Args:
      tree: The capture.
      stem: Beginning of the file names.
      needed: What the layout asks for, for the message.

    Returns:
      File names, each with the side of the split its frames belong to. The validation file counts
      where there is no test file; INSTA's repeats frames of the other two.

    Raises:
      DataFormatError: there is neither a training file nor stem.json.

    Source: layouts of INSTA and NeRFace.
    """
    known = set(tree.names)
    train, val, test, whole = (f"{stem}{part}.json" for part in ("_train", "_val", "_test", ""))
    if train in known and (test in known or val in known):
        return [(train, "train"), (test if test in known else val, "test")]
    if whole in known:
        return [(whole, None)]
    if train in known:
        return [(train, None)]
    nested = [name for name in tree.names if name.endswith(f"/{whole}") or name.endswith(train)]
    hint = f"It lies in {nested[0]}: use that folder." if nested else "Check data.format."
    raise errors.DataFormatError(f"{tree.path}: there is no {needed} at its root. {hint}")


def image_size(content: dict[str, Any], *, where: str) -> tuple[int, int]:
    """Takes "w" and "h" out of a transforms-like file.

    Args:
      content: The file's object.
      where: File name, for messages.

    Returns:
      Width and height, pixels.

    Raises:
      DataFormatError: one is missing or not positive.

    Source: instant-ngp's layout of transforms.json.
    """
    width, height = (number(content, key, where=where) for key in ("w", "h"))
    if width < 1 or height < 1:
        raise errors.DataFormatError(
            f'{where}: "w" and "h" must be the image size in pixels; got {width:g} and {height:g}. '
            "Export the capture again."
        )
    return round(width), round(height)


def by_number(name: str) -> tuple[list[tuple[int, str]], str]:
    """Orders names with the numbers in them taken by value: f_2 before f_10.

    Args:
      name: A name.

    Returns:
      The key to sort by.
    """
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(int(part), "") if part[0] in "0123456789" else (-1, part) for part in parts], name
