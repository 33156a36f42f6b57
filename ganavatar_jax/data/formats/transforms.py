"""Reads captures with a NeRF-like transforms.json: OpenGL axes, a field of view.

    transforms.json          or transforms_train.json with transforms_test.json or _val.json
    images/r_0.png           any folder; RGBA or RGB; the extension may be missing in the file
    alpha/r_0.png            optional mattes, named as the images

"camera_angle_x" (radians), or "fl_x", "fl_y", "cx", "cy", "w", "h" in pixels; of the whole file or
of a frame. Lenses ("camera_model", "k1" to "k6", "p1", "p2", ...) and "applied_transform" are
undone; see `cameras`. Mattes that frames name ("mask_path") outweigh those found by their names.
The world is whatever the exporter chose; alignment carries it over.

Source: NeRF's Blender data set (Mildenhall et al. 2020); instant-ngp's and nerfstudio's
documentation.
"""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

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
    found = read_frames(tree)
    return assembly.make_capture(
        tree,
        [frame.entry for frame in found],
        one_size=len({frame.camera.size for frame in found}) == 1,
        notes=cameras.describe([frame.camera for frame in found]),
    )


open_capture = assembly.opener(read_capture)


class Frame(NamedTuple):
    """A frame, its camera, of which lenses are told, and all that its file says of it."""

    entry: assembly.Entry
    camera: cameras.Camera
    values: dict[str, Any]


def read_frames(tree: file_tree.FileTree) -> list[Frame]:
    """Reads the frames of all transforms files.

    Args:
      tree: Folder or zip.

    Returns:
      The frames, in the order of their names.

    Raises:
      DataFormatError: the capture breaks the layout.
    """
    sides = json_files.split_files(tree, "transforms", needed="transforms.json")
    found = [frame for name, split in sides for frame in _read_file(tree, name, split)]
    return sorted(found, key=lambda frame: json_files.by_number(frame.entry.frame_id))


def _read_file(
    tree: file_tree.FileTree, name: str, split: records.SplitName | None
) -> Iterator[Frame]:
    """Reads the frames of one transforms file; what a frame says outweighs what the file says."""
    content = json_files.read_object(tree, name)
    where = f"{tree.path}: {name}"
    cameras.refuse_unknown(content, where=where)
    shared = {key: value for key, value in content.items() if key != "frames"}
    sides = _read_sides(tree, content, where=where)
    for frame in json_files.frames(content, where=where):
        file_path = json_files.text(frame, "file_path", where=where)
        place = f"{where}: {file_path}"
        cameras.refuse_unknown(frame, where=place)
        image = names.find_image(tree, file_path, where=where)
        values = cameras.merge(shared, frame)
        camera = cameras.read(
            values, image_size=functools.partial(assembly.image_size, tree, image), where=place
        )
        pose = cameras.undo_world(cameras.read_pose(frame, where=place), values, where=place)
        matte = matte_files.named(tree, frame, where=place)
        side = sides[image] if image in sides else split
        entry = assembly.Entry(
            frame_id=image,
            image=image,
            matte=matte or matte_files.find(tree, image),
            cam2world=conventions.from_opengl(pose),
            intrinsics=camera.intrinsics,
            size=camera.size,
            lens=camera.lens,
            sequence=image.rpartition("/")[0],
            split=side,
        )
        yield Frame(entry, camera, values)


def _read_sides(
    tree: file_tree.FileTree, content: dict[str, Any], *, where: str
) -> dict[str, records.SplitName]:
    """Reads nerfstudio's lists of frames that train and that are held out."""
    sides: dict[str, records.SplitName] = {}
    lists: tuple[tuple[str, records.SplitName], ...] = (
        ("train_filenames", "train"),
        ("val_filenames", "test"),
        ("test_filenames", "test"),
    )
    for key, side in lists:
        listed = content.get(key) or []
        if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
            raise errors.DataFormatError(
                f'{where}: "{key}" must be a list of names. Correct it or leave it out.'
            )
        for name in listed:
            image = names.find_image(tree, name, where=f"{where}: {key}")
            if sides.setdefault(image, side) != side:
                raise errors.DataFormatError(
                    f"{where}: {name} trains and is held out. Remove it from one of the lists."
                )
    return sides
