"""Affine warps: the filter, lossless blitting, resampling against closed forms, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.ops import affine_warp

SIDE = 20
blit = jax.jit(affine_warp.blit)
warp = jax.jit(affine_warp.warp)


def make_images(count: int = 2, channels: int = 3) -> np.ndarray:
    shape = (count, SIDE, SIDE, channels)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def make_map(linear=((1.0, 0.0), (0.0, 1.0)), offset=(0.0, 0.0), count: int = 2) -> np.ndarray:
    matrix = np.eye(3, dtype=np.float32)
    matrix[:2, :2], matrix[:2, 2] = linear, offset
    return np.tile(matrix, (count, 1, 1))


def ramp(side: int = SIDE) -> np.ndarray:
    """One image whose channels are x, y and 1, from the centre."""
    position = np.arange(side, dtype=np.float32) - (side - 1) / 2
    x, y = np.meshgrid(position, position)
    return np.stack([x, y, np.ones_like(x)], axis=-1)[None]


def test_filter_is_orthonormal_with_six_vanishing_moments():
    taps = np.array(affine_warp.SYM6)
    for shift in range(6):
        overlap = np.sum(taps[2 * shift :] * taps[: 12 - 2 * shift])
        np.testing.assert_allclose(overlap, float(shift == 0), atol=1e-12)
    np.testing.assert_allclose(taps.sum(), np.sqrt(2.0), atol=1e-12)
    index = np.arange(12) - 5.5
    for moment in range(6):
        alternating = np.sum((-1.0) ** np.arange(12) * taps * index**moment)
        np.testing.assert_allclose(alternating, 0.0, atol=1e-8)


def test_blitting_the_identity_is_exact():
    images = make_images()
    np.testing.assert_array_equal(blit(images, make_map()), images)


def test_blitting_flips_and_turns_are_exact():
    images = make_images()
    flipped = blit(images, make_map([[-1, 0], [0, 1]]))
    np.testing.assert_array_equal(flipped, images[:, :, ::-1])
    turned = blit(images, make_map([[0, 1], [-1, 0]]))
    np.testing.assert_array_equal(turned, np.rot90(images, -1, axes=(1, 2)))


@pytest.mark.parametrize("move", [blit, warp])
@pytest.mark.parametrize("offset", [(3, 0), (-2, 5), (SIDE + 3, -SIDE)])
def test_whole_shift_is_a_roll_of_the_mirrored_image(move, offset):
    images = make_images()
    pad = 2 * SIDE
    padded = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="reflect")
    expected = np.roll(padded, (-offset[1], -offset[0]), axis=(1, 2))[:, pad:-pad, pad:-pad]
    actual = move(images, make_map(offset=offset))
    np.testing.assert_allclose(actual, expected, atol=0 if move is blit else 2e-5)


def test_warping_the_identity_reconstructs_noise():
    images = make_images()
    np.testing.assert_allclose(warp(images, make_map()), images, atol=2e-5)


@pytest.mark.parametrize("angle", [0.0, 0.3, -2.0])
@pytest.mark.parametrize("scale", [0.7, 1.3])
def test_warped_ramps_follow_the_map_where_no_mirroring_reaches(angle, scale):
    linear = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    matrix = make_map(linear, (0.37, -0.71), count=1)
    images = ramp(32)
    expected = np.einsum("ij,bhwj->bhwi", matrix[0], images)[0]
    # Doubling and halving reach 3 pixels each, the latter in output pixels.
    keep = np.all(np.abs(expected[..., :2]) < 16 - 3 - 3 * np.sqrt(2) * scale, axis=-1)
    assert keep.sum() > 100
    np.testing.assert_allclose(np.asarray(warp(images, matrix))[0][keep], expected[keep], atol=2e-5)


def test_warping_keeps_constants_everywhere():
    matrix = make_map([[2.1, 0.4], [-0.3, 1.7]], (30.0, -11.0))
    constant = np.full((2, SIDE, SIDE, 3), 0.6, np.float32)
    np.testing.assert_allclose(warp(constant, matrix), 0.6, atol=2e-6)


def test_warped_flip_matches_the_lossless_one_on_a_smooth_image():
    x, y = ramp()[0, ..., 0], ramp()[0, ..., 1]
    # Cosines of the mirror period, so that the continuation is smooth too.
    smooth = np.cos((x + (SIDE - 1) / 2) * np.pi / (SIDE - 1)) + 0.3 * np.cos(
        (y + (SIDE - 1) / 2) * 2 * np.pi / (SIDE - 1)
    )
    images = smooth[None, ..., None].astype(np.float32)
    matrix = make_map([[-1, 0], [0, 1]], count=1)
    np.testing.assert_allclose(warp(images, matrix), blit(images, matrix), atol=5e-3)


def test_samples_of_a_batch_do_not_mix():
    images = make_images(2)
    turned = make_map([[0.9, 0.2], [-0.2, 0.9]], (1.5, 0.2))
    mixed = np.stack([turned[0], make_map()[1]])
    np.testing.assert_array_equal(warp(images, mixed)[0], warp(images, turned)[0])
    np.testing.assert_array_equal(warp(images, mixed)[1], warp(images, make_map())[1])


def test_gradient_is_the_transpose_of_the_linear_map():
    images, other = make_images(2), make_images(2)[::-1].copy()
    matrix = jnp.asarray(make_map([[0.9, 0.3], [-0.2, 1.2]], (1.5, -0.2)))
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(affine_warp.warp(x, matrix) * other)))(images)
    left = np.sum(np.asarray(warp(images, matrix), np.float64) * other)
    np.testing.assert_allclose(np.sum(np.asarray(gradient, np.float64) * images), left, rtol=1e-4)
