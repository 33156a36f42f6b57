"""Which batches, microbatches, blocks and devices fit together."""

import re

import pytest

from ganavatar_jax.core import errors
from ganavatar_jax.training import phase_config, reconstruction_config
from helpers import tiny_gan


def _options(batch=32, *, block=4, microbatch=0, **gan):
    return tiny_gan.options(
        d={"mbstd_block_size": block}, batch_size=batch, microbatch=microbatch, **gan
    )


_EVEN = reconstruction_config.ReconstructionConfig(uniformity_weight=0.1)
_ALONE = reconstruction_config.ReconstructionConfig(warmup_iterations=-1)


@pytest.mark.parametrize(
    ("batch", "block", "microbatch", "devices", "backend"),
    [
        (32, 4, 0, 8, "pmap"),  # the original's run
        (32, 4, 4, 2, "jit"),
        (32, 4, 16, 2, "shard_map"),  # all that a device holds
        (32, 4, 64, 4, "jit"),  # more than that
        (32, 0, 0, 8, "jit"),  # the compiler compares across devices
        (32, 0, 0, 1, "shard_map"),
        (24, 1, 1, 8, "pmap"),
    ],
)
def test_batches_that_fit_are_taken(batch, block, microbatch, devices, backend):
    _options(batch, block=block, microbatch=microbatch).check_devices(devices, backend)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: _options(30),
            "gan.batch_size must be a multiple of discriminator.mbstd_block_size, within which "
            "samples are compared; got 30 and 4.",
        ),
        (
            lambda: _options(microbatch=2),
            "gan.microbatch must be a multiple of discriminator.mbstd_block_size, within which "
            "samples are compared; got 2 and 4. Set gan.microbatch=4.",
        ),
        (lambda: _options(microbatch=6), "got 6 and 4. Set gan.microbatch=4."),
        (lambda: _options(microbatch=-1), "microbatch must not be negative; got -1."),
    ],
)
def test_sizes_that_contradict_each_other_are_refused_with_the_config(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


@pytest.mark.parametrize(
    ("options", "devices", "backend", "message"),
    [
        (_options(), 5, "jit", "gan.batch_size must be a multiple of the 5 devices; got 32."),
        (
            _options(microbatch=12),
            2,
            "jit",
            "gan.microbatch must divide the 16 samples that each of 2 devices holds of a batch of "
            "32; got 12.",
        ),
        (
            _options(),
            16,
            "jit",
            "discriminator.mbstd_block_size must divide the 2 samples that each of 16 devices "
            "holds of a batch of 32; got 4.",
        ),
        (
            _options(block=0, microbatch=8),
            1,
            "jit",
            "discriminator.mbstd_block_size=0 compares samples of the whole batch, which "
            "gan.microbatch=8 cuts up. Set it to a number that divides 8.",
        ),
        (
            _options(block=0),
            4,
            "pmap",
            "parallel=pmap on 4 devices cuts up. Set it to a number that divides 8.",
        ),
        (
            _options(block=1, microbatch=1, reconstruct=True, reconstruction=_EVEN),
            1,
            "jit",
            "gan.reconstruction.uniformity_weight compares latents of one step: expected two "
            "samples or more; got 1. Set gan.microbatch=2 or more, or the weight to 0.",
        ),
    ],
)
def test_sizes_that_do_not_fit_the_devices_are_refused_in_one_line(
    options, devices, backend, message
):
    with pytest.raises(errors.ConfigError, match=re.escape(message)) as caught:
        options.check_devices(devices, backend)
    assert "\n" not in str(caught.value)


def test_one_sample_a_device_is_even_among_many_devices():
    _options(8, block=1, microbatch=1, reconstruct=True, reconstruction=_EVEN).check_devices(
        8, "jit"
    )


def test_blocks_of_a_critic_that_never_sees_an_image_bind_nobody():
    options = _options(8, block=16, microbatch=2, reconstruct=True, reconstruction=_ALONE)
    assert isinstance(options, phase_config.StepOptions)
    options.check_devices(4, "shard_map")
