"""Coverage and colours of a person whose outline is roughly known.

What the segmenter leaves uncertain, a band along the outline, is decided

- by the background, where it is known (`background_plate`): how far the pixel's colour has come
  from it on the way to the person's colour nearby, pixel by pixel;
- else by closed-form matting, whose equations are solved at 256 px at most; their solution is a
  local linear function of colour, which larger images then follow;
- else, before a background so busy that its colours say nothing, by the segmenter.

Colours of half-covered pixels are freed from the background.

Source: Levin et al. 2008 (closed form); He and Sun 2015 (fast guided filter); Germer et al. 2020
(foreground); Smith and Blinn 1996 (a known background); the choice between them is ours.
"""

import dataclasses
import types
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage, sparse

from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import Bool, Float, UInt8
from ganavatar_jax.films import background_plate

_BORDER = 0.02  # Width of the uncertain band on each side, in image sides.
_SOLVED_PX = 256  # Solving takes four times as long at twice the side; mattes hardly differ (E006).
_FLATNESS = 1e-5  # Variance of colour below which the matte is taken as constant, not as linear.
_SMALLEST_SHARE = 0.05  # Of the largest part: smaller ones are no person.
_SEGMENTER = 0.02  # Weight of the segmenter's word; that of a sure pixel is _SURE.
_SURE = 100.0
_FABRIC = 20.0  # Spread of the person's colours around the estimate, grey levels.
_THERE = 0.02  # Weight of "differs from the background" where the person has its colours.
_BUSY = 6.0  # Gradient of a background at which closed form is worth no more than the segmenter.
_LEAST_TRUST = 0.15  # Of the equations: below, they are not worth their time.
_OPEN_SHARE = 0.02  # Of the band: where less is open, no equations are solved.


@dataclasses.dataclass(frozen=True)
class Matte:
    """Coverage and the head's own colours.

    Attributes:
      alpha: 0..255.
      foreground: Colours without the background's share.
    """

    alpha: UInt8[np.ndarray, "h w"]
    foreground: UInt8[np.ndarray, "h w 3"]

    def on_white(self) -> UInt8[np.ndarray, "h w 3"]:
        """Puts the head before white.

        Returns:
          Display values.
        """
        covered = self.alpha[..., None] / 255.0
        return np.rint(self.foreground * covered + 255.0 * (1.0 - covered)).astype(np.uint8)


class _Outline(NamedTuple):
    """What is known before anything is solved.

    Attributes:
      trimap: 0, 1, or 0.5 in the band.
      prior: The best guess, 0..1.
      known: Where the guess rests on a known background.
      back: The background, 0..255, or None.
    """

    trimap: Float[np.ndarray, "h w"]
    prior: Float[np.ndarray, "h w"]
    known: Bool[np.ndarray, "h w"]
    back: Float[np.ndarray, "h w 3"] | None


def solve(
    image_u8: UInt8[np.ndarray, "h w 3"],
    coverage: Float[np.ndarray, "h w"],
    seen: background_plate.Seen | None,
) -> Matte:
    """Decides the uncertain band.

    Args:
      image_u8: Square RGB image, 0..255.
      coverage: Roughly what the person covers, 0..1.
      seen: The image beside its background; None where nothing of that is known.

    Returns:
      The matte.

    Raises:
      MissingDependencyError: PyMatting is not installed.
    """
    outline = _outline(image_u8, coverage, seen)
    alpha = np.where(outline.trimap == 0.5, outline.prior, outline.trimap)
    band = outline.trimap == 0.5
    certain = (outline.trimap == 0).any() and (outline.trimap == 1).any()
    if certain and (band & ~outline.known).sum() > _OPEN_SHARE * band.sum():
        alpha = _refine(image_u8, outline, alpha)
    colors = _own_colors(image_u8, alpha, outline.back, outline.known)
    return Matte(to_u8(alpha), to_u8(colors))


def _outline(
    image_u8: UInt8[np.ndarray, "h w 3"],
    coverage: Float[np.ndarray, "h w"],
    seen: background_plate.Seen | None,
) -> _Outline:
    """Puts together what is known of coverage and background."""
    whole = _keep_largest(coverage)
    trimap = make_trimap(whole)
    if seen is None or not seen.known.any():
        return _Outline(trimap, whole, np.zeros(whole.shape, bool), None)
    trimap = np.where((trimap == 0.5) & seen.same & (whole < 0.5), 0.0, trimap)
    inside = np.where(trimap == 0.5, 0.05 * whole, trimap)
    toward = 255.0 * _smooth_colors(image_u8, inside)[0] - seen.back
    noise = np.square(seen.noise)
    length = background_plate.dot(toward, toward)
    part = background_plate.dot(image_u8 - seen.back, toward) / (length + 3.0 * noise)
    # How much better colours tell than they spread.
    reliable = length / (3.0 * (noise + _FABRIC**2))
    by_color = np.where(seen.known, 4.0 * _SEGMENTER * reliable, 0.0)
    by_change = np.where(seen.known, _THERE / (1.0 + reliable), 0.0)
    there = np.clip((seen.apart - 3.0) / 8.0, 0.0, 1.0)
    prior = np.clip(part, 0.0, 1.0) * by_color + there * by_change + whole * _SEGMENTER
    prior = prior / (by_color + by_change + _SEGMENTER)
    return _Outline(trimap, prior, seen.known, seen.back)


