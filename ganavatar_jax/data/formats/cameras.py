"""The one parser of cameras in transforms-like files (NeRF, instant-ngp, nerfstudio, INSTA, VHAP).

A file speaks of all frames, a frame of itself and outweighs the file. Every key is used, undone,
known to say nothing about the projection, or refused by name: a key that looks like a camera's and
is in none of the lists below is never passed over. The table in README.md says the same.
"""

import functools
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import Float
from ganavatar_jax.data.formats import conventions, json_files, lenses

_FOCAL, _ANGLES = ("fl_x", "fl_y"), ("camera_angle_x", "camera_angle_y", "x_fov", "y_fov")
_RADIAL = ("k1", "k2", "k3", "p1", "p2")
_COEFFICIENTS = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2", "sx1", "sy1")
# Which coefficients a model has; others must be 0.
_MODELS: dict[str, tuple[str, ...]] = {
    "PINHOLE": (),
    "SIMPLE_PINHOLE": (),
    "PERSPECTIVE": _RADIAL,
    "SIMPLE_RADIAL": ("k1",),
    "RADIAL": ("k1", "k2"),
    "OPENCV": _RADIAL,
    "FULL_OPENCV": (*_RADIAL, "k4", "k5", "k6"),
    "SIMPLE_RADIAL_FISHEYE": ("k1",),
    "RADIAL_FISHEYE": ("k1", "k2"),
    "FISHEYE": ("k1", "k2", "k3", "k4"),
    "OPENCV_FISHEYE": ("k1", "k2", "k3", "k4"),
    "THIN_PRISM_FISHEYE": ("k1", "k2", "k3", "k4", "p1", "p2", "sx1", "sy1"),
}
USED = frozenset(
    {*_FOCAL, *_ANGLES, *_COEFFICIENTS, "cx", "cy", "w", "h", "camera_model", "is_fisheye"}
    | {"transform_matrix", "applied_transform", "applied_scale", "file_path"}
)
# Keys with a camera's words that change no projection: names, depth, and the exporters' own boxes.
_WITHOUT_MEANING = frozenset(
    {"scale", "offset", "aabb_scale", "aabb", "render_aabb", "integer_depth_scale", "depth_scale"}
    | {"depth_unit_scale_factor", "orientation_override", "auto_scale_poses_override"}
    | {"camera_id", "camera_index", "camera_indices", "camera_label", "camera_name", "cam_id"}
    | {"colmap_im_id", "camera_make", "camera_serial", "sensor_id", "rotation_path", "camera_type"}
    | {"camera_linear_velocity", "camera_angular_velocity", "exposure_scale", "pose_path"}
    | {"rotation"}  # Of NeRF's Blender data: how far the turntable went on.
)
_CAMERA_WORDS = re.compile(
    r"^(k|p|s|b|sx|sy|d|dist|xi|tau|fx|fy|fl|f|c|px|py|skew|shear|omega|alpha|beta)_?[xy]?\d*$"
    r"|lens|distort|undist|fisheye|ftheta|camera|^cam_|_cam$|focal|fl_[xyz]|intrinsic|extrinsic"
    r"|principal|skew|shutter|rotat|translat|(^|_)pose|transform|matrix|(^|_)fov|(^|_)angle"
    r"|projection|crop|resize|shift|c2w|w2c|cam2|2cam|aspect|(^|_)scale|mirror|flip|mitsuba|latlong"
    r"|equirect|ortho|stereo|quaternion|quat$|^q[wxyz]$|^t[xyz]$"
)


class Camera(NamedTuple):
    """What a file says of a frame's projection: normalised intrinsics, size in pixels, lens."""

    intrinsics: Float[np.ndarray, "3 3"]
    size: tuple[int, int]
    lens: lenses.Lens
    model: str


def refuse_unknown(
    values: Mapping[str, Any], *, understood: frozenset[str] = USED, where: str
) -> None:
    """Refuses keys that look like a camera's and that nothing here understands.

    Args:
      values: A file's object or a frame's.
      understood: Keys that the layout reads.
      where: File and frame, for messages.

    Raises:
      DataFormatError: there is such a key, and it says something (not null, false, 0 or empty).
    """
    for key, value in values.items():
        if key in understood or not _looks_like_a_camera(key) or _is_nothing(value):
            continue
        raise errors.DataFormatError(
            f'{where}: the camera\'s "{key}" ({value!r:.40}) is not understood, and may change '
            f"what it sees. Undistort the images (colmap image_undistorter) or export without it; "
            f"if it says nothing about the projection, remove it. Understood are "
            f"{', '.join(sorted(understood - {'file_path'}))}."
        )


