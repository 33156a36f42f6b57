"""Reads COLMAP's sparse models, text or binary, with their images.

    sparse/0/cameras.bin     and images.bin; or cameras.txt and images.txt; also at the root
    images/000.png           names as in the model, relative to images/
    alpha/000.png            optional mattes; or masks/000.png.png as COLMAP names them

Poses are world-to-camera with OpenCV axes, and COLMAP puts the first pixel's centre at 0.5, as we
do. Scale and orientation are arbitrary; alignment carries the capture over. Of several models the
largest is used. Distortion is undone in the images. The files are few lines of fixed layout, so
that pycolmap (130 MB) is not needed to read them.

Source: COLMAP's documentation, "Output Format".
"""

import dataclasses
import io
import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

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
    matte_files,
    names,
    pictures,
)

_ONE, _TWO = ("f", "cx", "cy"), ("fx", "fy", "cx", "cy")
_OPENCV = ("k1", "k2", "p1", "p2")
# Name and parameters by the binary model's number.
_MODELS: dict[int, tuple[str, tuple[str, ...]]] = {
    0: ("SIMPLE_PINHOLE", _ONE),
    1: ("PINHOLE", _TWO),
    2: ("SIMPLE_RADIAL", (*_ONE, "k1")),
    3: ("RADIAL", (*_ONE, "k1", "k2")),
    4: ("OPENCV", (*_TWO, *_OPENCV)),
    5: ("OPENCV_FISHEYE", (*_TWO, "k1", "k2", "k3", "k4")),
    6: ("FULL_OPENCV", (*_TWO, *_OPENCV, "k3", "k4", "k5", "k6")),
    7: ("FOV", (*_TWO, "omega")),
    8: ("SIMPLE_RADIAL_FISHEYE", (*_ONE, "k1")),
    9: ("RADIAL_FISHEYE", (*_ONE, "k1", "k2")),
    10: ("THIN_PRISM_FISHEYE", (*_TWO, *_OPENCV, "k3", "k4", "s1", "s3")),
}
_PARAMETERS = dict(_MODELS.values())
# Folders that programs and people keep models in; others follow in the order of their names.
_USUAL = ("sparse/0", "sparse", "colmap/sparse/0", "")


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


class Model(NamedTuple):
    """A model: its folder, cameras by number, and images in the file's order."""

    folder: str
    cameras: dict[int, Camera]
    poses: list[Pose]


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
    model, others = choose_model(tree)
    bases = _image_folders(model.folder)
    entries = [_make_entry(tree, pose, model.cameras, bases) for pose in model.poses]
    entries.sort(key=lambda entry: json_files.by_number(entry.frame_id))
    one_size = len({camera.size for camera in model.cameras.values()}) == 1
    return assembly.make_capture(
        tree,
        entries,
        one_size=one_size,
        notes=[*_tell_models(model, others), *_tell_lenses(model)],
        unused="COLMAP did not register them in this model",
    )


open_capture = assembly.opener(read_capture)


def choose_model(tree: file_tree.FileTree) -> tuple[Model, list[Model]]:
    """Reads all models and chooses the one with the most images.

    Args:
      tree: The capture.

    Returns:
      model: The largest; among equals the one in the more usual place.
      others: The rest. Each has a world of its own, so that frames of two cannot be used together.

    Raises:
      DataFormatError: there is no model, or one is damaged.

    Source: COLMAP.
    """
    folders: dict[str, str] = {}
    for ending in ("txt", "bin"):  # The binary model, exact, outweighs the text.
        for name in tree.names:
            folder, _, file = name.rpartition("/")
            if file == f"cameras.{ending}" and _join(folder, f"images.{ending}") in tree.known:
                folders[folder] = ending
    if not folders:
        others = [n for n in tree.names if n.endswith(("cameras.bin", "cameras.txt"))]
        hint = f"Only {others[0]} is there." if others else "Check data.format."
        raise errors.DataFormatError(
            f"{tree.path}: there is no COLMAP model in sparse/0/ (cameras and images, .bin or "
            f".txt). {hint}"
        )
    order = [f for f in _USUAL if f in folders] + sorted(set(folders) - set(_USUAL))
    models = [_read_model(tree, folder, folders[folder]) for folder in order]
    largest = max(models, key=lambda model: len(model.poses))  # The first of equals.
    return largest, [model for model in models if model is not largest]


def _read_model(tree: file_tree.FileTree, folder: str, ending: str) -> Model:
    files = [_join(folder, f"{name}.{ending}") for name in ("cameras", "images")]
    read = _read_binary if ending == "bin" else _read_text
    try:
        cameras, poses = read(tree, files)
    except errors.DataFormatError as error:
        line = str(error)
        named = line if line.startswith(str(tree.path)) else f"{tree.path}: {line}"
        raise errors.DataFormatError(named) from error
    _check(tree, files, cameras, poses)
    return Model(folder, cameras, poses)


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _image_folders(folder: str) -> list[str]:
    """Where a model's images may lie, the likeliest first."""
    project = re.sub(r"(^|/)(colmap/)?sparse(/[^/]*)?$", "", folder) if folder else ""
    return list(dict.fromkeys([_join(project, "images"), "images", project, ""]))


