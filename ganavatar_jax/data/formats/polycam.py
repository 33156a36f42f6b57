"""Reads Polycam's raw data ("Export > Raw data", developer mode).

    keyframes/corrected_cameras/<time>.json  with keyframes/corrected_images/<time>.jpg, where
                                             Polycam has refined them; else
    keyframes/cameras/<time>.json            with keyframes/images/<time>.jpg

A camera is fx fy cx cy in pixels of width x height, and t_00 to t_23: cam2world with OpenGL axes,
three rows of four. The world is ARKit's; alignment carries it over.

Source: Polycam's documentation of raw data (polyform).
"""

import numpy as np

from ganavatar_jax.core import errors
from ganavatar_jax.data import data_config, records
from ganavatar_jax.data.formats import (
    assembly,
    cameras,
    conventions,
    file_tree,
    json_files,
    matte_files,
    names,
)

_ENTRIES = [[f"t_{row}{column}" for column in range(4)] for row in range(3)]
_UNDERSTOOD = frozenset({"fx", "fy", "cx", "cy", "width", "height", *sum(_ENTRIES, [])})
_PLACES = (("corrected_cameras", "corrected_images"), ("cameras", "images"))


def read_capture(tree: file_tree.FileTree, options: data_config.ReaderConfig) -> records.Capture:
    """Reads raw data of Polycam.

    Args:
      tree: Folder or zip with keyframes/.
      options: Not needed here.

    Returns:
      The capture, in ARKit's world.

    Raises:
      DataFormatError: the capture breaks the layout.

    Source: Polycam.
    """
    del options
    for folder, images in _PLACES:
        found = [
            name
            for name in tree.names
            if f"/{name}".rpartition("/")[0].endswith(f"/keyframes/{folder}")
            and name.endswith(".json")
        ]
        if found:
            found.sort(key=json_files.by_number)
            entries = [_read_frame(tree, name, folder, images) for name in found]
            one_size = len({entry.size for entry in entries}) == 1
            return assembly.make_capture(
                tree, entries, one_size=one_size, unused=f"they have no file in keyframes/{folder}"
            )
    raise errors.DataFormatError(
        f"{tree.path}: there are no keyframes/corrected_cameras/<time>.json, nor in "
        "keyframes/cameras/. Export raw data (Polycam's developer mode), or check data.format."
    )


open_capture = assembly.opener(read_capture)


def _read_frame(tree: file_tree.FileTree, name: str, folder: str, images: str) -> assembly.Entry:
    """Reads one camera; its image has its name."""
    where = f"{tree.path}: {name}"
    content = json_files.read_object(tree, name)
    cameras.refuse_unknown(content, understood=_UNDERSTOOD, where=where)
    base, _, file = name.rpartition("/")
    stem = file.removesuffix(".json")
    image = names.find_image(tree, stem, base=f"{base.removesuffix(folder)}{images}", where=where)
    size = json_files.image_size(
        {"w": content.get("width"), "h": content.get("height")}, where=where
    )
    fx, fy, cx, cy = (json_files.number(content, k, where=where) for k in ("fx", "fy", "cx", "cy"))
    pose = [[json_files.number(content, k, where=where) for k in row] for row in _ENTRIES]
    return assembly.Entry(
        frame_id=image,
        image=image,
        matte=matte_files.find(tree, image),
        cam2world=conventions.from_opengl(np.array(pose)),
        intrinsics=conventions.normalize_intrinsics(
            np.array([fx, fy]), np.array([cx, cy]), size=size
        ),
        size=size,
    )
