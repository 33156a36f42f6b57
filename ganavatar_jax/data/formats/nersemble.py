"""Reads a person of NeRSemble's monocular benchmark: mp4 videos with FLAME tracking.

    calibration/camera_params.json             {"world_2_cam": {serial: 4x4}, "intrinsics": {...}}
    sequences/<name>/images/cam_<serial>.mp4   background removed
    sequences/<name>/alpha_maps/cam_<serial>.mp4
    sequences/<name>/tracking/flame2023_tracking.npz
                     expression [t 100], jaw [t 3], rotation_matrices [t 3 3], translation [t 3],
                     scale [1 1]

Cameras are world-to-camera with OpenCV axes; the tracking's pose of the head carries them into the
head's frame, in FLAME's units. A sequence without images (held out by the benchmark) is passed
over. Row i of the tracking belongs to frame i of the videos.

A participant's raw folder (version 2) has no tracking, its "intrinsics" are one 3x4 or 3x3 matrix,
and alpha_maps/ may be missing. Without tracking only one instant has one pose of the head: the
first frame of each camera of one sequence is read, in the calibration's world.

Source: NeRSemble benchmark toolkit, documentation of its assets.
"""

import functools
import io
import re
import zipfile
from collections.abc import Iterator

import numpy as np

from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import Float, UInt8
from ganavatar_jax.data import data_config, labels, records
from ganavatar_jax.data.formats import (
    assembly,
    conventions,
    file_tree,
    json_files,
    video_file,
)

_CALIBRATION = "calibration/camera_params.json"
_VIDEO = re.compile(r"sequences/([^/]+)/images/cam_([^/]+)\.mp4")
_TRACKING = "sequences/{}/tracking/flame2023_tracking.npz"
_EXPRESSION, _JAW = 100, 3


def read_capture(tree: file_tree.FileTree, options: data_config.ReaderConfig) -> records.Capture:
    """Reads one person's folder.

    Args:
      tree: Folder or zip with calibration/ and sequences/.
      options: `cameras` and `sequences` keep some of them.

    Returns:
      The capture, in FLAME's frame.

    Raises:
      DataFormatError: the capture breaks the layout.

    Source: NeRSemble benchmark.
    """
    if _CALIBRATION not in tree.names:
        raise errors.DataFormatError(
            f"{tree.path}: there is no {_CALIBRATION}. Set data.source to one person's folder."
        )
    calibration = json_files.read_object(tree, _CALIBRATION)
    found = [m.groups() for name in tree.names if (m := _VIDEO.fullmatch(name))]
    if not found:
        raise errors.DataFormatError(
            f"{tree.path}: there are no sequences/<name>/images/cam_<serial>.mp4. Download the "
            "images."
        )
    sequences = assembly.choose(
        tree, sorted({f[0] for f in found}), options.sequences, what="sequence"
    )
    serials = assembly.choose(tree, sorted({f[1] for f in found}), options.cameras, what="camera")
    tracked = [sequence for sequence in sequences if _TRACKING.format(sequence) in tree.known]
    if not tracked and not any("/tracking/" in name for name in tree.names):
        return _read_instant(tree, calibration, sequences, serials)
    pairs = set(found)
    frames = [
        frame
        for sequence in sequences
        for serial in serials
        if (sequence, serial) in pairs
        for frame in _read_video(tree, calibration, sequence, serial)
    ]
    names = [f"flame_exp_{index:02d}" for index in range(_EXPRESSION)]
    return records.Capture(
        name=str(tree.path),
        frames=tuple(frames),
        expression_names=(*names, "flame_jaw_x", "flame_jaw_y", "flame_jaw_z"),
        resolution=min(min(frame.size) for frame in frames),
        background="white",
        has_alpha=True,
        digest=tree.digest(),
    )


def _read_instant(
    tree: file_tree.FileTree, calibration: dict, sequences: list[str], serials: list[str]
) -> records.Capture:
    """Reads the first frame of all cameras: the head of another one may lie elsewhere."""
    if len(sequences) > 1:
        raise errors.DataFormatError(
            f"{tree.path}: without tracking/ only one sequence can be read, its first frame from "
            f"all cameras; it has {', '.join(sequences[:6])}. Name one in data.reader.sequences, "
            "or take one camera's film with data.format=video."
        )
    folder = f"sequences/{sequences[0]}"
    found = [s for s in serials if f"{folder}/images/cam_{s}.mp4" in tree.known]
    read = [_read_first(tree, calibration, sequences[0], serial) for serial in found]
    frames = tuple(frame for frame, _ in read)
    return records.Capture(
        name=str(tree.path),
        frames=frames,
        expression_names=(),
        resolution=min(min(frame.size) for frame in frames),
        background="scene",
        has_alpha=all(f"{folder}/alpha_maps/cam_{s}.mp4" in tree.known for s in found),
        digest=tree.digest(),
        notes=(
            f"{len(frames)} of {sum(count for _, count in read)} frames are used, the first of "
            "each camera: there is no tracking/ to tell how the head moves.",
        ),
    )


def _read_first(
    tree: file_tree.FileTree, calibration: dict, sequence: str, serial: str
) -> tuple[records.FrameReference, int]:
    """Reads one camera's first frame, and counts all of its frames."""
    name = f"sequences/{sequence}/images/cam_{serial}.mp4"
    world2cam, intrinsics_px = _read_camera(tree, calibration, serial)
    images = _open_video(tree, name)
    matte = name.replace("/images/", "/alpha_maps/")
    read = _read_image
    if matte in tree.known:
        read = functools.partial(_read_pixels, mattes=_open_video(tree, matte))
    intrinsics = conventions.normalize_intrinsics(
        intrinsics_px[[0, 1], [0, 1]], intrinsics_px[:2, 2], size=images.size, first_pixel_at=0.0
    )
    pose = conventions.from_world2cam(world2cam)
    frame_id = f"{sequence}/{serial}/00000"
    frame = records.FrameReference(
        label25=labels.check_label25(
            [*pose.ravel().tolist(), *intrinsics.ravel().tolist()],
            where=f"{tree.path}: {frame_id}",
        ),
        expression=None,
        frame_id=frame_id,
        sequence=sequence,
        split=None,
        size=images.size,
        read_pixels=functools.partial(read, images, index=0),
    )
    return frame, images.count


