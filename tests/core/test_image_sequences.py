"""Images that need not be in memory behave as the array they would make."""

import resource
import signal

import numpy as np
import pytest

from ganavatar_jax.core import errors, image_sequences
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


def test_arrays_are_joined_on_disk_and_leave_no_file(tmp_path):
    parts = [
        np.random.default_rng(i).integers(0, 256, (n, 3, 2), np.uint8) for i, n in enumerate((2, 5))
    ]
    joined = image_sequences.stack_on_disk(tmp_path / "new", iter(parts))
    np.testing.assert_array_equal(joined, np.concatenate(parts))
    np.testing.assert_array_equal(joined[[6, 0]], [parts[1][4], parts[0][0]])
    assert not joined.flags.writeable
    assert not list((tmp_path / "new").iterdir())


def test_a_disk_too_full_for_joined_arrays_is_told_in_one_line(tmp_path):
    parts = (np.zeros((1, 2**20), np.uint8) for _ in range(4))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**21, hard))
    try:
        with pytest.raises(errors.RunError, match=r"cannot be written \(File too large\)"):
            image_sequences.stack_on_disk(tmp_path, parts)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
