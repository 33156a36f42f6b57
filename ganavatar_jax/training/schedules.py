"""What changes over a training run, as pure functions of the images shown so far."""

from ganavatar_jax.ops import fir

_RECON_RISE_KIMG = 0.16
_MOST_SIDES = 8  # of the rendered image during its fade


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


def recon_lr_scale(current_images: float, *, batch: int, total: int, last: float) -> float:
    """Scales the learning rate of reconstruction: up at once, down over the run's second half.

    Args:
      current_images: Images shown so far.
      batch: Images of an iteration.
      total: Images of the whole run.
      last: Scale at the end.

    Returns:
      The scale; one is reached after 160 images.
    """
    rise = fade(current_images + batch, kimg=_RECON_RISE_KIMG)
    return rise * (1.0 - max(0.0, 2.0 * current_images / total - 1.0) * (1.0 - last))


def neural_resolution(current_images: float, *, initial: int, final: int, fade_kimg: float) -> int:
    """Computes the side of the rendered image.

    The original's fade takes every side on the way; each is a program to compile, minutes at full
    size. Here it goes in steps of a power of two pixels, two at least, the smallest that makes at
    most eight sides: 64, 80, 96, 112, 128.

    Args:
      current_images: Images shown so far.
      initial: Side at the start, pixels.
      final: Side after the fade, pixels.
      fade_kimg: Length of the fade, thousands of images.

    Returns:
      The side nearest to the continuous fade; a whole number of steps from the start, and exactly
      `final` once the fade is over.

    Source: EG3D reference behaviour; the steps are ours.
    """
    alpha = fade(current_images, kimg=fade_kimg)
    if alpha == 1.0:
        return final
    span = abs(final - initial)
    step = 2
    while span > step * (_MOST_SIDES - 1):
        step *= 2
    way = min(step * round(span * alpha / step), span)
    return initial + way if final >= initial else initial - way


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