def _refine(
    image_u8: UInt8[np.ndarray, "h w 3"], outline: _Outline, alpha: Float[np.ndarray, "h w"]
) -> Float[np.ndarray, "h w"]:
    """Solves the rest of the band at a small size and carries it back along its colours."""
    small = _shrink(image_u8) / 255.0
    prior = _shrink(alpha.astype(np.float32)).astype(np.float64)
    share = _shrink(((outline.trimap == 0.5) & ~outline.known).astype(np.float32))
    opened = share > 0.01
    busy = _busyness(small, _shrink(outline.trimap.astype(np.float32)) < 0.01)
    trust = 1.0 / (1.0 + (busy / _BUSY) ** 2)
    if trust[opened].max(initial=0.0) < _LEAST_TRUST:
        return alpha
    try:
        solved = _solve_equations(small, prior, ~opened, _SEGMENTER / trust)
    except ValueError:
        # The solver gives up on flat images; the guess is an answer, too.
        return alpha
    side = alpha.shape[1], alpha.shape[0]
    if small.shape[:2] != alpha.shape:
        solved = follow_colors(solved, small, image_u8 / 255.0)
        picture = Image.fromarray(trust.astype(np.float32))
        trust = np.asarray(picture.resize(side, Image.Resampling.BILINEAR))
    mixed = alpha + trust * (solved - alpha)
    return np.where((outline.trimap == 0.5) & ~outline.known, mixed, alpha)


def _solve_equations(
    color: Float[np.ndarray, "h w 3"],
    prior: Float[np.ndarray, "h w"],
    fixed: Bool[np.ndarray, "h w"],
    weight: Float[np.ndarray, "h w"],
) -> Float[np.ndarray, "h w"]:
    """Closed form, drawn to a guess."""
    pymatting = import_pymatting()
    laplacian = pymatting.cf_laplacian(color, epsilon=1e-6, is_known=fixed)
    pull = np.where(fixed, _SURE, weight).ravel()
    system = laplacian + sparse.diags(pull)
    start = prior.ravel()
    found = pymatting.cg(system, pull * start, x0=start, M=pymatting.ichol(system), rtol=1e-4)
    return np.clip(found, 0.0, 1.0).reshape(prior.shape)


def _busyness(
    color: Float[np.ndarray, "h w 3"], background: Bool[np.ndarray, "h w"]
) -> Float[np.ndarray, "h w"]:
    """Measures the mean gradient of the background nearby, grey levels."""
    steps = np.abs(np.diff(color, axis=0, append=color[-1:])).mean(axis=-1)
    steps = steps + np.abs(np.diff(color, axis=1, append=color[:, -1:])).mean(axis=-1)
    width = 0.04 * max(background.shape)
    weight = ndimage.gaussian_filter(background.astype(np.float64), width)
    total = ndimage.gaussian_filter(np.where(background, 255.0 * steps, 0.0), width)
    return total / np.maximum(weight, 1e-3)


def _own_colors(
    image_u8: UInt8[np.ndarray, "h w 3"],
    alpha: Float[np.ndarray, "h w"],
    back: Float[np.ndarray, "h w 3"] | None,
    known: Bool[np.ndarray, "h w"],
) -> Float[np.ndarray, "h w 3"]:
    """Takes the background's share from each pixel; where little is left, smooth colours do."""
    head, behind = _smooth_colors(image_u8, alpha)
    if back is not None:
        behind = np.where(known[..., None], back / np.float32(255.0), behind)
    covered = alpha[..., None].astype(np.float32)
    own = (image_u8 / np.float32(255.0) - (1.0 - covered) * behind) / np.maximum(covered, 0.05)
    return np.clip(head + covered**2 * (np.clip(own, 0.0, 1.0) - head), 0.0, 1.0)


def _smooth_colors(
    image_u8: UInt8[np.ndarray, "h w 3"], alpha: Float[np.ndarray, "h w"]
) -> tuple[Float[np.ndarray, "h w 3"], Float[np.ndarray, "h w 3"]]:
    """Estimates the colours of head and background everywhere, at a small size."""
    small = _shrink(alpha.astype(np.float32)).astype(np.float64)
    found = import_pymatting().estimate_foreground_ml(
        _shrink(image_u8) / 255.0, small, return_background=True
    )
    head, behind = (_enlarge_colors(colors, alpha.shape) for colors in found)
    return head, behind


