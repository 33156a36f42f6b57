"""Augmentation: identity, geometry, colour, probabilities, determinism, gradients, controller."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.training import augment, augment_config

SIDE = 16
ALL = augment_config.AugmentConfig()
# A factor of its own for every operation, so that none can take another's.
MIXED = augment_config.AugmentConfig(
    **{f.name: 1 - 0.06 * i for i, f in enumerate(dataclasses.fields(ALL))}
)
LUMA = np.full(3, 1 / np.sqrt(3))
FIELD_OF = {
    "xflip": "flip",
    "rotate90": "quarter_turns",
    "xint": "whole_shift",
    "scale": "log2_scale",
    "aniso": "log2_aspect",
    "xfrac": "shift",
    "brightness": "brightness",
    "contrast": "log2_contrast",
    "lumaflip": "luma_flip",
    "hue": "hue",
    "saturation": "log2_saturation",
}
# xflip and lumaflip toss a coin after firing, quarter turns draw one of four.
VISIBLE = {"xflip": 0.5, "lumaflip": 0.5, "rotate90": 0.75}


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (4, SIDE, SIDE, 6)).astype(np.float32)


@jax.jit
def probe(key, images, p, sample_ids):
    """Augmented images, and the gradient of a gradient penalty on a critic that sees them."""

    def critic(x):
        augmented = augment.augment(key, x, p, config=ALL, sample_ids=sample_ids)
        return jnp.sum(augmented**3), augmented

    def penalty(x):
        gradient, augmented = jax.grad(critic, has_aux=True)(x)
        return jnp.sum(gradient**2), augmented

    gradient, augmented = jax.grad(penalty, has_aux=True)(images)
    return augmented, gradient


@jax.jit
def apply_draws(images, draws):
    return augment.augment(jax.random.key(9), images, 1.0, config=ALL, draws=draws)


@jax.jit
def sample_many(key, p):
    return augment.sample_draws(key, jnp.arange(4000), p, config=MIXED)


def neutral(count: int = 4, **changes) -> augment.AugmentDraws:
    zeros = np.zeros(count, np.float32)
    fields = {field.name: zeros for field in dataclasses.fields(augment.AugmentDraws)}
    fields |= {"flip": zeros > 0, "luma_flip": zeros > 0, "quarter_turns": zeros.astype(np.int32)}
    fields |= {name: np.zeros((count, 2), np.float32) for name in ("whole_shift", "shift")}
    fields |= {name: np.asarray(value) for name, value in changes.items()}
    return augment.AugmentDraws(**{name: jnp.asarray(value) for name, value in fields.items()})


def test_probability_zero_is_exactly_the_identity(key, images):
    actual, gradient = probe(key, images, 0.0, jnp.arange(4))
    np.testing.assert_array_equal(actual, images)
    np.testing.assert_allclose(gradient, 36.0 * images**3, rtol=1e-5)  # of sum (3 x^2)^2


def test_probability_one_changes_every_sample(key, images):
    actual = np.asarray(probe(key, images, 1.0, jnp.arange(4))[0])
    assert np.all(np.abs(actual - images).max(axis=(1, 2, 3)) > 0.05)


def test_flip_and_quarter_turn_are_lossless(images):
    draws = neutral(flip=[True, False, False, False], quarter_turns=np.int32([0, 0, 1, 2]))
    actual = np.asarray(apply_draws(images, draws))
    np.testing.assert_array_equal(actual[0], images[0, :, ::-1])
    np.testing.assert_array_equal(actual[1], images[1])
    np.testing.assert_array_equal(actual[2], np.rot90(images[2], -1))
    np.testing.assert_array_equal(actual[3], np.rot90(images[3], 2))


def test_whole_shift_moves_content_and_mirrors_the_border_in(images):
    shift = np.tile(np.float32([[0.12, -0.06]]), (4, 1))  # 1.92 and -0.96 pixels
    actual = np.asarray(apply_draws(images, neutral(whole_shift=shift)))
    padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)), mode="reflect")
    expected = np.roll(padded, (-1, 2), axis=(1, 2))[:, 4:-4, 4:-4]
    np.testing.assert_array_equal(actual, expected)


def test_fractional_shift_by_whole_pixels_agrees_with_the_whole_shift(images):
    shift = np.tile(np.float32([[2 / SIDE, -1 / SIDE]]), (4, 1))
    fractional = apply_draws(images, neutral(shift=shift))
    whole = apply_draws(images, neutral(whole_shift=shift))
    np.testing.assert_allclose(fractional, whole, atol=2e-5)


def test_enlarging_a_ramp_flattens_it():
    position = (np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2) / SIDE
    ramp = np.broadcast_to(position[None, None, :, None], (4, SIDE, SIDE, 6))
    draws = neutral(
        log2_scale=np.float32([1, 0, 0, 0]),
        log2_aspect=np.float32([0, 1, 0, 0]),
        angle_before=np.float32([0, 0, np.pi / 2, 0]),
        angle_after=np.float32([0, 0, 0, np.pi]),
    )
    actual = np.asarray(apply_draws(np.ascontiguousarray(ramp), draws))[:, 7:9, 7:9, 0]
    step = 1 / SIDE
    slope = actual[:, 0, 1] - actual[:, 0, 0]
    np.testing.assert_allclose(slope, [step / 2, step / 2, 0.0, -step], atol=1e-5)


def reference_color(rgb: np.ndarray, draws: augment.AugmentDraws, index: int) -> np.ndarray:
    """The colour operations one after the other, each from its own definition."""
    get = {name: np.asarray(value)[index] for name, value in vars(draws).items()}
    rgb = (rgb + get["brightness"]) * 2.0 ** get["log2_contrast"]
    along = (rgb @ LUMA)[..., None] * LUMA
    if get["luma_flip"]:
        rgb = rgb - 2 * along
        along = -along
    chroma = rgb - along
    angle = get["hue"]
    chroma = chroma * np.cos(angle) + np.cross(LUMA, chroma) * np.sin(angle)
    return along + chroma * 2.0 ** get["log2_saturation"]


def test_colour_matches_the_operations_one_by_one_on_both_triples(images):
    rng = np.random.default_rng(1)
    names = ("brightness", "log2_contrast", "hue", "log2_saturation")
    draws = neutral(
        luma_flip=[True, False, True, False],
        **{name: rng.normal(size=4).astype(np.float32) for name in names},
    )
    actual = np.asarray(apply_draws(images, draws))
    for index in range(4):
        for triple in (slice(0, 3), slice(3, 6)):
            expected = reference_color(images[index, ..., triple].astype(float), draws, index)
            np.testing.assert_allclose(actual[index, ..., triple], expected, atol=2e-5)


def test_hue_and_saturation_keep_luma(images):
    draws = neutral(
        hue=np.float32([1.0, -2.0, 3.0, 0.0]), log2_saturation=np.float32([1.0, 0.0, -1.0, -9.0])
    )
    actual = np.asarray(apply_draws(images, draws))
    np.testing.assert_allclose(actual[..., :3].mean(-1), images[..., :3].mean(-1), atol=1e-6)


def test_geometry_keeps_a_constant_image(key):
    drawn = jax.tree.map(lambda x: x[:4], sample_many(key, 1.0))
    off = ("brightness", "log2_contrast", "luma_flip", "hue", "log2_saturation")
    draws = dataclasses.replace(drawn, **{name: getattr(neutral(), name) for name in off})
    actual = apply_draws(np.full((4, SIDE, SIDE, 6), 0.4, np.float32), draws)
    np.testing.assert_allclose(actual, 0.4, atol=2e-6)


@pytest.mark.parametrize("p", [0.2, 0.7])
def test_every_operation_fires_with_its_probability(key, p):
    draws = sample_many(key, p)
    for name, field in FIELD_OF.items():
        value = np.asarray(getattr(draws, field)).reshape(4000, -1)
        expected = p * getattr(MIXED, name) * VISIBLE.get(name, 1.0)
        limit = 4.5 * np.sqrt(expected * (1 - expected) / 4000)
        assert abs(np.mean(np.any(value != 0, axis=1)) - expected) < limit, name
    before, after = np.asarray(draws.angle_before) != 0, np.asarray(draws.angle_after) != 0
    expected = p * MIXED.rotate
    limit = 4.5 * np.sqrt(expected * (1 - expected) / 4000)
    assert abs(np.mean(before | after) - expected) < limit
    assert abs(before.mean() - (1 - np.sqrt(1 - expected))) < limit


def test_strengths_have_the_published_spread(key):
    draws = sample_many(key, 1.0)
    spreads = {
        "log2_scale": 0.2,
        "log2_aspect": 0.2,
        "shift": 0.125,
        "brightness": 0.2,
        "log2_contrast": 0.5,
        "log2_saturation": 1.0,
        "whole_shift": 0.125 / np.sqrt(3),
        "hue": np.pi / np.sqrt(3),
        "angle_before": np.pi / np.sqrt(3),
        "angle_after": np.pi / np.sqrt(3),
    }
    for name, spread in spreads.items():
        value = np.asarray(getattr(draws, name)).ravel()
        value = value[value != 0]
        np.testing.assert_allclose(value.std(), spread, rtol=0.07, err_msg=name)
        assert abs(value.mean()) < 5 * spread / np.sqrt(value.size), name
    turns = np.bincount(np.asarray(draws.quarter_turns), minlength=4)[1:]
    np.testing.assert_allclose(turns / 4000, 0.25 * MIXED.rotate90, atol=0.04)


def test_operations_fire_independently(key):
    draws = sample_many(key, 0.5)
    fired = np.stack(
        [np.any(np.asarray(getattr(draws, f)).reshape(4000, -1) != 0, 1) for f in FIELD_OF.values()]
    )
    correlation = np.corrcoef(fired) - np.eye(len(fired))
    assert np.abs(correlation).max() < 5 / np.sqrt(4000)


def test_draws_do_not_depend_on_how_the_batch_is_split(key):
    whole = sample_many(key, 0.6)
    part = jax.jit(lambda ids: augment.sample_draws(key, ids, 0.6, config=MIXED))(
        jnp.asarray([3999, 17])
    )
    for all_samples, some in zip(jax.tree.leaves(whole), jax.tree.leaves(part), strict=True):
        np.testing.assert_allclose(some, all_samples[jnp.asarray([3999, 17])], rtol=1e-6)


def test_result_depends_on_the_sample_id_not_on_the_place_in_the_batch(key, images):
    ids = jnp.asarray([11, 12, 13, 14])
    order = np.array([2, 0, 3, 1])
    straight = probe(key, images, 0.8, ids)[0]
    shuffled = probe(key, images[order], 0.8, ids[order])[0]
    np.testing.assert_allclose(shuffled, straight[order], atol=1e-6)
    repeated = np.asarray(probe(key, images[:1].repeat(4, 0), 0.8, ids)[0])
    np.testing.assert_allclose(repeated[0], straight[0], atol=1e-6)
    assert np.all(np.abs(repeated[1:] - repeated[:1]).max(axis=(1, 2, 3)) > 0.02)


def test_gradient_of_the_gradient_penalty_is_finite_and_alive(key, images):
    gradient = np.asarray(probe(key, images, 0.9, jnp.arange(4))[1])
    assert np.all(np.isfinite(gradient))
    assert np.all(np.abs(gradient).max(axis=(1, 2, 3)) > 0)


@pytest.mark.parametrize(("sign_mean", "expected"), [(0.9, 0.30128), (0.1, 0.29872), (0.6, 0.3)])
def test_controller_steps_towards_its_target(sign_mean, expected):
    actual = augment.update_p(0.3, sign_mean, batch=32, interval=4, ada_kimg=100.0, target=0.6)
    np.testing.assert_allclose(actual, expected, atol=1e-7)


def test_controller_rises_from_zero_to_one_in_ada_kimg_and_never_goes_below_zero():
    steps = int(500_000 / (32 * 4))
    rise = jax.jit(
        lambda: jax.lax.fori_loop(0, steps, lambda _, p: augment.update_p(p, 1.0, batch=32), 0.0)
    )
    np.testing.assert_allclose(rise(), 1.0, atol=1e-3)
    assert augment.update_p(1e-6, 0.0, batch=32) == 0.0


@pytest.mark.parametrize("shape", [(1, 8, 9, 3), (1, 8, 8, 4)])
def test_unfit_images_are_refused(key, shape):
    with pytest.raises(ValueError, match="square images of RGB triples; got shape"):
        augment.augment.__wrapped__(key, jnp.zeros(shape), 0.5, config=ALL)


def test_a_multiplier_outside_its_range_is_refused():
    with pytest.raises(ValueError, match="hue must be a factor on the probability, 0..1; got 2"):
        augment_config.AugmentConfig(hue=2.0)
