"""PSNR of mouth and eyes: the right pixels, and only where they show."""

import math

import numpy as np
import pytest

from ganavatar_jax.geometry import cameras
from ganavatar_jax.metrics import face_regions

SIDE = 64
MOUTH, EYES = face_regions.REGIONS["mouth"], face_regions.REGIONS["eyes"]


def label(yaw_deg=0.0):
    pose = cameras.look_at(math.pi / 2 - math.radians(yaw_deg), math.pi / 2, radius=2.7)
    return np.asarray(cameras.to_label25(cameras.Camera(pose, cameras.intrinsics(4.2647))))


@pytest.fixture
def truth_u8():
    return np.random.default_rng(0).integers(0, 200, (1, SIDE, SIDE, 3), dtype=np.uint8)


def test_a_known_offset_gives_its_psnr_in_every_region(truth_u8):
    for region in (MOUTH, EYES):
        (value,) = face_regions.psnr(truth_u8 + np.uint8(51), truth_u8, label()[None], region)
        assert value == pytest.approx(-20 * math.log10(0.2), abs=1e-6)


def test_only_the_pixels_of_the_mouth_count(truth_u8):
    # Seen from the front, the mouth's centre lies this far below the middle.
    row = round(SIDE * (0.5 + 4.2647 * 0.165 / (2.7 - 0.17)))
    elsewhere = truth_u8.copy()
    elsewhere[:, : row - 9] += np.uint8(50)
    elsewhere[:, row + 9 :] += np.uint8(50)
    assert np.isinf(face_regions.psnr(elsewhere, truth_u8, label()[None], MOUTH)).all()
    there = truth_u8.copy()
    there[:, row, SIDE // 2] += np.uint8(50)
    assert np.isfinite(face_regions.psnr(there, truth_u8, label()[None], MOUTH)).all()
    assert np.isinf(face_regions.psnr(there, truth_u8, label()[None], EYES)).all()


def test_faces_turned_away_are_left_out_and_one_image_serves_all_frames(truth_u8):
    labels = np.stack([label(0.0), label(59.0), label(61.0), label(180.0)])
    frames = truth_u8.repeat(4, axis=0)
    values = face_regions.psnr(truth_u8 + np.uint8(10), frames, labels, MOUTH)
    assert np.isfinite(values).tolist() == [True, True, False, False]


def test_pixels_that_were_not_filmed_do_not_count(truth_u8):
    filmed = np.full((1, SIDE, SIDE), 255, np.uint8)
    filmed[:, :, SIDE // 2 :] = 0
    wild = truth_u8 + np.uint8(20)
    wild[:, :, SIDE // 2 :] = 255
    (value,) = face_regions.psnr(wild, truth_u8, label()[None], MOUTH, filmed=filmed)
    assert value == pytest.approx(-20 * math.log10(20 / 255), abs=1e-6)
    unseen = face_regions.psnr(wild, truth_u8, label()[None], MOUTH, filmed=0 * filmed)
    assert np.isnan(unseen).all()
