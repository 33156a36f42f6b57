"""Draws cameras, their coverage, and what they claim to see, with Pillow alone.

World axes are drawn red (x), green (y) and blue (z, out of the face).
"""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ganavatar_jax.core.arrays import Float, UInt8
from ganavatar_jax.geometry import triangulation

_PAPER, _INK, _GREY = (252, 252, 250), (40, 40, 44), (200, 200, 205)
_COLORS = ((38, 101, 184), (216, 110, 24), (60, 140, 70))  # train, test, others
_AXES = ((212, 48, 48), (44, 150, 60), (48, 84, 214))
_EDGES = tuple((a, b) for a in range(8) for b in range(a + 1, 8) if (a ^ b) in (1, 2, 4))
_FRUSTUM_DEPTH = 0.12  # Of the camera's distance.
_MOST_FRUSTUMS = 120
# Where the 3D plot is seen from: columns are the picture's right, up and towards the eye.
_VIEWS = {
    "from the front, right and above": ((0.8, 0.0, -0.6), (-0.25, 0.91, -0.33)),
    "from above (the face looks down)": ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0)),
}


def overlay(
    image: UInt8[np.ndarray, "h w 3"],
    label25: Float[np.ndarray, " 25"],
    *,
    box_side: float,
    landmarks: Float[np.ndarray, "n 3"],
    side_px: int = 320,
) -> UInt8[np.ndarray, "s s 3"]:
    """Draws the generator's cube, the head's axes and the mean head's landmarks on a frame.

    Args:
      image: The frame, square.
      label25: Its camera.
      box_side: Edge of the cube, world units.
      landmarks: Points of the mean head.
      side_px: Side of the picture.

    Returns:
      The frame, enlarged, with the drawing.

    Source: pinhole projection.
    """
    picture = Image.fromarray(image).resize((side_px, side_px), Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(picture)
    corners = box_side * (np.array([[i & 1, i >> 1 & 1, i >> 2] for i in range(8)]) - 0.5)
    axes = np.concatenate([np.zeros((1, 3)), 0.3 * box_side * np.eye(3)])
    pose = label25[:16].reshape(1, 4, 4).astype(np.float64)
    intrinsics = label25[16:].reshape(1, 3, 3)

    def place(points: np.ndarray) -> list[tuple[float, float]]:
        uv, _ = triangulation.project(points, pose, intrinsics)
        return [tuple(p) for p in np.clip(uv[0] * side_px, -1e4, 1e4).tolist()]

    at = place(corners)
    for a, b in _EDGES:
        draw.line([at[a], at[b]], fill=(150, 60, 190), width=1)
    at = place(axes)
    for tip, color in zip(at[1:], _AXES, strict=True):
        draw.line([at[0], tip], fill=color, width=3)
    # Points on the far side of the head are hidden: their direction from the origin shows it.
    toward = pose[0, :3, 3] / np.linalg.norm(pose[0, :3, 3])
    for x, y in place(landmarks[landmarks @ toward > 0]):
        draw.ellipse([x - 1.6, y - 1.6, x + 1.6, y + 1.6], fill=(20, 190, 90))
    return np.asarray(picture)


def captioned(
    image: UInt8[np.ndarray, "h w 3"], lines: Sequence[str], *, side_px: int = 160
) -> UInt8[np.ndarray, "t s 3"]:
    """Writes lines below an image.

    Args:
      image: The image, square.
      lines: What to write; what is too long for its line loses its beginning.
      side_px: Side of the image in the picture.

    Returns:
      The image with its caption.
    """
    font, step = ImageFont.load_default(size=11), 14
    picture = Image.new("RGB", (side_px, side_px + step * len(lines) + 4), _PAPER)
    small = Image.fromarray(image).resize((side_px, side_px), Image.Resampling.LANCZOS)
    picture.paste(small, (0, 0))
    draw = ImageDraw.Draw(picture)
    for row, line in enumerate(lines):
        while font.getlength(line) > side_px - 4:
            line = line[1:]
        draw.text((2, side_px + step * row), line, _INK, font)
    return np.asarray(picture)


def cameras_plot(
    labels: Mapping[str, Float[np.ndarray, "f 25"]], *, box_side: float, side_px: int = 520
) -> UInt8[np.ndarray, "h w 3"]:
    """Draws the cameras' frustums around the head, from the side and from above.

    Args:
      labels: Cameras by the name of their group.
      box_side: Edge of the generator's cube, world units.
      side_px: Side of each of the two views.

    Returns:
      Both views side by side.

    Source: parallel projection.
    """
    centers = np.concatenate([label[:, [3, 7, 11]] for label in labels.values()])
    reach = 1.15 * max(float(np.linalg.norm(centers, axis=1).max(initial=0.0)), box_side)
    panels = [
        _cameras_panel(labels, box_side, reach, np.array(rows), title, side_px)
        for title, rows in _VIEWS.items()
    ]
    return np.concatenate(panels, axis=1)


def _cameras_panel(
    labels: Mapping[str, np.ndarray],
    box_side: float,
    reach: float,
    rows: np.ndarray,
    title: str,
    side_px: int,
) -> np.ndarray:
    """Draws cube, axes and frustums from one side, flat: `rows` are the directions of the page."""
    picture = Image.new("RGB", (side_px, side_px), _PAPER)
    draw = ImageDraw.Draw(picture)

    def place(points: np.ndarray) -> list[tuple[float, float]]:
        flat = points @ rows.T / reach
        return [(side_px * (0.5 + 0.48 * x), side_px * (0.5 - 0.48 * y)) for x, y in flat.tolist()]

    corners = box_side * (np.array([[i & 1, i >> 1 & 1, i >> 2] for i in range(8)]) - 0.5)
    at = place(corners)
    for a, b in _EDGES:
        draw.line([at[a], at[b]], fill=(150, 60, 190))
    at = place(np.concatenate([np.zeros((1, 3)), box_side * np.eye(3)]))
    for tip, color in zip(at[1:], _AXES, strict=True):
        draw.line([at[0], tip], fill=color, width=2)
    for (name, label25), color in zip(labels.items(), _COLORS, strict=False):
        del name
        for label in label25[:: max(1, -(-len(label25) // _MOST_FRUSTUMS))]:
            at = place(_frustum(label))
            for corner in range(1, 5):
                draw.line([at[0], at[corner]], fill=color)
                draw.line([at[corner], at[corner % 4 + 1]], fill=color)
    font = ImageFont.load_default(size=13)
    draw.text((8, 6), f"cameras {title}", _INK, font)
    for row, (name, color) in enumerate(zip(labels, _COLORS, strict=False)):
        draw.text((8, 24 + 16 * row), name, color, font)
    return np.asarray(picture)


def _frustum(label25: np.ndarray) -> np.ndarray:
    pose = label25[:16].reshape(4, 4).astype(np.float64)
    inverse = np.linalg.inv(label25[16:].reshape(3, 3).astype(np.float64))
    depth = _FRUSTUM_DEPTH * np.linalg.norm(pose[:3, 3])
    image = np.array([[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]]) @ inverse.T * depth
    return np.concatenate([np.zeros((1, 3)), image]) @ pose[:3, :3].T + pose[:3, 3]


def coverage_plot(
    angles_deg: Mapping[str, Float[np.ndarray, "f 2"]], *, side_px: int = 520
) -> UInt8[np.ndarray, "h w 3"]:
    """Draws from which sides the head is seen: a dot a frame, yaw to the right and pitch upwards.

    Args:
      angles_deg: Yaw and pitch by the name of their group, degrees.
      side_px: Height of the picture; it is twice as wide.

    Returns:
      The plot: yaw -180..180, pitch -90..90 degrees.
    """
    width, margin = 2 * side_px, 34
    picture = Image.new("RGB", (width, side_px), _PAPER)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=12)

    def place(yaw: float, pitch: float) -> tuple[float, float]:
        x = margin + (width - 2 * margin) * (yaw + 180.0) / 360.0
        return x, margin + (side_px - 2 * margin) * (90.0 - pitch) / 180.0

    for yaw in range(-180, 181, 30):
        draw.line([place(yaw, -90), place(yaw, 90)], fill=_INK if yaw == 0 else _GREY)
        x, y = place(yaw, -90)
        draw.text((x, y + 8), f"{yaw}", _INK, font, anchor="ma")
    for pitch in range(-90, 91, 30):
        draw.line([place(-180, pitch), place(180, pitch)], fill=_INK if pitch == 0 else _GREY)
        draw.text((margin - 4, place(0, pitch)[1]), f"{pitch}", _INK, font, anchor="rm")
    for (name, angles), color in zip(angles_deg.items(), _COLORS, strict=False):
        del name
        for yaw, pitch in angles.tolist():
            x, y = place(yaw, pitch)
            draw.ellipse([x - 2, y - 2, x + 2, y + 2], fill=color)
    draw.text((margin, 8), "yaw and pitch of the cameras, degrees", _INK, font)
    for column, (name, color) in enumerate(zip(angles_deg, _COLORS, strict=False)):
        draw.text((margin + 260 + 90 * column, 8), name, color, font)
    return np.asarray(picture)