def merge(content: Mapping[str, Any], frame: Mapping[str, Any]) -> dict[str, Any]:
    """Puts together what a file says of all frames and what a frame says of itself.

    Args:
      content: The file's object.
      frame: The frame's, which outweighs it: an angle of the frame a focal length of the file.

    Returns:
      Both in one.
    """
    shared = dict(content)
    if any(key in frame for key in (*_FOCAL, *_ANGLES)):
        kept = _FOCAL if any(key in frame for key in _FOCAL) else ()
        for key in (*_FOCAL, *_ANGLES):
            if key not in kept:
                shared.pop(key, None)
    return {**shared, **frame}


def read(
    values: Mapping[str, Any], *, image_size: Callable[[], tuple[int, int]], where: str
) -> Camera:
    """Reads a camera as any exporter writes it; missing parts have their defaults.

    Args:
      values: Keys of the file and the frame, `merge`d.
      image_size: Measures the image where the file does not say its size.
      where: File and frame, for messages.

    Returns:
      The camera; its lens is still to be undone.

    Raises:
      DataFormatError: a value is missing or impossible, or the model is not supported.

    Source: documentation of transforms.json of instant-ngp and nerfstudio.
    """
    values = {key: value for key, value in values.items() if value is not None}
    has_size = "w" in values and "h" in values
    size = json_files.image_size(dict(values), where=where) if has_size else image_size()
    focal = _read_focal(values, size, where=where)
    center = np.array(
        [
            json_files.number(dict(values), key, where=where) if key in values else 0.5 * side
            for key, side in zip(("cx", "cy"), size, strict=True)
        ]
    )
    if "cx" in values and "cy" in values and (center <= 1.0).all() and min(size) > 8:
        raise errors.DataFormatError(
            f'{where}: "cx" and "cy" must be pixels of an image of {size[0]}x{size[1]}; got '
            f"{center[0]:g} and {center[1]:g}. Multiply fractions by the image size."
        )
    lens, model = _read_lens(values, where=where)
    intrinsics = conventions.normalize_intrinsics(focal, center, size=size)
    return Camera(intrinsics, size, lens, model)


def read_pose(frame: Mapping[str, Any], *, where: str) -> Float[np.ndarray, "4 4"]:
    """Reads "transform_matrix", 4x4 or 3x4.

    Args:
      frame: The frame's object.
      where: File and frame, for messages.

    Returns:
      cam2world, with the exporter's axes.

    Raises:
      DataFormatError: it is missing or something else.
    """
    pose = json_files.array(dict(frame), "transform_matrix", (-1, 4), where=where)
    if len(pose) not in (3, 4):
        raise errors.DataFormatError(
            f'{where}: "transform_matrix" must have 3 or 4 rows of 4 numbers; got {len(pose)}. '
            "Export the capture again."
        )
    return conventions.homogeneous(pose)


def undo_world(
    cam2world: Float[np.ndarray, "4 4"], content: Mapping[str, Any], *, where: str
) -> Float[np.ndarray, "4 4"]:
    """Takes back what an exporter did to the world: `applied_scale`, then `applied_transform`.

    Args:
      cam2world: Pose as the file has it.
      content: The file's object.
      where: File name, for messages.

    Returns:
      The pose in the world the cameras were found in; the same where nothing was applied.

    Raises:
      DataFormatError: the scale is not positive, or the transform not rigid and right-handed.

    Source: nerfstudio's documentation of transforms.json.
    """
    result = cam2world
    if content.get("applied_scale") is not None:
        scale = json_files.number(dict(content), "applied_scale", where=where)
        if scale <= 0:
            raise errors.DataFormatError(
                f'{where}: "applied_scale" must be positive; got {scale:g}. Export it again.'
            )
        if scale != 1.0:
            result = result.copy()
            result[:3, 3] /= scale
    if content.get("applied_transform") is None:
        return result
    applied = json_files.array(dict(content), "applied_transform", (-1, 4), where=where)
    turn = applied[:3, :3]
    rigid = len(applied) in (3, 4) and np.abs(turn @ turn.T - np.eye(3)).max() < 1e-4
    if not rigid or np.linalg.det(turn) < 0 or (applied[3:] != [0, 0, 0, 1]).any():
        raise errors.DataFormatError(
            f'{where}: "applied_transform" must be a turn and a shift of the world, 3x4; it scales '
            "or mirrors it. Export the capture without it."
        )
    return conventions.from_world2cam(applied) @ result