def _enlarge_colors(
    colors: Float[np.ndarray, "s t 3"], shape: tuple[int, ...]
) -> Float[np.ndarray, "h w 3"]:
    if colors.shape[:2] == shape:
        return colors.astype(np.float32)
    picture = Image.fromarray(to_u8(colors))
    large = picture.resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    return np.asarray(large, np.float32) / np.float32(255.0)


def _keep_largest(coverage: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Drops what is far smaller than the largest part."""
    labeled: Any = ndimage.label(coverage > 0.5)
    parts = labeled[0]
    if parts.max() < 2:
        return coverage
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    small = sizes < _SMALLEST_SHARE * sizes.max()
    small[0] = False
    return np.where(small[parts], 0.0, coverage)


def follow_colors(
    alpha: Float[np.ndarray, "s t"],
    small: Float[np.ndarray, "s t 3"],
    color: Float[np.ndarray, "h w 3"],
) -> Float[np.ndarray, "h w"]:
    """Enlarges a matte so that its edges are those of a larger image.

    Args:
      alpha: Matte of the small image, 0..1.
      small: The image, shrunk, 0..1.
      color: The image, 0..1.

    Returns:
      The matte of the image, 0..1.

    Source: He and Sun 2015: the matte is a linear function of colour in each 3x3 window, and the
    function's coefficients, not the matte, are enlarged.
    """
    mean_color, mean_alpha = _window_mean(small), _window_mean(alpha)
    products = _window_mean(small[..., :, None] * small[..., None, :])
    covariance = products - mean_color[..., :, None] * mean_color[..., None, :]
    together = _window_mean(small * alpha[..., None]) - mean_color * mean_alpha[..., None]
    slope = np.linalg.solve(covariance + _FLATNESS * np.eye(3), together[..., None])[..., 0]
    offset = mean_alpha - np.sum(slope * mean_color, axis=-1)
    side = color.shape[1], color.shape[0]
    planes = [*np.moveaxis(slope, -1, 0), offset]
    *slope, offset = (
        np.asarray(
            Image.fromarray(plane.astype(np.float32)).resize(side, Image.Resampling.BILINEAR)
        )
        for plane in planes
    )
    return np.clip(np.sum(np.stack(slope, axis=-1) * color, axis=-1) + offset, 0.0, 1.0)


def _window_mean(values: Float[np.ndarray, "s t *c"]) -> Float[np.ndarray, "s t *c"]:
    return ndimage.uniform_filter(values, 3, mode="nearest", axes=(0, 1))


def _shrink(pixels: np.ndarray) -> np.ndarray:
    """Averages pixels until the image is no larger than the matting equations are solved at."""
    height, width = pixels.shape[:2]
    if max(height, width) <= _SOLVED_PX:
        return pixels
    factor = _SOLVED_PX / max(height, width)
    side = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(Image.fromarray(pixels).resize(side, Image.Resampling.BOX))


def make_trimap(alpha: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Marks what is certainly background and head.

    Args:
      alpha: A rough matte, 0..1.

    Returns:
      0, 1, and 0.5 in a band around the border.

    Source: erosion and dilation of the mask.
    """
    width = 2 * max(1, round(_BORDER * max(alpha.shape))) + 1
    eroded = ndimage.minimum_filter(alpha > 0.95, width, mode="nearest")
    dilated = ndimage.maximum_filter(alpha > 0.05, width, mode="nearest")
    return np.where(eroded, 1.0, np.where(dilated, 0.5, 0.0))


def free_colors(
    image_u8: UInt8[np.ndarray, "h w 3"], alpha: Float[np.ndarray, "h w"]
) -> Float[np.ndarray, "h w 3"]:
    """Estimates the head's own colours where the background shines through.

    Args:
      image_u8: The image, 0..255.
      alpha: Its matte, 0..1.

    Returns:
      Colours without the background's share, 0..1; those of the image where nothing shines through.

    Raises:
      MissingDependencyError: PyMatting is not installed.

    Source: Germer et al. 2020.
    """
    return _own_colors(image_u8, alpha, None, np.zeros(alpha.shape, bool))


def to_u8(values: Float[np.ndarray, "*b"]) -> UInt8[np.ndarray, "*b"]:
    """Stores coverage or colours in bytes.

    Args:
      values: 0..1; what lies outside is clamped.

    Returns:
      0..255, rounded.
    """
    return np.rint(np.clip(values, 0.0, 1.0) * 255.0).astype(np.uint8)


def import_pymatting() -> types.ModuleType:
    """Imports PyMatting, which only mattes need.

    Returns:
      The module.

    Raises:
      MissingDependencyError: it is not installed.
    """
    try:
        import pymatting  # pyright: ignore[reportMissingImports]  (an extra)
    except ImportError as error:
        raise errors.MissingDependencyError(
            "mattes of videos need PyMatting; it is not installed. pip install "
            "'ganavatar-jax[preprocess]', or set data.video.matte=none."
        ) from error
    return pymatting
