"""Mattes of a film: what frames learn from each other, and which of them leap."""

import numpy as np
import pytest
from scipy import ndimage

from ganavatar_jax.faces import regions
from ganavatar_jax.films import background_plate, film_mattes, matte_solver, matting

SIDE = 128


def disc(x, y=68.0, radius=30.0):
    """A head's coverage, 0..1."""
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    return np.clip(radius - np.hypot(columns - x, rows - y) + 0.5, 0.0, 1.0)


def room(seed=0):
    """A busy background, grey levels."""
    noise = np.random.default_rng(seed).normal(size=(SIDE, SIDE, 3))
    return np.clip(128 + 250 * ndimage.gaussian_filter(noise, (1.5, 1.5, 0)), 0, 255)


def film(places, *, seed=1, head=(180.0, 120.0, 90.0)):
    """A head of one colour that moves before the room; pictures and coverage."""
    rng = np.random.default_rng(seed)
    alpha = np.stack([disc(x) for x in places])
    pictures = alpha[..., None] * np.array(head) + (1 - alpha[..., None]) * room()
    pictures = pictures + rng.normal(0, 1.0, pictures.shape)
    return np.clip(np.rint(pictures), 0, 255).astype(np.uint8), alpha


def cut_out(picture, said, plate):
    """The matte of a frame by itself, before a known background."""
    seen = background_plate.compare(picture, said, plate)
    return matte_solver.solve(picture, background_plate.correct(said, seen), seen)


def iou(mine, true):
    return np.minimum(mine, true).sum() / np.maximum(mine, true).sum()


def test_what_a_head_uncovers_becomes_known_and_what_it_never_does_stays_unknown():
    pictures, alpha = film(np.linspace(40, 88, 24))
    plate = background_plate.estimate(pictures, alpha.astype(np.float32))
    assert plate is not None
    assert np.abs(plate.color - room())[plate.known].max() < 4.0
    always = alpha.min(axis=0) > 0.5
    assert not plate.known[always].any()
    assert plate.known[:24].mean() > 0.95


def test_nothing_is_known_behind_a_camera_that_moves():
    pictures, alpha = film(np.full(24, 64.0))
    moved = np.stack([np.roll(p, 3 * i, axis=1) for i, p in enumerate(pictures)])
    turned = np.stack([np.roll(a, 3 * i, axis=1) for i, a in enumerate(alpha)])
    plate = background_plate.estimate(moved, turned.astype(np.float32))
    assert plate is None or plate.known.mean() < 0.05


def test_hair_that_the_segmenter_takes_for_background_now_and_then_is_no_background():
    """A head that keeps still, a part of which is missed in a third of the frames."""
    pictures, alpha = film(np.full(24, 64.0))
    said = alpha.copy()
    said[::3, :48] = 0.0
    plate = background_plate.estimate(pictures, said.astype(np.float32))
    assert plate is not None
    assert not plate.known[alpha[0] > 0.95].any()


def test_a_known_background_frees_what_was_kept_and_finds_what_was_missed():
    pictures, alpha = film(np.linspace(40, 88, 24))
    plate = background_plate.estimate(pictures, alpha.astype(np.float32))
    said = alpha[3].copy()
    said[40:100, 80:120] = 1.0  # Background kept,
    said[44:60, 24:50] = 0.0  # and a part of the head missed.
    bare = matte_solver.solve(pictures[3], said, None).alpha / 255
    found = cut_out(pictures[3], said, plate)
    assert iou(bare, alpha[3]) < 0.8
    assert iou(found.alpha / 255, alpha[3]) > 0.97
    # And the head's own colour, not the room's, where the room shines through.
    half = (found.alpha > 60) & (found.alpha < 250) & (alpha[3] > 0.3)
    assert half.sum() > 40
    assert np.abs(found.foreground[half] - [180.0, 120.0, 90.0]).mean() < 12.0


def test_a_brighter_exposure_is_no_other_background():
    pictures, alpha = film(np.linspace(40, 88, 24))
    plate = background_plate.estimate(pictures, alpha.astype(np.float32))
    brighter = np.clip(pictures[3] * 1.12, 0, 255).astype(np.uint8)
    found = cut_out(brighter, alpha[3], plate)
    assert iou(found.alpha / 255, alpha[3]) > 0.97


