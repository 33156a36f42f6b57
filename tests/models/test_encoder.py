"""The image encoder, its probes, and the reversed gradient between them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.models import encoder, encoder_config, face_reader
from helpers import compiled, lazy_images, tiny_gan

_CONFIG = encoder_config.EncoderConfig(channel_base=64, channel_max=8)
_FACE = dataclasses.replace(_CONFIG, face_dim=4)
_Z = 10
_SIDE = tiny_gan.SIDE


@pytest.fixture(autouse=True, scope="module")
def _quick():
    with compiled.quickly():
        yield


@pytest.fixture(scope="module")
def frames():
    batch = tiny_gan.make_batch(batch=48)
    return batch["image_u8"], batch["label25"]


def _settled(config, frames, **options):
    variables = encoder.init(jax.random.key(0), config, resolution=_SIDE, z_dim=_Z)
    return encoder.settle(variables, config, *frames, z_dim=_Z, **options)


def _encode(variables, config, frames):
    image = jnp.asarray(frames[0] / 127.5 - 1.0, jnp.float32)
    return np.asarray(encoder.apply(variables, image, jnp.asarray(frames[1]), config, z_dim=_Z))


@pytest.mark.parametrize("config", [_CONFIG, _FACE], ids=["learned", "with a face reading"])
def test_latents_have_root_mean_square_one_and_differ(config, frames):
    z = _encode(_settled(config, frames), config, frames)
    np.testing.assert_allclose(np.mean(z**2, axis=-1), 1.0, rtol=1e-5)
    assert np.abs(z[0] - z[1]).max() > 1e-3


def test_one_persons_identity_is_the_same_in_every_frame(frames):
    config = dataclasses.replace(_FACE, identity="mean")
    z = _encode(_settled(config, frames), config, frames)
    identity = z[:, 4:] / np.linalg.norm(z[:, 4:], axis=1, keepdims=True)
    np.testing.assert_allclose(identity, np.broadcast_to(identity[:1], identity.shape), atol=1e-5)
    assert np.abs(z[0, :4] - z[1, :4]).max() > 1e-3


@pytest.mark.parametrize("fitted", [False, True], ids=["from pixels", "beside a start's reading"])
def test_all_of_a_latent_may_tell_of_the_face(frames, fitted):
    config = dataclasses.replace(_FACE, identity="face")
    start = _settled(_FACE, frames)
    variables = encoder.settle(start, config, *frames, z_dim=_Z, fitted=fitted)
    abstract = encoder.init(jax.random.key(0), config, resolution=_SIDE, z_dim=_Z)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, abstract)
    first = start["buffers"]["reader"]
    if fitted:
        first = face_reader.adapt(first, *frames, size=4)
    np.testing.assert_array_equal(variables["buffers"]["reader"]["weight"][:, :4], first["weight"])
    z = _encode(variables, config, frames)
    np.testing.assert_allclose(np.mean(z**2, axis=-1), 1.0, rtol=1e-5)
    assert z.std(axis=0).min() > 0.1


def test_a_longer_reading_needs_a_reading():
    with pytest.raises(ValueError, match="face_dim=0"):
        dataclasses.replace(_CONFIG, identity="face")


def test_no_gradient_reaches_the_face_reading(frames):
    variables = _settled(_FACE, frames)
    image = jnp.asarray(frames[0][:2] / 127.5 - 1.0, jnp.float32)
    label = jnp.asarray(frames[1][:2])

    def loss(reader):
        buffers = {**variables["buffers"], "reader": reader}
        z = encoder.apply({**variables, "buffers": buffers}, image, label, _FACE, z_dim=_Z)
        return jnp.sum(jnp.sin(z))

    for gradient in jax.tree.leaves(jax.grad(loss)(variables["buffers"]["reader"])):
        np.testing.assert_array_equal(gradient, np.zeros_like(gradient))


def test_a_fitted_reading_is_centred_on_new_frames_and_keeps_its_direction(frames):
    variables = _settled(_FACE, frames)
    other = tiny_gan.make_batch(1, batch=24)
    one_camera = np.repeat(other["label25"][:1], 24, axis=0)
    other = (other["image_u8"], one_camera)
    again = encoder.settle(variables, _FACE, *other, z_dim=_Z, fitted=True)
    before, after = (v["buffers"]["reader"] for v in (variables, again))
    np.testing.assert_allclose(before["weight"], after["weight"], rtol=1e-6)
    assert np.abs(before["centre"] - after["centre"]).max() > 1e-3


def test_frames_on_disk_settle_an_encoder_as_those_in_memory_do(frames, monkeypatch):
    config = dataclasses.replace(_FACE, identity="face")
    image_u8, label25 = frames
    lazy = lazy_images.LazyImages(image_u8)
    monkeypatch.setattr(face_reader, "_CHUNK_PIXELS", 8 * _SIDE**2)
    monkeypatch.setattr(encoder, "_CHUNK_PIXELS", 8 * _SIDE**2)
    monkeypatch.setattr(encoder, "_IDENTITY_FRAMES", 8)
    expected = _settled(config, frames)["buffers"]
    for leaf, value in zip(
        jax.tree.leaves(_settled(config, (lazy, label25))["buffers"]),
        jax.tree.leaves(expected),
        strict=True,
    ):
        np.testing.assert_array_equal(leaf, value)
    assert lazy.most == 8


@pytest.mark.parametrize("fit", ["codes", "pixels"])
def test_of_very_many_frames_evenly_chosen_ones_fit_the_reading(frames, monkeypatch, fit):
    codes = np.random.default_rng(0).normal(size=(48, 6)).astype(np.float32)
    monkeypatch.setattr(encoder, "_READER_FRAMES", 24)
    rows = np.round(np.linspace(0, 47, 24)).astype(int)
    few = [part[rows] for part in frames]
    options = [{"codes": codes}, {"codes": codes[rows]}] if fit == "codes" else [{}, {}]
    all_of_them, some = (
        _settled(_FACE, given, **more)["buffers"]["reader"]
        for given, more in zip((frames, few), options, strict=True)
    )
    for name, value in some.items():
        np.testing.assert_array_equal(all_of_them[name], value)


def test_probes_beside_the_parameters_do_not_change_the_latents(frames):
    variables = _settled(_CONFIG, frames)
    probe = encoder.init_probe(jax.random.key(1), z_dim=_Z, features=2)
    beside = {**variables, "probes": {"camera": probe}}
    z = _encode(variables, _CONFIG, frames)
    np.testing.assert_array_equal(_encode(beside, _CONFIG, frames), z)
    assert encoder.apply_probe(probe, jnp.asarray(z), features=2).shape == (len(z), 2)


def test_a_reversed_gradient_keeps_values_and_turns_round(key):
    z = jax.random.normal(key, (2, 5))
    np.testing.assert_array_equal(encoder.reverse_gradient(z, 0.3), z)
    weight = jnp.arange(10.0).reshape(2, 5)
    plain = jax.grad(lambda x: jnp.sum(weight * x**2))(z)
    turned = jax.grad(lambda x: jnp.sum(weight * encoder.reverse_gradient(x, 0.3) ** 2))(z)
    np.testing.assert_allclose(turned, -0.3 * plain, rtol=1e-4, atol=1e-6)
