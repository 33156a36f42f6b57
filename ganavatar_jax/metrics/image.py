"""Pixel metrics between two images: mean squared error, PSNR and SSIM.

Every function takes float images in [0, 1], NHWC with any leading batch, and gives one float32
scalar per image. All are pure JAX and work under jit, vmap and grad. Nothing is cropped, and
values outside [0, 1] are not clamped.
"""

import math

import jax.numpy as jnp

from ganavatar_jax.core.arrays import Array, Float

SSIM_WINDOW = 11  # Wang et al. 2004, section III.C: 11 x 11 Gaussian, sigma 1.5.
SSIM_SIGMA = 1.5
SSIM_K1, SSIM_K2 = 0.01, 0.03  # Wang et al. 2004, section III.B; the dynamic range here is 1.


def l2(image: Float[Array, "*b h w c"], target: Float[Array, "*b h w c"]) -> Float[Array, "*b"]:
    """Gives the mean squared error over pixels and channels.

    Args:
      image: Images, [0, 1].
      target: What they should be, same shape.

    Returns:
      Mean of (image - target)^2; 0 is best.

    Raises:
      ValueError: shapes differ, rank is below 3 or the images are not floats.

    Source: "L2" in the tables of GAN-Avatar (Kabadayi et al. 2024).
    """
    _check_pair(image, target)
    return jnp.mean(jnp.square(image - target), axis=(-3, -2, -1))


def psnr(image: Float[Array, "*b h w c"], target: Float[Array, "*b h w c"]) -> Float[Array, "*b"]:
    """Gives the peak signal-to-noise ratio for a data range of 1.

    Args:
      image: Images, [0, 1].
      target: What they should be, same shape.

    Returns:
      -10 log10(mean squared error), decibel; larger is better, infinite for equal images.

    Raises:
      ValueError: shapes differ, rank is below 3 or the images are not floats.

    Source: the textbook definition; equals skimage.metrics with data_range=1.
    """
    return -10.0 * jnp.log10(l2(image, target))


def ssim(image: Float[Array, "*b h w c"], target: Float[Array, "*b h w c"]) -> Float[Array, "*b"]:
    """Gives the structural similarity, averaged over window positions and channels.

    The window is an 11 x 11 Gaussian of sigma 1.5 px that stays inside the image (no padding).

    Args:
      image: Images, [0, 1], at least 11 x 11 pixels.
      target: What they should be, same shape.

    Returns:
      Mean SSIM; 1 for equal images, about 0 for unrelated ones.

    Raises:
      ValueError: shapes differ, rank is below 3, images are not floats or smaller than 11 px.

    Source: Wang et al. 2004, equation 13 with population moments.
    """
    _check_pair(image, target)
    if min(image.shape[-3:-1]) < SSIM_WINDOW:
        raise ValueError(
            f"ssim needs images of at least {SSIM_WINDOW} x {SSIM_WINDOW} pixels; got "
            f"{image.shape[-3]} x {image.shape[-2]}. Render larger or leave ssim out."
        )
    moments = jnp.stack([image, target, image * image, target * target, image * target])
    mean_a, mean_b, square_a, square_b, product = _blur(moments)
    # Rounding can push a variance slightly below zero on flat regions.
    var_a = jnp.maximum(square_a - mean_a * mean_a, 0.0)
    var_b = jnp.maximum(square_b - mean_b * mean_b, 0.0)
    covariance = product - mean_a * mean_b
    c1, c2 = SSIM_K1**2, SSIM_K2**2
    similarity = ((2.0 * mean_a * mean_b + c1) * (2.0 * covariance + c2)) / (
        (mean_a * mean_a + mean_b * mean_b + c1) * (var_a + var_b + c2)
    )
    return jnp.mean(similarity, axis=(-3, -2, -1))


def _blur(image: Float[Array, "*b h w c"]) -> Float[Array, "*b h2 w2 c"]:
    # Two passes of shifted adds: several times faster on CPU than a depthwise convolution.
    radius = SSIM_WINDOW // 2
    taps = [math.exp(-0.5 * ((i - radius) / SSIM_SIGMA) ** 2) for i in range(SSIM_WINDOW)]
    height, width = image.shape[-3] - 2 * radius, image.shape[-2] - 2 * radius
    rows = jnp.zeros_like(image[..., :height, :, :])
    for i, tap in enumerate(taps):
        rows = rows + tap / sum(taps) * image[..., i : i + height, :, :]
    blurred = jnp.zeros_like(rows[..., :width, :])
    for i, tap in enumerate(taps):
        blurred = blurred + tap / sum(taps) * rows[..., i : i + width, :]
    return blurred


def _check_pair(image: Array, target: Array) -> None:
    if image.shape != target.shape or image.ndim < 3:
        raise ValueError(
            f"image metrics need two image batches [..., h, w, c] of equal shape; got "
            f"{image.shape} and {target.shape}. Resize or index them alike first."
        )
    for array in (image, target):
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise ValueError(
                f"image metrics need float images in [0, 1]; got {array.dtype}. "
                f"Divide uint8 images by 255 first."
            )