def describe(cameras: list[Camera]) -> tuple[str, ...]:
    """Tells of lenses that will be undone.

    Args:
      cameras: Of all frames.

    Returns:
      One line for each model, none for pinholes.
    """
    models = sorted({camera.model for camera in cameras if not camera.lens.is_pinhole})
    return tuple(
        f"its lens ({model}) is undone: images are resampled as a pinhole would have seen them."
        for model in models
    )


def _read_focal(
    values: Mapping[str, Any], size: tuple[int, int], *, where: str
) -> Float[np.ndarray, "2"]:
    """Reads focal lengths in pixels; the one that is missing equals the other."""
    found: list[float | None] = []
    for length, angle, degrees, side in zip(_FOCAL, _ANGLES[:2], _ANGLES[2:], size, strict=True):
        if length in values:
            found.append(json_files.number(dict(values), length, where=where))
        elif angle in values or degrees in values:
            key, unit = (angle, 1.0) if angle in values else (degrees, math.pi / 180.0)
            opening = unit * json_files.number(dict(values), key, where=where)
            if not 0.0 < opening < math.pi:
                raise errors.DataFormatError(
                    f'{where}: "{key}" must lie between 0 and '
                    f"{'pi radians' if unit == 1.0 else '180 degrees'}; got {opening / unit:g}. "
                    f"{'Convert it from degrees.' if unit == 1.0 else 'Export it again.'}"
                )
            found.append(0.5 * side / math.tan(0.5 * opening))
        else:
            found.append(None)
    fl_x, fl_y = found
    if fl_x is None and fl_y is None:
        raise errors.DataFormatError(
            f'{where}: expected "fl_x" (pixels) or "camera_angle_x" (radians); got neither. Add '
            "one to the file or to each frame."
        )
    return np.array([fl_y if fl_x is None else fl_x, fl_x if fl_y is None else fl_y])


def _read_lens(values: Mapping[str, Any], *, where: str) -> tuple[lenses.Lens, str]:
    """Reads model and coefficients; one that the model lacks is refused unless it is 0."""
    named = values.get("camera_model")
    if named is not None and (not isinstance(named, str) or named.upper() not in _MODELS):
        raise errors.DataFormatError(
            f'{where}: "camera_model" {named!r:.40} is not supported; it must be one of '
            f"{', '.join(_MODELS)}. Undistort the images (colmap image_undistorter)."
        )
    fisheye = values.get("is_fisheye", False)
    if not isinstance(fisheye, bool):
        raise errors.DataFormatError(
            f'{where}: "is_fisheye" must be true or false; got {fisheye!r:.40}. Correct it.'
        )
    model = named.upper() if named else ("OPENCV_FISHEYE" if fisheye else "OPENCV")
    if fisheye and "FISHEYE" not in model:
        raise errors.DataFormatError(
            f'{where}: "is_fisheye" is true and "camera_model" is {model}. Remove the wrong one.'
        )
    read_ = {
        key: json_files.number(dict(values), key, where=where)
        for key in _COEFFICIENTS
        if key in values
    }
    for key, value in read_.items():
        if value and key not in _MODELS[model]:
            raise errors.DataFormatError(
                f'{where}: the camera has "{key}" ({value:g}), which its model {model} does not. '
                'Set "camera_model" to the model it was calibrated with (FULL_OPENCV has k1 to k6, '
                "OPENCV_FISHEYE k1 to k4), or undistort the images."
            )
    kept = {{"sx1": "s1", "sy1": "s3"}.get(key, key): value for key, value in read_.items()}
    kind = "fisheye" if "FISHEYE" in model else "radial"
    return lenses.Lens(**kept, kind=kind), model


@functools.lru_cache(maxsize=4096)
def _looks_like_a_camera(key: str) -> bool:
    low = key.lower()
    return low not in _WITHOUT_MEANING and _CAMERA_WORDS.search(low) is not None


def _is_nothing(value: Any) -> bool:
    """Whether a value says nothing: null, false, 0, empty, or zeros alone."""
    if isinstance(value, list):
        return all(_is_nothing(entry) if not isinstance(entry, list) else False for entry in value)
    return value is None or value is False or value == 0 or value in ("", {})
