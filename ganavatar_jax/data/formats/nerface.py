"""Reads captures in NeRFace's layout (4D Facial Avatars).

    transforms_train.json    and transforms_test.json or transforms_val.json
    train/f_0000.png         "file_path" lacks the extension
    bg/00050.png             optional background image; not used

"intrinsics" is [fx, fy, cx, cy] with focal lengths in pixels, possibly negative, and the principal
point as fractions of the image size; without it "camera_angle_x" holds. Axes are OpenGL's, and the
first pixel's centre is 0. "expression" holds 76 coefficients of the tracker's face model. The scene
is scaled so that cameras stand about 0.5 away; alignment carries it over.

A negative focal length is part of the projection. Where it makes cameras left-handed, the world is
mirrored in its x = 0 plane; images stay, and so does the person's left.

Source: NeRFace (Gafni et al. 2021), layout of its datasets.
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
    cameras,
    conventions,
    file_tree,
    json_files,
    matte_files,
    names,
)

# Others of `cameras` are none of NeRFace's: they would be passed over.
_UNDERSTOOD = frozenset({"intrinsics", "camera_angle_x", "transform_matrix", "file_path", "w", "h"})


def read_capture(tree: file_tree.FileTree, options: data_config.ReaderConfig) -> records.Capture:
    """Reads a capture in NeRFace's layout.

    Args:
      tree: Folder or zip with transforms_train.json.
      options: Not needed here.

    Returns:
      The capture, in the tracker's world.

    Raises:
      DataFormatError: the capture breaks the layout.

    Source: NeRFace.
    """
    del options
    sides = json_files.split_files(tree, "transforms", needed="transforms_train.json")
    entries = [entry for name, split in sides for entry in _read_file(tree, name, split)]
    return assembly.make_capture(
        tree,
        assembly.one_handedness(tree, entries),
        name_code=lambda length: [f"expression_{index:02d}" for index in range(length)],
    )


open_capture = assembly.opener(read_capture)


def _read_file(
    tree: file_tree.FileTree, name: str, split: records.SplitName | None
) -> Iterator[assembly.Entry]:
    """Reads the frames of one split; a negative focal length turns or mirrors axes."""
    content = json_files.read_object(tree, name)
    where = f"{tree.path}: {name}"
    cameras.refuse_unknown(content, understood=_UNDERSTOOD, where=where)
    for frame in json_files.frames(content, where=where):
        file_path = json_files.text(frame, "file_path", where=where)
        place = f"{where}: {file_path}"
        cameras.refuse_unknown(frame, understood=_UNDERSTOOD, where=place)
        image = names.find_image(tree, file_path, where=where)
        size = assembly.image_size(tree, image)
        focal, intrinsics = _read_intrinsics(content, size, where=where)
        pose = cameras.read_pose(frame, where=place)
        code = None
        if frame.get("expression") is not None:
            code = json_files.array(frame, "expression", (-1,), where=place).astype(np.float32)
        cam2world, _ = conventions.fold_focal_signs(conventions.from_opengl(pose), focal)
        yield assembly.Entry(
            frame_id=image,
            image=image,
            matte=matte_files.named(tree, frame, where=place) or matte_files.find(tree, image),
            cam2world=cam2world,
            intrinsics=intrinsics,
            expression=code,
            sequence=image.rpartition("/")[0],
            split=split,
        )


def _read_intrinsics(
    content: dict[str, Any], size: tuple[int, int], *, where: str
) -> tuple[Float[np.ndarray, "2"], Float[np.ndarray, "3 3"]]:
    """Returns the signed focal lengths in pixels, and normalised intrinsics with positive ones."""
    if content.get("intrinsics"):
        fx, fy, cx, cy = json_files.array(content, "intrinsics", (4,), where=where)
    else:
        angle = json_files.number(content, "camera_angle_x", where=where)
        fx = fy = 0.5 * size[0] / math.tan(0.5 * angle)
        cx = cy = 0.5
    if fx == 0 or fy == 0 or max(abs(cx), abs(cy)) > 2.0:
        raise errors.DataFormatError(
            f'{where}: "intrinsics" must be [fx, fy, cx, cy] with focal lengths in pixels and the '
            f"centre as fractions of the size; got {fx:g}, {fy:g}, {cx:g}, {cy:g}. Divide the "
            "centre by the image size."
        )
    intrinsics = conventions.normalize_intrinsics(
        np.abs([fx, fy]),
        np.array([cx * size[0], cy * size[1]]),
        size=size,
        first_pixel_at=0.0,
    )
    return np.array([fx, fy]), intrinsics
