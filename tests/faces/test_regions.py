"""Regions: exact crops of known patterns, and coordinates that agree with the pixels."""

import dataclasses

import numpy as np
import pytest

from ganavatar_jax.faces import regions


@pytest.fixture
def noise_u8():
    return np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)


def _ramp_u8(height, width):
    # Channel 0 is 4 x and channel 1 is 3 y at pixel centres: bilinear sampling keeps planes.
    y, x = np.mgrid[0:height, 0:width] + 0.5
    return np.stack([4 * x, 3 * y, np.full_like(x, 9)], axis=-1).astype(np.uint8)


def test_an_aligned_crop_of_equal_size_is_a_slice(noise_u8):
    region = regions.Region(20.0, 18.0, 16.0)
    cut = regions.crop(noise_u8, region, size_px=16)
    np.testing.assert_array_equal(cut, noise_u8[10:26, 12:28])


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_quarter_turn_is_exact_up_to_rounding(noise_u8, quarters):
    region = regions.Region(20.0, 18.0, 16.0, quarters * np.pi / 2)
    cut = regions.crop(noise_u8, region, size_px=16)
    turned = np.rot90(noise_u8[10:26, 12:28], quarters).astype(int)
    assert np.abs(cut - turned).max() <= 1  # Pillow truncates to whole levels.


def test_outside_the_image_its_edge_is_repeated(noise_u8):
    cut = regions.crop(noise_u8, regions.Region(2.0, 3.0, 12.0), size_px=12)
    rows, columns = np.clip(np.arange(-3, 9), 0, None), np.clip(np.arange(-4, 8), 0, None)
    np.testing.assert_array_equal(cut, noise_u8[rows][:, columns])


@pytest.mark.parametrize("angle", [0.0, 0.3, -1.1])
@pytest.mark.parametrize(("side_px", "size_px"), [(18.0, 32), (30.0, 12)])
def test_crops_show_what_lies_at_the_mapped_points(angle, side_px, size_px):
    region = regions.Region(30.2, 28.7, side_px, angle)
    cut = regions.crop(_ramp_u8(60, 60), region, size_px=size_px)
    unit = (np.stack(np.meshgrid(*[np.arange(size_px) + 0.5] * 2), axis=-1)) / size_px
    points = regions.to_image(unit.reshape(-1, 2), region).reshape(size_px, size_px, 2)
    expected = points * (4.0, 3.0)
    inner = slice(1, -1)
    np.testing.assert_allclose(cut[inner, inner, :2], expected[inner, inner], atol=2.6)


def test_large_regions_are_averaged_rather_than_sampled():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 200
    cut = regions.crop(stripes, regions.Region(128.0, 128.0, 256.0), size_px=32)
    np.testing.assert_array_equal(cut, 100)


def test_mapping_to_the_image_and_back_changes_nothing():
    points = np.random.default_rng(1).normal(size=(3, 7, 2)).astype(np.float32)
    region = regions.Region(12.0, -4.0, 33.0, 0.7)
    there = regions.to_image(points, region)
    assert there.dtype == np.float32
    np.testing.assert_allclose(regions.to_region(there, region), points, atol=1e-5)


def test_a_rotated_rectangle_is_enclosed_upright():
    angle = 0.4
    axes = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    corners = np.array([[-20.0, -8.0], [20.0, -8.0], [20.0, 8.0], [-20.0, 8.0]]) @ axes + (50, 60)
    region = regions.around_points(corners, angle=angle, scale=1.5)
    np.testing.assert_allclose(
        (region.center_x_px, region.center_y_px, region.side_px), (50, 60, 60), atol=1e-9
    )
    unit = regions.to_region(corners, region)
    np.testing.assert_allclose(unit[:, 1], 0.5 + np.array([-8, -8, 8, 8]) / 60, atol=1e-9)


def test_level_eyes_need_no_rotation_and_a_lowered_left_eye_turns_clockwise():
    right = np.array([10.0, 20.0])
    assert regions.eye_line_angle(right, right + (8, 0)) == 0.0
    assert regions.eye_line_angle(right, right + (8, 8)) == pytest.approx(np.pi / 4)


@pytest.mark.parametrize(("width", "height"), [(64, 64), (100, 40), (30, 90)])
@pytest.mark.parametrize("level", [1, 2])
def test_tiles_cover_every_pixel_and_neighbours_overlap_by_half(width, height, level):
    covered = np.zeros((height, width), bool)
    found = regions.tiles(width, height, level=level)
    for tile in found:
        left, top = tile.center_x_px - tile.side_px / 2, tile.center_y_px - tile.side_px / 2
        rows = np.arange(height) + 0.5
        columns = np.arange(width) + 0.5
        covered |= ((rows > top) & (rows < top + tile.side_px))[:, None] & (
            (columns > left) & (columns < left + tile.side_px)
        )
    assert covered.all()
    steps = np.diff(np.unique([tile.center_x_px for tile in found]))
    assert (steps <= found[0].side_px / 2 + 1e-9).all()


def test_tiles_of_level_zero_are_refused():
    with pytest.raises(ValueError, match="level >= 1"):
        regions.tiles(8, 8, level=0)


def test_the_whole_image_is_centred_and_as_wide_as_the_longer_side():
    assert regions.whole_image(30, 80) == regions.Region(15.0, 40.0, 80.0)


@pytest.mark.parametrize("region", [
    regions.Region(20.0, 30.0, 40.0),
    regions.Region(30.0, 20.0, 70.0),
    regions.Region(5.3, 33.1, 40.0, 0.3),
    regions.Region(32.0, 24.0, 33.0),
])  # fmt: skip
def test_pixels_inside_the_picture_do_not_depend_on_what_surrounds_it(region):
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    pad = 60
    around = [np.full((48 + 2 * pad, 64 + 2 * pad, 3), level, np.uint8) for level in (0, 255)]
    moved = dataclasses.replace(
        region, center_x_px=region.center_x_px + pad, center_y_px=region.center_y_px + pad
    )
    cut = []
    for larger in around:
        larger[pad:-pad, pad:-pad] = picture
        cut.append(regions.crop(larger, moved, size_px=32))
    same = (cut[0] == cut[1]).all(axis=-1)
    inside = regions.inside(region, (64, 48), size_px=32)
    assert same[inside].all()
    assert inside.any()
    np.testing.assert_array_equal(cut[0][inside], regions.crop(picture, region, size_px=32)[inside])
    # And not many pixels are given away: a row around the border at most.
    assert (same & ~inside).sum() <= 3 * 32


def test_a_region_that_is_the_picture_lies_in_it():
    whole = regions.whole_image(64, 64)
    assert regions.inside(whole, (64, 64), size_px=64).all()
    assert regions.inside(whole, (64, 64), size_px=16).all()
    assert regions.inside(whole, (64, 64), size_px=128)[1:-1, 1:-1].all()
