"""All image metrics of several candidates against the same truth, frame by frame.

Images are uint8 and move to the device as such. Pixel metrics are taken on u8 / 255, LPIPS on
u8 / 127.5 - 1. The truth's LPIPS features are computed once for all candidates.
"""

import functools
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from ganavatar_jax.core import chunks, image_sequences, images
from ganavatar_jax.core.arrays import Array, Float, UInt8
from ganavatar_jax.metrics import image, lpips


def compare(
    truth_u8: image_sequences.Images,
    candidates: Mapping[str, image_sequences.Images],
    lpips_params: Mapping[lpips.NetName, lpips.LpipsParams],
    *,
    filmed: image_sequences.Images | None = None,
    chunk: int = 8,
) -> dict[str, dict[str, Float[np.ndarray, " f"]]]:
    """Measures every candidate against the truth.

    Args:
      truth_u8: Real frames, 0..255, [f h w 3].
      candidates: Name -> images, 0..255, [n h w 3]: either one for each frame or, with a leading
        axis of 1, one image to compare with all frames.
      lpips_params: Nets to use, from `lpips.load_params`; may be empty.
      filmed: 0 where real frames show nothing [f h w]; None where they do everywhere. Such pixels
        do not count; windows and features that reach among them count with the others.
      chunk: Frames per device call; bounds memory (VGG16 at 256 x 256 needs about 0.1 GB each).

    Returns:
      {candidate: {"l2", "psnr", "ssim", "lpips_<net>": float32 values, one per frame}}.

    Raises:
      ValueError: a candidate's shape does not fit the truth's.

    Source: ours; the metrics of GAN-Avatar's tables.
    """
    for name, candidate in candidates.items():
        if candidate.shape[1:] != truth_u8.shape[1:] or len(candidate) not in (1, len(truth_u8)):
            raise ValueError(
                f"candidate {name!r}: expected {truth_u8.shape} or a single image of that size; "
                f"got {candidate.shape}. Render it at the truth's resolution."
            )
    candidates = {n: image_sequences.patch(c, truth_u8, filmed) for n, c in candidates.items()}
    still = {name: c[:] for name, c in candidates.items() if len(c) == 1}
    moving = {name: c for name, c in candidates.items() if name not in still}
    still_features: dict[tuple[str, lpips.NetName], tuple[Array, ...]] = {
        (name, net): _unit_features(params, image_u8, net)
        for name, image_u8 in still.items()
        for net, params in lpips_params.items()
    }
    step = functools.partial(_compare_chunk, lpips_params, still, still_features)
    measured = chunks.map_in_chunks(step, (truth_u8, moving), chunk=chunk)
    metrics = ["l2", "psnr", "ssim", *(f"lpips_{net}" for net in lpips_params)]
    # Trees come back with sorted keys; readers expect the caller's order.
    table = {name: {m: measured[name][m] for m in metrics} for name in candidates}
    if filmed is None:
        return table
    share = np.array([np.mean(mask > 0) for mask in filmed])
    return {name: _leave_out(values, share) for name, values in table.items()}


def _leave_out(
    measured: dict[str, Float[np.ndarray, " f"]], share: Float[np.ndarray, " f"]
) -> dict[str, Float[np.ndarray, " f"]]:
    """Leaves out pixels that were made equal: they add nothing, so that means are too small."""
    values = {name: value / share for name, value in measured.items()}
    values["psnr"] = measured["psnr"] + 10.0 * np.log10(share)
    values["ssim"] = 1.0 - (1.0 - measured["ssim"]) / share
    return {name: value.astype(np.float32) for name, value in values.items()}


# Each piece is jitted by itself, so that it compiles once and not once for every candidate.
def _compare_chunk(
    lpips_params: Mapping[lpips.NetName, lpips.LpipsParams],
    still: Mapping[str, UInt8[np.ndarray, "1 h w 3"]],
    still_features: Mapping[tuple[str, lpips.NetName], tuple[Float[Array, "1 _ _ _"], ...]],
    frames: tuple[UInt8[np.ndarray, "b h w 3"], dict[str, UInt8[np.ndarray, "b h w 3"]]],
) -> dict[str, dict[str, Float[Array, " b"]]]:
    """Compares some frames; features of the truth are computed once for all comparisons."""
    truth_u8, moving = frames
    results = {
        name: _pixel_metrics(np.broadcast_to(image_u8, truth_u8.shape), truth_u8)
        for name, image_u8 in {**still, **moving}.items()
    }
    for net, params in lpips_params.items():
        target = _unit_features(params, truth_u8, net)
        for name, values in results.items():
            if name in moving:
                features = _unit_features(params, moving[name], net)
            else:
                features = still_features[name, net]
            values[f"lpips_{net}"] = _distance(params, features, target)
    return results


@jax.jit
def _pixel_metrics(
    image_u8: UInt8[Array, "b h w 3"], truth_u8: UInt8[Array, "b h w 3"]
) -> dict[str, Float[Array, " b"]]:
    # Whole numbers: where the division is fused into the difference, equal images would differ.
    candidate, truth = (jnp.asarray(x, jnp.float32) for x in (image_u8, truth_u8))
    return {
        "l2": image.l2(candidate, truth) / 255.0**2,
        "psnr": image.psnr(candidate, truth) + 20.0 * math.log10(255.0),
        "ssim": image.ssim(candidate / 255.0, truth / 255.0),
    }


@functools.partial(jax.jit, static_argnums=2)
def _unit_features(
    params: lpips.LpipsParams, image_u8: UInt8[Array, "b h w 3"], net: lpips.NetName
) -> tuple[Float[Array, "b _ _ _"], ...]:
    return lpips.unit_features(params, images.from_u8(image_u8), net=net)


_distance = jax.jit(lpips.distance)
