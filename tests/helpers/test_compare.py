import numpy as np
import pytest

from helpers import compare

EXPECTED = np.array([[1.0, 2.0], [3.0, 4.0]])


def test_the_worst_entry_is_measured_in_units_of_the_spread():
    actual = EXPECTED.copy()
    actual[1, 0] += 0.5
    difference = compare.measure(actual, EXPECTED)
    assert difference.worst_index == (1, 0)
    assert difference.max == pytest.approx(0.5 / EXPECTED.std())
    assert difference.mean == pytest.approx(0.125 / EXPECTED.std())


def test_equal_arrays_pass_at_limit_zero():
    with_nonfinite = np.array([np.inf, -np.inf, np.nan, 1.0])
    compare.assert_parity(with_nonfinite, with_nonfinite, limit=0.0, name="same")


@pytest.mark.parametrize("bad", [np.nan, np.inf, 4.001])
def test_one_wrong_entry_fails_and_is_named(bad):
    actual = EXPECTED.copy()
    actual[1, 1] = bad
    with pytest.raises(AssertionError, match=r"planes: limit 0\.0001; max .* at \(1, 1\)"):
        compare.assert_parity(actual, EXPECTED, limit=1e-4, name="planes")


def test_a_finite_value_where_nan_is_expected_fails():
    with pytest.raises(AssertionError, match="max inf"):
        compare.assert_parity([1.0, 2.0], [1.0, np.nan], limit=1e-4, name="x")


def test_a_shape_that_would_broadcast_fails():
    with pytest.raises(AssertionError, match=r"shape \(2,\), expected \(2, 2\)"):
        compare.assert_parity(EXPECTED[0], EXPECTED, limit=1.0, name="x")


def test_a_constant_reference_is_measured_by_its_size():
    assert compare.measure(np.full(3, 11.0), np.full(3, 10.0)).max == pytest.approx(0.1)
    assert compare.measure(np.full(3, 0.5), np.zeros(3)).max == pytest.approx(0.5)


def test_a_share_of_outliers_can_be_allowed_and_rms_still_judges():
    expected = np.linspace(0, 1, 1000)
    actual = expected.copy()
    actual[7] += 1.0
    compare.assert_parity(actual, expected, limit=1e-4, name="fine", share=0.999)
    with pytest.raises(AssertionError, match="rms limit"):
        compare.assert_parity(
            actual, expected, limit=1e-4, name="fine", share=0.999, rms_limit=1e-2
        )


def test_gradients_are_judged_by_length_and_direction():
    compare.assert_gradient(EXPECTED, EXPECTED, name="g", l2_limit=0.0)
    with pytest.raises(AssertionError, match="L2 limit"):
        compare.assert_gradient(1.1 * EXPECTED, EXPECTED, name="g", l2_limit=0.01)
    with pytest.raises(AssertionError, match="cosine limit"):
        compare.assert_gradient(-EXPECTED, EXPECTED, name="g", l2_limit=3.0)
    with pytest.raises(AssertionError):
        compare.assert_gradient(np.nan * EXPECTED, EXPECTED, name="g", l2_limit=3.0)


def test_a_dead_gradient_has_cosine_zero():
    assert compare.cosine(np.zeros(3), np.ones(3)) == 0.0
    assert compare.cosine(np.zeros(3), np.zeros(3)) == 1.0
