"""Writes a base run's networks as shipped weights, in half precision.

    python experiments/ship_base.py runs/base ganavatar_jax/assets/weights/synthetic-heads-64

The discriminator ships only if the run trained it.
"""

import argparse
import pathlib

import jax
import numpy as np
import script

from ganavatar_jax.apps import weights
from ganavatar_jax.core import portable


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("run", type=pathlib.Path)
    parser.add_argument("dst", type=pathlib.Path)
    options = parser.parse_args()
    options.dst.mkdir(parents=True, exist_ok=True)
    exported = options.run / "checkpoints" / "export"
    names = [weights.GENERATOR, weights.ENCODER, weights.DISCRIMINATOR]
    for name in names:
        source = exported / name
        if not source.is_file():  # a run without adversarial phases exports no discriminator
            continue
        variables, metadata = portable.load_params(source)
        half = jax.tree.map(lambda a: np.asarray(a, np.float16), variables)
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(half)):
            raise SystemExit(f"{source}: does not fit half precision.")
        metadata["provenance"].pop("gan", None)  # config.json of the run is in the model card
        metadata |= {"license": "CC0-1.0", "name": options.dst.name}
        portable.save_params(options.dst / name, half, metadata)
        print(f"{options.dst / name}: {(options.dst / name).stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    script.run(main)
