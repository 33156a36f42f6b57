"""Busy rooms to put an actor with a known matte before, drawn anew from a seed each time."""

import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage

from ganavatar_jax.data.formats import eg3d

SKIN = ((224, 172, 140), (198, 134, 100), (141, 85, 60), (96, 62, 48))
HAIR = ((40, 28, 22), (75, 52, 36), (110, 80, 50), (22, 20, 20))
NOISE = 1.5  # Of the sensor, grey levels.


class Film(NamedTuple):
    """An actor before a background: pictures, and the truth.

    Attributes:
      pictures: What the camera sees, u8 [n h w 3].
      alpha: Coverage, u8 [n h w].
      on_white: The actor before white, u8 [n h w 3].
      shot: Number of the consecutive part that each frame belongs to.
    """

    pictures: np.ndarray
    alpha: np.ndarray
    on_white: np.ndarray
    shot: np.ndarray


def to_light(values: np.ndarray) -> np.ndarray:
    """Turns display values, 0..255, into light, 0..1."""
    v = values / 255.0
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def to_display(light: np.ndarray) -> np.ndarray:
    """Turns light into display values, 0..255."""
    v = np.clip(light, 0.0, 1.0)
    return 255.0 * np.where(v <= 0.0031308, v * 12.92, 1.055 * v ** (1 / 2.4) - 0.055)


def cloud(rng: np.random.Generator, side: int, *, slope: float) -> np.ndarray:
    """Coloured noise whose spectrum falls with the frequency; mean 0, spread about 1."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    frequency[0, 0] = 1.0
    waves = np.fft.rfft2(rng.normal(size=(3, side, side))) / frequency**slope
    noise = np.fft.irfft2(waves, s=(side, side))
    noise -= noise.mean(axis=(1, 2), keepdims=True)
    noise /= noise.std(axis=(1, 2), keepdims=True)
    return np.moveaxis(0.7 * noise[:1] + 0.5 * noise, 0, -1)


def draw_bokeh(rng: np.random.Generator, side: int) -> np.ndarray:
    """Lights out of focus before a dark wall."""
    light = to_light(np.clip(70 + 30 * cloud(rng, side, slope=1.5), 0, 255))
    y, x = np.mgrid[:side, :side] / side
    for _ in range(70):
        (cx, cy), r = rng.uniform(0, 1, 2), rng.uniform(0.015, 0.06)
        inside = np.clip((r - np.hypot(x - cx, y - cy)) * side / 1.5 + 0.5, 0, 1)
        light += inside[..., None] * to_light(rng.uniform(60, 255, 3)) * rng.uniform(0.2, 0.9)
    return to_display(light)


def draw_shelf(rng: np.random.Generator, side: int) -> np.ndarray:
    """Books, half of them of the colours of skin and hair."""
    picture = np.full((side, side, 3), 45.0)
    boards = np.linspace(0, side, 5).astype(int)
    palette = np.array([*SKIN, *HAIR], float)
    thick = max(2, side // 40)
    for top, bottom in zip(boards[:-1], boards[1:], strict=True):
        x = 0
        while x < side:
            width, tall = rng.uniform(0.015, 0.05), rng.uniform(0.65, 0.95)
            width, tall = max(2, int(width * side)), int((bottom - top) * tall)
            color = palette[rng.integers(len(palette))]
            if rng.random() < 0.5:
                color = rng.uniform(20, 235, 3)
            lit = np.interp(np.linspace(0, 1, width), [0, 0.15, 0.8, 1], [0.5, 1, 1, 0.6])
            spine = picture[bottom - tall : bottom - thick, x : x + width]
            spine[:] = (color * lit[:, None])[None, : spine.shape[1]]
            if rng.random() < 0.6:
                place = int(len(spine) * rng.uniform(0.1, 0.5))
                spine[place : place + max(2, tall // 12)] = rng.uniform(150, 250, 3)
            x += width + int((rng.random() < 0.15) * 0.02 * side)
        picture[bottom - thick : bottom] = (120, 90, 60)
    return picture + 6 * cloud(rng, side, slope=0.7)


def draw_curtain(rng: np.random.Generator, side: int) -> np.ndarray:
    """A curtain of the colour of skin, beside a cupboard of the colour of hair."""
    x, y = (np.linspace(0, 1, side) for _ in range(2))
    fold = 0.5 + 0.5 * np.sin(2 * np.pi * (9 * x + 0.35 * np.sin(8.0 * x + 1)))
    picture = np.tile(np.array(SKIN[0]) * (0.55 + 0.5 * fold[:, None]), (side, 1, 1))
    grain = cloud(rng, side, slope=1.0)
    dark = x > 0.62
    picture[:, dark] = np.array(HAIR[1]) + 14 * grain[:, dark]
    picture[(y > 0.3) & (y < 0.33)] = (235, 235, 230)
    return picture + 5 * grain


def draw_leaves(rng: np.random.Generator, side: int) -> np.ndarray:
    """Things of all sizes and colours before one another, as photographs are made of."""
    image = Image.new("RGB", (side, side))
    draw = ImageDraw.Draw(image)
    palette = [*SKIN, *HAIR]
    for radius in np.sort(rng.pareto(1.6, 2600))[::-1]:
        radius = min(0.006 * (1 + radius), 0.2) * side
        x, y = rng.uniform(0, side, 2)
        color = tuple(rng.integers(10, 245, 3).tolist())
        if rng.random() < 0.35:
            color = palette[rng.integers(len(palette))]
        angles = np.sort(rng.uniform(0, 2 * np.pi, 7))
        corners = [(x + radius * np.cos(a), y + radius * np.sin(a)) for a in angles]
        draw.polygon(corners, fill=color)
    soft = image.filter(ImageFilter.GaussianBlur(side / 500))
    return np.asarray(soft, np.float64) + 8 * cloud(rng, side, slope=1.0)


SCENES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "bokeh": draw_bokeh,
    "shelf": draw_shelf,
    "curtain": draw_curtain,
    "leaves": draw_leaves,
}


def draw(name: str, side: int, *, seed: int) -> np.ndarray:
    """Draws a background, display values 0..255, [side side 3]."""
    rng = np.random.default_rng((seed, sorted(SCENES).index(name)))
    return np.clip(SCENES[name](rng, side), 0.0, 255.0)


def read_actor(
    path: str | pathlib.Path, *, parts: Sequence[range]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reads parts of a capture: images, mattes, and the part of each frame."""
    images, alphas, shot = [], [], []
    with eg3d.open_capture(path) as capture:
        for number, part in enumerate(parts):
            for index in part:
                frame = capture.frames[index].load()
                images.append(frame.image)
                alphas.append(frame.alpha)
                shot.append(number)
    return np.stack(images), np.stack(alphas), np.array(shot)


