"""Films that cannot become an avatar, known by pictures and landmarks: stills, drawings, ears.

A person who keeps still breathes, blinks and sways, and a lens adds noise; in a picture that is
shown again and again landmarks stay where they are but for what the codec changes. A drawing fills
a face with few colours, light on skin makes hundreds. Of a head seen from the side, the ear is
taken for a face now and then.
"""

from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageDraw

from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import Float, UInt8
from ganavatar_jax.data.formats import video_file
from ganavatar_jax.faces import mesh_outline
from ganavatar_jax.films import video_landmarks

_PRESENCE = 0.93  # Median: ears have 0.82, faces 0.99 and more.
_RIGHT_EYE, _LEFT_EYE = 33, 263  # outer corners
# Of the distance of the eyes: noisy stills move by 0.002, people who keep still by 0.03.
_STILL = 0.006
# The same but for moving a flat picture: photographs in a hand 0.008, two seconds of people 0.02.
_RIGID, _FEWEST_FRAMES = 0.012, 50
_STILL_PERCENTILE = 95.0
_FLAT = 0.4  # People and rendered people have up to 0.12, a drawn face 0.7.
_NEAR = 2  # Grey levels that count as one colour on either side.
_LOOKED, _LOOKED_AT = 8, 100  # Pictures, spread over so many frames: decoding all takes time.


def refuse(source: str, video: video_file.VideoFile, tracks: video_landmarks.Tracks) -> None:
    """Refuses stills, drawings and what is no face.

    Args:
      source: The film, for messages.
      video: Its pictures.
      tracks: Its landmarks.

    Raises:
      DataFormatError: one picture is repeated or moved, the face is drawn, or it is none.
    """
    sure = float(np.median(tracks.presence))
    if sure < _PRESENCE:
        raise errors.DataFormatError(
            f"{source}: a face is missing: what was taken for one in {len(tracks.frame)} frames "
            f"is hardly one (presence {sure:.2f} of 1); it may be an ear of a head seen from the "
            "side. Film a person's face from the front, large and lit."
        )
    count, moved = len(tracks.frame), motion_share(tracks.landmarks)
    if moved < _STILL:
        raise errors.DataFormatError(
            f"{source}: motion is missing: its {count} frames show one picture (the face moves by "
            f"{moved:.2%} of the distance of the eyes). Film a person who moves the head and "
            "speaks; a photograph is not enough."
        )
    changed = shape_share(tracks.landmarks) if count >= _FEWEST_FRAMES else 1.0
    if changed < _RIGID:
        raise errors.DataFormatError(
            f"{source}: expression is missing: its {count} frames show a photograph that is moved "
            f"(the face itself changes by {changed:.2%} of the distance of the eyes). Film a "
            "person who turns the head and speaks."
        )
    span = min(len(tracks.frame), _LOOKED_AT)
    chosen = np.unique(np.linspace(0, span - 1, _LOOKED).astype(int)).tolist()
    flat = _median(
        flat_share(video.read(int(tracks.frame[i])), tracks.landmarks[i]) for i in chosen
    )
    if flat > _FLAT:
        raise errors.DataFormatError(
            f"{source}: a real face is missing: one colour fills {flat:.0%} of it, as in drawings "
            "and cartoons. Film a person."
        )


def motion_share(landmarks_px: Float[np.ndarray, "f n d"]) -> float:
    """Measures how far a face strays from where it usually is, shifts and expressions included.

    Args:
      landmarks_px: Landmarks of all frames, pixels; x and y are used.

    Returns:
      Over the distance of the outer eye corners: the root mean square of the landmarks' distances
      from their medians over time, in the frame that 95 % of frames stay below.
    """
    points = landmarks_px[..., :2].astype(np.float64)
    usual = np.median(points, axis=0)
    unit = np.linalg.norm(usual[_LEFT_EYE] - usual[_RIGHT_EYE])
    strayed = np.sqrt(((points - usual) ** 2).sum(axis=-1).mean(axis=-1))
    return float(np.percentile(strayed, _STILL_PERCENTILE) / max(unit, 1e-6))


def shape_share(landmarks_px: Float[np.ndarray, "f n d"]) -> float:
    """Measures how far a face changes but for what moving a flat picture of it explains.

    Args:
      landmarks_px: Landmarks of all frames, pixels; x and y are used.

    Returns:
      As `motion_share`, after each frame is carried onto the median face by an affine map.
    """
    points = landmarks_px[..., :2].astype(np.float64)
    wide = np.concatenate([points, np.ones_like(points[..., :1])], axis=-1)
    squared = np.swapaxes(wide, 1, 2) @ wide
    target, carried = points[len(points) // 2], points
    for _ in range(2):  # First onto one frame, then onto the median of all.
        carried = wide @ np.linalg.solve(squared, np.swapaxes(wide, 1, 2) @ target)
        target = np.median(carried, axis=0)
    return motion_share(carried)


def flat_share(
    image_u8: UInt8[np.ndarray, "h w 3"], landmarks_px: Float[np.ndarray, "478 d"]
) -> float:
    """Measures how much of a face its most common colour fills.

    Args:
      image_u8: The picture, 0..255.
      landmarks_px: The face, pixels.

    Returns:
      Share of the face within two levels of its most common colour, burnt-out light left out.
    """
    height, width, _ = image_u8.shape
    picture = Image.new("1", (width, height))
    oval = landmarks_px[list(mesh_outline.OVAL), :2].astype(float)
    ImageDraw.Draw(picture).polygon([(x, y) for x, y in oval.tolist()], fill=1)
    inside = image_u8[np.asarray(picture)].astype(np.int64)
    if not len(inside):
        return 0.0
    size = 256
    codes = (inside[:, 0] * size + inside[:, 1]) * size + inside[:, 2]
    values, counts = np.unique(codes, return_counts=True)
    common = values[counts.argmax()]
    color = np.array([common // size**2, common // size % size, common % size])
    if color.min() >= 250 or color.max() <= 5:
        return 0.0
    return float((np.abs(inside - color).max(axis=1) <= _NEAR).mean())


def _median(values: Iterable[float]) -> float:
    return float(np.median(list(values)))
