"""Images that need not be in memory behave as the array they would make."""

import numpy as np
import pytest

from ganavatar_jax.core import image_sequences
from helpers import lazy_images

KEYS = [3, -1, slice(2, 7), slice(None, None, 3), np.array([5, 0, 5]), np.arange(9) > 6]


@pytest.fixture
def array():
    return np.random.default_rng(0).integers(0, 256, (9, 4, 4, 3), dtype=np.uint8)


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_rows_are_indexed_like_the_array_of_them(array, key):
    rows = np.array([8, 1, 1, 0, 4, 2, 7, 3, 6])
    chosen = image_sequences.Rows(lazy_images.LazyImages(array), rows)
    assert isinstance(chosen, image_sequences.Images)
    assert chosen.shape == array[rows].shape
    np.testing.assert_array_equal(chosen[key], array[rows][key])


def test_rows_are_read_when_they_are_asked_for(array):
    images = lazy_images.LazyImages(array)
    chosen = image_sequences.Rows(images, np.array([8, 1, 4]))
    assert images.seen.sum() == 0
    chosen[1:]
    assert np.flatnonzero(images.seen).tolist() == [1, 4]


def test_iterating_reads_a_few_at_once_and_each_once(array):
    images = lazy_images.LazyImages(array)
    np.testing.assert_array_equal(list(image_sequences.iterate(images, size=4)), array)
    assert images.most == 4
    assert images.seen.tolist() == [1] * 9


def test_few_images_are_all_chosen_and_of_many_both_ends_and_what_lies_evenly_between():
    assert image_sequences.spread_evenly(5, most=5).tolist() == [0, 1, 2, 3, 4]
    many = image_sequences.spread_evenly(100_000, most=1000)
    assert (len(np.unique(many)), many[0], many[-1]) == (1000, 0, 99_999)
    assert set(np.diff(many)) <= {100, 101}
