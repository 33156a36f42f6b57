"""Overlays stand where cameras say, plots show what was measured, words reach the page."""

import json

import numpy as np
import pytest
from PIL import Image

from ganavatar_jax.data import data_config
from ganavatar_jax.data.builders import gan_frames
from ganavatar_jax.geometry import head_angles
from ganavatar_jax.reports import capture_report, clip_drawings, clip_report
from ganavatar_jax.runs import run_dir
from helpers import captures, layouts

LABEL = np.array(captures.LABEL, np.float64)
SIDE = 512


def draw(lines=(), *, label=LABEL, origin=(0.0, 0.0, 0.1), flagged=False):
    grey = np.full((64, 64, 3), 128, np.uint8)
    return clip_drawings.pose_overlay(
        grey,
        label,
        lines=[np.array(line, float) for line in lines],
        origin=np.array(origin),
        caption=["frame 3", "yaw +1"],
        flagged=flagged,
        side_px=SIDE,
    ).astype(int)


def center(marked):
    rows, columns = np.nonzero(marked)
    return columns.mean(), rows.mean()


def red(drawn):
    return (drawn[..., 0] > 180) & (drawn[..., 1] < 90)


def green(drawn):
    return (drawn[..., 1] > 140) & (drawn[..., 0] < 80)


def blue(drawn):
    return (drawn[..., 2] > 180) & (drawn[..., 0] < 100)


def test_axes_point_left_of_the_person_up_and_out_of_the_face():
    drawn = draw()[:SIDE]
    assert center(red(drawn))[0] > SIDE / 2 + 30  # the person's left is the image's right
    assert center(green(drawn))[1] < SIDE / 2 - 30
    turned = LABEL.copy()
    turned[:16] = layouts.exact_pose(camera(-0.5)).ravel()  # seen from the person's right
    assert head_angles.from_cameras(turned[:16].reshape(4, 4))[0] > 20  # so it looks to its left
    drawn = draw(label=turned)[:SIDE]
    rows, columns = np.nonzero(blue(drawn))
    assert columns.max() - SIDE / 2 > 60


def camera(yaw):
    back = np.array([np.sin(yaw), 0.0, np.cos(yaw)])
    right = np.array([np.cos(yaw), 0.0, -np.sin(yaw)])
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(-back, right), -back], axis=1)
    pose[:3, 3] = 2.7 * back
    return pose


def test_lines_lie_where_their_points_project_and_are_dark_behind_the_head():
    near = draw([[[-0.2, -0.2, 0.1], [0.2, -0.2, 0.1]]], origin=(9.0, 9.0, 0.0))[:SIDE]
    bright = (near[..., 0] > 200) & (near[..., 1] > 170) & (near[..., 2] < 90)
    columns, row = center(bright)
    assert columns == pytest.approx(SIDE / 2, abs=2)
    assert row == pytest.approx(SIDE * (0.5 + 4.2647 * 0.2 / 2.6), abs=2)
    far = draw([[[-0.2, -0.2, -0.2], [0.2, -0.2, -0.2]]], origin=(9.0, 9.0, 0.0))[:SIDE]
    assert not ((far[..., 0] > 200) & (far[..., 1] > 170) & (far[..., 2] < 90)).any()
    assert (far != near).any()


def test_captions_stand_below_and_flagged_frames_are_framed():
    plain, framed = draw(), draw(flagged=True)
    assert plain.shape[0] > SIDE + 30
    assert (plain[SIDE:].min(axis=(1, 2)) < 100).any()
    assert (plain[:4] == 128).all()
    assert (framed[2, :, 0] > 200).all()


def test_angles_are_drawn_with_bands_of_two_deviations():
    time_s, angles = np.linspace(0.0, 4.0, 50), np.zeros((50, 3))
    angles[:, 0] = 20.0

    none = np.zeros(50, bool)

    def bands(sigma):
        plot = clip_drawings.angles_plot(
            time_s, angles, np.full((50, 3), sigma), flagged=none, refined=none
        ).astype(int)
        reddish = (plot[..., 0] - plot[..., 2] > 20)[60:, 300]
        return reddish.sum() / plot.shape[0]

    assert bands(3.0) > 3 * bands(0.01)
    marked = np.arange(50) == 25
    options = [(none, none), (marked, none), (none, marked)]
    plain, flagged, refined = (
        clip_drawings.angles_plot(time_s, angles, np.ones((50, 3)), flagged=f, refined=r)
        for f, r in options
    )
    assert (plain != flagged).any()
    assert (plain != refined).any()
    assert (flagged != refined).any()


