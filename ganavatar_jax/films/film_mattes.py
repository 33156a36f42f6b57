"""Mattes of a film: each looks at its neighbours in time, and what leaps is told.

The segmenter errs in single frames: a piece of background comes and goes. What it says of a frame
is held between the median of five frames, shrunk and grown by as far as a head moves meanwhile.
Before that, frames spread over the film show the background, where the camera stands still.

A frame whose matte is unlike those around it, for all that, is marked by `find_leaps`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from ganavatar_jax.core.arrays import Bool, Float, Int, UInt8
from ganavatar_jax.faces import regions
from ganavatar_jax.films import background_plate, matte_solver, matters, matting

# Reads a frame's picture by its place among the frames.
ReadPicture = Callable[[int], UInt8[np.ndarray, "h w 3"]]

_REACH = 2  # Frames on each side that a frame's coverage is compared with.
_MOVES = 0.04  # How far outlines move meanwhile, in image sides.
_HELD_PX = 128  # Side at which coverage is held between its neighbours'.
_PLATE_FRAMES, _FEWEST_PLATE_FRAMES = 40, 8
_PLATE_PX = 1024  # Largest side of a background.
_LEAP_PX = 64  # Side at which mattes are compared.
_LEAP_REACH = 5
_LEAP, _LEAP_TIMES = 0.06, 3.0  # A leap is larger than both: 1 - IoU, and times the usual.


class _Look(NamedTuple):
    """A frame: its cut-out, what it covers, and what it shows of the background."""

    image: UInt8[np.ndarray, "s s 3"]
    coverage: Float[np.ndarray, "s s"] | None = None
    seen: background_plate.Seen | None = None


class FilmMatter:
    """Makes mattes of a film's frames, best in order of time. Not safe to share by threads."""

    def __init__(
        self,
        matter: matters.Matter,
        read: ReadPicture,
        squares: Sequence[regions.Region],
        *,
        shot: Int[np.ndarray, " f"],
        size_px: int,
    ) -> None:
        """Looks at the film's background, where that is of use.

        Args:
          matter: What makes mattes.
          read: Reads pictures.
          squares: What is cut out of each.
          shot: Number of the shot that each frame belongs to; rising.
          size_px: Side of the cut-outs.
        """
        self._matter, self._read, self._squares = matter, read, squares
        self._shot, self._size = shot, size_px
        self._near: dict[int, _Look] = {}
        self._plate, self._home = None, None
        if matter.takes_plates and len(squares) >= _FEWEST_PLATE_FRAMES:
            self._plate, self._home = self._look_behind()

    def cut(self, index: int) -> UInt8[np.ndarray, "s s 3"]:
        """Cuts a frame's square out of its picture.

        Args:
          index: Place of the frame.

        Returns:
          Colours; beyond the picture its border is repeated.
        """
        return self._look(index).image

    def matte(self, index: int) -> matte_solver.Matte:
        """Makes the matte of a frame.

        Args:
          index: Place of the frame.

        Returns:
          The matte of its cut-out.

        Raises:
          EstimatorError: a network fails.
        """
        look = self._look(index)
        first, last = index - _REACH, index + _REACH
        self._near = {i: seen for i, seen in self._near.items() if i >= first}
        if look.coverage is None:
            return self._matter.matte(look.image)
        near = [i for i in range(max(first, 0), min(last + 1, len(self._shot)))]
        near = [self._look(i).coverage for i in near if self._shot[i] == self._shot[index]]
        held = _hold(look.coverage, [said for said in near if said is not None])
        return self._matter.matte(look.image, matting.Hint(held, look.seen))

    def _look(self, index: int) -> _Look:
        """Reads a frame once, with what segmenter and background say of it."""
        if index in self._near:
            return self._near[index]
        image = regions.crop(self._read(index), self._squares[index], size_px=self._size)
        look = _Look(image)
        if isinstance(self._matter, matting.SelfieMatter):
            look = look._replace(coverage=self._matter.segmenter.coverage(image))
        if self._plate is not None and self._home is not None and look.coverage is not None:
            square = _within(self._squares[index], self._home, len(self._plate.known))
            plate = background_plate.cut(self._plate, square, size_px=self._size)
            seen = background_plate.compare(image, look.coverage, plate)
            look = look._replace(coverage=background_plate.correct(look.coverage, seen), seen=seen)
        self._near[index] = look
        return look

    def _look_behind(self) -> tuple[background_plate.Plate | None, regions.Region]:
        """Estimates the background from frames spread over the film."""
        home = _surround(self._squares)
        usual = float(np.median([square.side_px for square in self._squares]))
        side = min(_PLATE_PX, round(self._size * home.side_px / usual))
        count = len(self._squares)
        chosen = np.unique(np.linspace(0, count - 1, min(_PLATE_FRAMES, count)).round().astype(int))
        pictures = np.empty((len(chosen), side, side, 3), np.uint8)
        coverage = np.ones((len(chosen), side, side), np.float32)
        shown = np.ones((side, side), bool)
        for row, index in enumerate(chosen.tolist()):
            picture = self._read(index)
            pictures[row] = regions.crop(picture, home, size_px=side)
            height, width = picture.shape[:2]
            shown = regions.inside(home, (width, height), size_px=side)
            found = self._look(index).coverage
            assert found is not None  # takes_plates says so
            _paste(coverage[row], found, _within(self._squares[index], home, side))
            self._near = {}
        plate = background_plate.estimate(pictures, coverage)
        return (None if plate is None else plate._replace(known=plate.known & shown)), home


