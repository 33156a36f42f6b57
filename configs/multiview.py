"""An avatar from many cameras around the head: the back of the head is seen in training.

Variants:
  full (default): the paper's size, as in monocular.py, and three times as long.
    Command: python -m ganavatar_jax.main --config=configs/multiview.py --workdir=runs/me360
      --config.data.source=captures/me_multiview.zip --config.gan.init=weights/ffhq
    Hardware and hours: not run here yet; the original used eight A100.
    Score: not known here; the paper reports PSNR 26.60, SSIM 0.76, LPIPS 0.10 on Multiface.
  small: 64 pixels for CPUs, from synthetic-heads-64; what monocular.py:small is.
    Command: as above with --config=configs/multiview.py:small, without --config.gan.init.
    Hardware and hours: as many images as monocular.py:small, so about its 10 minutes on two CPU
      cores; not run on a capture of many cameras here yet.
    Score: not known.
  smoke: every stage in seconds on the shipped sample; its result means nothing.

Data: any layout of ganavatar_jax/data/formats/README.md.
"""

import ml_collections

from ganavatar_jax.apps import presets


def get_config(variant: str = "full") -> ml_collections.ConfigDict:
    """Returns the configuration; variants: full, small, smoke."""
    config = presets.full()
    if variant == "smoke":
        return presets.smoke(config)
    if variant == "small":
        return presets.small(config)
    if variant != "full":
        raise ValueError(f"variants of this config: full, small, smoke; got {variant!r}.")
    config.generator.half_dtype = "bfloat16"
    config.discriminator.half_dtype = "bfloat16"
    config.gan.total_kimg = 240.0  # more views take longer; the paper's number is lost
    config.mapping.latent_steps = 2000
    return config
