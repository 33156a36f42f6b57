"""Images that count how many are read at once, as those that are too many for memory would be."""

from typing import Any

import numpy as np

from ganavatar_jax.core import image_sequences


class LazyImages:
    """An array that can only be indexed by frames; remembers the most and all that was read."""

    def __init__(self, array: np.ndarray) -> None:
        self._array, self.shape = array, array.shape
        self.most, self.seen = 0, np.zeros(len(array), int)

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, key: Any) -> np.ndarray:
        assert not isinstance(key, tuple), "only frames can be chosen before an image is read"
        rows = np.arange(len(self))[key]
        self.most = max(self.most, rows.size)
        np.add.at(self.seen, rows, 1)
        return self._array[rows].copy()

    def __iter__(self):
        return image_sequences.iterate(self)
