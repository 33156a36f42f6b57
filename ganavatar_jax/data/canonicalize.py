"""Brings any frame to the form the networks train on: background, size, and mirror images.

Background. A stored image is a composite C = a F + (1 - a) B of head F and background B. Asking
for another background D gives C + (1 - a) (D - B), clamped to the valid range: the head's share of
every pixel stays as it is, without ever dividing by a. It is exact when C was composited with this
very a in these very units, which are display values (sRGB as stored) or, with `linear_light`, the
light they stand for. Two kinds of source have no plain background: for "straight" colours (RGBA
files) and for a real "scene" the stored colour is taken as F, and the result is a C + (1 - a) D;
for a scene this leaves a trace of it in half-covered pixels. Equal source and target leave the
image untouched, bit by bit. This happens at the stored resolution, before shrinking.

Size. Pillow's antialiased Lanczos (as the EG3D dataset tool does) or box filter, in display values.

Beyond the picture. Pixels that were never filmed (`records.Frame.filmed`) are white with alpha 0,
whatever the background; a pixel counts as filmed only if all that it was made of was.

Mirror. The flipped image of a head is the image of the mirrored head from the mirrored camera, see
`mirror_label25`. Training serves no expression codes, so that none are mirrored here.
"""

import dataclasses
from typing import Literal

import numpy as np
from PIL import Image

from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import Float, UInt8
from ganavatar_jax.data import data_config, records

_LEVEL = {"white": 1.0, "black": 0.0}
_FILTERS = {"lanczos": Image.Resampling.LANCZOS, "box": Image.Resampling.BOX}
# Entries of cam2world that change sign under S cam2world S, S = diag(-1, 1, 1, 1).
_POSE_SIGNS = np.array([1, -1, -1, -1, -1, 1, 1, 1, -1, 1, 1, 1, 1, 1, 1, 1], np.float32)
_SKEW, _CX = 17, 18


def canonicalize_frame(
    frame: records.Frame,
    *,
    config: data_config.DataConfig,
    background: records.ImageBackground,
) -> records.Frame:
    """Gives a frame the training background and resolution.

    Args:
      frame: A frame as it was read.
      config: The wanted background and resolution.
      background: What lies behind the head now, see `resolve_background`.

    Returns:
      The frame with square images of side `config.resolution`; the label stays, because
      intrinsics are normalized.

    Raises:
      DataFormatError: another background is wanted and the frame has no alpha.

    Source: EG3D dataset tool (resizing); ours (background).
    """
    image = frame.image
    if config.background != "keep" and config.background != background:
        if frame.alpha is None:
            raise errors.DataFormatError(
                f"frame {frame.frame_id}: another background needs alpha; got none. Set "
                "data.background=keep."
            )
        image = replace_background(
            image,
            frame.alpha,
            source=background,
            target=config.background,
            linear_light=config.linear_light,
        )
    alpha = frame.alpha
    if alpha is not None:
        alpha = resize(alpha, side=config.resolution, resample=config.resample)
    image = resize(image, side=config.resolution, resample=config.resample)
    filmed = frame.filmed
    if filmed is not None:
        whole = resize(filmed, side=config.resolution, resample="box") == 255
        filmed = np.where(whole, 255, 0).astype(np.uint8)
        image = np.where(whole[..., None], image, np.uint8(255))
        alpha = None if alpha is None else np.where(whole, alpha, np.uint8(0))
    return dataclasses.replace(frame, image=image, alpha=alpha, filmed=filmed)


def resolve_background(
    capture: records.Capture, config: data_config.DataConfig
) -> records.ImageBackground:
    """Settles what lies behind the head in the stored images, and whether it can be exchanged.

    Args:
      capture: The source.
      config: The wanted background and, where the capture does not say, the stored one.

    Returns:
      The stored background.

    Raises:
      DataFormatError: a background is wanted that this capture cannot be given: it has no alpha,
        nothing says what is there now, or transparent images are to be kept as they are.
    """
    stored = capture.background
    if config.source_background != "auto" and stored != "straight":
        stored = config.source_background
    if config.background == "keep":
        if stored == "straight":
            raise errors.DataFormatError(
                f"{capture.name}: transparent images (RGBA) have no background to keep. Set "
                "data.background to white or black."
            )
        return stored
    if stored == config.background:
        return stored
    if not capture.has_alpha:
        raise errors.DataFormatError(
            f"{capture.name}: data.background={config.background} needs a matte, and there is no "
            "alpha/ folder. Add one, or set data.background=keep; if the images already are on "
            f"{config.background}, set data.source_background={config.background}."
        )
    if stored == "unknown":
        raise errors.DataFormatError(
            f"{capture.name}: nothing says what lies behind the head in the stored images. Set "
            "data.source_background to white, black or scene (a real background), or write "
            '"background" into meta.json.'
        )
    return stored


