"""What a film gave, kept as clip.json in the capture's folder for the report and the terminal."""

import dataclasses
import json
import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from ganavatar_jax.core import files
from ganavatar_jax.core.arrays import Bool, Float, UInt8
from ganavatar_jax.data import data_config
from ganavatar_jax.data.formats import video_file
from ganavatar_jax.faces import estimator_config, mesh_outline
from ganavatar_jax.films import clip_findings, face_model, video_cameras, video_landmarks
from ganavatar_jax.geometry import head_angles

FILE = "clip.json"

_RIGHT_EYE, _LEFT_EYE, _UPPER_LIP, _LOWER_LIP, _FOREHEAD, _CHIN = 33, 263, 13, 14, 10, 152
_HAIR = 0.3  # From the top of the forehead to the top of the hair, in lengths of the face.
_OUTSIDE = 0.05  # Share of the landmarks outside of the picture.
_SHARP = 0.34  # Real and rendered films have 0.41 and more, blurred by two pixels 0.32 and less.
_LOOKED = 16


def write(
    video: video_file.VideoFile,
    config: data_config.DataConfig,
    estimator: estimator_config.EstimatorConfig,
    tracks: video_landmarks.Tracks,
    solved: video_cameras.Solved,
    *,
    folder: pathlib.Path,
    faceless: int,
) -> None:
    """Judges a film whose crops are written, and keeps what was found.

    Args:
      video: The film.
      config: Size of the training images, and how much of the head they show.
      estimator: Where the landmarker's model file is; it holds the canonical face.
      tracks: Landmarks.
      solved: Cameras.
      folder: The capture; the result goes to `FILE` in it.
      faceless: Number of frames in which no face was found.

    Raises:
      EstimatorError: the model file is missing.
      RunError: the folder cannot be written.
    """
    kept = solved.kept
    poses, landmarks = solved.cam2world[kept], tracks.landmarks[kept].astype(np.float64)
    depth = -np.einsum("fi,fi->f", poses[:, :3, 2], poses[:, :3, 3])
    unit_px = solved.focal_px / depth
    side_px = float(np.median(config.crop_extent * unit_px))
    clip = clip_findings.Clip(
        frame=tracks.frame[kept],
        time_s=tracks.time_s[kept],
        cam2world=poses,
        sigma_deg=solved.sigma_deg[kept],
        refined=solved.refined[kept],
        second_deg=solved.second_deg[kept],
        residual=solved.residual_px[kept] / unit_px,
        mouth_gap=_mouth_gap(landmarks),
        cut=find_cut(landmarks, video.size),
        looked=len(tracks.frame) + faceless,
        faceless=faceless,
        crop_side=side_px / config.resolution,
        blurred=find_blur(_some_crops(folder)),
    )
    lines, middle = _outline(estimator)
    content = dataclasses.asdict(clip_findings.judge(clip)) | {
        "outline": lines,
        "between_eyes": middle,
        "frames": _table(clip),
    }
    files.write_atomic(folder / FILE, json.dumps(content))


def find_cut(
    landmarks_px: Float[np.ndarray, "f 478 3"], size_px: tuple[int, int]
) -> Bool[np.ndarray, " f"]:
    """Finds frames in which the head leaves the picture.

    Args:
      landmarks_px: Landmarks, pixels.
      size_px: Width and height of the picture.

    Returns:
      Whether landmarks, or the hair above them, lie outside.
    """
    points = landmarks_px[..., :2]
    hair = points[:, _FOREHEAD] + _HAIR * (points[:, _FOREHEAD] - points[:, _CHIN])
    outside = ((points < 0) | (points > np.array(size_px))).any(axis=-1).mean(axis=1)
    gone = ((hair < 0) | (hair > np.array(size_px))).any(axis=-1)
    return (outside > _OUTSIDE) | gone


def _mouth_gap(landmarks: Float[np.ndarray, "f 478 3"]) -> Float[np.ndarray, " f"]:
    gap = np.linalg.norm(landmarks[:, _UPPER_LIP] - landmarks[:, _LOWER_LIP], axis=-1)
    eyes = np.linalg.norm(landmarks[:, _LEFT_EYE] - landmarks[:, _RIGHT_EYE], axis=-1)
    return gap / np.maximum(eyes, 1e-6)


def find_blur(images_u8: Sequence[UInt8[np.ndarray, "s s 3"]]) -> bool:
    """Tells whether crops of a head are blurred, as by a Gaussian of two pixels or more.

    Args:
      images_u8: Some crops, 0..255.

    Returns:
      Whether the steepest slopes, from pixel to pixel, are far less steep than those of the crops
      shrunk to a quarter: an edge that is sharp has nearly the same in both.
    """
    ratios = []
    for image in images_u8:
        picture = Image.fromarray(image).convert("L")
        fine, coarse = (_steepest(np.asarray(picture.reduce(n), np.float32)) for n in (1, 4))
        ratios.append(fine / max(coarse, 1e-6))
    return bool(np.median(ratios) < _SHARP)


def _steepest(grey: Float[np.ndarray, "h w"]) -> float:
    """Slope that one in a hundred pixels of the picture's middle exceeds."""
    height, width = grey.shape
    middle = grey[height // 5 : 4 * height // 5, width // 4 : 3 * width // 4]
    across, down = np.diff(middle, axis=1)[:-1], np.diff(middle, axis=0)[:, :-1]
    return float(np.percentile(np.hypot(across, down), 99.0))


def _some_crops(folder: pathlib.Path) -> list[UInt8[np.ndarray, "s s 3"]]:
    paths = sorted((folder / "images").rglob("*.jpg"))
    found = []
    for index in np.unique(np.linspace(0, len(paths) - 1, _LOOKED).astype(int)).tolist():
        with Image.open(paths[index]) as picture:
            found.append(np.asarray(picture.convert("RGB")))
    return found


def _outline(
    estimator: estimator_config.EstimatorConfig,
) -> tuple[list[list[list[float]]], list[float]]:
    """Lines of the canonical face, and the point between its eyes, in the head frame."""
    moved = face_model.load_canonical(estimator).round(4)
    lines = [moved[list(line)].tolist() for line in mesh_outline.LINES]
    return lines, moved[mesh_outline.BETWEEN_EYES].tolist()


def _table(clip: clip_findings.Clip) -> dict[str, list]:
    """Numbers of each frame, for the pictures; null stands for what is not known."""
    second = [round(v, 2) if np.isfinite(v) else None for v in clip.second_deg.tolist()]
    return {
        "frame": clip.frame.tolist(),
        "time_s": clip.time_s.round(3).tolist(),
        "angles_deg": head_angles.from_cameras(clip.cam2world).round(2).tolist(),
        "sigma_deg": np.nan_to_num(clip.sigma_deg).round(2).tolist(),
        "residual": clip.residual.round(5).tolist(),
        "refined": clip.refined.tolist(),
        "second_deg": second,
        "cut": clip.cut.tolist(),
    }
