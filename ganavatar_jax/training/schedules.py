"""What changes over a training run, as pure functions of the images shown so far."""

from ganavatar_jax.ops import fir


def fade(current_images: float, *, kimg: float) -> float:
    """Computes how far a fade has come.

    Args:
      current_images: Images shown so far.
      kimg: Length of the fade, thousands of images; 0 means it is over.

    Returns:
      A number in [0, 1].

    Source: EG3D reference behaviour.
    """
    return 1.0 if kimg <= 0 else min(current_images / (1000.0 * kimg), 1.0)


def neural_resolution(
    current_images: float, *, initial: int, final: int | None, fade_kimg: float
) -> int:
    """Computes the side of the rendered image.

    Args:
      current_images: Images shown so far.
      initial: Side at the start, pixels.
      final: Side after the fade, pixels; None keeps the initial one.
      fade_kimg: Length of the fade, thousands of images.

    Returns:
      The side, rounded half to even.

    Source: EG3D reference behaviour.
    """
    if final is None:
        return initial
    alpha = fade(current_images, kimg=fade_kimg)
    return int(round(initial * (1 - alpha) + final * alpha))


def blur_sigma(current_images: float, *, initial: float, fade_kimg: float) -> float:
    """Computes the width of the blur in front of the discriminator.

    Args:
      current_images: Images shown so far.
      initial: Width at the start, pixels; 0 switches the blur off.
      fade_kimg: Images over which it vanishes, thousands.

    Returns:
      The width, pixels.

    Source: Karras et al. 2021 (StyleGAN3); EG3D reference behaviour.
    """
    if initial <= 0:
        return 0.0
    return (1.0 - fade(current_images, kimg=fade_kimg)) * initial


def blur_taps(sigma: float, *, initial: float) -> tuple[float, ...] | None:
    """Computes the blur's taps, padded to the length they have at the start.

    The length is fixed so that one compiled step serves the whole fade.

    Args:
      sigma: Present width, pixels.
      initial: Width at the start, pixels.

    Returns:
      Taps, or None where there is no blur.

    Source: EG3D reference behaviour.
    """
    taps = fir.blur_taps(sigma)
    if len(taps) == 1:
        return None
    longest = len(fir.blur_taps(initial))
    side = (0.0,) * ((longest - len(taps)) // 2)
    return side + taps + side


def swapping_probability(
    current_images: float, *, probability: float | None, fade_kimg: float
) -> float | None:
    """Computes how often the generator is conditioned on another sample's camera.

    Args:
      current_images: Images shown so far.
      probability: Probability at the end of the fade, or None: no conditioning at all.
      fade_kimg: Images over which it falls from 1, thousands.

    Returns:
      The probability, or None.

    Source: EG3D (Chan et al. 2022), section 4.4 (generator pose conditioning).
    """
    if probability is None:
        return None
    alpha = fade(current_images, kimg=fade_kimg)
    return (1 - alpha) + alpha * probability
