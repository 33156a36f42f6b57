"""An avatar from a monocular capture: cameras and images of one person.

    python -m ganavatar_jax.main --config=configs/monocular.py --workdir=runs/me \
        --config.data.source=captures/me.zip --config.gan.init=weights/ffhq

Data: any layout of ganavatar_jax/data/formats/README.md. Variants: `full` is the
paper's size (512 pixels, rendering 128, batch 32, gamma 5, fixed axes, ray-box bounds, 80 kimg; the
original used eight A100), `small` is 64 pixels for a CPU, `smoke` runs every stage in seconds on
the shipped sample.
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
    # Latents stay bf16-safe where the original used half precision on GPUs.
    config.generator.half_dtype = "bfloat16"
    config.discriminator.half_dtype = "bfloat16"
    config.mapping.latent_steps = 2000
    return config