class Segmenter:
    """Says what it is told of each picture, which is known by its first pixel."""

    def __init__(self, said):
        self._said = said
        self.looked = []

    def coverage(self, image_u8):
        index = int(image_u8[0, 0, 0])
        self.looked.append(index)
        return self._said[index]


def make(said, pictures, *, shot=None, method="fast"):
    """A film's matter with a segmenter of ours; the reads are counted."""
    matter = matting.SelfieMatter.__new__(matting.SelfieMatter)
    matter.takes_plates, matter.segmenter = method == "closed_form", Segmenter(said)
    marked = pictures.copy()
    marked[:, 0, 0, 0] = np.arange(len(pictures))
    reads = []

    def read(index):
        reads.append(index)
        return marked[index]

    whole = [regions.whole_image(SIDE, SIDE)] * len(pictures)
    shot = np.zeros(len(pictures), int) if shot is None else np.array(shot)
    return film_mattes.FilmMatter(matter, read, whole, shot=shot, size_px=SIDE), reads


@pytest.fixture
def errs():
    """A segmenter that keeps a piece of background in one frame and loses one of the head."""
    pictures, alpha = film(np.linspace(60, 68, 12))
    said = alpha.copy()
    said[5, 8:36, 8:36] = 1.0
    said[8, 60:, :] = 0.0
    return pictures, alpha, said


def test_an_error_in_one_frame_is_outvoted_by_its_neighbours(errs):
    pytest.importorskip("pymatting")
    pictures, alpha, said = errs
    made, reads = make(said, pictures)
    found = [made.matte(index).alpha / 255 for index in range(12)]
    assert iou(said[5], alpha[5]) < 0.8
    assert iou(found[5], alpha[5]) > 0.99
    # What was lost comes back, less a margin for how far heads move.
    assert iou(said[8], alpha[8]) < 0.4
    assert iou(found[8], alpha[8]) > 0.7
    np.testing.assert_allclose(found[2], said[2], atol=1 / 255)  # Right ones stay as they are.
    assert reads == list(range(12))  # Each picture once, in order of time.


def test_another_shot_says_nothing(errs):
    pytest.importorskip("pymatting")
    pictures, _, said = errs
    made, _ = make(said, pictures, shot=[0] * 5 + [1] + [2] * 6)
    np.testing.assert_allclose(made.matte(5).alpha / 255, said[5], atol=1 / 255)


def test_a_film_before_a_camera_that_stands_still_is_cut_out_by_its_background():
    pytest.importorskip("pymatting")
    pictures, alpha = film(np.linspace(40, 88, 24))
    said = alpha.copy()
    said[:8, 48:88, 92:120] = 1.0  # Background is kept for a third of the film.
    made, _ = make(said, pictures, method="closed_form")
    found = [made.matte(index).alpha / 255 for index in (2, 5, 12)]
    assert iou(said[2], alpha[2]) < 0.85
    assert min(iou(f, alpha[i]) for f, i in zip(found, (2, 5, 12), strict=True)) > 0.96


def test_frames_whose_mattes_leap_are_found_and_heads_that_move_are_not():
    places = 64 + 24 * np.sin(np.linspace(0, 6, 60))
    mattes = np.stack([np.rint(255 * disc(x)).astype(np.uint8) for x in places])
    small = np.stack([film_mattes.shrink(m) for m in mattes])
    shot = np.repeat([0, 1], 30)
    assert not film_mattes.find_leaps(small, shot).any()
    mattes[10, 8:48, 4:40] = 255  # Background kept,
    mattes[44:46, 72:] = 0  # and two frames without what is below.
    small = np.stack([film_mattes.shrink(m) for m in mattes])
    assert np.flatnonzero(film_mattes.find_leaps(small, shot)).tolist() == [10, 44, 45]


def test_a_square_of_a_background_is_that_of_the_picture():
    home = regions.Region(100.0, 80.0, 200.0)
    square = regions.Region(120.0, 90.0, 100.0)
    assert film_mattes._within(square, home, 400) == regions.Region(240.0, 220.0, 200.0)
