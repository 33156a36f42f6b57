"""How far a capture made of a video lies from the truth, where that is known."""

import contextlib
import json
import pathlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from ganavatar_jax.core import errors, files
from ganavatar_jax.core.arrays import Float
from ganavatar_jax.data import records
from ganavatar_jax.data.formats import eg3d, video_file
from ganavatar_jax.faces import regions
from ganavatar_jax.geometry import head_angles, pose_errors, rotation_vectors

_YAW_DEG = 45.0  # Beyond, half of the face is hidden.


def check(video: video_file.VideoFile, truth: str) -> None:
    """Makes sure, before anything is made, that `compare` will find what it needs.

    Args:
      video: The recording.
      truth: A capture in EG3D's layout; its frame i is frame i of the video.

    Raises:
      DataFormatError: the truth is no such capture, or of another number of frames.
    """
    with _open(video, truth):
        pass


def compare(
    video: video_file.VideoFile, capture: pathlib.Path, truth: str, *, focal_px: float
) -> dict[str, float]:
    """Compares prepared cameras and mattes with true ones.

    Args:
      video: The recording.
      capture: The finished capture, frames named by their number in the video.
      truth: A capture in EG3D's layout; its frame i is frame i of the video.
      focal_px: Focal length of the capture's cameras, pixels of the video.

    Returns:
      Over the frames within 45 degrees of yaw: their number and share; the angle between cameras
      (median and 90 %) and the distance of their centres over the radius (median), up to one
      similarity for all; the median angle without it, as cameras are used; and, where the truth
      has mattes, the median of all frames' soft intersection over union.

    Raises:
      DataFormatError: the truth is no such capture, or of another number of frames.

    Source: geometry.pose_errors.
    """
    labels = json.loads((capture / "dataset.json").read_text("utf-8"))["labels"]
    numbers = [int(pathlib.PurePath(name).stem) for name, _ in labels]
    label25 = np.array([values for _, values in labels], np.float64)
    with _open(video, truth) as known:
        frames = [known.frames[number] for number in numbers]
        true25 = np.stack([frame.label25 for frame in frames]).astype(np.float64)
        facts = compare_poses(label25[:, :16].reshape(-1, 4, 4), true25[:, :16].reshape(-1, 4, 4))
        if known.has_alpha and (capture / "alpha").is_dir():
            overlaps = []
            for (name, _), camera, frame in zip(labels, label25[:, 16:], frames, strict=True):
                mine = _read_matte(capture / "alpha" / pathlib.PurePath(name).relative_to("images"))
                region = _find_region(video.size, camera.reshape(3, 3), focal_px)
                overlaps.append(_overlap(mine, frame, region, video.size))
            facts["truth_alpha_iou"] = round(float(np.median(overlaps)), 4)
    return facts


@contextlib.contextmanager
def _open(video: video_file.VideoFile, truth: str) -> Iterator[records.Capture]:
    with eg3d.open_capture(files.expand_user(truth)) as known:
        if len(known.frames) != video.count:
            raise errors.DataFormatError(
                f"{truth}: expected {video.count} frames, as many as the video has; got "
                f"{len(known.frames)}. Set data.video.truth to the capture that the video "
                "shows, or leave it empty."
            )
        yield known


def compare_poses(
    found: Float[np.ndarray, "f 4 4"], truth: Float[np.ndarray, "f 4 4"]
) -> dict[str, float]:
    """Compares cameras of the face alone: seen from further aside, a face is guessed.

    Args:
      found: Cameras in the head frame.
      truth: The same frames' true ones.

    Returns:
      Of the frames within 45 degrees of true yaw: their number and share, the errors up to one
      similarity for all frames, and the median angle without it; their number alone where there
      are less than three.

    Source: geometry.pose_errors.
    """
    yaw, _ = head_angles.view_angles(truth[:, :3, :3])
    front = np.abs(np.degrees(yaw)) <= _YAW_DEG
    if front.sum() < 3:
        return {"truth_frames": int(front.sum())}
    left = pose_errors.compare_poses(found[front], truth[front])
    radius = np.median(np.linalg.norm(truth[front, :3, 3], axis=1))
    absolute = rotation_vectors.angle_deg(found[front, :3, :3], truth[front, :3, :3])
    return {
        "truth_frames": int(front.sum()),
        "truth_share": round(float(front.mean()), 3),
        "truth_rotation_deg": round(float(np.median(left.rotation_deg)), 3),
        "truth_rotation_deg_p90": round(float(np.percentile(left.rotation_deg, 90)), 3),
        "truth_translation": round(float(np.median(left.shift) / radius), 5),
        "truth_absolute_deg": round(float(np.median(absolute)), 3),
    }


def _find_region(
    size_px: tuple[int, int], intrinsics: Float[np.ndarray, "3 3"], focal_px: float
) -> regions.Region:
    """Inverts `video_cameras.crop_region`."""
    side = focal_px / intrinsics[0, 0]
    center = np.array(size_px) / 2.0 + side * (0.5 - intrinsics[:2, 2])
    return regions.Region(float(center[0]), float(center[1]), float(side))


def _read_matte(path: pathlib.Path) -> np.ndarray:
    return np.asarray(Image.open(path.with_suffix(".png")))


def _overlap(
    mine: np.ndarray,
    frame: records.FrameReference,
    region: regions.Region,
    size_px: tuple[int, int],
) -> float:
    alpha = frame.read_pixels()[1]
    assert alpha is not None
    scale = frame.size[0] / size_px[0]
    place = regions.Region(
        region.center_x_px * scale, region.center_y_px * scale, region.side_px * scale
    )
    picture = np.repeat(alpha[..., None], 3, axis=2)
    true = regions.crop(picture, place, size_px=len(mine))[..., 0].astype(np.float64)
    return float(np.minimum(mine, true).sum() / max(np.maximum(mine, true).sum(), 1.0))
