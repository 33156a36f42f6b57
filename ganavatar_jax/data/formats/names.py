"""Finds the file that a capture means by a name: the one resolver of all layouts.

A name may begin with "./", hold "..", use backslashes, be an absolute path of the machine the
capture was made on, or differ from the file in case, in composed accents or by a missing ending.
The nearest reading wins: as it stands below the file that names it, then below the root, then
without its leading folders. Nothing outside of the capture is ever opened.
"""

import posixpath
import re
from collections.abc import Iterator

from ganavatar_jax.core import errors
from ganavatar_jax.data.formats import file_tree, pictures

_DRIVE = re.compile(r"^[A-Za-z]:[/\\]")


def find(
    tree: file_tree.FileTree, name: str, *, base: str = "", where: str, endings: bool = False
) -> str | None:
    """Finds a file by the name that a capture gives it.

    Args:
      tree: The capture.
      name: As the capture writes it.
      base: Folder of the file that names it, without a slash at its end; "" is the root.
      where: File and frame, for messages.
      endings: Whether the name may lack a picture's ending.

    Returns:
      The file's name within the tree; None where there is none.

    Raises:
      DataFormatError: the name fits several files that differ in case only.
    """
    for candidate in _readings(tree, name, base):
        found = _look_up(tree, candidate, where)
        if found is not None and not (endings and not pictures.is_picture(found)):
            return found
        if endings:
            for ending in sorted(pictures.EXTENSIONS):
                found = _look_up(tree, f"{candidate}.{ending}", where)
                if found is not None:
                    return found
    return None


def find_image(tree: file_tree.FileTree, name: str, *, base: str = "", where: str) -> str:
    """Finds an image by the name that a capture gives it; its ending may be missing.

    Args:
      tree: The capture.
      name: As the capture writes it.
      base: Folder of the file that names it; "" is the root.
      where: File and frame, for messages.

    Returns:
      The image's name within the tree.

    Raises:
      DataFormatError: there is no such image, it is of a kind that is not read, or the name fits
        several.
    """
    found = find(tree, name, base=base, where=where, endings=True)
    if found is not None:
        return found
    shown = next(_readings(tree, name, base), name)
    for candidate in _readings(tree, name, base):
        for other in (candidate, _stem(candidate)):
            for file in tree.stems.get(file_tree.fold(other), ()):
                pictures.refuse_unread(file, where=f"{where}: {file}")
        file = _look_up(tree, candidate, where)
        if file is not None:
            raise errors.DataFormatError(
                f"{where}: {file} is there, and is no picture by its ending; pictures are "
                f"{', '.join(sorted(pictures.EXTENSIONS))}. Convert or rename it."
            )
    raise errors.DataFormatError(
        f"{where}: the image {shown} is not there.{_nearby(tree, name, base)} Add it or remove the "
        f"frame; names are relative to {tree.path}."
    )


def _nearby(tree: file_tree.FileTree, name: str, base: str) -> str:
    """Names a file of another kind with the same stem, which is what was meant most often."""
    for candidate in _readings(tree, name, base):
        others = tree.stems.get(file_tree.fold(_stem(candidate)), ())
        if others:
            return f" {others[0]} is."
    return ""


def _stem(name: str) -> str:
    head, dot, ending = name.rpartition(".")
    return head if dot and "/" not in ending else name


def _look_up(tree: file_tree.FileTree, name: str, where: str) -> str | None:
    if name in tree.known:
        return name
    found = tree.folded.get(file_tree.fold(name), ())
    if len(found) > 1:
        raise errors.DataFormatError(
            f"{where}: {name} may be {' or '.join(found[:3])}. Write the name as the file's."
        )
    return found[0] if found else None


def _readings(tree: file_tree.FileTree, name: str, base: str) -> Iterator[str]:
    """Yields what a name may mean, the nearest first."""
    raw = posixpath.normpath(posixpath.join(base, name))
    if "\\" in name and raw in tree.known:
        yield raw  # Elsewhere than on Windows a backslash may belong to a name.
    given = name.strip().replace("\\", "/")
    absolute = given.startswith("/") or _DRIVE.match(given) is not None
    if not absolute:
        joined = posixpath.normpath(posixpath.join(base, given))
        if not joined.startswith(".."):
            yield joined
        if base:
            plain = posixpath.normpath(given)
            if not plain.startswith(".."):
                yield plain
    root = tree.path.absolute().as_posix()
    if absolute and given.startswith(f"{root}/"):
        yield posixpath.normpath(given[len(root) + 1 :])
    parts = [p for p in posixpath.normpath(given).split("/") if p not in ("", "..", ".")]
    # Of a relative name one folder must stay: train/1.png is not 1.png.
    for start in range(1, len(parts) if absolute else len(parts) - 1):
        rest = "/".join(parts[start:])
        if base:
            yield f"{base}/{rest}"
        yield rest
