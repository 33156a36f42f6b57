"""Reads captures in the layout of I M Avatar (and of PointAvatar, which took it over).

    flame_params.json        here, or in one folder a recording: MVI_1810/flame_params.json
    image/1.png              "file_path" is "image/1", relative to flame_params.json
    mask/1.png               mattes, optional

"world_mat" is world-to-camera, 3x4; the camera looks along -z and pixels follow u = cx + fx X / Z,
so that a real camera has a negative fx. "intrinsics" is [fx, fy, cx, cy] divided by the image size,
or in pixels of a 512 image (cy > 1). The first pixel's centre is 0. "expression" holds FLAME
coefficients and "pose" 15 angles, of which the jaw's three follow the code. The head is at the
origin, FLAME scaled by 4; alignment carries it over.

Source: I M Avatar (Zheng et al. 2022), description of its datasets.
"""

from collections.abc import Iterator

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

_FILE = "flame_params.json"
_OLD_SIDE = 512.0  # Image side that intrinsics in pixels refer to.
_UNDERSTOOD = frozenset({"intrinsics", "world_mat", "pose", "file_path"})
_POSE = 15  # Root, neck, jaw and both eyes, three angles each.
_JAW = slice(6, 9)
# The camera looks along -z: turning that axis gives one that looks along +z, left-handed.
_LOOK_FORWARD = np.diag([1.0, 1.0, -1.0, 1.0])


def read_capture(tree: file_tree.FileTree, options: data_config.ReaderConfig) -> records.Capture:
    """Reads a capture in I M Avatar's layout.

    Args:
      tree: Folder or zip; recordings in subfolders become sequences.
      options: `sequences` keeps some of them.

    Returns:
      The capture, in FLAME's frame.

    Raises:
      DataFormatError: the capture breaks the layout.

    Source: I M Avatar.
    """
    folders = [n.removesuffix(_FILE) for n in tree.names if f"/{n}".endswith(f"/{_FILE}")]
    if not folders:
        raise errors.DataFormatError(
            f"{tree.path}: there is no {_FILE}, neither at its root nor in a folder. Check "
            "data.format."
        )
    chosen = assembly.choose(
        tree, [f.strip("/") for f in folders], options.sequences, what="recording"
    )
    entries = [entry for folder in chosen for entry in _read_recording(tree, folder)]
    return assembly.make_capture(tree, assembly.one_handedness(tree, entries), name_code=_name_code)


open_capture = assembly.opener(read_capture)


def _name_code(length: int) -> list[str]:
    names = [f"flame_exp_{index:02d}" for index in range(length - 3)]
    return [*names, "flame_jaw_x", "flame_jaw_y", "flame_jaw_z"]


def _read_recording(tree: file_tree.FileTree, folder: str) -> Iterator[assembly.Entry]:
    """Reads one recording; negative focal lengths become half a turn of the camera."""
    prefix = f"{folder}/" if folder else ""
    content = json_files.read_object(tree, f"{prefix}{_FILE}")
    where = f"{tree.path}: {prefix}{_FILE}"
    cameras.refuse_unknown(content, understood=_UNDERSTOOD, where=where)
    values = json_files.array(content, "intrinsics", (4,), where=where)
    if values[3] > 1.0:
        values = values / _OLD_SIDE
    frames = json_files.frames(content, where=where)
    for frame in frames:
        file_path = json_files.text(frame, "file_path", where=where)
        place = f"{where}: {file_path}"
        cameras.refuse_unknown(frame, understood=_UNDERSTOOD, where=place)
        image = names.find_image(tree, file_path, base=folder, where=where)
        size = assembly.image_size(tree, image)
        world_mat = json_files.array(frame, "world_mat", (3, 4), where=place)
        pose = conventions.from_world2cam(world_mat) @ _LOOK_FORWARD
        cam2world, focal = conventions.fold_focal_signs(pose, -values[:2] * size)
        code = json_files.array(frame, "expression", (-1,), where=place)
        jaw = json_files.array(frame, "pose", (_POSE,), where=place)[_JAW]
        yield assembly.Entry(
            frame_id=image,
            image=image,
            matte=matte_files.named(tree, frame, base=folder, where=place)
            or matte_files.find(tree, image),
            cam2world=cam2world,
            intrinsics=_intrinsics(focal, values[2:] * size, size),
            expression=np.concatenate([code, jaw]).astype(np.float32),
            sequence=folder,
        )


def _intrinsics(
    focal_px: Float[np.ndarray, "2"], center_px: Float[np.ndarray, "2"], size: tuple[int, int]
) -> Float[np.ndarray, "3 3"]:
    return conventions.normalize_intrinsics(focal_px, center_px, size=size, first_pixel_at=0.0)
