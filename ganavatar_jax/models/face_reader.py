"""A linear reading of a head's face from any side: what the encoder knows of the expression.

Cameras are known and heads are aligned, so the image can be looked up at fixed points of a curved
patch in front of the head: a mouth then lies in the same place whatever the camera. A linear map
of these pixels, found in closed form, tells how the face moves. Fitted to the codes of rendered
people it carries over to anybody; without codes it takes the directions in which the pixels vary
most and the camera explains nothing. Nothing is tracked, and nothing in it is trained further.
"""

import itertools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ganavatar_jax.core import image_sequences, images, precision
from ganavatar_jax.core.arrays import Array, Float
from ganavatar_jax.geometry import cameras
from ganavatar_jax.ops import grid_sample

Reader = Mapping[str, Any]  # pixel_mean, pixel_spread, weight, centre, spread

SIDE = 24  # points of the patch along each direction
_RIDGE = (
    300.0  # for standardised pixels; the best of 300..10000 on held-out people (experiment E007)
)
_MIN_SPREAD = 0.1  # of a pixel, so that those that never change are not blown up
_MIN_CODE_SPREAD = 0.02
_MIN_RELATIVE_SPREAD = 0.02  # of a number read, to the largest
_SAME_CAMERA = 1e-6  # rounding of labels, which a regression would blow up
# What the camera explains of the standardised pixels is suppressed where it varies more than this.
# More would leave the camera in the latent, less would take expressions along (experiment E011).
_CAMERA_VARIANCE = 10.0
_CHUNK = 256
_CHUNK_PIXELS = 2**22
# The patch in the world of CONVENTIONS.md: an elliptic cylinder around the vertical axis through
# chin, cheeks and forehead of the mean head.
_HALF_ANGLE_DEG = 50.0
_TOP, _BOTTOM = 0.06, -0.26
_RADIUS_X, _RADIUS_Z, _CENTRE_Z = 0.18, 0.225, -0.05


def _patch() -> tuple[np.ndarray, np.ndarray]:
    angle = np.radians(np.linspace(-_HALF_ANGLE_DEG, _HALF_ANGLE_DEG, SIDE))
    angle, height = np.meshgrid(angle, np.linspace(_TOP, _BOTTOM, SIDE))
    points = np.stack(
        [_RADIUS_X * np.sin(angle), height, _CENTRE_Z + _RADIUS_Z * np.cos(angle)], axis=-1
    )
    normals = np.stack([np.sin(angle), np.zeros_like(angle), np.cos(angle)], axis=-1)
    return points.reshape(-1, 3).astype(np.float32), normals.reshape(-1, 3).astype(np.float32)


_POINTS, _NORMALS = _patch()


def unwrap(image: Float[Array, "b h w 3"], label25: Float[Array, "b 25"]) -> Float[Array, "b n 4"]:
    """Looks an image up at the points of the face patch.

    Args:
      image: Images, [-1, 1].
      label25: Their cameras.

    Returns:
      Colour times visibility, and visibility: 1 where the patch faces the camera, 0 where it is
      turned away.

    Source: pinhole projection; the patch is ours.
    """
    camera = cameras.from_label25(label25)
    uv, _ = cameras.project(camera, jnp.asarray(_POINTS)[None])
    colour = grid_sample.sample_planes(image[:, None], 2.0 * uv[:, None] - 1.0)
    towards = camera.cam2world[:, None, :3, 3] - jnp.asarray(_POINTS)[None]
    towards = towards / jnp.linalg.norm(towards, axis=-1, keepdims=True)
    facing = jnp.sum(towards * jnp.asarray(_NORMALS)[None], axis=-1, keepdims=True)
    visible = jnp.clip(2.0 * facing, 0.0, 1.0)
    return jnp.concatenate([colour * visible, visible], axis=-1)


def read(
    reader: Reader, image: Float[Array, "b h w 3"], label25: Float[Array, "b 25"]
) -> Float[Array, "b k"]:
    """Reads faces.

    Args:
      reader: What `fit` returned.
      image: Images, [-1, 1].
      label25: Their cameras.

    Returns:
      Numbers with mean 0 and spread 1 over the frames the reader was adapted to.
    """
    pixels = unwrap(image, label25).reshape(image.shape[0], -1)
    pixels = (pixels - reader["pixel_mean"][None]) / reader["pixel_spread"][None]
    told = precision.matmul(pixels, reader["weight"])
    return (told - reader["centre"][None]) / reader["spread"][None]


