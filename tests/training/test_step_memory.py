"""How many images a device handles at once follows from a bound on memory."""

import dataclasses

import jax
import pytest

from ganavatar_jax.training import gan_step, step_inputs, step_memory
from helpers import tiny_gan


def _count(options, images):
    program = step_inputs.Program("g_main", options, options.g.neural_resolution)
    found = step_memory.list_residuals(
        gan_step.PHASES["g_main"],
        jax.eval_shape(tiny_gan.make_state),
        step_memory.make_batch(options.g.img_resolution, images),
        step_inputs.Step(jax.random.key(0), tiny_gan.schedule(), program),
    )
    return sum(map(step_memory.count_bytes, found)) / step_memory.GIB


def _settle(options, bound, devices=1, **changes):
    gan = dataclasses.replace(options.gan, memory_gib=bound, **changes)
    return step_memory.settle_microbatch(
        dataclasses.replace(options, gan=gan),
        jax.eval_shape(tiny_gan.make_state),
        tiny_gan.schedule(),
        devices=devices,
    )


@pytest.fixture(scope="module")
def options():
    return tiny_gan.options(d={"mbstd_block_size": 2}, batch_size=12)


@pytest.fixture(scope="module")
def of_two(options):
    return _count(options, 2)


@pytest.mark.parametrize(
    ("images", "devices", "size"),
    [(12.1, 1, 0), (11.9, 1, 6), (5.9, 1, 4), (3.9, 1, 2), (0.1, 1, 2), (6.1, 2, 0), (5.9, 2, 2)],
)
def test_the_largest_microbatch_is_taken_that_fits_the_bound(
    monkeypatch, options, of_two, images, devices, size
):
    monkeypatch.setattr(step_memory, "_SMALL_PIXELS", 0)
    settled, told = _settle(options, images * of_two / 2, devices)
    share = 12 // devices
    assert settled.gan.microbatch == size
    start = f"{size} of a device's {share}" if size else f"all {share}"
    assert told.startswith(f"{start} images" + (" at once (" if size else " of a device at once ("))
    assert "kept, gan.memory_gib=" in told
    settled.check_devices(devices, "jit")
    if size and images > 1:
        assert _count(settled, size) <= images * of_two / 2


def test_what_the_user_says_and_small_trainings_are_left_as_they_are(monkeypatch, options):
    monkeypatch.setattr(step_memory, "list_residuals", None)  # nothing is counted
    assert _settle(options, 1e-9) == (
        dataclasses.replace(options, gan=dataclasses.replace(options.gan, memory_gib=1e-9)),
        "all 12 images of a device at once",
    )
    monkeypatch.setattr(step_memory, "_SMALL_PIXELS", 0)
    settled, told = _settle(options, 1e-9, microbatch=4)
    assert (settled.gan.microbatch, told) == (
        4,
        "4 of a device's 12 images at once (gan.microbatch)",
    )
    settled, told = _settle(options, 0.0)
    assert (settled.gan.microbatch, told) == (0, "all 12 images of a device at once")
