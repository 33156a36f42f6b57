"""Captures in a tracker's world come back into the head frame."""

import dataclasses
import json

import numpy as np
import pytest

from ganavatar_jax.core import errors
from ganavatar_jax.data import (
    cropping,
    data_config,
    head_alignment,
    head_landmarks,
    landmark_normalization,
)
from ganavatar_jax.data.builders import gan_frames
from ganavatar_jax.data.formats import eg3d
from ganavatar_jax.faces import estimator_config, estimators
from helpers import layouts

pytestmark = pytest.mark.captures

FRAMES = 240


def config(**align):
    return data_config.DataConfig(
        source="x", resolution=16, align=data_config.AlignConfig(**({"views": FRAMES} | align))
    )


@pytest.fixture(scope="module")
def actor():
    """The shipped actor, thinned, and a detector that reads every image once."""
    reader = estimators.make_estimator(estimator_config.EstimatorConfig())
    known = {}

    def find(image):
        key = image.tobytes()
        if key not in known:
            reading = reader.estimate(image)
            known[key] = None if reading is None else reading.landmarks
        return known[key]

    with eg3d.open_capture(gan_frames.source_path("package:actor")) as capture:
        step = len(capture.frames) // FRAMES
        thinned = dataclasses.replace(capture, frames=capture.frames[::step][:FRAMES])
        yield thinned, find


def similarity(seed):
    """The task's random similarities: 25 degrees, factor 0.5 to 2, a shift of up to one unit."""
    generator = np.random.default_rng(seed)
    shift = generator.normal(size=3)
    shift *= generator.random() / np.linalg.norm(shift)
    return head_alignment.Report(
        "test",
        float(2 ** generator.uniform(-1, 1)),
        tuple(map(tuple, layouts.rotation(seed, degrees=25.0).tolist())),
        tuple(shift.tolist()),
    )


def errors_of(report, truth):
    """What is left of truth after report: degrees, relative scale, shift of the origin."""
    scale = report.scale * truth.scale
    rotation = np.array(report.rotation) @ np.array(truth.rotation)
    shift = report.scale * np.array(report.rotation) @ truth.translation + report.translation
    angle = np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1)))
    return angle, abs(scale - 1), np.linalg.norm(shift)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_displaced_actor_is_brought_back_by_its_face(seed, actor):
    capture, find = actor
    truth = similarity(seed)
    moved = head_alignment.move_cameras(capture, truth)
    aligned, report = head_alignment.align_capture(
        moved, config(method="auto"), find_landmarks=find
    )
    angle, scale, shift = errors_of(report, truth)
    print(f"seed {seed}: {angle:.2f} deg, {scale:.2%} scale, {shift:.4f} units")
    assert angle <= 3.0
    assert scale <= 0.04
    assert shift <= 0.03
    assert report.residual < 0.01
    assert report.reprojection < 0.02
    for after, before in zip(aligned.frames, capture.frames, strict=True):
        assert np.abs(after.label25[:12] - before.label25[:12]).max() < 0.2
    assert not report.warnings


@pytest.mark.slow
def test_scale_only_keeps_what_the_tracker_says_of_directions(actor):
    capture, find = actor
    truth = similarity(1)
    moved = head_alignment.move_cameras(capture, truth)
    aligned, report = head_alignment.align_capture(
        moved, config(method="scale"), find_landmarks=find
    )
    assert errors_of(report, truth)[1] <= 0.04
    np.testing.assert_array_equal(report.rotation, np.eye(3))
    np.testing.assert_allclose(
        aligned.frames[0].label25[[3, 7, 11]],
        report.scale * moved.frames[0].label25[[3, 7, 11]],
        rtol=1e-5,
    )
    fixed, report = head_alignment.align_capture(moved, config(method="scale", scale=3.0))
    assert report.scale == 3.0


def test_points_and_meshes_align_exactly(actor, tmp_path):
    capture, _ = actor
    truth = similarity(2)
    moved = head_alignment.move_cameras(capture, truth)
    target = np.random.default_rng(0).normal(size=(9, 3)) * 0.2
    source = truth.scale * target @ np.array(truth.rotation).T + truth.translation
    points = tmp_path / "points.json"
    points.write_text(json.dumps({"source": source.tolist(), "target": target.tolist()}))
    faces = "f 1 2 3\n"
    (tmp_path / "target.obj").write_text(
        "".join(f"v {x} {y} {z}\n" for x, y, z in target.tolist()) + faces
    )
    np.save(tmp_path / "source.npy", source)
    for options in (
        {"method": "points", "source_file": str(points)},
        {
            "method": "mesh",
            "source_file": str(tmp_path / "source.npy"),
            "target_file": str(tmp_path / "target.obj"),
        },
    ):
        aligned, report = head_alignment.align_capture(moved, config(**options))
        assert max(errors_of(report, truth)) < 1e-4
        np.testing.assert_allclose(aligned.frames[5].label25, capture.frames[5].label25, atol=2e-5)