def blank(size: int) -> Reader:
    """Makes a reader of the right shapes that reads nothing.

    Args:
      size: How many numbers it reads.

    Returns:
      The reader.
    """
    pixels = SIDE * SIDE * 4
    return {
        "pixel_mean": jnp.zeros((pixels,)),
        "pixel_spread": jnp.ones((pixels,)),
        "weight": jnp.zeros((pixels, size)),
        "centre": jnp.zeros((size,)),
        "spread": jnp.ones((size,)),
    }


def fit(
    image_u8: image_sequences.Images,
    label25: Float[np.ndarray, "f 25"],
    *,
    size: int,
    codes: Float[np.ndarray, "f e"] | None = None,
) -> Reader:
    """Fits a reader in closed form.

    Args:
      image_u8: Frames, 0..255, [f h w 3].
      label25: Their cameras.
      size: How many numbers it reads.
      codes: The frames' expression codes, for rendered people whose codes are exact: the reader
        then predicts their principal components. None: the principal components of the pixels
        outside the subspace in which their mean moves with the camera.

    Returns:
      The reader, adapted to these frames.

    Raises:
      ValueError: there are fewer frames or codes than numbers to read.

    Source: ours; ridge regression (Hoerl and Kennard 1970), principal components.
    """
    if size > min(len(image_u8), SIDE * SIDE if codes is None else codes.shape[1]):
        raise ValueError(f"a face reader of {size} numbers needs more frames or codes than that.")
    pixels = _unwrap_all(image_u8, label25)
    mean, spread = pixels.mean(axis=0), pixels.std(axis=0) + _MIN_SPREAD
    pixels = ((pixels - mean) / spread).astype(np.float64)
    weight = (
        _principal_directions(pixels, label25, size)
        if codes is None
        else _regress(pixels, codes.astype(np.float64), size)
    )
    reader = {"pixel_mean": mean, "pixel_spread": spread, "weight": weight}
    return _centred({k: np.asarray(v, np.float32) for k, v in reader.items()}, pixels @ weight)


def extend(
    reader: Reader,
    image_u8: image_sequences.Images,
    label25: Float[np.ndarray, "f 25"],
    *,
    size: int,
) -> Reader:
    """Adds to a reader what it misses of one person: how this very face varies.

    A reading that serves everybody sees the jaw of anybody, but hardly the lids of this one person.

    Args:
      reader: Any reader.
      image_u8: Frames of the person, 0..255, [f h w 3].
      label25: Their cameras.
      size: How many numbers to add: the principal components of the pixels outside the subspace
        in which their mean moves with the camera.

    Returns:
      The longer reader, adapted to these frames.

    Raises:
      ValueError: there are fewer frames than numbers to add.

    Source: ours; principal components.
    """
    if size > len(image_u8):
        raise ValueError(f"{size} more numbers need as many frames; got {len(image_u8)}.")
    mean, spread, weight = (np.asarray(reader[k]) for k in ("pixel_mean", "pixel_spread", "weight"))
    pixels = ((_unwrap_all(image_u8, label25) - mean) / spread).astype(np.float64)
    own = _principal_directions(pixels - pixels.mean(axis=0), label25, size)
    weight = np.concatenate([weight, own.astype(np.float32)], axis=1)
    longer = {"pixel_mean": mean, "pixel_spread": spread, "weight": weight}
    # Each part by itself: the two measure in different units, and noise is judged by the largest.
    told = np.split(pixels @ weight, [weight.shape[1] - size], axis=1)
    parts = [_centred(longer, part) for part in told]
    return {**longer, **{k: np.concatenate([p[k] for p in parts]) for k in ("centre", "spread")}}


def adapt(
    reader: Reader,
    image_u8: image_sequences.Images,
    label25: Float[np.ndarray, "f 25"],
    *,
    size: int,
) -> Reader:
    """Fits a reader to the frames of one person, so that its numbers tell expressions only.

    What a reader of anybody gets wrong of one person turns with the camera, so that its numbers
    would tell the camera: a generator trained on them draws every view as that view's latents
    want it, and falls short when codes, which know of no camera, take their place.

    Args:
      reader: Any reader.
      image_u8: Frames, 0..255, [f h w 3].
      label25: Their cameras.
      size: How many of its numbers to keep: not those that were another person's own.

    Returns:
      The reader with the mean and spread of these frames, nearly blind to what the camera changes.

    Source: ours; ridge regression (Hoerl and Kennard 1970).
    """
    mean, spread, weight = (np.asarray(reader[k]) for k in ("pixel_mean", "pixel_spread", "weight"))
    pixels = ((_unwrap_all(image_u8, label25) - mean) / spread).astype(np.float64)
    # The closest weights to the reader's for which what the camera explains varies little.
    sizes, axes = _camera_directions(pixels - pixels.mean(axis=0), label25)
    suppressed = np.square(sizes) / (np.square(sizes) + _CAMERA_VARIANCE)
    weight = weight[:, :size].astype(np.float64)
    weight = (weight - axes.T @ (suppressed[:, None] * (axes @ weight))).astype(np.float32)
    fixed = {"pixel_mean": mean, "pixel_spread": spread, "weight": weight}
    return _centred(fixed, pixels @ weight)


