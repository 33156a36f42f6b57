"""An avatar of the shipped synthetic actor, trained in front of you on two CPU cores.

    python -m ganavatar_jax.main --config=configs/quickstart.py --workdir=runs/quickstart

Data: package:actor, CC0. Hardware: two CPU cores. Time: see README. `:smoke` runs every stage in
seconds, with a meaningless result.
"""

import ml_collections

from ganavatar_jax.core import presets


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
