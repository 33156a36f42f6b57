"""Reads captures that INSTA's converter writes from the metrical tracker.

    transforms.json          or transforms_train.json and transforms_test.json, or all three;
                             w h fl_x fl_y cx cy in pixels, "frames"
    images/00001.png         RGBA with the matte as transparency, or RGB
    seg_mask/00001.png       optional face parsing; where it is 90 (cloth), the matte becomes 0
    flame/exp/00001.txt      optional FLAME expression coefficients, one a line

`transform_matrix` is cam2world with OpenCV axes already, despite the file's name. The world is
FLAME's, nominally metres. Where transforms_test.json exists, its frames are held out.

Source: INSTA (Zielonka et al. 2023), layout of its datasets.
"""

import dataclasses
import functools
import pathlib

import numpy as np

from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import Float
from ganavatar_jax.data import data_config, records
from ganavatar_jax.data.formats import (
    assembly,
    cameras,
    file_tree,
    json_files,
    matte_files,
    names,
    pictures,
)

_CLOTH = 90  # Value of seg_mask that INSTA takes out of the matte.


def read_capture(tree: file_tree.FileTree, options: data_config.ReaderConfig) -> records.Capture:
    """Reads a capture in INSTA's layout.

    Args:
      tree: Folder or zip with transforms.json.
      options: Not needed here.

    Returns:
      The capture, in FLAME's frame.

    Raises:
      DataFormatError: the capture breaks the layout.

    Source: INSTA.
    """
    del options
    entries, found = _read_entries(tree)
    capture = assembly.make_capture(
        tree,
        entries,
        notes=cameras.describe(found),
        name_code=lambda length: [f"flame_exp_{index:02d}" for index in range(length)],
    )
    if any(name.startswith("seg_mask/") for name in tree.names):
        capture = _without_cloth(tree, capture)
    return capture


open_capture = assembly.opener(read_capture)


def _read_entries(
    tree: file_tree.FileTree,
) -> tuple[list[assembly.Entry], list[cameras.Camera]]:
    """Reads all splits; poses stay as written, because the tracker wrote them in OpenCV axes."""
    sides = json_files.split_files(tree, "transforms", needed="INSTA's transforms.json")
    entries: list[assembly.Entry] = []
    lenses_: list[cameras.Camera] = []
    for name, split in sides:
        content = json_files.read_object(tree, name)
        where = f"{tree.path}: {name}"
        for key in ("w", "h", "fl_x", "fl_y", "cx", "cy"):
            json_files.number(content, key, where=where)
        cameras.refuse_unknown(content, where=where)
        shared = {key: value for key, value in content.items() if key != "frames"}
        for frame in json_files.frames(content, where=where):
            file_path = json_files.text(frame, "file_path", where=where)
            place = f"{where}: {file_path}"
            cameras.refuse_unknown(frame, where=place)
            image = names.find_image(tree, file_path, where=where)
            values = cameras.merge(shared, frame)
            size_of = functools.partial(assembly.image_size, tree, image)
            camera = cameras.read(values, image_size=size_of, where=place)
            pose = cameras.undo_world(cameras.read_pose(frame, where=place), values, where=place)
            lenses_.append(camera)
            entries.append(
                assembly.Entry(
                    frame_id=image,
                    image=image,
                    matte=matte_files.named(tree, frame, where=place),
                    cam2world=pose,
                    intrinsics=camera.intrinsics,
                    size=camera.size,
                    lens=camera.lens,
                    expression=_read_code(tree, frame.get("exp_path"), where=place),
                    sequence=image.rpartition("/")[0],
                    split=split,
                )
            )
    entries.sort(key=lambda entry: json_files.by_number(entry.frame_id))
    return entries, lenses_


def _read_code(
    tree: file_tree.FileTree, name: object, *, where: str
) -> Float[np.ndarray, " e"] | None:
    """Reads a frame's code, where it was exported."""
    found = names.find(tree, name, where=where) if isinstance(name, str) and name else None
    if found is None:
        return None  # The converter names the files whether or not they were exported.
    name = found
    try:
        code = np.array(file_tree.read_small(tree, name).split(), np.float32)
    except ValueError as error:
        raise errors.DataFormatError(
            f"{where}: {name} must hold numbers only ({error!s:.200}). Export it again."
        ) from error
    if not len(code) or not np.isfinite(code).all():
        raise errors.DataFormatError(
            f"{where}: {name} must hold finite numbers. Export it again or remove the file."
        )
    return code


def _without_cloth(tree: file_tree.FileTree, capture: records.Capture) -> records.Capture:
    """Takes clothes out of the mattes of frames that have a segmentation."""
    known = {
        pathlib.PurePosixPath(name).stem: name
        for name in tree.names
        if name.startswith("seg_mask/") and pictures.is_picture(name)
    }
    frames = []
    for frame in capture.frames:
        mask = known.get(pathlib.PurePosixPath(frame.frame_id).stem)
        if mask is not None:
            read = functools.partial(_read_masked, tree, frame, mask)
            frame = dataclasses.replace(frame, read_pixels=read)
        frames.append(frame)
    return dataclasses.replace(capture, frames=tuple(frames))


def _read_masked(
    tree: file_tree.FileTree, frame: records.FrameReference, name: str
) -> tuple[np.ndarray, np.ndarray | None]:
    image, alpha = frame.read_pixels()
    classes = pictures.decode_matte(tree.read(name), where=f"{tree.path}: {name}")
    if alpha is None or classes.shape != alpha.shape:
        raise errors.DataFormatError(
            f"{tree.path}: {name} needs a transparent image of its size. Export both again, or "
            "remove seg_mask/."
        )
    return image, np.where(classes == _CLOTH, 0, alpha).astype(np.uint8)
