"""Makes tests/golden, the small copies of the golden files, from the full ones.

    PYTHONPATH=.:tests python -m helpers.make_small_golden FULL_FOLDER tests/golden

Small means: what eg3d_128 needs for every stage; of the two 512-pixel cases the stages before
super-resolution, which are those that differ from eg3d_128 (plane axes, bounds, background).
Nothing is rounded. Left out are super-resolution's noise constants (it never adds noise), every
second row and column of the stored planes and most rows of the largest gradient; draws are kept as
float16 where that is exact.
"""

import pathlib
import shutil
import sys
from collections.abc import Mapping

import numpy as np

from ganavatar_jax.core import trees
from helpers import golden

_GRADIENT = "gm_grad_backbone.mapping.fc0.weight"
_GRADIENT_STEP = 8
_STAGES_512 = (
    *("c", "ws_mixed", "planes_", "ray_", "point", "u_coarse", "u_fine", "render_"),
    *("dr_", "override."),
)
_WEIGHTS_512 = ("g.params.backbone.synthesis.", "g.params.decoder.", "g.buffers.backbone.")
_DRAWS = ("u_coarse", "u_fine", "gm_u_coarse", "gm_u_fine")


def shrink_arrays(name: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Picks and thins the tensors of a case."""
    kept = {
        key: value
        for key, value in arrays.items()
        if name == "eg3d_128" or key == "c" or key.startswith(_STAGES_512[1:])
    }
    kept["planes_sub"] = kept["planes_sub"][:, :, ::2, ::2]
    if _GRADIENT in kept:
        kept[f"{_GRADIENT}[::{_GRADIENT_STEP}]"] = kept.pop(_GRADIENT)[::_GRADIENT_STEP]
    for key in kept.keys() & set(_DRAWS):
        halved = kept[key].astype(np.float16)
        assert np.array_equal(halved.astype(np.float32), kept[key].astype(np.float32)), key
        kept[key] = halved
    return kept


def shrink_weights(name: str, g: Mapping, d: Mapping) -> dict[str, np.ndarray]:
    """Picks the weights that the stages of a case use."""
    flat = dict(trees.flatten_names({"g": g, "d": d}))
    if name == "eg3d_128":
        return {k: v for k, v in flat.items() if not k.startswith("g.buffers.superresolution.")}
    return {k: v for k, v in flat.items() if k.startswith(_WEIGHTS_512)}


def main(full: pathlib.Path, small: pathlib.Path) -> None:
    """Writes the small folder."""
    small.mkdir(exist_ok=True)
    for name in ("eg3d_128", "eg3d_ffhq512", "ganavatar512_box"):
        shutil.copyfile(full / f"{name}.json", small / f"{name}.json")
        with np.load(full / f"{name}.npz") as archive:
            arrays = shrink_arrays(name, {key: archive[key] for key in archive.files})
        np.savez_compressed(small / f"{name}.npz", **arrays)
        snapshot = full / f"{name}.pkl"
        if snapshot.is_file():
            weights = shrink_weights(name, *golden.read_snapshot(snapshot))
            np.savez_compressed(small / f"{name}_weights.npz", **weights)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
