"""Names of coefficients, selection and mirroring."""

import numpy as np
import pytest

from ganavatar_jax.faces import coefficients, measures

ALL_NAMES = coefficients.MEDIAPIPE_NAMES + measures.NAMES


def test_both_sets_have_52_names_and_share_51():
    assert len(set(coefficients.ARKIT_NAMES)) == len(coefficients.ARKIT_NAMES) == 52
    assert len(set(coefficients.MEDIAPIPE_NAMES)) == len(coefficients.MEDIAPIPE_NAMES) == 52
    shared = coefficients.shared(coefficients.MEDIAPIPE_NAMES, coefficients.ARKIT_NAMES)
    assert len(shared) == 51
    assert shared == coefficients.MEDIAPIPE_NAMES[1:]


def test_names_stand_where_the_net_puts_them():
    places = {"_neutral": 0, "browDownLeft": 1, "eyeBlinkLeft": 9, "jawOpen": 25}
    places |= {"mouthSmileLeft": 44, "noseSneerRight": 51}
    for name, place in places.items():
        assert coefficients.MEDIAPIPE_NAMES[place] == name


@pytest.mark.parametrize("names", [ALL_NAMES, coefficients.ARKIT_NAMES])
def test_mirroring_twice_changes_nothing_and_once_swaps_sides(names):
    codes = np.random.default_rng(0).uniform(size=(4, len(names))).astype(np.float32)
    mirrored = coefficients.mirror(codes, names)
    np.testing.assert_array_equal(coefficients.mirror(mirrored, names), codes)
    left, right, jaw = coefficients.indices(names, ["eyeBlinkLeft", "eyeBlinkRight", "jawOpen"])
    np.testing.assert_array_equal(mirrored[:, left], codes[:, right])
    np.testing.assert_array_equal(mirrored[:, jaw], codes[:, jaw])
    sideless = [name for name in names if coefficients.other_side(name) == name]
    assert not any(name.endswith(("Left", "Right")) for name in sideless)


def test_selection_follows_the_wanted_order_for_any_batch_shape():
    names = ("a", "b", "c")
    codes = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    chosen = coefficients.select(codes, names, ["c", "a"])
    np.testing.assert_array_equal(chosen, codes[..., [2, 0]])


def test_unknown_names_are_reported():
    with pytest.raises(ValueError, match="expected coefficients tongueOut; got _neutral"):
        coefficients.indices(coefficients.MEDIAPIPE_NAMES, ["jawOpen", "tongueOut"])


def test_codes_without_arkit_names_drive_whole():
    assert coefficients.driving(("exp_0", "exp_1")) == ("exp_0", "exp_1")
    assert coefficients.driving((*ALL_NAMES, "exp_0")) == coefficients.MEDIAPIPE_NAMES[1:]