def _read_image(
    images: video_file.VideoFile, index: int
) -> tuple[UInt8[np.ndarray, "h w 3"], None]:
    return images.read(index), None


open_capture = assembly.opener(read_capture)


def _read_video(
    tree: file_tree.FileTree, calibration: dict, sequence: str, serial: str
) -> Iterator[records.FrameReference]:
    """Reads one camera's video; all that moves is the tracked head."""
    folder = f"sequences/{sequence}"
    world2cam, intrinsics_px = _read_camera(tree, calibration, serial)
    tracking = _read_tracking(tree, f"{folder}/tracking/flame2023_tracking.npz")
    images = _open_video(tree, f"{folder}/images/cam_{serial}.mp4")
    mattes = _open_video(tree, f"{folder}/alpha_maps/cam_{serial}.mp4")
    count = len(tracking["expression"])
    if not images.count == mattes.count == count or images.size != mattes.size:
        raise errors.DataFormatError(
            f"{tree.path}: {folder}: images ({images.count} frames), alpha_maps ({mattes.count}) "
            f"and tracking ({count}) must have equal length and size. Download the sequence again."
        )
    intrinsics = conventions.normalize_intrinsics(
        intrinsics_px[[0, 1], [0, 1]], intrinsics_px[:2, 2], size=images.size, first_pixel_at=0.0
    )
    scale = float(tracking["scale"].reshape(-1)[0])
    for index in range(count):
        head = np.eye(4)
        head[:3, :3] = tracking["rotation_matrices"][index]
        head[:3, 3] = tracking["translation"][index]
        cam2head = conventions.from_world2cam(world2cam @ head)
        # The tracking scales FLAME before it places it: distances in FLAME's units are 1 / scale.
        cam2head[:3, 3] /= scale
        frame_id = f"{sequence}/{serial}/{index:05d}"
        code = np.concatenate([tracking["expression"][index], tracking["jaw"][index]])
        yield records.FrameReference(
            label25=labels.check_label25(
                [*cam2head.ravel().tolist(), *intrinsics.ravel().tolist()],
                where=f"{tree.path}: {frame_id}",
            ),
            expression=code.astype(np.float32),
            frame_id=frame_id,
            sequence=sequence,
            split=None,
            size=images.size,
            read_pixels=functools.partial(_read_pixels, images, mattes, index),
        )


def _read_camera(
    tree: file_tree.FileTree, calibration: dict, serial: str
) -> tuple[Float[np.ndarray, "4 4"], Float[np.ndarray, "3 3"]]:
    where = f"{tree.path}: {_CALIBRATION}"
    poses, intrinsics = calibration.get("world_2_cam"), calibration.get("intrinsics")
    if isinstance(intrinsics, list):  # One matrix for all cameras.
        intrinsics = {serial: intrinsics}
    if not isinstance(poses, dict) or not isinstance(intrinsics, dict):
        raise errors.DataFormatError(
            f'{where}: expected objects "world_2_cam" and "intrinsics". Download the file again.'
        )
    return (
        json_files.array(poses, serial, (4, 4), where=where),
        json_files.array(intrinsics, serial, (3, 3), where=where),
    )


def _read_tracking(tree: file_tree.FileTree, name: str) -> dict[str, np.ndarray]:
    """Reads the FLAME tracking and checks that every array has one row a frame."""
    where = f"{tree.path}: {name}"
    if name not in tree.known:
        raise errors.DataFormatError(f"{where} is not there. Download the FLAME tracking.")
    try:
        with np.load(io.BytesIO(tree.read(name)), allow_pickle=False) as arrays:
            read = {
                key: arrays[key].astype(np.float64)
                for key in ("expression", "jaw", "rotation_matrices", "translation", "scale")
            }
    except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise errors.DataFormatError(
            f"{where}: expected an NPZ with expression, jaw, rotation_matrices, translation and "
            f"scale ({error}). Download it again."
        ) from error
    count = len(read["expression"])
    shapes: dict[str, tuple[int, ...]] = {
        "expression": (count, _EXPRESSION),
        "jaw": (count, _JAW),
        "translation": (count, 3),
        "rotation_matrices": (count, 3, 3),
    }
    for key, shape in shapes.items():
        if read[key].shape != shape or not np.isfinite(read[key]).all():
            raise errors.DataFormatError(
                f"{where}: {key} must hold finite numbers of shape {shape}; got "
                f"{read[key].shape}. Download it again."
            )
    if read["scale"].size < 1 or not read["scale"].reshape(-1)[0] > 0:
        raise errors.DataFormatError(f"{where}: scale must be positive. Download it again.")
    return read


def _open_video(tree: file_tree.FileTree, name: str) -> video_file.VideoFile:
    where = f"{tree.path}: {name}"
    if name not in tree.known:
        raise errors.DataFormatError(f"{where} is not there. Download the sequence again.")
    return video_file.VideoFile(tree.read(name), where=where)


def _read_pixels(
    images: video_file.VideoFile, mattes: video_file.VideoFile, index: int
) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"]]:
    return images.read(index), np.ascontiguousarray(mattes.read(index)[..., 0])
