"""What the tasks refuse before they begin, and how drivers are brought to an avatar's spread."""

import numpy as np
import pytest

from ganavatar_jax.apps import evaluate, experiment
from ganavatar_jax.core import errors
from ganavatar_jax.faces import estimators
from helpers import tiny_gan

_CODES = np.array([[0.0, 1.0], [0.5, 3.0], [1.0, 2.0]], np.float32)


def test_coefficients_an_estimator_does_not_read_are_refused_with_the_option():
    config = estimators.EstimatorConfig(name="deep3dface")
    experiment.refuse_unread(("a", "b"), ("b", "a", "c"), config)
    experiment.refuse_unread((), ("b",), config)
    with pytest.raises(errors.ConfigError, match=r"'deep3dface'.*got jawOpen.*coefficients="):
        experiment.refuse_unread(("jawOpen",), ("expression_0", "expression_1"), config)


def test_a_gain_divides_the_spread_of_the_driver():
    mean, spread = evaluate.driver_statistics(_CODES, experiment.EvaluationConfig())
    np.testing.assert_allclose(mean, [0.5, 2.0])
    options = experiment.EvaluationConfig(driver_gain=2.0)
    same_mean, half = evaluate.driver_statistics(_CODES, options)
    np.testing.assert_allclose(same_mean, mean)
    np.testing.assert_allclose(half, spread / 2)


def test_codes_of_the_avatars_own_estimator_stay_as_they_are():
    options = experiment.EvaluationConfig(driver_statistics="pairs", driver_gain=2.0)
    assert evaluate.driver_statistics(_CODES, options) is None


def _avatar():
    return tiny_gan.make_avatar(_CODES, ("jawOpen", "eyeBlinkLeft"))


def test_codes_far_from_what_an_avatar_knows_are_cut_off():
    person = _avatar()
    mean, std = person.normalizer.mean, person.normalizer.std
    near, edge, far = (person.encode((mean + k * std)[None]) for k in (1.0, 3.0, 30.0))
    np.testing.assert_allclose(far, edge, rtol=1e-5, atol=1e-6)
    assert np.abs(near - edge).max() > 1e-3
    assert np.abs(person.encode((mean + 30 * std)[None], limit=None) - edge).max() > 1e-2


def test_codes_of_another_width_are_refused_by_name():
    with pytest.raises(ValueError, match=r"jawOpen, eyeBlinkLeft; got \(1, 52\)"):
        _avatar().encode(np.zeros((1, 52), np.float32))


@pytest.mark.parametrize("gain", [0.0, -1.0, 5.0])
def test_a_gain_that_cannot_be_meant_is_refused(gain):
    with pytest.raises(ValueError, match="driver_gain"):
        experiment.EvaluationConfig(driver_gain=gain)
