"""Reads captures with a NeRF-like transforms.json: OpenGL axes, a field of view.

    transforms.json          or transforms_train.json with transforms_test.json or _val.json
    images/r_0.png           any folder; RGBA or RGB; the extension may be missing in the file
    alpha/r_0.png            optional mattes, named as the images

"camera_angle_x" (radians), or "fl_x", "fl_y", "cx", "cy", "w", "h" in pixels; of the whole file or
of a frame. "k1", "k2", "p1", "p2" (instant-ngp) are undone. The world is whatever the exporter
chose; alignment carries it over.

Source: NeRF's Blender data set (Mildenhall et al. 2020); instant-ngp's documentation.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import Float
from ganavatar_jax.data import data_config, records
from ganavatar_jax.data.formats import (
    assembly,
    conventions,
    file_tree,
    json_files,
    lenses,
)


def read_capture(tree: file_tree.FileTree, options: data_config.ReaderConfig) -> records.Capture:
    """Reads a capture with a transforms.json of OpenGL cameras.

    Args:
      tree: Folder or zip.
      options: Not needed here.

    Returns:
      The capture, in the exporter's world.

    Raises:
      DataFormatError: the capture breaks the layout.

    Source: NeRF.
    """
    del options
    sides = json_files.split_files(tree, "transforms", needed="transforms.json")
    entries = [entry for name, split in sides for entry in _read_file(tree, name, split)]
    entries.sort(key=lambda entry: json_files.by_number(entry.frame_id))
    return assembly.make_capture(tree, entries)


open_capture = assembly.opener(read_capture)


def _read_file(
    tree: file_tree.FileTree, name: str, split: records.SplitName | None
) -> Iterator[assembly.Entry]:
    """Reads the frames of one transforms file; what a frame says outweighs what the file says."""
    content = json_files.read_object(tree, name)
    where = f"{tree.path}: {name}"
    for frame in json_files.frames(content, where=where):
        file_path = json_files.text(frame, "file_path", where=where)
        place = f"{where}: {file_path}"
        image = assembly.find_image(tree, file_path, where=where)
        pose = json_files.array(frame, "transform_matrix", (4, 4), where=place)
        intrinsics, size, lens = _read_intrinsics(tree, {**content, **frame}, image, where=place)
        yield assembly.Entry(
            frame_id=image,
            image=image,
            matte=assembly.find_matte(tree, image),
            cam2world=conventions.from_opengl(pose),
            intrinsics=intrinsics,
            size=size,
            lens=lens,
            sequence=image.rpartition("/")[0],
            split=split,
        )


def _read_intrinsics(
    tree: file_tree.FileTree, values: dict[str, Any], image: str, *, where: str
) -> tuple[Float[np.ndarray, "3 3"], tuple[int, int], lenses.Lens]:
    """Reads a lens as any exporter writes it; missing parts have their defaults."""
    if "w" in values and "h" in values:
        size = json_files.image_size(values, where=where)
    else:
        size = assembly.image_size(tree, image)
    if "fl_x" in values:
        fl_x = json_files.number(values, "fl_x", where=where)
    elif "camera_angle_x" in values:
        angle = json_files.number(values, "camera_angle_x", where=where)
        if not 0.0 < angle < math.pi:
            raise errors.DataFormatError(
                f'{where}: "camera_angle_x" must lie between 0 and pi radians; got {angle:g}. '
                "Convert it from degrees."
            )
        fl_x = 0.5 * size[0] / math.tan(0.5 * angle)
    else:
        raise errors.DataFormatError(
            f'{where}: expected "fl_x" (pixels) or "camera_angle_x" (radians); got neither. Add '
            "one to the file or to each frame."
        )
    optional = {"fl_y": fl_x, "cx": 0.5 * size[0], "cy": 0.5 * size[1]}
    optional |= dict.fromkeys(("k1", "k2", "p1", "p2"), 0.0)
    read = {
        key: json_files.number(values, key, where=where) if key in values else default
        for key, default in optional.items()
    }
    intrinsics = conventions.normalize_intrinsics(
        np.array([fl_x, read["fl_y"]]), np.array([read["cx"], read["cy"]]), size=size
    )
    return intrinsics, size, lenses.Lens(read["k1"], read["k2"], read["p1"], read["p2"])
