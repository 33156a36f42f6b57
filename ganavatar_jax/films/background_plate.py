"""What lies behind a person, where a camera that stands still has seen it.

A head that moves uncovers what it hides. Over frames spread across a film, the median of what is
not taken for the person is the background; the segmenter's errors leave it alone as long as they
are in the minority. Nothing is known of what was never uncovered, nor of what changed: with a
camera that moves, nothing at all.

Source: background subtraction by a temporal median (Piccardi 2004); the votes are ours.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from ganavatar_jax.core.arrays import Bool, Float, UInt8
from ganavatar_jax.faces import regions

LEAST_NOISE = 2.0  # Grey levels: what compression leaves at best.
_ROUNDS = 2
_FEWEST = 3  # Frames that must show a place uncovered,
_FEWEST_SHARE = 0.08  # and their share.
_UNCOVERED = 0.15  # Coverage below which a frame shows the background; wisps of hair have more.
_STEADY = 9.0  # Largest deviation (median over time) of what counts as standing still, grey levels.
_MISTAKEN = 0.6  # Mean coverage of the frames that show the background, above which it is a head.
_SAME, _OTHER = 3.0, 8.0  # Mean squares over 3x3 pixels, in variances: the background, not it.
_NEAR = 0.1  # How far from a head what differs may belong to it, in image sides.
_STRIP = 2**24  # values sorted at once
_GAIN = 1.25  # Largest change of exposure that is followed.
_EXPOSURE_STEP = 4  # Pixels between those that exposure is measured at.


class Plate(NamedTuple):
    """A background.

    Attributes:
      color: Display values, 0..255.
      known: Where the background is known.
      noise: Its spread over time, grey levels.
    """

    color: Float[np.ndarray, "h w 3"]
    known: Bool[np.ndarray, "h w"]
    noise: Float[np.ndarray, "h w"]


class Seen(NamedTuple):
    """An image beside its background.

    Attributes:
      back: The background in the exposure of the image, 0..255.
      known: Where it is known.
      noise: Its spread over time, grey levels.
      same: Where the image shows the background, as far as 3x3 pixels can tell.
      grown: Parts of the person that the segmenter missed.
      freed: Background that the segmenter took for the person.
      apart: Squared distance of each pixel from the background, in variances; 0 where unknown.
    """

    back: Float[np.ndarray, "h w 3"]
    known: Bool[np.ndarray, "h w"]
    noise: Float[np.ndarray, "h w"]
    same: Bool[np.ndarray, "h w"]
    grown: Bool[np.ndarray, "h w"]
    freed: Bool[np.ndarray, "h w"]
    apart: Float[np.ndarray, "h w"]


def estimate(
    pictures: UInt8[np.ndarray, "n h w 3"], coverage: Float[np.ndarray, "n h w"]
) -> Plate | None:
    """Finds the background of a film.

    Args:
      pictures: Frames spread over it, from one place.
      coverage: How much of each pixel the person covers, 0..1; 1 where nobody looked.

    Returns:
      The background; None where nothing of it is known.
    """
    plate, head = None, coverage
    for _ in range(_ROUNDS):
        if plate is not None:
            head = np.stack(
                [correct(c, compare(p, c, plate)) for p, c in zip(pictures, coverage, strict=True)]
            )
        plate = _estimate_once(pictures, head.astype(np.float32))
        if not plate.known.any():
            return None
    return plate


def cut(plate: Plate, region: regions.Region, *, size_px: int) -> Plate:
    """Cuts a region out of a background.

    Args:
      plate: The background.
      region: What to cut out, pixels of the background, within it.
      size_px: Side of the result.

    Returns:
      The region's background.
    """
    planes = np.stack([plate.known, plate.noise / 16.0, plate.known], axis=-1) * 255.0
    color = regions.crop(_to_u8(plate.color), region, size_px=size_px)
    shown = regions.crop(_to_u8(planes), region, size_px=size_px)
    noise = shown[..., 1] * (16.0 / 255.0)
    return Plate(
        color.astype(np.float32),
        shown[..., 0] == 255,
        np.maximum(noise, LEAST_NOISE).astype(np.float32),
    )


def compare(
    image_u8: UInt8[np.ndarray, "h w 3"], coverage: Float[np.ndarray, "h w"], plate: Plate
) -> Seen:
    """Tells what of an image is background, and what else must be the person.

    Args:
      image_u8: The image, 0..255.
      coverage: The segmenter's word, 0..1.
      plate: The image's background.

    Returns:
      What was found.
    """
    image, known = image_u8.astype(np.float32), plate.known
    back = plate.color * _exposure(image, coverage, plate)
    apart = np.where(known, dot(image - back, image - back) / (3.0 * plate.noise**2), 0.0)
    sure = known & (coverage < 0.05)
    if sure.any():  # A frame that is noisier than most.
        apart = apart / max(1.0, float(np.median(apart[sure])))
    weight = ndimage.uniform_filter(known.astype(np.float32), 3, mode="nearest")
    around = ndimage.uniform_filter(apart, 3, mode="nearest") / np.maximum(weight, 1e-3)
    same = known & (around < _SAME)
    other = np.asarray(ndimage.binary_opening(known & (around > _OTHER)), bool)
    other = np.asarray(ndimage.binary_erosion(other), bool)
    outside = (coverage < 0.5) & ~other
    freed = same & np.asarray(ndimage.binary_propagation(outside, mask=outside | same), bool)
    head = (coverage > 0.9) & ~freed
    reach = max(1, round(_NEAR * max(known.shape)))
    near = np.asarray(ndimage.maximum_filter(head, 2 * reach + 1), bool)
    whole = np.asarray(ndimage.binary_propagation(head, mask=head | (other & near)), bool)
    grown = whole & ~head
    return Seen(back, known, plate.noise, same, grown, freed, apart)


def correct(coverage: Float[np.ndarray, "h w"], seen: Seen) -> Float[np.ndarray, "h w"]:
    """Corrects the segmenter's word by what the background shows.

    Args:
      coverage: The segmenter's word, 0..1.
      seen: From `compare`.

    Returns:
      Coverage, 0..1.
    """
    return np.where(seen.grown, 1.0, np.where(seen.freed, 0.0, coverage))


def dot(
    first: Float[np.ndarray, "h w 3"], second: Float[np.ndarray, "h w 3"]
) -> Float[np.ndarray, "h w"]:
    """Multiplies colours pixel by pixel: several times faster than a sum over their axis.

    Args:
      first: Colours.
      second: Colours.

    Returns:
      Their products, summed over channels.
    """
    return np.einsum("hwc,hwc->hw", first, second)


def _exposure(
    image: Float[np.ndarray, "h w 3"], coverage: Float[np.ndarray, "h w"], plate: Plate
) -> Float[np.ndarray, " 3"]:
    """Measures how much brighter each channel is than in the background."""
    few = (slice(None, None, _EXPOSURE_STEP),) * 2
    color = plate.color[few]
    sure = plate.known[few] & (coverage[few] < 0.05) & (color.min(axis=-1) > 16.0)
    if sure.sum() < 64:
        return np.ones(3, np.float32)
    gain = np.median(image[few][sure] / color[sure], axis=0)
    return np.clip(gain, 1.0 / _GAIN, _GAIN).astype(np.float32)


def _estimate_once(
    pictures: UInt8[np.ndarray, "n h w 3"], coverage: Float[np.ndarray, "n h w"]
) -> Plate:
    """Takes the median of what is uncovered, and believes it where most frames agree."""
    away = np.stack([ndimage.minimum_filter(c < _UNCOVERED, 5, mode="nearest") for c in coverage])
    count = away.sum(axis=0)
    color = _median(pictures, away)
    apart = np.abs(pictures.astype(np.int16) - color).max(axis=-1).astype(np.uint8)
    spread = _median(apart[..., None], away)[..., 0].astype(np.float32)
    enough = count >= max(_FEWEST, _FEWEST_SHARE * len(pictures))
    noise = np.maximum(ndimage.uniform_filter(spread, 3, mode="nearest") / 1.2, LEAST_NOISE)
    match = apart <= 4.0 * noise
    votes = np.sum(match * coverage, axis=0) / np.maximum(match.sum(axis=0), 1)
    agree = np.sum(match & away, axis=0) / np.maximum(count, 1)
    known = enough & (spread <= _STEADY) & (agree > 0.7) & (votes < _MISTAKEN)
    return Plate(color.astype(np.float32), known, noise)


def _median(
    values: UInt8[np.ndarray, "n h w c"], shown: Bool[np.ndarray, "n h w"]
) -> UInt8[np.ndarray, "h w c"]:
    """Takes the median over time of what is shown, some rows at a time."""
    result = np.empty(values.shape[1:], np.uint8)
    rows = max(1, _STRIP // int(np.prod(values[:, 0].shape)))
    for top in range(0, values.shape[1], rows):
        part, seen = values[:, top : top + rows], shown[:, top : top + rows]
        ordered = np.sort(np.where(seen[..., None], part, np.uint8(255)), axis=0)
        middle = np.maximum(seen.sum(axis=0) - 1, 0) // 2
        result[top : top + rows] = np.take_along_axis(ordered, middle[None, ..., None], axis=0)[0]
    return result


def _to_u8(values: np.ndarray) -> UInt8[np.ndarray, "..."]:
    return np.rint(np.clip(values, 0.0, 255.0)).astype(np.uint8)
