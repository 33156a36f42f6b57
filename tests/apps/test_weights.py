"""Starts of a run: found by name or folder, and refused if they do not fit."""

import dataclasses

import jax
import numpy as np
import pytest

from ganavatar_jax.apps import experiment_config, presets, weights
from ganavatar_jax.core import config as config_lib
from ganavatar_jax.core import errors, trees
from ganavatar_jax.models import encoder_config
from helpers import tiny_gan

_ENCODER = encoder_config.EncoderConfig(channel_base=32, channel_max=4, face_dim=3)


@pytest.fixture(scope="module")
def e():
    config = tiny_gan.GENERATOR
    shapes = weights.abstract_encoder(_ENCODER, config)
    return tiny_gan.fill(shapes, 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, e):
    path = tmp_path_factory.mktemp("start")
    state = tiny_gan.make_state()
    weights.save_networks(
        path,
        state.g,
        state.d,
        g_config=tiny_gan.GENERATOR,
        d_config=tiny_gan.DISCRIMINATOR,
        e={**e, "probes": {"camera": {"out": {"bias": np.zeros(3)}}}},
        e_config=_ENCODER,
        provenance={"made": "here"},
    )
    return path


def _load(init, **options):
    return weights.load_start(str(init), tiny_gan.GENERATOR, tiny_gan.DISCRIMINATOR, **options)


def test_all_three_networks_come_back_without_probes(folder, e):
    start = _load(folder, e=_ENCODER)
    for found, expected in ((start.g, tiny_gan.make_state().g), (start.e, e)):
        found, expected = (dict(trees.flatten_names(tree)) for tree in (found, expected))
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert start.d is not None


def test_a_run_without_an_encoder_leaves_the_starts_aside(folder):
    assert _load(folder).e is None


def test_a_start_may_be_a_generator_alone(folder, tmp_path):
    (tmp_path / weights.GENERATOR).write_bytes((folder / weights.GENERATOR).read_bytes())
    start = _load(tmp_path, e=_ENCODER)
    assert start.d is None
    assert start.e is None


def test_an_encoder_of_other_sizes_is_refused(folder):
    other = dataclasses.replace(_ENCODER, face_dim=2)
    with pytest.raises(errors.WeightError, match="does not fit"):
        _load(folder, e=other)


def test_a_persons_own_encoder_is_a_start_for_another_person(folder, tmp_path):
    own = dataclasses.replace(_ENCODER, identity="face")
    written = tiny_gan.fill(weights.abstract_encoder(own, tiny_gan.GENERATOR), 5)
    state = tiny_gan.make_state()
    options = {"g_config": tiny_gan.GENERATOR, "d_config": tiny_gan.DISCRIMINATOR}
    weights.save_networks(
        tmp_path, state.g, None, **options, e=written, e_config=own, provenance={}
    )
    for identity in ("face", "mean"):
        start = _load(tmp_path, e=dataclasses.replace(_ENCODER, identity=identity))
        width = start.e["buffers"]["reader"]["weight"].shape[1]
        assert width == tiny_gan.GENERATOR.z_dim
    assert _load(folder, e=own).e["buffers"]["reader"]["weight"].shape[1] == _ENCODER.face_dim
    with pytest.raises(errors.WeightError, match=r'learnt who people are.*"face"'):
        _load(tmp_path, e=_ENCODER)
    with pytest.raises(errors.WeightError, match=r"face_dim=0"):
        _load(tmp_path, e=dataclasses.replace(_ENCODER, face_dim=0, identity="mean"))


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(errors.WeightError, match=r"synthetic-heads-64.*got 'synthetic-head'"):
        weights.locate("synthetic-head")


def test_a_damaged_start_is_refused_by_its_checksum(folder, tmp_path):
    content = bytearray((folder / weights.GENERATOR).read_bytes())
    content[-5] ^= 0xFF
    (tmp_path / weights.GENERATOR).write_bytes(content)
    with pytest.raises(errors.WeightError, match="sha256"):
        _load(tmp_path)


def test_the_shipped_start_fits_the_small_configurations():
    config = presets.small(presets.full())
    config.data.source = "package:actor"
    resolved = config_lib.resolve(experiment_config.ExperimentConfig, config)
    start = weights.load_start(
        resolved.gan.init,
        resolved.generator,
        resolved.discriminator,
        e=resolved.gan.reconstruction.encoder,
    )
    leaves = jax.tree.leaves((start.g, start.e))
    assert all(np.isfinite(leaf).all() for leaf in leaves)
