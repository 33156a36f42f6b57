"""Glasses drawn over the eyes of synthetic people, whose places in space are known."""

import typing

import numpy as np
from PIL import Image, ImageDraw

from ganavatar_jax.geometry import head_angles

SUPERSAMPLE = 4


class Style(typing.NamedTuple):
    """World units, and shares of the picture's side for the width of the frame."""

    rim: float = 0.042  # half the width of a lens
    height: float = 0.8  # of a lens over its width
    ahead: float = 0.028  # of the pupil
    drop: float = 0.0
    width: float = 0.014
    tint: int = 40
    color: tuple[int, int, int] = (25, 20, 20)


PLAIN = Style()


def draw_style(generator):
    """Chooses a style at random: thin wire to thick plastic, small to large, clear to tinted."""
    return Style(
        rim=generator.uniform(0.034, 0.056),
        height=generator.uniform(0.6, 1.0),
        ahead=generator.uniform(0.018, 0.036),
        drop=generator.uniform(-0.016, 0.004),
        width=generator.uniform(0.004, 0.016),
        tint=int(generator.uniform(0, 70)),
        color=tuple(int(v) for v in generator.uniform(0, 110, 3)),
    )


def draw_glasses(image, landmarks, label25, style=PLAIN):
    """Draws dark frames with a grey lens before each eye, and temples to the ears."""
    pose, intrinsics = label25[:16].reshape(4, 4), label25[16:].reshape(3, 3)
    scale = SUPERSAMPLE * len(image)

    def place(points):
        local = (np.atleast_2d(points) - pose[:3, 3]) @ pose[:3, :3]
        seen = local @ intrinsics.T
        return [tuple(p) for p in (scale * seen[:, :2] / seen[:, 2:]).tolist()]

    layer = Image.new("RGBA", (scale, scale), (0, 0, 0, 0))
    draw, width = ImageDraw.Draw(layer), max(1, round(style.width * scale))
    around = np.linspace(0.0, 2.0 * np.pi, 60)
    ring = np.stack([np.cos(around), style.height * np.sin(around), np.zeros(60)], axis=1)
    ring, color = style.rim * ring, (*style.color, 255)
    lenses = {}
    for side in ("left", "right"):
        lenses[side] = np.array(landmarks[f"pupil_{side}"]) + [0.0, style.drop, style.ahead]
        outline = place(lenses[side] + ring)
        draw.polygon(outline, fill=(60, 60, 70, style.tint))
        draw.line([*outline, outline[0]], fill=color, width=width, joint="curve")
    bridge = [lenses["left"] - [style.rim, 0.0, 0.0], lenses["right"] + [style.rim, 0.0, 0.0]]
    draw.line(place(bridge), fill=color, width=width)
    yaw = head_angles.from_cameras(pose[None])[0, 0]
    for side, sign in (("left", 1.0), ("right", -1.0)):
        if sign * yaw < 5.0:  # The temple on the side that is turned to the camera.
            hinge = lenses[side] + [sign * style.rim, 0.0, 0.0]
            draw.line(place([hinge, landmarks[f"ear_{side}"]]), fill=color, width=width)
    small = layer.resize(image.shape[1::-1], Image.Resampling.BOX)
    worn = Image.alpha_composite(Image.fromarray(image).convert("RGBA"), small)
    return np.asarray(worn)[..., :3]