def replace_background(
    image: UInt8[np.ndarray, "h w 3"],
    alpha: UInt8[np.ndarray, "h w"],
    *,
    source: records.ImageBackground,
    target: Literal["white", "black"],
    linear_light: bool = False,
) -> UInt8[np.ndarray, "h w 3"]:
    """Exchanges what lies behind the head; the module text has the formula.

    Args:
      image: The stored image.
      alpha: How much of each pixel the head covers, 0..255.
      source: What lies behind the head now; not "unknown".
      target: What shall lie behind it.
      linear_light: Mix light instead of display values.

    Returns:
      The image on the new background, rounded to the nearest level.

    Raises:
      ValueError: source is "unknown".

    Source: Porter and Duff 1984, "over"; IEC 61966-2-1 for sRGB.
    """
    if source == "unknown":
        raise ValueError('source must be known; got "unknown". Use resolve_background first.')
    if source == target:
        return image
    color = image.astype(np.float64) / 255.0
    uncovered = 1.0 - alpha.astype(np.float64)[..., None] / 255.0
    if linear_light:
        color = _srgb_to_linear(color)
    if source in _LEVEL:
        mixed = color + uncovered * (_LEVEL[target] - _LEVEL[source])
    else:
        mixed = color * (1.0 - uncovered) + uncovered * _LEVEL[target]
    mixed = np.clip(mixed, 0.0, 1.0)
    if linear_light:
        mixed = _linear_to_srgb(mixed)
    return np.rint(mixed * 255.0).astype(np.uint8)


def resize(
    image: UInt8[np.ndarray, "h w *c"], *, side: int, resample: Literal["lanczos", "box"]
) -> UInt8[np.ndarray, "side2 side2 *c"]:
    """Shrinks a square image with an antialiased filter.

    Args:
      image: One channel (no channel axis) or three.
      side: Wanted side, pixels; the image itself when it has this side.
      resample: The filter.

    Returns:
      The image with the wanted side.

    Source: EG3D dataset tool (Lanczos).
    """
    if image.shape[:2] == (side, side):
        return image
    return np.asarray(Image.fromarray(image).resize((side, side), _FILTERS[resample]))


def mirror_image(image: UInt8[np.ndarray, "*b h w c"]) -> UInt8[np.ndarray, "*b h w c"]:
    """Flips images left to right.

    Args:
      image: Images with a channel axis.

    Returns:
      The flipped images, as a view.

    Source: standard.
    """
    return image[..., ::-1, :]


def mirror_label25(label25: Float[np.ndarray, "*b 25"]) -> Float[np.ndarray, "*b 25"]:
    """Finds the labels of flipped images: the NumPy twin of `cameras.mirror_label25`.

    It exists because batches are made on host threads, where JAX would put every label on the
    accelerator.

    Args:
      label25: Labels before flipping.

    Returns:
      Labels with S cam2world S, cx' = 1 - cx and skew' = -skew.

    Source: EG3D mirrored dataset (pose); u' = 1 - u (intrinsics).
    """
    mirrored = label25.copy()
    mirrored[..., :16] *= _POSE_SIGNS
    mirrored[..., _SKEW] *= -1.0
    mirrored[..., _CX] = 1.0 - mirrored[..., _CX]
    return mirrored


def _srgb_to_linear(value: np.ndarray) -> np.ndarray:
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def _linear_to_srgb(value: np.ndarray) -> np.ndarray:
    return np.where(value <= 0.0031308, value * 12.92, 1.055 * value ** (1 / 2.4) - 0.055)