def test_landmarks_may_be_given_by_number(tmp_path):
    head = head_landmarks.load_head_landmarks()
    row = {str(i): head.model.mean[place].tolist() for place, i in enumerate(head.indices[:8])}
    (tmp_path / "points.json").write_text(json.dumps({"landmarks": row}))
    report = head_alignment._align_by_files(
        data_config.AlignConfig(method="points", source_file=str(tmp_path / "points.json")),
        "points",
    )
    assert report.scale == pytest.approx(1.0)
    (tmp_path / "points.json").write_text('{"landmarks": {"13": [0, 0, 0]}}')
    with pytest.raises(errors.DataFormatError, match="'13' is not one of the"):
        head_alignment._read_pairs(str(tmp_path / "points.json"))


def test_a_head_that_does_not_fit_the_box_is_warned_of(actor):
    capture, _ = actor
    near = head_alignment.move_cameras(capture, head_alignment.Report("test", scale=2.5))
    _, report = head_alignment.align_capture(near, config(method="none"))
    text = " ".join(report.warnings)
    assert "cameras stand 6.7" in text
    assert "of the matte lies outside the box of 1 units" in text


def test_a_capture_without_faces_is_refused(actor):
    capture, _ = actor
    with pytest.raises(errors.DataFormatError, match=r"got 0 of 240 .*data.align.views"):
        head_alignment.align_capture(
            capture, config(method="auto"), find_landmarks=lambda image: None
        )


def test_default_leaves_captures_in_the_head_frame_alone(actor):
    capture, _ = actor
    same, report = head_alignment.align_capture(capture, config())
    assert report.method == "none"
    np.testing.assert_array_equal(same.frames[3].label25, capture.frames[3].label25)
    other = dataclasses.replace(config(), format="insta")
    assert head_alignment.resolve_method(other) == "auto"


@pytest.mark.slow
def test_normalized_landmarks_hide_how_the_head_moves(actor):
    capture, find = actor
    few = dataclasses.replace(capture, frames=capture.frames[:6])
    normal = landmark_normalization.normalize(few, find)
    for frame in normal.frames:
        pose = frame.label25[:16].reshape(4, 4)
        assert np.linalg.norm(pose[:3, 3]) == pytest.approx(2.7, rel=1e-5)
        assert frame.label25[16] == pytest.approx(4.2647)
        assert frame.size[0] == frame.size[1] == frame.read_pixels()[0].shape[0]


def test_a_head_crop_keeps_projections_and_pads_beyond_the_image(actor):
    capture, _ = actor
    frame = capture.frames[7]
    cropped = cropping.crop(frame, (-10, 20, 90, 120))
    before = layouts.project(
        frame.label25[:16].reshape(4, 4), frame.label25[16:].reshape(3, 3), size=frame.size
    )
    after = layouts.project(
        cropped.label25[:16].reshape(4, 4), cropped.label25[16:].reshape(3, 3), size=cropped.size
    )
    np.testing.assert_allclose(after, before - [-10, 20], atol=1e-3)
    image, alpha = cropped.read_pixels()
    np.testing.assert_array_equal(image[:, 10:], frame.read_pixels()[0][20:120, :90])
    assert alpha[:, :10].max() == 0


def test_wide_images_are_cut_around_the_head():
    shots = layouts.actor_shots(2)
    wide = dataclasses.replace(config(), crop="auto")
    label25 = np.concatenate([shots[0].cam2world.ravel(), shots[0].intrinsics.ravel()])
    from ganavatar_jax.data import records

    frame = records.FrameReference(
        label25=label25.astype(np.float32),
        expression=None,
        frame_id="a",
        sequence="",
        split=None,
        size=(64, 48),
        read_pixels=lambda: (np.zeros((48, 64, 3), np.uint8), None),
    )
    capture = records.Capture("c", (frame,), (), 48, "unknown", False, "0")
    [cut] = cropping.square(capture, wide).frames
    assert cut.size == (64, 64)  # 0.633 units at 2.7 with this focal length: the whole width
    center = layouts.project(
        cut.label25[:16].reshape(4, 4), cut.label25[16:].reshape(3, 3), size=cut.size
    ).mean(axis=0)
    assert np.abs(center - 32).max() < 4
    with pytest.raises(errors.DataFormatError, match="64x48, and data.crop=none needs square"):
        cropping.square(capture, dataclasses.replace(wide, crop="none"))
