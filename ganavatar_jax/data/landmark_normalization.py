"""The alignment the paper rejects: every image is moved and scaled until its landmarks fit.

Each frame is cropped so that its landmarks lie where the mean head has them for an ideal camera of
the same direction, and is given that ideal camera: that of FFHQ crops, looking at the origin.
Expressions and detector noise then move the head from frame to frame while cameras claim that it
stands still. Kept for the ablation.

Source: GAN-Avatar (Kabadayi et al. 2024), section on data alignment; FFHQ's cropping in EG3D.
"""

import dataclasses

import numpy as np

from ganavatar_jax.core import errors
from ganavatar_jax.data import cropping, head_landmarks, records
from ganavatar_jax.geometry import ffhq_camera, triangulation


def normalize(
    capture: records.Capture, find_landmarks: head_landmarks.FindLandmarks
) -> records.Capture:
    """Crops every frame by its own landmarks and gives it an ideal camera.

    Args:
      capture: Frames in the head frame.
      find_landmarks: Face detector.

    Returns:
      Square frames with ideal cameras; frames without a readable face are left out.

    Raises:
      DataFormatError: no frame has a readable face.

    Source: least-squares scale and shift of the landmarks in the image.
    """
    head = head_landmarks.load_head_landmarks()
    frames = []
    for frame in capture.frames:
        points = find_landmarks(frame.read_pixels()[0])
        if points is not None:
            frames.append(_normalize_frame(frame, points[head.indices, :2], head.model.mean))
    if not frames:
        raise errors.DataFormatError(
            f"{capture.name}: no frame has a readable face. Set data.align.method=auto or none."
        )
    resolution = min(frame.size[0] for frame in frames)
    return dataclasses.replace(capture, frames=tuple(frames), resolution=resolution)


def _normalize_frame(
    frame: records.FrameReference, seen_px: np.ndarray, mean: np.ndarray
) -> records.FrameReference:
    """Crops a frame where its landmarks have the mean head's size and place in the ideal camera."""
    pose = frame.label25[:16].reshape(4, 4).astype(np.float64)
    pose[:3, 3] = -ffhq_camera.RADIUS * pose[:3, 2]
    focal = ffhq_camera.FOCAL
    intrinsics = np.array([[focal, 0.0, 0.5], [0.0, focal, 0.5], [0.0, 0.0, 1.0]])
    ideal = triangulation.project(mean, pose[None], intrinsics[None])[0][0]
    ideal_mean, seen_mean = ideal.mean(axis=0), seen_px.mean(axis=0)
    centred = ideal - ideal_mean
    side = float((centred * (seen_px - seen_mean)).sum() / (centred**2).sum())
    left, top = np.rint(seen_mean - side * ideal_mean).astype(int).tolist()
    width = max(round(side), 1)
    cropped = cropping.crop(frame, (left, top, left + width, top + width))
    label25 = np.concatenate([pose.reshape(-1), intrinsics.reshape(-1)]).astype(np.float32)
    return dataclasses.replace(cropped, label25=label25)