def _hold(
    coverage: Float[np.ndarray, "s s"], near: list[Float[np.ndarray, "s s"]]
) -> Float[np.ndarray, "s s"]:
    """Holds what is said of a frame between what most of its neighbours say."""
    if len(near) < 3:
        return coverage
    side = min(_HELD_PX, len(coverage))
    width = 2 * max(1, round(_MOVES * side)) + 1
    median = np.median([_resize(c, side) for c in near], axis=0)
    least = _resize(ndimage.minimum_filter(median, width, mode="nearest"), len(coverage))
    most = _resize(ndimage.maximum_filter(median, width, mode="nearest"), len(coverage))
    return np.clip(coverage, least, most)


def find_leaps(
    alpha: UInt8[np.ndarray, "f s s"], shot: Int[np.ndarray, " f"]
) -> Bool[np.ndarray, " f"]:
    """Finds frames whose matte is unlike those of most frames around them.

    Args:
      alpha: Mattes in order of time, from `shrink`.
      shot: Number of the shot that each frame belongs to; rising.

    Returns:
      Whether each frame's matte leaps: a part is missing, or background was kept.
    """
    apart = np.zeros(len(alpha))
    parts = [np.flatnonzero(shot == number) for number in np.unique(shot)]
    for part in parts:
        for place, index in enumerate(part.tolist()):
            near = part[max(0, place - _LEAP_REACH) : place + _LEAP_REACH + 1]
            usual = np.median(alpha[near], axis=0)
            shared = np.minimum(alpha[index], usual).sum()
            apart[index] = 1.0 - shared / max(np.maximum(alpha[index], usual).sum(), 1.0)
    leaps = np.zeros(len(alpha), bool)
    for part in parts:
        usual = ndimage.median_filter(apart[part], 4 * _LEAP_REACH + 1, mode="nearest")
        leaps[part] = apart[part] > np.maximum(_LEAP, _LEAP_TIMES * usual)
    return leaps


def shrink(alpha: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "s s"]:
    """Makes a matte small enough to keep all of a film's.

    Args:
      alpha: Coverage, 0..255.

    Returns:
      The matte at the size at which `find_leaps` compares.
    """
    return np.asarray(Image.fromarray(alpha).resize((_LEAP_PX, _LEAP_PX), Image.Resampling.BOX))


def _surround(squares: Sequence[regions.Region]) -> regions.Region:
    """Finds the smallest square around all squares."""
    center = np.array([[s.center_x_px, s.center_y_px] for s in squares])
    half = np.array([[s.side_px / 2.0] for s in squares])
    low, high = (center - half).min(axis=0), (center + half).max(axis=0)
    middle = (low + high) / 2.0
    return regions.Region(float(middle[0]), float(middle[1]), float((high - low).max()))


def _within(square: regions.Region, home: regions.Region, side: int) -> regions.Region:
    """Finds a square of a picture in a cut-out of the picture."""
    scale = side / home.side_px
    left, top = home.center_x_px - home.side_px / 2.0, home.center_y_px - home.side_px / 2.0
    return regions.Region(
        (square.center_x_px - left) * scale,
        (square.center_y_px - top) * scale,
        square.side_px * scale,
    )


def _paste(
    onto: Float[np.ndarray, "n n"], coverage: Float[np.ndarray, "s s"], square: regions.Region
) -> None:
    """Puts what was said of a square where the square lies, in place."""
    side = max(1, round(square.side_px))
    left = round(square.center_x_px - square.side_px / 2.0)
    top = round(square.center_y_px - square.side_px / 2.0)
    rows = slice(max(top, 0), min(top + side, len(onto)))
    columns = slice(max(left, 0), min(left + side, len(onto)))
    fitted = _resize(coverage, side)
    onto[rows, columns] = fitted[
        rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
    ]


def _resize(plane: np.ndarray, side: int) -> Float[np.ndarray, "n n"]:
    if len(plane) == side:
        return plane
    filter_ = Image.Resampling.BOX if len(plane) > side else Image.Resampling.BILINEAR
    picture = Image.fromarray(plane.astype(np.float32))
    return np.clip(np.asarray(picture.resize((side, side), filter_), np.float64), 0.0, 1.0)
