"""An avatar from a monocular capture: cameras and images of one person.

Variants:
  full (default): the paper's size (512 pixels, rendering 128, batch 32, gamma 5, fixed axes,
    ray-box bounds, 80 kimg), from weights that weight_port makes of EG3D's.
    Command: python -m ganavatar_jax.main --config=configs/monocular.py --workdir=runs/me
      --config.data.source=captures/me.zip --config.gan.init=weights/ffhq
    Hardware and hours: not run here yet; the original used eight A100.
    Score: not known here; the paper reports PSNR 26.60, SSIM 0.76, LPIPS 0.10 on Multiface.
  small: 64 pixels for CPUs, from synthetic-heads-64.
    Command: python -m ganavatar_jax.main --config=configs/monocular.py:small --workdir=runs/me
      --config.data.source=captures/me.zip
    Hardware and hours: two CPU cores, 10 minutes from the prepared capture to the videos.
    Score: on 40 held-out frames of a private clip of 400, PSNR 19.56 dB, SSIM 0.823, LPIPS alex
      0.0279; the nearest training frame has 26.09, 0.908, 0.0072 there (run d of E012). On the
      shipped actor: see quickstart.py, which is the same recipe.
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
    # Latents stay bf16-safe where the original used half precision on GPUs.
    config.generator.half_dtype = "bfloat16"
    config.discriminator.half_dtype = "bfloat16"
    config.mapping.latent_steps = 2000
    return config
