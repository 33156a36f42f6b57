"""The card of poses: which frames it films, and the glasses that it draws."""

import importlib
import sys

import numpy as np
import pytest

from ganavatar_jax.geometry import triangulation
from helpers import heads

LENS = np.array([[4.2647, 0.0, 0.5], [0.0, 4.2647, 0.5], [0.0, 0.0, 1.0]])
EYES = {
    "pupil_left": [0.06, 0.03, 0.2],
    "pupil_right": [-0.06, 0.03, 0.2],
    "ear_left": [0.15, 0.0, 0.0],
    "ear_right": [-0.15, 0.0, 0.0],
}
GREY = np.full((128, 128, 3), 200, np.uint8)


@pytest.fixture
def scripts(repo_root, monkeypatch):
    monkeypatch.syspath_prepend(str(repo_root / "experiments"))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) & {"pose_card", "glasses", "script"} - before:
        del sys.modules[name]


def test_films_are_chosen_by_how_far_heads_are_turned(scripts):
    card = scripts("pose_card")
    angles = np.zeros((100, 3))
    angles[:, 0], angles[:, 1] = np.linspace(-50.0, 49.0, 100), 3.0
    angles[:, 2] = 40.0  # A tilt is no turn.
    few = card.choose(angles, 12.0, 10)
    assert len(few) == 10
    assert (np.hypot(angles[few, 0], angles[few, 1]) <= 12.0).all()
    assert (np.diff(few) > 0).all()
    long = card.choose(angles, 12.0, 100)
    assert len(long) == 100
    assert set(long) == set(np.flatnonzero(np.hypot(angles[:, 0], 3.0) <= 12.0))
    assert np.abs(np.diff(long)).max() == 1  # There and back, without a leap.
    # As filmed, from the first place where all can be judged on.
    np.testing.assert_array_equal(card.choose(angles, card.WHOLE, 30), 5 + np.arange(30))


@pytest.mark.parametrize("yaw", [0.0, 30.0, -30.0])
def test_glasses_are_drawn_around_the_eyes(scripts, yaw):
    glasses = scripts("glasses")
    [pose] = heads.cameras(np.array([yaw]))
    label25 = np.concatenate([pose.ravel(), LENS.ravel()])
    worn = glasses.draw_glasses(GREY, EYES, label25).astype(int)
    assert worn.shape == GREY.shape
    changed = np.argwhere((worn != 200).any(axis=-1))

    def seen(points):
        points = np.array(points, float)
        return 128 * triangulation.project(points, pose[None], LENS[None])[0][0]

    pupils = seen([EYES["pupil_left"], EYES["pupil_right"]])
    for u, v in pupils:
        assert 120 < worn[int(v), int(u)].mean() < 200  # a grey lens
        near = worn[int(v) - 12 : int(v) + 13, int(u) - 14 : int(u) + 15].min(axis=-1)
        assert near.min() < 60  # and its dark frame
    rows, columns = changed[:, 0], changed[:, 1]
    assert rows.min() > pupils[:, 1].min() - 12
    assert rows.max() < seen([EYES["ear_left"], EYES["ear_right"]])[:, 1].max() + 12
    reach = [columns.min() - pupils[:, 0].min(), columns.max() - pupils[:, 0].max()]
    if yaw:  # The temple runs to the ear on the side that is turned to the camera.
        near, far = (reach[1], reach[0]) if yaw < 0 else (reach[0], reach[1])
        assert abs(near) > abs(far) + 3


def test_glasses_of_all_styles_can_be_drawn(scripts):
    glasses = scripts("glasses")
    label25 = np.concatenate([heads.cameras(np.array([10.0]))[0].ravel(), LENS.ravel()])
    plain = glasses.draw_glasses(GREY, EYES, label25)
    generator = np.random.default_rng(0)
    for _ in range(5):
        style = glasses.draw_style(generator)
        worn = glasses.draw_glasses(GREY, EYES, label25, style)
        assert (worn != GREY).any()
        assert (worn != plain).any()
