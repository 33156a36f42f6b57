"""Schedules as functions of the images shown."""

import pytest

from ganavatar_jax.ops import fir
from ganavatar_jax.training import schedules


def test_a_fade_runs_from_zero_to_one_and_stays():
    values = [schedules.fade(images, kimg=2.0) for images in (0, 500, 1000, 2000, 9000)]
    assert values == [0.0, 0.25, 0.5, 1.0, 1.0]
    assert schedules.fade(0, kimg=0.0) == 1.0


def test_the_neural_resolution_fades_in_steps_to_exactly_its_end():
    options = {"initial": 64, "final": 128, "fade_kimg": 1.0}
    sides = [schedules.neural_resolution(n, **options) for n in (0, 200, 500, 999, 1000, 5000)]
    assert sides == [64, 80, 96, 128, 128, 128]
    assert schedules.neural_resolution(500, initial=64, final=64, fade_kimg=1.0) == 64


@pytest.mark.parametrize(
    ("initial", "final"), [(64, 128), (16, 20), (64, 100), (32, 512), (128, 64)]
)
def test_a_fade_of_the_resolution_has_at_most_eight_even_sides_near_the_continuous_one(
    initial, final
):
    sides = []
    for images in range(0, 1001, 5):
        sides.append(
            schedules.neural_resolution(images, initial=initial, final=final, fade_kimg=1.0)
        )
        continuous = initial + (final - initial) * images / 1000
        assert abs(sides[-1] - continuous) <= max(abs(final - initial) / 7, 2)
    assert sides == sorted(sides, reverse=final < initial)
    assert (sides[0], sides[-1]) == (initial, final)
    assert 2 < len(set(sides)) <= 8
    assert all(side % 2 == 0 for side in sides)


def test_the_blur_vanishes_linearly():
    sigmas = [schedules.blur_sigma(n, initial=10.0, fade_kimg=200.0) for n in (0, 50e3, 200e3, 1e6)]
    assert sigmas == [10.0, 7.5, 0.0, 0.0]
    assert schedules.blur_sigma(0, initial=0.0, fade_kimg=200.0) == 0.0


@pytest.mark.parametrize("sigma", [10.0, 4.3, 0.5])
def test_blur_taps_keep_their_length_through_the_fade(sigma):
    taps = schedules.blur_taps(sigma, initial=10.0)
    assert len(taps) == 61
    assert sum(taps) == pytest.approx(1.0)
    bare = fir.blur_taps(sigma)
    assert tuple(tap for tap in taps if tap) == bare
    assert taps == taps[::-1]


def test_without_blur_there_are_no_taps():
    assert schedules.blur_taps(0.0, initial=10.0) is None
    assert schedules.blur_taps(0.3, initial=10.0) is None  # less than one pixel wide


def test_swapping_falls_from_certainty_to_its_probability():
    options = {"probability": 0.5, "fade_kimg": 1.0}
    values = [schedules.swapping_probability(n, **options) for n in (0, 500, 1000, 7000)]
    assert values == [1.0, 0.75, 0.5, 0.5]
    assert schedules.swapping_probability(0, probability=0.8, fade_kimg=0.0) == 0.8
    assert schedules.swapping_probability(0, probability=None, fade_kimg=1.0) is None
