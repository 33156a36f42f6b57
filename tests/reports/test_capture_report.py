"""The report shows what is in the dataset, and its drawings are where cameras say."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from ganavatar_jax.data import data_config
from ganavatar_jax.data.builders import gan_frames
from ganavatar_jax.reports import capture_drawings, capture_report
from ganavatar_jax.runs import run_dir
from helpers import layouts

SIDE = 320


@pytest.fixture(scope="module")
def shots():
    return layouts.actor_shots(6)


def test_the_report_holds_its_pictures_and_numbers(shots, tmp_path):
    whole = np.zeros((layouts.SIDE, layouts.SIDE), np.uint8)
    whole[6:, 8:24] = 255
    holed = whole.copy()
    holed[14:18, 14:18] = 0
    mattes = [whole, whole, holed, whole, whole, whole]
    shots = [dataclasses.replace(s, alpha=a) for s, a in zip(shots, mattes, strict=True)]
    source = layouts.write_eg3d(tmp_path / "capture<b>", shots)
    config = data_config.DataConfig(source=str(source), resolution=32)
    gan_frames.prepare(config, tmp_path / "run" / "dataset")
    opened = run_dir.RunDir(tmp_path / "run")
    found = capture_report.write_report(opened, tmp_path / "run" / "dataset", box_side=1.0)
    assert found["flags"].get("alpha holes") == 1
    page = (tmp_path / "run" / "report.html").read_text()
    assert "capture&lt;b&gt;" in page
    for name in ("train", "overlays", "alpha", "cameras", "coverage", "flagged"):
        assert f"samples/data/{name}.png" in page
        picture = np.asarray(Image.open(tmp_path / "run" / "samples" / "data" / f"{name}.png"))
        assert picture.std() > 1
    rows = json.loads((tmp_path / "run" / "samples" / "data" / "frames.json").read_text())
    assert len(rows) == 6
    assert {"frame", "yaw_deg", "sharpness", "flags"} <= set(rows[0])


def test_an_overlay_marks_where_points_project(shots):
    label25 = np.concatenate([shots[0].cam2world.ravel(), shots[0].intrinsics.ravel()])
    point = np.array([[0.0, -0.05, 0.2]])
    blank = np.zeros((64, 64, 3), np.uint8)
    drawn = capture_drawings.overlay(
        blank, label25, box_side=1.0, landmarks=point, side_px=SIDE
    ).astype(int)
    green = (drawn[..., 1] > 150) & (drawn[..., 0] < 60)
    rows, columns = np.nonzero(green)
    local = (point - shots[0].cam2world[:3, 3]) @ shots[0].cam2world[:3, :3]
    seen = local @ shots[0].intrinsics.T
    expected = seen[0, :2] / seen[0, 2] * SIDE
    if point @ shots[0].cam2world[:3, 3] > 0:
        assert np.abs([columns.mean(), rows.mean()] - expected).max() < 2


def test_plots_show_every_group(shots):
    labels = np.stack(
        [np.concatenate([s.cam2world.ravel(), s.intrinsics.ravel()]) for s in shots]
    ).astype(np.float32)
    both = {"train": labels[:3], "test": labels[3:]}
    plot = capture_drawings.cameras_plot(both, box_side=1.0, side_px=200)
    assert plot.shape == (200, 400, 3)
    one = capture_drawings.cameras_plot({"train": labels[:3]}, box_side=1.0, side_px=200)
    assert (plot != one).any()
    dots = capture_drawings.coverage_plot({"train": np.array([[0.0, 0.0]])}, side_px=200)
    blue = (dots[..., 2] > 150) & (dots[..., 0] < 60)
    rows, columns = np.nonzero(blue[40:])
    assert abs(columns.mean() - 200) < 3
    assert abs(rows.mean() + 40 - 100) < 3


def test_a_caption_stands_below_its_image_and_keeps_the_end_of_a_long_line():
    image = np.full((64, 64, 3), 90, np.uint8)
    lines = ["a_very_long_folder/of_a_capture/images/000123.png", "blur"]
    drawn = capture_drawings.captioned(image, lines)
    np.testing.assert_array_equal(drawn[:160], 90)
    written = drawn[160:].min(axis=(1, 2)) < 100
    assert written.any()
    assert np.asarray(drawn[160:].min(axis=(0, 2)) < 100)[80:].any()
    # A line that ends alike is cut to the same end, whatever it began with.
    other = capture_drawings.captioned(image, ["another/" * 9 + lines[0], "blur"])
    np.testing.assert_array_equal(other, drawn)
    changed = capture_drawings.captioned(image, [lines[0].replace("123", "124"), "blur"])
    assert (changed != drawn).any()


def test_sheets_of_large_frames_are_shrunk(tmp_path):
    source = layouts.write_eg3d(tmp_path / "capture", layouts.actor_shots(3, side=512))
    split = data_config.SplitConfig(policy="none")
    config = data_config.DataConfig(source=str(source), resolution=512, split=split)
    gan_frames.prepare(config, tmp_path / "run" / "dataset")
    opened = run_dir.RunDir(tmp_path / "run")
    capture_report.write_report(opened, tmp_path / "run" / "dataset", box_side=1.0)
    with Image.open(tmp_path / "run" / "samples" / "data" / "train.png") as sheet:
        assert sheet.width < 8 * 260
