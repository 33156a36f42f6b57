"""Reads COLMAP's sparse models, text or binary, with their images.

    sparse/0/cameras.bin     and images.bin; or cameras.txt and images.txt; also at the root
    images/000.png           names as in the model, relative to images/
    alpha/000.png            optional mattes; or masks/000.png.png as COLMAP names them

Poses are world-to-camera with OpenCV axes, and COLMAP puts the first pixel's centre at 0.5, as we
do. Scale and orientation are arbitrary; alignment carries the capture over. Models: SIMPLE_PINHOLE,
PINHOLE, SIMPLE_RADIAL, RADIAL, OPENCV; distortion is undone
in the images. The files are few lines of fixed layout, so that pycolmap (130 MB) is not needed to
read them.

Source: COLMAP's documentation, "Output Format".
"""

import dataclasses
import struct

import numpy as np

from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import Float
from ganavatar_jax.data import data_config, records
from ganavatar_jax.data.formats import assembly, conventions, file_tree, json_files, lenses

# Name and number of parameters by the binary model's number.
_MODELS = {
    0: ("SIMPLE_PINHOLE", 3),
    1: ("PINHOLE", 4),
    2: ("SIMPLE_RADIAL", 4),
    3: ("RADIAL", 5),
    4: ("OPENCV", 8),
}
_LENGTHS = dict(_MODELS.values())


@dataclasses.dataclass(frozen=True)
class Camera:
    """One calibrated camera of a model.

    Attributes:
      model: COLMAP's name.
      size: Width and height, pixels.
      parameters: As COLMAP orders them.
    """

    model: str
    size: tuple[int, int]
    parameters: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Pose:
    """One registered image of a model.

    Attributes:
      name: File name, relative to the images' folder.
      camera: Number of its camera.
      quaternion: World to camera, [w, x, y, z].
      translation: World to camera.
    """

    name: str
    camera: int
    quaternion: Float[np.ndarray, "4"]
    translation: Float[np.ndarray, "3"]


def read_capture(tree: file_tree.FileTree, options: data_config.ReaderConfig) -> records.Capture:
    """Reads a COLMAP project.

    Args:
      tree: Folder or zip with the model and the images.
      options: Not needed here.

    Returns:
      The capture, in COLMAP's world.

    Raises:
      DataFormatError: the capture breaks the layout, or a camera model is not supported.

    Source: COLMAP.
    """
    del options
    cameras, poses = read_model(tree)
    prefix = "images/" if any(name.startswith("images/") for name in tree.names) else ""
    entries = [_make_entry(tree, pose, cameras, prefix) for pose in poses]
    entries.sort(key=lambda entry: json_files.by_number(entry.frame_id))
    one_size = len({camera.size for camera in cameras.values()}) == 1
    return assembly.make_capture(tree, entries, one_size=one_size)


open_capture = assembly.opener(read_capture)


def read_model(tree: file_tree.FileTree) -> tuple[dict[int, Camera], list[Pose]]:
    """Finds the model's files and reads cameras and poses.

    Args:
      tree: The capture.

    Returns:
      cameras: By number.
      poses: In the file's order.

    Raises:
      DataFormatError: there is no model, several of them, or it is damaged.

    Source: COLMAP.
    """
    known = set(tree.names)
    for folder in ("sparse/0/", "sparse/", "colmap/sparse/0/", ""):
        for ending in ("bin", "txt"):
            files = [f"{folder}{name}.{ending}" for name in ("cameras", "images")]
            if files[0] in known and files[1] in known:
                cameras, poses = (
                    _read_binary(tree, files) if ending == "bin" else (_read_text(tree, files))
                )
                _check(tree, files, cameras, poses)
                return cameras, poses
    others = sorted(n for n in tree.names if n.endswith(("cameras.bin", "cameras.txt")))
    hint = f"It lies in {others[0]}: move it to sparse/0/." if others else "Check data.format."
    raise errors.DataFormatError(
        f"{tree.path}: there is no COLMAP model in sparse/0/ (cameras and images, .bin or .txt). "
        f"{hint}"
    )


def _check(
    tree: file_tree.FileTree, files: list[str], cameras: dict[int, Camera], poses: list[Pose]
) -> None:
    for pose in poses:
        if pose.camera not in cameras:
            raise errors.DataFormatError(
                f"{tree.path}: {files[1]}: {pose.name} uses camera {pose.camera}, which "
                f"{files[0]} lacks. Export both files of one model."
            )
        numbers = [*pose.quaternion, *pose.translation]
        if not np.isfinite(numbers).all() or not any(pose.quaternion):
            raise errors.DataFormatError(
                f"{tree.path}: {files[1]}: {pose.name} has no finite pose. Remove it from the "
                "model."
            )


