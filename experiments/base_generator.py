"""The base generator that ships: heads of many people, seen from all around, in many expressions.

python experiments/merge_captures.py people_0.zip people_1.zip people_frontal.zip \
    --dst=runs/people.zip
python -m ganavatar_jax.main --config=experiments/base_generator.py --task=prepare_data \
    --workdir=runs/base --config.data.source=runs/people.zip
python -m ganavatar_jax.main --config=experiments/base_generator.py --task=train_gan \
    --workdir=runs/base
"""

import ml_collections

from ganavatar_jax.apps import presets


def get_config(variant: str = "full") -> ml_collections.ConfigDict:
    """Returns the configuration; the only variant is full."""
    if variant != "full":
        raise ValueError(f"variants of this config: full; got {variant!r}.")
    config = presets.small(presets.full())
    config.data.source = "runs/people.zip"
    config.data.mirror = True
    config.gan.init = ""
    config.gan.total_kimg = 50.0
    config.gan.snapshot_kimg = 2.0
    config.gan.sample_kimg = 2.0
    config.gan.log_iterations = 25
    reconstruction = config.gan.reconstruction
    reconstruction.warmup_iterations = 6250
    # Many people: identity is learnt, evenly and blind to the camera; codes are exact.
    reconstruction.encoder.update({"face_fit": "codes", "identity": "learned"})
    reconstruction.update(
        {
            "noise": 0.15,
            "random_p": 0.0,
            "uniformity_weight": 0.05,
            "camera_weight": 0.05,
            "focus_weight": 8.0,
            "eyes_weight": 0.0,
        }
    )
    reconstruction.adam.lr = 0.02
    return config
