"""Draws how a film's poses lie on its frames and how they go in time, with Pillow alone.

Everything is drawn twice as large and shrunk, so that thin lines are smooth.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ganavatar_jax.core.arrays import Bool, Float, UInt8
from ganavatar_jax.geometry import triangulation

_PAPER, _INK, _GREY, _FAINT = (252, 252, 250), (40, 40, 44), (150, 150, 156), (224, 224, 228)
_AXES = ((230, 40, 40), (30, 170, 60), (50, 90, 240))
_NEAR, _FAR, _SHADE = (255, 214, 0), (150, 128, 20), (20, 20, 20)
_WARNING, _REFINED = (224, 120, 0), (0, 150, 160)
_AXIS = 0.22  # Length of the head's axes, world units.
_MIDDLE = (0.0, -0.05, -0.02)  # Inside the head: what lies on its far side as seen is hidden.
_OVER = 2  # Times larger than shown.
_ANGLES = (
    ("yaw: + to the person's left", (200, 40, 40)),
    ("pitch: + chin raised", (30, 140, 50)),
    ("roll: + to the left shoulder", (50, 90, 220)),
)


def pose_overlay(
    image: UInt8[np.ndarray, "h w 3"],
    label25: Float[np.ndarray, " 25"],
    *,
    lines: Sequence[Float[np.ndarray, "k 3"]],
    origin: Float[np.ndarray, "3"],
    caption: Sequence[str],
    flagged: bool,
    side_px: int = 512,
) -> UInt8[np.ndarray, "t s 3"]:
    """Draws the mean face's outline and the head's axes on a frame, where its camera sees them.

    Args:
      image: The frame, square.
      label25: Its camera in the head frame.
      lines: The outline, world units; what lies on the head's far side is drawn dark.
      origin: Where the axes begin: red to the person's left, green up, blue out of the face.
      caption: Lines below the picture.
      flagged: Whether it gets a frame of warning.
      side_px: Side of the picture without the caption.

    Returns:
      The picture.

    Source: pinhole projection.
    """
    side, width = _OVER * side_px, max(2, _OVER * side_px // 170)
    picture = Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    pose, intrinsics = label25[:16].reshape(1, 4, 4), label25[16:].reshape(1, 3, 3)

    def place(points: np.ndarray) -> list[tuple[float, float]]:
        uv, _ = triangulation.project(points, pose, intrinsics)
        return [(x, y) for x, y in np.clip(uv[0] * side, -1e4, 1e4).tolist()]

    toward = pose[0, :3, 3] / np.linalg.norm(pose[0, :3, 3])
    for line in lines:
        at, near = place(line), (line - np.array(_MIDDLE)) @ toward > 0.0
        for color, extra in ((_SHADE, 2), (None, 0)):  # A dark edge shows on any skin.
            for a, b in zip(range(len(at) - 1), range(1, len(at)), strict=True):
                fill = color or (_NEAR if near[a] and near[b] else _FAR)
                draw.line([at[a], at[b]], fill=fill, width=width + extra)
    at = place(np.concatenate([origin[None], origin + _AXIS * np.eye(3)]))
    order = np.argsort(toward)  # The axis that points at the eye is drawn last.
    for axis in order.tolist():
        for color, extra in (((255, 255, 255), 5), (_AXES[axis], 0)):
            draw.line([at[0], at[axis + 1]], fill=color, width=(3 * width) // 2 + extra)
            _dot(draw, at[axis + 1], 1.5 * width + extra / 2, color)
    if flagged:
        draw.rectangle([0, 0, side - 1, side - 1], outline=_WARNING, width=4 * width)
    shown = picture.resize((side_px, side_px), Image.Resampling.LANCZOS)
    return _with_caption(np.asarray(shown), caption)


def _with_caption(image: np.ndarray, caption: Sequence[str]) -> np.ndarray:
    side = image.shape[0]
    font, step = ImageFont.load_default(size=max(11, side // 23)), max(14, side // 19)
    picture = Image.new("RGB", (side, side + step * len(caption) + 6), _PAPER)
    picture.paste(Image.fromarray(image), (0, 0))
    draw = ImageDraw.Draw(picture)
    for row, line in enumerate(caption):
        draw.text((4, side + 2 + step * row), line, _INK, font)
    return np.asarray(picture)


def _dot(
    draw: ImageDraw.ImageDraw, at: tuple[float, float], radius: float, fill: tuple[int, int, int]
) -> None:
    draw.ellipse([at[0] - radius, at[1] - radius, at[0] + radius, at[1] + radius], fill=fill)


def angles_plot(
    time_s: Float[np.ndarray, " f"],
    angles_deg: Float[np.ndarray, "f 3"],
    sigma_deg: Float[np.ndarray, "f 3"],
    *,
    flagged: Bool[np.ndarray, " f"],
    refined: Bool[np.ndarray, " f"],
    size_px: tuple[int, int] = (1040, 420),
) -> UInt8[np.ndarray, "h w 3"]:
    """Draws yaw, pitch and roll over time, with bands of two standard deviations.

    Args:
      time_s: Seconds.
      angles_deg: Yaw, pitch and roll of the head.
      sigma_deg: Their standard deviations.
      flagged: Frames that get a mark on the time axis.
      refined: Frames that get a mark at the top.
      size_px: Width and height of the picture.

    Returns:
      The plot.
    """
    low, high = (angles_deg - 2 * sigma_deg).min(), (angles_deg + 2 * sigma_deg).max()
    step = _tick(high - low, 8)
    # Uncertainties without bound must not hide the angles.
    low = max(np.floor(low / step) * step, -180.0)
    high = min(max(np.ceil(high / step) * step, low + step), 180.0)
    canvas = _Canvas(
        size_px, (float(time_s[0]), max(float(time_s[-1]), float(time_s[0]) + 1e-3)), (low, high)
    )
    canvas.grid(_tick(float(np.ptp(time_s)), 10), step, names=("seconds", "degrees"))
    for axis, (_, color) in enumerate(_ANGLES):
        middle, wide = angles_deg[:, axis], 2 * sigma_deg[:, axis]
        canvas.band(time_s, middle - wide, middle + wide, color)
    for axis, (name, color) in enumerate(_ANGLES):
        canvas.line(time_s, angles_deg[:, axis], color)
        canvas.legend(axis, name, color)
    for second in time_s[flagged].tolist():
        canvas.mark(second, _WARNING, top=False)
    for second in time_s[refined].tolist():
        canvas.mark(second, _REFINED, top=True)
    names = {"flagged": (flagged, _WARNING), "refined": (refined, _REFINED)}
    for place, (name, (marked, color)) in enumerate(names.items(), start=3):
        if marked.any():
            canvas.legend(place, name, color)
    return canvas.picture()


def spread_plot(
    angles_deg: Float[np.ndarray, "f 3"],
    *,
    flagged: Bool[np.ndarray, " f"],
    side_px: int = 420,
) -> UInt8[np.ndarray, "s s 3"]:
    """Draws the pitch of all frames against their yaw, both in the same scale.

    Args:
      angles_deg: Yaw, pitch and roll of the head.
      flagged: Frames that are drawn as warnings.
      side_px: Side of the picture.

    Returns:
      The plot.
    """
    reach = max(15.0, 1.1 * float(np.abs(angles_deg[:, :2]).max()))
    canvas = _Canvas((side_px, side_px), (-reach, reach), (-reach, reach))
    step = _tick(2 * reach, 8)
    canvas.grid(step, step, names=("yaw, + to the person's left", "pitch, + chin raised"))
    for (yaw, pitch, _), bad in zip(angles_deg.tolist(), flagged.tolist(), strict=True):
        canvas.dot(yaw, pitch, _WARNING if bad else _ANGLES[2][1])
    return canvas.picture()


def _tick(extent: float, most: int) -> float:
    """The smallest round step that cuts an extent into at most so many."""
    least = max(extent, 1e-3) / most
    power = 10.0 ** np.floor(np.log10(least))
    return float(next(power * n for n in (1.0, 2.0, 5.0, 10.0) if power * n >= least * (1 - 1e-9)))


class _Canvas:
    """A plot with axes, drawn twice as large."""

    def __init__(
        self, size_px: tuple[int, int], x: tuple[float, float], y: tuple[float, float]
    ) -> None:
        self._size, self._x, self._y = size_px, x, y
        self._picture = Image.new("RGB", (_OVER * size_px[0], _OVER * size_px[1]), _PAPER)
        self._draw = ImageDraw.Draw(self._picture, "RGBA")
        self._font = ImageFont.load_default(size=12 * _OVER)
        self._left, self._right, self._top, self._bottom = (_OVER * n for n in (44, 14, 30, 40))

    def place(self, x: float, y: float) -> tuple[float, float]:
        width, height = self._picture.size
        u = (x - self._x[0]) / (self._x[1] - self._x[0])
        v = np.clip((y - self._y[0]) / (self._y[1] - self._y[0]), 0.0, 1.0)
        return (
            self._left + u * (width - self._left - self._right),
            height - self._bottom - float(v) * (height - self._top - self._bottom),
        )

    def grid(self, x_step: float, y_step: float, *, names: tuple[str, str]) -> None:
        """Draws lines at round numbers, zero darker, with the axes' names."""
        for step, span, upright in ((x_step, self._x, True), (y_step, self._y, False)):
            first = int(np.ceil(span[0] / step - 1e-9))
            for n in range(first, int(np.floor(span[1] / step + 1e-9)) + 1):
                value = n * step
                ends = [(value, y) for y in self._y] if upright else [(x, value) for x in self._x]
                color = _GREY if n == 0 else _FAINT
                self._draw.line([self.place(*end) for end in ends], fill=color, width=_OVER)
                x, y = self.place(*ends[0])
                at, anchor = ((x, y + 6), "ma") if upright else ((x - 8, y), "rm")
                self._draw.text(at, f"{value:g}", _INK, self._font, anchor=anchor)
        width, height = self._picture.size
        self._draw.text((width / 2, height - 4), names[0], _INK, self._font, anchor="md")
        self._draw.text((6, 6), names[1], _INK, self._font)

    def band(self, x: np.ndarray, low: np.ndarray, high: np.ndarray, color: tuple) -> None:
        upper = [self.place(a, b) for a, b in zip(x.tolist(), high.tolist(), strict=True)]
        lower = [self.place(a, b) for a, b in zip(x.tolist(), low.tolist(), strict=True)]
        if len(upper) > 1:
            self._draw.polygon(upper + lower[::-1], fill=(*color, 50))

    def line(self, x: np.ndarray, y: np.ndarray, color: tuple) -> None:
        at = [self.place(a, b) for a, b in zip(x.tolist(), y.tolist(), strict=True)]
        self._draw.line(at, fill=color, width=2 * _OVER, joint="curve")

    def dot(self, x: float, y: float, color: tuple) -> None:
        (u, v), radius = self.place(x, y), 2.5 * _OVER
        self._draw.ellipse([u - radius, v - radius, u + radius, v + radius], fill=(*color, 150))

    def mark(self, x: float, color: tuple, *, top: bool) -> None:
        u, v = self.place(x, self._y[1] if top else self._y[0])
        self._draw.line([(u, v - 12), (u, v)], fill=color, width=2 * _OVER)

    def legend(self, place: int, name: str, color: tuple) -> None:
        x, y = self._left + _OVER * (40 + 195 * place), 6
        self._draw.rectangle([x, y + 6, x + 20, y + 22], fill=color)
        self._draw.text((x + 28, y), name, _INK, self._font)

    def picture(self) -> np.ndarray:
        return np.asarray(self._picture.resize(self._size, Image.Resampling.LANCZOS))
