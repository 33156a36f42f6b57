"""Reads recordings of Record3D: the export "EXR + JPG", or a .r3d file.

    metadata.json            "poses" [[qx, qy, qz, qw, x, y, z], ...], "w", "h", "K" (9 numbers,
                             column by column), "perFrameIntrinsicCoeffs" [[fx, fy, cx, cy], ...]
    rgb/0.jpg                frame i has pose i
    metadata, rgbd/0.jpg     the same in a .r3d file, which is a zip

Poses are cam2world with OpenGL axes in ARKit's world; alignment carries it over. Depth is not used.

Source: Record3D's documentation of its exports.
"""

import re
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
    pictures,
)

_UNDERSTOOD = frozenset(
    {"poses", "w", "h", "K", "perFrameIntrinsicCoeffs", "cameraType", "initPose", "dw", "dh"}
)
_IMAGE = re.compile(r"(?:.*/)?(?:rgb|rgbd)/(\d+)\.[^./]+")


def read_capture(tree: file_tree.FileTree, options: data_config.ReaderConfig) -> records.Capture:
    """Reads a recording of Record3D.

    Args:
      tree: Folder, zip or .r3d file.
      options: Not needed here.

    Returns:
      The capture, in ARKit's world.

    Raises:
      DataFormatError: the capture breaks the layout.

    Source: Record3D.
    """
    del options
    file = next((name for name in ("metadata.json", "metadata") if name in tree.known), None)
    if file is None:
        raise errors.DataFormatError(
            f"{tree.path}: there is no metadata.json (or metadata) at its root. Export the "
            'recording as "EXR + JPG" or as .r3d, or check data.format.'
        )
    where = f"{tree.path}: {file}"
    content = json_files.read_object(tree, file)
    cameras.refuse_unknown(content, understood=_UNDERSTOOD, where=where)
    poses = json_files.array(content, "poses", (-1, 7), where=where)
    size = json_files.image_size(content, where=where)
    coefficients = _read_intrinsics(content, len(poses), where=where)
    images = _list_images(tree)
    entries = [
        _make_entry(tree, image, poses[number], coefficients[number], size)
        for number, image in sorted(images.items())
        if number < len(poses)
    ]
    bare = len(poses) - len(entries)
    note = f"{len(entries)} of {len(poses)} poses are used; {bare} have no picture in rgb/."
    return assembly.make_capture(
        tree, entries, notes=[note] if bare else [], unused=f"{file} has no pose for them"
    )


open_capture = assembly.opener(read_capture)


def _list_images(tree: file_tree.FileTree) -> dict[int, str]:
    """Numbers the colour images; rgbd/ of a .r3d file also holds depth."""
    images: dict[int, str] = {}
    for name in tree.names:
        match = _IMAGE.fullmatch(name)
        if match is None or not pictures.is_picture(name):
            continue
        if int(match[1]) in images:
            raise errors.DataFormatError(
                f"{tree.path}: {images[int(match[1])]} and {name} are of one frame. Remove one."
            )
        images[int(match[1])] = name
    return images


def _read_intrinsics(
    content: dict[str, Any], count: int, *, where: str
) -> Float[np.ndarray, "t 4"]:
    """Reads fx, fy, cx, cy of every frame: its own, else those of all."""
    if content.get("perFrameIntrinsicCoeffs"):
        return json_files.array(content, "perFrameIntrinsicCoeffs", (count, 4), where=where)
    columns = json_files.array(content, "K", (9,), where=where).reshape(3, 3).T
    row = [columns[0, 0], columns[1, 1], columns[0, 2], columns[1, 2]]
    return np.tile(np.array(row), (count, 1))


def _make_entry(
    tree: file_tree.FileTree,
    image: str,
    pose: Float[np.ndarray, "7"],
    coefficients: Float[np.ndarray, "4"],
    size: tuple[int, int],
) -> assembly.Entry:
    """Turns ARKit's quaternion, which ends with w, into a camera."""
    quaternion = pose[[3, 0, 1, 2]]
    if not quaternion.any():
        raise errors.DataFormatError(
            f"{tree.path}: {image} has no rotation (its quaternion is 0). Remove the picture."
        )
    cam2world = np.eye(4)
    cam2world[:3, :3], cam2world[:3, 3] = conventions.from_quaternion(quaternion), pose[4:]
    return assembly.Entry(
        frame_id=image,
        image=image,
        matte=matte_files.find(tree, image),
        cam2world=conventions.from_opengl(cam2world),
        intrinsics=conventions.normalize_intrinsics(coefficients[:2], coefficients[2:], size=size),
        size=size,
    )
