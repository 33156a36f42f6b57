"""An avatar from many cameras around the head: the back of the head is seen in training.

    python -m ganavatar_jax.main --config=configs/multiview.py --workdir=runs/me360 \
        --config.data.source=captures/me_multiview.zip --config.gan.init=weights/ffhq

Data: any layout of ganavatar_jax/data/formats/README.md. Variants as in monocular.py.
"""

import ml_collections

from ganavatar_jax.core import presets


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
