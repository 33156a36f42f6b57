"""The same training on one device and on eight, spread in three ways."""

import jax.numpy as jnp
import numpy as np

from ganavatar_jax.geometry import boxes, rays
from helpers import tiny_gan

# From here a good part of the rays misses the cube and borrows bounds from the whole batch.
_RADIUS = 5.0


def test_eight_devices_train_the_parameters_of_one_however_they_share_the_work(tmp_path):
    trained = tiny_gan.train_everywhere(tmp_path, radius=_RADIUS)
    reference = trained.pop("jit on 1")
    start = tiny_gan.networks(tiny_gan.make_state())
    assert list(trained) == ["jit on 8", "shard_map on 8", "pmap on 8"]
    phases = {name.split(".")[2] for name in reference if name.startswith("metrics.")}
    assert phases == {"g_main", "g_reg", "d_main", "d_reg"}
    for layout, values in trained.items():
        assert values.keys() == reference.keys()
        for network in ("g.", "d.", "g_ema."):
            names = [name for name in start if name.startswith(network)]
            apart = max(np.abs(values[name] - reference[name]).max() for name in names)
            moved = max(np.abs(values[name] - start[name]).max() for name in names)
            print(f"{layout}, {network} max difference {apart:.2e}, moved {moved:.2e}")
            assert apart <= 1e-5
            assert moved > 1e-3
        for name in values:
            if name.startswith("metrics."):
                np.testing.assert_allclose(
                    values[name], reference[name], rtol=1e-4, atol=1e-5, err_msg=name
                )


def test_some_rays_of_that_training_miss_the_cube():
    label = jnp.asarray(tiny_gan.make_batch(radius=_RADIUS)["label25"])
    origins, directions = rays.pixel_rays(
        label[:, :16].reshape(-1, 4, 4), label[:, 16:].reshape(-1, 3, 3), resolution=tiny_gan.SIDE
    )
    _, _, hit = boxes.intersect_cube(origins, directions, side=1.0)
    assert 0.05 < 1.0 - float(hit.mean()) < 0.95
