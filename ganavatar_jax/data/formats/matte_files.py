"""Finds the matte of an image: as its frame names it, or by where it lies.

Source: ours; masks/NAME.png.png is COLMAP's, the keys are nerfstudio's and VHAP's.
"""

import re
from collections.abc import Mapping
from typing import Any

from ganavatar_jax.core import errors
from ganavatar_jax.data.formats import file_tree, names, pictures

# What frames call their mattes (nerfstudio, VHAP, ours), and masks of theirs that are none.
MATTE_KEYS = ("mask_path", "fg_mask_path", "alpha_path", "alpha_mask_path", "matte_path")
_OTHER_MASKS = frozenset({"seg_mask_path"})
_MASK_WORDS = re.compile(r"mask|matte|(^|_)alpha")
_IMAGE_FOLDERS = frozenset({"images", "image", "rgb"})


def named(
    tree: file_tree.FileTree, frame: Mapping[str, Any], *, base: str = "", where: str
) -> str | None:
    """Finds the matte that a frame itself names.

    Args:
      tree: The capture.
      frame: The frame's object, with one of `MATTE_KEYS` or none.
      base: Folder of the file that names it; "" is the root.
      where: File and frame, for messages.

    Returns:
      Name of the matte; None where the frame names none.

    Raises:
      DataFormatError: it is not there, or the frame names a mask of another meaning.
    """
    for key, value in frame.items():
        if not isinstance(value, str) or not value or not _MASK_WORDS.search(key.lower()):
            continue
        if key in _OTHER_MASKS:
            continue
        if key not in MATTE_KEYS:
            raise errors.DataFormatError(
                f'{where}: the frame\'s "{key}" is not understood; mattes are named by '
                f"{', '.join(MATTE_KEYS)}. Rename it if it is white where the head is, or remove "
                "it."
            )
        return names.find_image(tree, value, base=base, where=f'{where}: "{key}"')
    return None


def find(tree: file_tree.FileTree, image: str) -> str | None:
    """Finds the matte of an image: in alpha/ or masks/, under the image's name or stem.

    Args:
      tree: The capture.
      image: Name of the image.

    Returns:
      Name of the matte, or None.

    Source: ours; masks/NAME.png.png is COLMAP's.
    """
    parts = image.split("/")
    places = [("", image.removeprefix("images/"))]
    for index, part in enumerate(parts[:-1]):
        if part in _IMAGE_FOLDERS:
            places.append(("".join(f"{p}/" for p in parts[:index]), "/".join(parts[index + 1 :])))
    for above, below in places:
        stem = below.rpartition(".")[0]
        for folder in ("alpha", "masks", "mask"):
            found = [f"{folder}/{below}.png", f"{folder}/{below}"]
            found += [f"{folder}/{stem}.{extension}" for extension in sorted(pictures.EXTENSIONS)]
            for name in found:
                same = tree.folded.get(file_tree.fold(f"{above}{name}"), ())
                if same and same[0] != image:
                    return same[0]
    return None