def camera_terms(label25: Float[np.ndarray, "f 25"]) -> Float[np.ndarray, "f 19"]:
    """Lists the monomials of the cameras' directions, of degrees one to three.

    Args:
      label25: Cameras.

    Returns:
      One column a monomial.
    """
    centre = label25[:, 3:12:4].astype(np.float64)
    d = centre / np.linalg.norm(centre, axis=1, keepdims=True)
    monomials = [
        np.prod(d[:, list(axes)], axis=1)
        for degree in (1, 2, 3)
        for axes in itertools.combinations_with_replacement(range(3), degree)
    ]
    return np.stack(monomials, axis=1)


def _unwrap_all(image_u8: image_sequences.Images, label25: np.ndarray) -> np.ndarray:
    look_up = jax.jit(lambda i, c: unwrap(images.from_u8(i), c))
    chunk = max(1, min(_CHUNK, _CHUNK_PIXELS // math.prod(image_u8.shape[1:3])))
    pixels = np.empty((len(image_u8), SIDE * SIDE * 4), np.float32)
    for start in range(0, len(image_u8), chunk):
        part = slice(start, start + chunk)
        seen = look_up(image_u8[part], label25[part])
        pixels[part] = np.asarray(seen).reshape(len(seen), -1)
    return pixels


def _regress(pixels: np.ndarray, codes: np.ndarray, size: int) -> np.ndarray:
    targets = (codes - codes.mean(axis=0)) / (codes.std(axis=0) + _MIN_CODE_SPREAD)
    frames, count = pixels.shape
    if frames < count:  # the same solution by way of the smaller system
        dual = np.linalg.solve(pixels @ pixels.T + _RIDGE * np.eye(frames), targets)
        weight = pixels.T @ dual
    else:
        gram = pixels.T @ pixels + _RIDGE * np.eye(count)
        weight = np.linalg.solve(gram, pixels.T @ targets)
    # The components in which predictions, not codes, vary most: what can be seen.
    _, _, axes = np.linalg.svd(pixels @ weight, full_matrices=False)
    return weight @ axes[:size].T


def _principal_directions(pixels: np.ndarray, label25: np.ndarray, size: int) -> np.ndarray:
    sizes, axes = _camera_directions(pixels, label25)
    basis = axes[sizes > 1e-6 * sizes.max(initial=0.0)].T
    rest = pixels - (pixels @ basis) @ basis.T
    if rest.shape[0] >= rest.shape[1]:
        return np.linalg.eigh(rest.T @ rest)[1][:, ::-1][:, :size]
    _, mixtures = np.linalg.eigh(rest @ rest.T)
    axes = rest.T @ mixtures[:, ::-1][:, :size]
    return axes / np.maximum(np.linalg.norm(axes, axis=0), 1e-12)


def _camera_directions(pixels: np.ndarray, label25: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Directions of centred pixels [n] in which their mean moves with the camera, and how far.

    The mean is a polynomial of the camera's direction, of the third degree.
    """
    camera = camera_terms(label25)
    camera = camera - camera.mean(axis=0)
    camera[np.abs(camera) < _SAME_CAMERA] = 0.0
    # Coordinates in which the frames' cameras are uncorrelated; some monomials say the same.
    cameras_at, spreads, _ = np.linalg.svd(camera, full_matrices=False)
    cameras_at = cameras_at[:, spreads > _SAME_CAMERA * max(spreads[0], _SAME_CAMERA)]
    _, sizes, axes = np.linalg.svd(cameras_at.T @ pixels, full_matrices=False)
    return sizes / np.sqrt(len(pixels)), axes


def _centred(reader: Reader, told: np.ndarray) -> Reader:
    spread = told.std(axis=0)
    # Directions in which these frames hardly differ are noise: not to be blown up.
    spread = np.maximum(spread, max(_MIN_RELATIVE_SPREAD * float(spread.max()), 1e-6))
    return {
        **reader,
        "centre": np.asarray(told.mean(axis=0), np.float32),
        "spread": np.asarray(spread, np.float32),
    }