def test_a_single_frame_without_deviations_can_be_drawn():
    for angles in (np.zeros((1, 3)), np.array([[170.0, -80.0, 3.0]])):
        none = np.zeros(1, bool)
        plot = clip_drawings.angles_plot(
            np.zeros(1), angles, np.zeros((1, 3)), flagged=none, refined=none
        )
        assert plot.std() > 1
        assert clip_drawings.spread_plot(angles, flagged=none).std() > 1


def test_yaw_goes_to_the_right_and_pitch_upwards():
    angles = np.tile([[20.0, 10.0, 0.0]], (5, 1))
    dots = clip_drawings.spread_plot(angles, flagged=np.zeros(5, bool), side_px=400).astype(int)
    marked = (dots[..., 2] > 150) & (dots[..., 0] < 140)
    column, row = center(marked)
    assert column > 250
    assert row < 170
    assert (clip_drawings.spread_plot(angles, flagged=np.ones(5, bool), side_px=400) != dots).any()


def test_frames_to_look_at_are_the_extreme_the_worst_and_the_flagged():
    angles = np.zeros((100, 3))
    angles[10, 0], angles[20, 0], angles[30, 1], angles[40, 1] = 50.0, -50.0, 20.0, -20.0
    residual = np.ones(100)
    residual[50] = 9.0
    flagged = dict.fromkeys(range(60, 90), "roll") | {95: "jump"}
    chosen = clip_report.choose_frames(angles, residual, flagged)
    assert {0, 99, 10, 20, 30, 40, 50} <= set(chosen)
    assert chosen[10] == "furthest left"
    assert chosen[20] == "furthest right"
    assert chosen[30] == "chin highest"
    assert chosen[50] == "worst fit"
    assert sum(why == "roll" for why in chosen.values()) == 2
    assert chosen[95] == "jump"
    assert len(chosen) == 16
    assert list(chosen) == sorted(chosen)
    assert max(np.diff(list(chosen))) <= 10  # no part of the film is left out
    assert set(clip_report.choose_frames(angles[:3], residual[:3], {})) == {0, 1, 2}


@pytest.fixture
def capture(tmp_path):
    """A capture of a film with what was found."""
    shots = layouts.actor_shots(8)
    folder = layouts.write_eg3d(tmp_path / "capture", shots)
    angles = head_angles.from_cameras(np.stack([shot.cam2world for shot in shots]))
    clip = {
        "line": "turns 14 degrees to the left, 9 to the right, nods <6>",
        "advice": ["nod slowly"],
        "flags": [{"kind": "roll", "message": "tilted & wrong", "frames": [6, 9]}],
        "outline": [[[-0.1, 0.0, 0.15], [0.1, 0.0, 0.15]]],
        "between_eyes": [0.0, 0.0, 0.16],
        "frames": {
            "frame": [3 * i for i in range(8)],
            "time_s": [0.12 * i for i in range(8)],
            "angles_deg": angles.tolist(),
            "sigma_deg": [[1.0, 2.0, 1.0]] * 8,
            "residual": [0.01] * 8,
            "refined": [True, False] * 4,
            "second_deg": [None, *[3.0] * 7],
        },
    }
    (folder / "clip.json").write_text(json.dumps(clip))
    return folder, clip


def test_the_report_of_a_film_says_and_shows_what_was_found(capture, tmp_path):
    folder, clip = capture
    config = data_config.DataConfig(source=str(folder), resolution=32)
    summary = gan_frames.prepare(config, tmp_path / "run" / "dataset")
    opened = run_dir.RunDir(tmp_path / "run")
    shown = {"box_side": 1.0, "video": {}, "film": folder}
    capture_report.write_report(opened, tmp_path / "run" / "dataset", **shown)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "The head turns 14 degrees to the left, 9 to the right, nods &lt;6&gt;." in page
    assert "<li>nod slowly</li>" in page
    assert '<p class="warning">tilted &amp; wrong</p>' in page
    for name in ("poses", "angles", "yaw_pitch"):
        assert f"samples/data/{name}.png" in page
        with Image.open(tmp_path / "run" / "samples" / "data" / f"{name}.png") as picture:
            assert np.asarray(picture).std() > 1
    assert capture_report.is_current(opened, summary["fingerprint"], **shown)
    clip["flags"] = []
    (folder / "clip.json").write_text(json.dumps(clip))
    assert not capture_report.is_current(opened, summary["fingerprint"], **shown)


def test_captures_of_other_origin_have_no_such_part(tmp_path):
    assert clip_report.read(None) is None
    assert clip_report.read(tmp_path) is None
