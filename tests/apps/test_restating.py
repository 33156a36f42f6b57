"""Codes come to the avatar's units by what they are, not by how the driver happens to move."""

import dataclasses

import numpy as np
import pytest

from ganavatar_jax.apps import restating
from ganavatar_jax.core import errors
from ganavatar_jax.faces import normalization, weight_table
from helpers import compiled, tiny_gan, tiny_runs

NAMES = ("jawOpen", "eyeBlinkLeft")
CODES = np.random.default_rng(0).uniform(size=(40, 2)).astype(np.float32)
OTHER = np.random.default_rng(1).uniform(size=(30, 2)).astype(np.float32) * [0.2, 1.0]


@pytest.fixture(scope="module")
def person():
    with compiled.quickly():
        yield tiny_gan.make_avatar(CODES, NAMES)


def resolve(how, **estimator):
    return tiny_runs.resolve(evaluation={"driver_statistics": how}, estimator=estimator)


def test_codes_that_the_estimator_read_stay_as_they_are_whatever_the_driver_does(person):
    for how, read in (("auto", True), ("pairs", True), ("pairs", False)):
        found = restating.restate(OTHER, person, resolve(how), read=read)
        np.testing.assert_array_equal(found, np.float32(OTHER))


def test_weights_become_what_the_estimator_reads_on_such_faces(person):
    slopes = weight_table.load().of(NAMES)
    assert (slopes > 0.1).all()
    assert (slopes < 1.1).all()
    for how in ("auto", "weights"):
        found = restating.restate(OTHER, person, resolve(how), read=False)
        np.testing.assert_allclose(found, person.neutral_code + OTHER * slopes, atol=1e-6)
    # Half of the driver's frames say the same: nothing depends on what else he does.
    np.testing.assert_array_equal(
        restating.restate(OTHER[:9], person, resolve("auto"), read=False), found[:9]
    )


def test_a_few_frames_at_rest_become_the_avatars_face_at_rest(person):
    for read in (True, False):
        found = restating.restate(OTHER, person, resolve("auto"), read=read, at_rest=OTHER[[3, 5]])
        np.testing.assert_allclose(found[[3, 5]].mean(axis=0), person.neutral_code, atol=1e-6)
        plain = restating.restate(OTHER, person, resolve("auto"), read=read)
        np.testing.assert_allclose(np.diff(found, axis=0), np.diff(plain, axis=0), atol=1e-6)


def test_where_no_table_fits_weights_are_refused_or_told_about(person, caplog):
    raw = dataclasses.replace(person.normalizer, statistics=None)
    others = [
        (person, resolve("weights", calibration="none")),
        (tiny_gan.make_avatar(CODES, ("jawOpen", "expression_3")), resolve("weights")),
        (dataclasses.replace(person, normalizer=raw), resolve("weights")),
    ]
    for stranger, resolved in others:
        with pytest.raises(errors.ConfigError, match="driver_statistics"):
            restating.refuse_unknown(stranger, resolved)
    resolved = resolve("auto", calibration="none")
    restating.refuse_unknown(person, resolved)
    found = restating.restate(OTHER, person, resolved, read=False)
    np.testing.assert_array_equal(found, np.float32(OTHER))
    assert "codes are taken as they are" in caplog.text


def test_a_driver_is_brought_to_mean_and_spread_where_asked_for(person):
    resolved = resolve("driver")
    found = restating.restate(OTHER[:5], person, resolved, read=True, of_driver=OTHER)
    every = restating.restate(OTHER, person, resolved, read=True)
    np.testing.assert_allclose(found, every[:5], atol=1e-6)
    np.testing.assert_allclose(every.mean(axis=0), CODES.mean(axis=0), atol=1e-5)
    # The jaw hardly moves: it is amplified up to a limit.
    most = CODES.std(axis=0) / np.maximum(OTHER.std(axis=0), CODES.std(axis=0) / 2.0)
    np.testing.assert_allclose(every.std(axis=0) / OTHER.std(axis=0), most, rtol=1e-4)
    raw = dataclasses.replace(person.normalizer, statistics=None)
    with pytest.raises(errors.ConfigError, match=r'driver_statistics="pairs"'):
        restating.refuse_unknown(dataclasses.replace(person, normalizer=raw), resolved)


def test_drivers_that_say_little_are_told_about(person, caplog):
    resolved = resolve("driver")
    restating.restate(OTHER, person, resolved, read=True)
    assert not caplog.text
    restating.restate(OTHER[:3], person, resolved, read=True)
    assert "3 frames say little" in caplog.text
    restating.restate(np.full((40, 2), 0.6, np.float32), person, resolved, read=True)
    assert "no coefficient moves" in caplog.text


def test_a_face_at_rest_is_not_the_mean_face(person):
    expected = np.percentile(CODES, 25, axis=0)
    np.testing.assert_allclose(person.neutral_code, expected, rtol=1e-5)
    stored = person.normalizer.to_dict()
    np.testing.assert_allclose(normalization.from_dict(stored).statistics.rest, expected, rtol=1e-5)
    del stored["code_rest"]  # a file from before
    known = normalization.from_dict(stored).statistics
    np.testing.assert_array_equal(known.rest, known.mean)