def make_film(
    actor: tuple[np.ndarray, np.ndarray, np.ndarray], scene: str, *, side: int, seed: int
) -> Film:
    """Puts an actor before a background, in light, and lets a sensor look.

    The actor's images stand before white, mixed in light: their background's light is exchanged,
    which needs no division by the coverage.
    """
    background, rng = to_light(draw(scene, side, seed=seed)), np.random.default_rng(seed)
    images, alphas, shot = actor
    images, alphas = (_enlarge(planes, side) for planes in (images, alphas))
    pictures = np.empty_like(images)
    for index, (image, alpha) in enumerate(zip(images, alphas, strict=True)):
        uncovered = 1.0 - alpha[..., None] / 255.0
        light = to_light(image.astype(float)) + uncovered * (background - 1.0)
        seen = to_display(light) + rng.normal(0, NOISE, light.shape)
        pictures[index] = np.clip(np.rint(seen), 0, 255)
    return Film(pictures, alphas, images, shot)


def _enlarge(planes: np.ndarray, side: int) -> np.ndarray:
    if planes.shape[1] == side:
        return planes
    resized = [Image.fromarray(p).resize((side, side), Image.Resampling.BICUBIC) for p in planes]
    return np.stack([np.asarray(picture) for picture in resized])


def own_color(film: Film, index: int) -> np.ndarray:
    """The actor's own colours, display values, where the coverage is above 5 %."""
    alpha = np.maximum(film.alpha[index][..., None] / 255.0, 0.05)
    light = to_light(film.on_white[index].astype(float)) - (1.0 - alpha)
    return to_display(light / alpha)


def border(alpha: np.ndarray, *, share: float = 0.02) -> np.ndarray:
    """Marks a band around the outline of a matte, as wide on each side as a share of the image."""
    width = 2 * max(1, round(share * max(alpha.shape))) + 1
    return (ndimage.maximum_filter(alpha, width) > 0) & (ndimage.minimum_filter(alpha, width) < 255)