def _tell_models(model: Model, others: list[Model]) -> list[str]:
    """Tells how many frames other models have that this one lacks."""
    used = {pose.name for pose in model.poses}
    lost = [
        f"{other.folder or 'the root'} has {len(other.poses)}"
        for other in others
        if not {pose.name for pose in other.poses} <= used
    ]
    if not lost:
        return []
    everything = used.union(*({pose.name for pose in other.poses} for other in others))
    return [
        f"COLMAP made {len(others) + 1} models; that of {model.folder or 'the root'} is used, "
        f"{len(used)} of {len(everything)} frames. {', '.join(lost)}: each model has a world of "
        "its own. Match more images, or run colmap model_merger, to use all."
    ]


def _tell_lenses(model: Model) -> list[str]:
    bent = {m.model for m in model.cameras.values() if not _lens(m).is_pinhole}
    return [
        f"its lens ({name}) is undone: images are resampled as a pinhole would have seen them."
        for name in sorted(bent)
    ]


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
        for line in _lines(tree, files[0]):
            number, model, width, height, *rest = line.split(maxsplit=17)
            cameras[int(number)] = _camera(model, int(width), int(height), list(map(float, rest)))
        for line in _lines(tree, files[1]):
            if _is_points(line):
                continue
            values = line.split(maxsplit=9)
            quaternion, translation = np.array(values[1:5], float), np.array(values[5:8], float)
            poses.append(Pose(values[9], int(values[8]), quaternion, translation))
    except (ValueError, IndexError) as error:
        raise errors.DataFormatError(
            f"{files[0]} or {files[1]} breaks COLMAP's text layout ({error!s:.200}). Export "
            "the model again."
        ) from error
    return cameras, poses


def _lines(tree: file_tree.FileTree, name: str) -> Iterator[str]:
    """Yields lines one at a time: points make a model's text far larger than its poses."""
    for line in io.TextIOWrapper(io.BytesIO(tree.read(name)), encoding="utf-8-sig"):
        if line.strip() and not line.lstrip().startswith("#"):
            yield line.strip()


def _is_points(line: str) -> bool:
    """Tells an image's second line (x, y, number of a point, over and over) from its first one.

    Some writers leave the second line out, others leave it empty: lines cannot be counted.
    """
    values = line.split(maxsplit=12)
    numbers = all(_is_number(value) for value in values[:12])
    return numbers and (len(values) > 12 or len(values) % 3 == 0)


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _read_binary(
    tree: file_tree.FileTree, files: list[str]
) -> tuple[dict[int, Camera], list[Pose]]:
    try:
        return _binary_cameras(tree.read(files[0])), _binary_images(tree.read(files[1]))
    except (struct.error, UnicodeDecodeError, ValueError) as error:
        raise errors.DataFormatError(
            f"{files[0]} or {files[1]} is cut off or damaged ({error!s:.200}). Export the "
            "model again."
        ) from error


def _binary_cameras(data: bytes) -> dict[int, Camera]:
    cameras, offset = {}, 8
    for _ in range(struct.unpack_from("<Q", data)[0]):
        number, model, width, height = struct.unpack_from("<iiQQ", data, offset)
        offset += 24
        name, parts = _MODELS.get(model, (f"number {model}", ()))
        length = len(parts)
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
    if model not in _PARAMETERS:
        raise errors.DataFormatError(
            f"COLMAP camera model {model} is not supported; it must be one of "
            f"{', '.join(_PARAMETERS)}. Run `colmap image_undistorter` first."
        )
    count = len(_PARAMETERS[model])
    if len(parameters) != count or not np.isfinite(parameters).all():
        raise ValueError(f"{model} needs {count} finite numbers; got {parameters[:12]}")
    if min(width, height) < 1:
        raise ValueError(f"{model} needs the size of its images; got {width}x{height}")
    return Camera(model, (width, height), tuple(parameters))


def _lens(camera: Camera) -> lenses.Lens:
    named = dict(zip(_PARAMETERS[camera.model], camera.parameters, strict=True))
    rest = {key: value for key, value in named.items() if key not in (*_ONE, *_TWO)}
    kind = "fisheye" if "FISHEYE" in camera.model else "fov" if rest.get("omega") else "radial"
    return lenses.Lens(**rest, kind=kind)


def _make_entry(
    tree: file_tree.FileTree, pose: Pose, cameras: dict[int, Camera], bases: list[str]
) -> assembly.Entry:
    """Turns COLMAP's quaternion, pixels and lens into the capture's terms."""
    camera = cameras[pose.camera]
    named = dict(zip(_PARAMETERS[camera.model], camera.parameters, strict=True))
    focal = [named.get("fx", named.get("f", 0.0)), named.get("fy", named.get("f", 0.0))]
    world2cam = np.eye(4)
    world2cam[:3, :3] = conventions.from_quaternion(pose.quaternion)
    world2cam[:3, 3] = pose.translation
    where = f"{tree.path}: the COLMAP model"
    found = (names.find(tree, pose.name, base=base, where=where) for base in bases)
    image = next((name for name in found if name and pictures.is_picture(name)), None)
    image = image or names.find_image(tree, pose.name, base=bases[0], where=where)
    return assembly.Entry(
        frame_id=image,
        image=image,
        matte=matte_files.find(tree, image),
        cam2world=conventions.from_world2cam(world2cam),
        intrinsics=conventions.normalize_intrinsics(
            np.array(focal), np.array([named["cx"], named["cy"]]), size=camera.size
        ),
        size=camera.size,
        lens=_lens(camera),
        sequence=image.rpartition("/")[0],
    )
