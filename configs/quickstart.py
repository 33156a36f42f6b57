"""An avatar of the shipped synthetic actor, trained in front of you on two CPU cores.

Variants:
  full (default): 64 pixels, from synthetic-heads-64.
    Command: python -m ganavatar_jax.main --config=configs/quickstart.py --workdir=runs/quickstart
    Hardware and hours: two CPU cores, 9.4 minutes (E016).
    Score: on 144 held-out frames, PSNR 26.20 dB, SSIM 0.908, LPIPS alex 0.0214, LPIPS vgg
      0.0663; the nearest training frame has 19.78, 0.735, 0.0293, 0.0779 (the same run).
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
