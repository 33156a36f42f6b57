import av
import numpy as np
import pytest
from PIL import Image

from ganavatar_jax.reports import media


def colorful(height, width, phase=0):
    y, x = np.mgrid[0:height, 0:width]
    channels = [x * 255 / width, y * 255 / height, np.full_like(x, 40.0 * (phase + 1), dtype=float)]
    return np.stack(channels, axis=-1).astype(np.uint8)


def read_video(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        rate = stream.average_rate
        return [f.to_ndarray(format="rgb24") for f in container.decode(video=0)], rate


@pytest.mark.parametrize("size", [(48, 64), (47, 63)])
def test_a_video_reads_back_with_its_frames_rate_and_colors(tmp_path, size):
    frames = [colorful(*size, phase=i) for i in range(5)]
    assert media.write_video(tmp_path / "new" / "clip.mp4", iter(frames), fps=25) == 5
    decoded, rate = read_video(tmp_path / "new" / "clip.mp4")
    assert len(decoded) == 5
    assert rate == 25
    assert decoded[0].shape == (48, 64, 3)
    for frame, expected in zip(decoded, frames, strict=True):
        error = np.abs(frame[: size[0], : size[1]].astype(float) - expected)
        assert error.mean() < 4.0


def test_fractional_rates_survive(tmp_path):
    media.write_video(tmp_path / "clip.mp4", [colorful(16, 16)] * 3, fps=29.97)
    assert float(read_video(tmp_path / "clip.mp4")[1]) == pytest.approx(29.97, abs=1e-3)


def test_a_failing_frame_source_leaves_the_old_file_and_nothing_else(tmp_path):
    def broken():
        yield colorful(16, 16)
        raise RuntimeError("renderer died")

    (tmp_path / "clip.mp4").write_bytes(b"old")
    with pytest.raises(RuntimeError, match="renderer died"):
        media.write_video(tmp_path / "clip.mp4", broken(), fps=25)
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mp4"]
    assert (tmp_path / "clip.mp4").read_bytes() == b"old"


def test_videos_that_cannot_be_made_are_refused(tmp_path):
    path = tmp_path / "clip.mp4"
    with pytest.raises(ValueError, match="at least one frame"):
        media.write_video(path, [], fps=25)
    with pytest.raises(ValueError, match="fps > 0; got 0"):
        media.write_video(path, [colorful(16, 16)], fps=0)
    with pytest.raises(ValueError, match=r"frame 1 has \(16, 18, 3\)"):
        media.write_video(path, [colorful(16, 16), colorful(16, 18)], fps=25)
    assert not any(tmp_path.iterdir())


def test_a_png_reads_back_exactly(tmp_path):
    image = colorful(9, 7)
    media.save_png(tmp_path / "a" / "image.png", image)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a" / "image.png")), image)


def test_nearest_upscaling_repeats_pixels_by_the_smallest_sufficient_factor():
    image = colorful(10, 16)
    large = media.upscale(image, min_side_px=25, method="nearest")
    assert large.shape == (30, 48, 3)
    np.testing.assert_array_equal(large[1::3, 1::3], image)


def test_lanczos_upscaling_keeps_size_rules_and_mean_color():
    image = colorful(10, 16)
    large = media.upscale(image, min_side_px=25)
    assert large.shape == (30, 48, 3)
    np.testing.assert_allclose(large.mean(axis=(0, 1)), image.mean(axis=(0, 1)), atol=2.0)


def test_large_images_are_left_alone():
    image = colorful(30, 40)
    np.testing.assert_array_equal(media.upscale(image, min_side_px=30), image)


def test_a_sheet_holds_every_image_unchanged_in_its_row_and_column():
    columns = {
        name: np.stack([colorful(40, 40, 2 * i + j) for i in range(2)])
        for j, name in enumerate(("truth", "ours"))
    }
    sheet = media.contact_sheet(columns, row_labels=("first", "second\nrow"), tile_px=40, gap_px=4)
    places = []
    for column in columns.values():
        for tile in column:
            windows = np.lib.stride_tricks.sliding_window_view(sheet, tile.shape)[:, :, 0]
            hits = np.argwhere((windows[..., 0, 0, :] == tile[0, 0]).all(-1))
            hits = [tuple(h) for h in hits if (windows[tuple(h)] == tile).all()]
            assert len(hits) == 1
            places.append(hits[0])
    (top, left), (below, _), (_, right), _ = places
    assert below - top == right - left == 44
    assert places[3] == (below, right)


def test_labels_leave_ink_above_and_beside_the_images():
    image = np.full((40, 40, 3), 236, np.uint8)
    without = media.contact_sheet({" ": image[None]}, tile_px=40)
    above = media.contact_sheet({"truth": image[None]}, tile_px=40)
    beside = media.contact_sheet({" ": image[None]}, row_labels=("000123",), tile_px=40)
    assert without.min() == 236
    assert above.min() < 100
    assert beside.min() < 100
    assert beside.shape[1] > above.shape[1]


def test_side_by_side_enlarges_small_images():
    picture = media.side_by_side({"truth": colorful(32, 32), "ours": colorful(32, 32)})
    assert picture.shape[0] >= 256
    assert picture.shape[1] >= 512


def test_sheets_of_unequal_columns_are_refused():
    with pytest.raises(ValueError, match="columns of equal shape"):
        media.side_by_side({"a": colorful(8, 8), "b": colorful(8, 9)})
    with pytest.raises(ValueError, match="one label per row"):
        media.contact_sheet({"a": colorful(8, 8)[None]}, row_labels=("x", "y"))
    with pytest.raises(ValueError, match="columns of equal shape"):
        media.contact_sheet({})


def test_the_heat_map_runs_from_black_over_red_and_yellow_to_white():
    colors = media.heat_map(np.array([[0.0, 1.0, 2.0, 3.0, 9.0]]), full_scale=3.0)[0]
    np.testing.assert_array_equal(
        colors, [[0, 0, 0], [255, 0, 0], [255, 255, 0], [255, 255, 255], [255, 255, 255]]
    )


@pytest.mark.parametrize(("side", "shown"), [(64, 128), (50, 150), (128, 128), (200, 200)])
def test_small_tiles_are_enlarged_and_large_ones_kept(side, shown):
    tiles = np.stack([np.full((side, side, 3), level, np.uint8) for level in (10, 90, 200)])
    sheet = media.tile_sheet(tiles, columns=2)
    assert sheet.shape == (2 * shown + 2, 2 * shown + 2, 3)
    assert (sheet[:shown, :shown] == 10).all()
    assert (sheet[:shown, shown + 2 :] == 90).all()
    assert (sheet[shown + 2 :, :shown] == 200).all()
