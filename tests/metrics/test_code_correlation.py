import numpy as np
import pytest

from ganavatar_jax.metrics import expression

NAMES = ("jaw", "smile", "still")


@pytest.fixture
def codes():
    generator = np.random.default_rng(0)
    driving = generator.uniform(size=(50, 3))
    driving[:, 2] = 0.25
    return driving, driving + generator.normal(scale=0.2, size=driving.shape)


def test_correlation_equals_numpy_and_constant_coefficients_are_none(codes):
    result = expression.code_correlation(*codes, np.ones(50, bool), NAMES)
    assert list(result) == list(NAMES)
    for column, name in enumerate(NAMES[:2]):
        expected = np.corrcoef(codes[0][:, column], codes[1][:, column])[0, 1]
        np.testing.assert_allclose(result[name], expected, rtol=1e-9)
    assert result["still"] is None


def test_only_used_frames_count(codes):
    driving, read_back = codes
    used = np.arange(50) < 30
    spoiled = read_back.copy()
    spoiled[~used] = 1e6
    first = expression.code_correlation(driving, read_back, used, NAMES)
    assert first == expression.code_correlation(driving, spoiled, used, NAMES)


def test_scale_and_sign_give_plus_and_minus_one(codes):
    driving = codes[0]
    read_back = driving * np.array([3.0, -0.5, 1.0]) + 0.1
    result = expression.code_correlation(driving, read_back, np.ones(50, bool), NAMES)
    np.testing.assert_allclose([result["jaw"], result["smile"]], [1.0, -1.0], rtol=1e-12)


def test_slope_and_range_tell_what_correlation_does_not():
    rng = np.random.default_rng(0)
    driving = rng.normal(size=(400, 3)) * [1.0, 0.3, 0.0] + 0.5
    read_back = np.stack([0.25 * driving[:, 0] - 3.0, driving[:, 1] + rng.normal(size=400),
                          rng.normal(size=400)], axis=1)  # fmt: skip
    used = np.arange(400) % 4 != 0
    spoiled = np.where(used[:, None], read_back, np.nan)
    slope = expression.code_slope(driving, spoiled, used, NAMES)
    assert slope["jaw"] == pytest.approx(0.25)
    asked, found = driving[used, 1], read_back[used, 1]
    assert slope["smile"] == pytest.approx(np.polyfit(asked, found, 1)[0])
    assert slope["still"] is None
    # r is not defined where nothing moves, the slope is
    assert expression.code_slope(driving, 0.0 * driving, used, NAMES)["jaw"] == 0.0
    ends = expression.code_range(driving, spoiled, used, NAMES)
    low, high = np.percentile(driving[used, 0], [2, 98])
    assert ends["jaw"]["asked"] == pytest.approx([low, high])
    assert ends["jaw"]["read_back"] == pytest.approx([0.25 * low - 3.0, 0.25 * high - 3.0])


def test_too_few_frames_give_none(codes):
    used = np.arange(50) < 2
    for measure in (expression.code_slope, expression.code_range, expression.code_correlation):
        assert set(measure(*codes, used, NAMES).values()) == {None}


def test_tables_that_do_not_fit_are_refused(codes):
    with pytest.raises(ValueError, match="50 frames, 2 names"):
        expression.code_correlation(*codes, np.ones(50, bool), NAMES[:2])


def test_both_sides_are_joined_by_their_mean():
    names = ("jawOpen", "blinkLeft", "smileRight", "blinkRight", "browLeft")
    codes = np.arange(10.0).reshape(2, 5)
    joined, stems = expression.join_sides(codes, names)
    assert stems == ("blink",)
    np.testing.assert_array_equal(joined, [[2.0], [7.0]])


def test_codes_without_sides_join_to_nothing():
    joined, stems = expression.join_sides(np.zeros((4, 2)), ("exp00", "exp01"))
    assert stems == ()
    assert joined.shape == (4, 0)
    assert expression.code_correlation(joined, joined, np.ones(4, bool), stems) == {}
