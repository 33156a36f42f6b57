"""What turning a head does to readings is learnt, undone, and kept."""

import json

import numpy as np
import pytest

from ganavatar_jax.core import errors
from ganavatar_jax.faces import turned_readings
from helpers import tiny_runs

NAMES = ("mouthSmileLeft", "browDownLeft")
RNG = np.random.default_rng(0)
YAW = RNG.uniform(-0.7, 0.7, 500)
LABELS = tiny_runs.labels(YAW)
FRONT = RNG.uniform(size=(500, 2)) * [0.6, 0.2]
U = YAW[:, None] / np.radians(turned_readings.MAX_ANGLE_DEG)


def turn(codes, u):
    """A smile reads smaller and a brow lower from the side."""
    factor, offset = 1 - u**2 * [0.4, 0.0], u * [0.0, 0.1] + u**2 * [0.05, 0.0]
    return 0.3 + (codes - 0.3) * factor + offset


@pytest.fixture(scope="module")
def fitted():
    noise = RNG.normal(scale=0.01, size=FRONT.shape)
    return turned_readings.fit(FRONT, turn(FRONT, U) + noise, LABELS, NAMES)


def test_readings_of_turned_heads_become_those_of_the_front(fitted):
    undone = fitted.to_front(turn(FRONT, U), LABELS)
    before, after = (np.abs(c - FRONT).mean(axis=0) for c in (turn(FRONT, U), undone))
    assert (after < 0.25 * before).all()
    in_front = fitted.to_front(FRONT, np.tile(tiny_runs.labels(np.zeros(1)), (500, 1)))
    np.testing.assert_allclose(in_front, FRONT, atol=1e-5)


def test_what_is_read_off_heads_turned_far_counts_as_much_as_it_is_worth():
    yaw = RNG.uniform(-1.2, 1.2, 900)
    front = RNG.normal(size=(900, 2)) * [0.2, 0.1]
    noise = np.where(np.abs(yaw[:, None]) > np.radians(50), 0.3, 0.0) * RNG.normal(size=front.shape)
    found = turned_readings.fit(front, front + noise, tiny_runs.labels(yaw), NAMES)
    np.testing.assert_allclose(found.trust[0], 1.0, atol=0.05)
    worth = np.array([0.2, 0.1]) ** 2 / (np.array([0.2, 0.1]) ** 2 + 0.3**2)
    np.testing.assert_allclose(found.trust[1], worth, atol=0.1)
    far = found.to_front(front, np.tile(tiny_runs.labels(np.radians([-70.0])), (900, 1)))
    assert (far.std(axis=0) < 0.6 * front.std(axis=0)).all()


def test_beyond_the_limit_heads_count_as_turned_that_far(fitted):
    far = tiny_runs.labels(np.radians([60.0, 80.0]))
    codes = fitted.to_front(np.tile(FRONT[:1], (2, 1)), far)
    np.testing.assert_allclose(codes[0], codes[1], atol=1e-5)
    np.testing.assert_allclose(turned_readings.angle_deg(far), [60.0, 80.0], atol=1e-3)


def test_files_keep_it_and_damaged_ones_are_refused(fitted):
    stored = json.loads(json.dumps(fitted.to_dict()))
    copy = turned_readings.from_dict(stored).select(NAMES[::-1])
    codes = turn(FRONT, U)
    np.testing.assert_allclose(
        copy.to_front(codes[:, ::-1], LABELS)[:, ::-1], fitted.to_front(codes, LABELS), atol=1e-6
    )
    for broken in (stored | {"gain": [[1.0]]}, {k: v for k, v in stored.items() if k != "centre"}):
        with pytest.raises(errors.DataFormatError, match="make_frontals again"):
            turned_readings.from_dict(broken)
