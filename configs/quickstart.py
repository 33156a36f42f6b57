"""An avatar of the shipped synthetic actor, trained in front of you on two CPU cores.

Variants:
  full (default): 64 pixels, from synthetic-heads-64.
    Command: python -m ganavatar_jax.main --config=configs/quickstart.py --workdir=runs/quickstart
    Hardware and hours: two CPU cores, 11 minutes of CPU time (E026).
    Score: on 132 held-out frames, PSNR 25.29 dB, SSIM 0.892, LPIPS alex 0.0250, LPIPS vgg
      0.0701; the nearest training frame has 20.22, 0.751, 0.0272, 0.0717 (the same run).
  smoke: every stage in seconds; its result means nothing.

Data: package:actor, CC0.
"""

import ml_collections

from ganavatar_jax.apps import presets


def get_config(variant: str = "full") -> ml_collections.ConfigDict:
    """Returns the configuration; variants: full, smoke."""
    config = presets.small(presets.full())
    config.data.source = "package:actor"
    if variant == "smoke":
        return presets.smoke(config)
    if variant != "full":
        raise ValueError(
            f"variants of this config: full, smoke; got {variant!r}. It is small already: leave "
            "the variant out."
        )
    return config