def _read_text(tree: file_tree.FileTree, files: list[str]) -> tuple[dict[int, Camera], list[Pose]]:
    """Reads COLMAP's text model, points left out: cameras and poses are all we need."""
    cameras, poses = {}, []
    try:
        for line in _lines(tree, files[0], keep_empty=False):
            number, model, width, height, *rest = line.split()
            cameras[int(number)] = _camera(model, int(width), int(height), list(map(float, rest)))
        # Two lines an image; the second, of 2D points, may be empty.
        for line in _lines(tree, files[1], keep_empty=True)[::2]:
            values = line.split(maxsplit=9)
            quaternion, translation = np.array(values[1:5], float), np.array(values[5:8], float)
            poses.append(Pose(values[9], int(values[8]), quaternion, translation))
    except (ValueError, IndexError) as error:
        raise errors.DataFormatError(
            f"{tree.path}: {files[0]} or {files[1]} breaks COLMAP's text layout ({error}). Export "
            "the model again."
        ) from error
    return cameras, poses


def _lines(tree: file_tree.FileTree, name: str, *, keep_empty: bool) -> list[str]:
    lines = [line.rstrip("\r") for line in tree.read(name).decode("utf-8").split("\n")]
    lines = [line for line in lines if not line.startswith("#")]
    if not keep_empty:
        return [line for line in lines if line.strip()]
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def _read_binary(
    tree: file_tree.FileTree, files: list[str]
) -> tuple[dict[int, Camera], list[Pose]]:
    try:
        return _binary_cameras(tree.read(files[0])), _binary_images(tree.read(files[1]))
    except (struct.error, UnicodeDecodeError, ValueError) as error:
        raise errors.DataFormatError(
            f"{tree.path}: {files[0]} or {files[1]} is cut off or damaged ({error}). Export the "
            "model again."
        ) from error


def _binary_cameras(data: bytes) -> dict[int, Camera]:
    cameras, offset = {}, 8
    for _ in range(struct.unpack_from("<Q", data)[0]):
        number, model, width, height = struct.unpack_from("<iiQQ", data, offset)
        offset += 24
        name, length = _MODELS.get(model, (f"number {model}", 0))
        parameters = struct.unpack_from(f"<{length}d", data, offset)
        cameras[number] = _camera(name, width, height, list(parameters))
        offset += 8 * length
    return cameras


def _binary_images(data: bytes) -> list[Pose]:
    poses, offset = [], 8
    for _ in range(struct.unpack_from("<Q", data)[0]):
        values = struct.unpack_from("<i7di", data, offset)
        end = data.index(b"\0", offset + 64)
        name = data[offset + 64 : end].decode("utf-8")
        (points,) = struct.unpack_from("<Q", data, end + 1)
        poses.append(Pose(name, values[8], np.array(values[1:5]), np.array(values[5:8])))
        offset = end + 9 + 24 * points
    return poses


def _camera(model: str, width: int, height: int, parameters: list[float]) -> Camera:
    if model not in _LENGTHS:
        raise errors.DataFormatError(
            f"COLMAP camera model {model} is not supported; it must be one of "
            f"{', '.join(_LENGTHS)}. Run `colmap image_undistorter` first."
        )
    if len(parameters) != _LENGTHS[model] or not np.isfinite(parameters).all():
        raise ValueError(f"{model} needs {_LENGTHS[model]} finite numbers; got {parameters}")
    return Camera(model, (width, height), tuple(parameters))


def _make_entry(
    tree: file_tree.FileTree, pose: Pose, cameras: dict[int, Camera], prefix: str
) -> assembly.Entry:
    """Turns COLMAP's quaternion, pixels and lens into the capture's terms."""
    camera = cameras[pose.camera]
    one_focal = camera.model.startswith("SIMPLE") or camera.model == "RADIAL"
    fx, *rest = camera.parameters
    fy, cx, cy, *coefficients = [fx, *rest] if one_focal else rest
    world2cam = np.eye(4)
    world2cam[:3, :3] = conventions.from_quaternion(pose.quaternion)
    world2cam[:3, 3] = pose.translation
    where = f"{tree.path}: the COLMAP model"
    image = assembly.find_image(tree, f"{prefix}{pose.name}", where=where)
    return assembly.Entry(
        frame_id=image,
        image=image,
        matte=assembly.find_matte(tree, image),
        cam2world=conventions.from_world2cam(world2cam),
        intrinsics=conventions.normalize_intrinsics(
            np.array([fx, fy]), np.array([cx, cy]), size=camera.size
        ),
        size=camera.size,
        lens=lenses.Lens(*coefficients),
        sequence=image.rpartition("/")[0],
    )
