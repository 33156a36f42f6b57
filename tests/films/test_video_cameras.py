"""Cameras of bare videos: COLMAP's adjustment, what it falls back to, and the truth."""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from ganavatar_jax.core import errors
from ganavatar_jax.data import data_config
from ganavatar_jax.data.builders import gan_frames
from ganavatar_jax.data.formats import eg3d, video_file
from ganavatar_jax.faces import estimator_config, model_files
from ganavatar_jax.films import (
    video_cameras,
    video_capture,
    video_landmarks,
    video_structure,
    video_truth,
)
from ganavatar_jax.geometry import head_angles
from helpers import layouts

pytestmark = pytest.mark.captures

READER = estimator_config.EstimatorConfig(flip_average=False)
FRAMES = 40
needs_pycolmap = pytest.mark.skipif(
    importlib.util.find_spec("pycolmap") is None, reason="pycolmap is an extra"
)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A video of the shipped actor, and the capture that it shows."""
    folder = tmp_path_factory.mktemp("film")
    with eg3d.open_capture(gan_frames.source_path("package:actor")) as capture:
        front = [f for f in capture.frames if f.label25[10] < -np.cos(np.radians(50.0))]
        chosen = [front[round(i)] for i in np.linspace(0, len(front) - 1, FRAMES)]
        shots = [
            layouts.Shot(
                image=frame.image,
                alpha=frame.alpha,
                code=frame.expression,
                cam2world=frame.label25[:16].reshape(4, 4).astype(np.float64),
                intrinsics=frame.label25[16:].reshape(3, 3).astype(np.float64),
            )
            for frame in (reference.load() for reference in chosen)
        ]
    layouts.save_video(folder / "me.mp4", [shot.image for shot in shots])
    return folder / "me.mp4", layouts.write_eg3d(folder / "truth", shots)


def config(path, **video):
    return data_config.DataConfig(
        source=str(path),
        resolution=64,
        format="video",
        video=data_config.VideoConfig(**({"matte": "none"} | video)),
    )


def ring(count, *, spread_deg=40.0):
    """Cameras on an arc around the head that nod a little."""
    poses = np.tile(np.eye(4), (count, 1, 1))
    for index, yaw in enumerate(np.radians(np.linspace(-spread_deg, spread_deg, count))):
        pitch = 0.2 * np.sin(3.0 * yaw)
        back = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
        right = np.array([np.cos(yaw), 0.0, -np.sin(yaw)])
        poses[index, :3, :3] = np.stack([right, np.cross(-back, right), -back], axis=1)
        poses[index, :3, 3] = 2.7 * back
    return poses


@pytest.fixture(scope="module", params=[(25.0, 4.0), (60.0, 6.5)])
def actor(request, tmp_path_factory):
    """A film of the shipped actor, turned at most so far: tracks, true cameras, allowed error."""
    (limit_deg, allowed_deg), folder = request.param, tmp_path_factory.mktemp("actor")
    with eg3d.open_capture(gan_frames.source_path("package:actor")) as capture:
        poses = np.stack([f.label25[:16].reshape(4, 4) for f in capture.frames])
        held = head_angles.from_cameras(poses)
        near = np.flatnonzero(np.hypot(held[:, 0], held[:, 1]) <= limit_deg)
        chosen = near[np.linspace(0, len(near) - 1, FRAMES).astype(int)]
        layouts.save_video(folder / "me.mp4", [capture.frames[i].read_pixels()[0] for i in chosen])
    asked = config(folder / "me.mp4")
    video = video_file.VideoFile(folder / "me.mp4", where="me.mp4")
    tracks, _ = video_landmarks.read_tracks(video, asked, READER, folder, None)
    return video, tracks, poses[chosen[tracks.frame]].astype(np.float64), allowed_deg


@needs_pycolmap
def test_an_actors_cameras_are_found(actor, tmp_path):
    video, tracks, truth, allowed_deg = actor
    found = {}
    for cameras in ("landmarks", "colmap"):
        asked, folder = config("me.mp4", cameras=cameras), tmp_path / cameras
        folder.mkdir()
        solved = video_cameras.solve(video, asked, READER, tracks, folder=folder)
        assert len(solved.kept) >= 0.9 * len(truth)
        assert not (folder / "structure").exists()
        facts = video_truth.compare_poses(solved.cam2world[solved.kept], truth[solved.kept])
        print(cameras, solved.cameras, facts, np.median(solved.sigma_deg.max(axis=1)))
        assert facts["truth_absolute_deg"] <= allowed_deg
        told_deg = 2.0 * float(np.median(solved.sigma_deg[solved.kept].max(axis=1)))
        assert told_deg < 8.0
        assert facts["truth_absolute_deg"] <= told_deg
        found[cameras] = facts, solved
    exact, solved = found["colmap"]
    assert exact["truth_rotation_deg"] <= 2.0
    assert exact["truth_rotation_deg"] <= found["landmarks"][0]["truth_rotation_deg"] + 0.1
    assert solved.cameras == "colmap"
    assert solved.refined.mean() >= 0.5


@needs_pycolmap
def test_bundles_are_adjusted_as_pycolmap_does_and_in_silence(capfd):
    import pycolmap

    pycolmap.logging.minloglevel = pycolmap.logging.Level.ERROR.value
    options, noise = pycolmap.SyntheticDatasetOptions(), pycolmap.SyntheticNoiseOptions()
    noise.point2D_stddev, noise.rig_from_world_translation_stddev = 0.5, 0.02
    models = []
    for _ in range(2):
        pycolmap.set_random_seed(0)
        models.append(pycolmap.synthesize_dataset(options))
        pycolmap.synthesize_noise(noise, models[-1])
    quiet, loud = models
    adjustment = pycolmap.BundleAdjustmentOptions()
    adjustment.print_summary = False
    before = [image.cam_from_world().matrix() for image in quiet.images.values()]
    video_structure._adjust_bundle(pycolmap, quiet, adjustment)
    assert capfd.readouterr() == ("", "")
    pycolmap.bundle_adjustment(loud, adjustment)
    mine, theirs = (
        np.stack([model.images[i].cam_from_world().matrix() for i in quiet.images])
        for model in models
    )
    np.testing.assert_allclose(mine, theirs, atol=1e-9)
    assert np.abs(mine - before).max() > 1e-3


def test_landmarks_alone_are_measured_against_the_truth(film, tmp_path):
    path, truth = film
    plain = config(path, cameras="landmarks")
    told = dataclasses.replace(plain, video=dataclasses.replace(plain.video, truth=str(truth)))
    assert "truth_rotation_deg" not in video_capture.prepare_video(plain, READER, tmp_path / "a")
    before = (tmp_path / "a" / video_cameras.POSES_FILE).stat().st_mtime_ns
    facts = video_capture.prepare_video(told, READER, tmp_path / "a")  # nothing is made again
    assert (tmp_path / "a" / video_cameras.POSES_FILE).stat().st_mtime_ns == before
    assert 0.5 * FRAMES < facts["truth_frames"] <= FRAMES
    assert facts["truth_rotation_deg"] < 3.0
    assert facts["truth_absolute_deg"] < 7.5
    assert facts["truth_translation"] < 0.05
    assert (facts["cameras"], facts["frames_refined"]) == ("landmarks", 0)
    assert "truth_alpha_iou" not in facts  # No mattes were made.


def test_exact_cameras_and_mattes_are_found_exact(film, tmp_path):
    path, truth = film
    video = video_file.VideoFile(path, where="me.mp4")
    focal_px = 500.0
    labels, capture = [], tmp_path / "capture"
    with eg3d.open_capture(truth) as known:
        for index, frame in enumerate(known.frames):
            pose = frame.label25[:16].reshape(4, 4).astype(np.float64)
            region, intrinsics = video_cameras.crop_region(
                video.size, pose, focal_px=focal_px, extent=0.633
            )
            back = video_truth._find_region(video.size, intrinsics, focal_px)
            np.testing.assert_allclose(
                [back.center_x_px, back.center_y_px, back.side_px],
                [region.center_x_px, region.center_y_px, region.side_px],
            )
            name = f"images/00/{index:06d}.jpg"
            labels.append([name, [*pose.ravel().tolist(), *intrinsics.ravel().tolist()]])
            place = capture / "alpha" / "00" / f"{index:06d}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            matte = np.repeat(frame.read_pixels()[1][..., None], 3, axis=2)
            cut = video_truth.regions.crop(matte, region, size_px=64)[..., 0]
            Image.fromarray(cut).save(place)
    (capture / "dataset.json").write_text(json.dumps({"labels": labels}))
    facts = video_truth.compare(video, capture, str(truth), focal_px=focal_px)
    assert facts["truth_rotation_deg_p90"] < 1e-3
    assert facts["truth_translation"] < 1e-5
    assert facts["truth_alpha_iou"] == 1.0


def test_a_truth_that_does_not_fit_is_refused_before_anything_is_read(film, tmp_path):
    asked = config(film[0], cameras="landmarks", truth=str(tmp_path / "nowhere.zip"))
    with pytest.raises(errors.DataFormatError, match=r"nowhere\.zip: no such"):
        video_capture.prepare_video(asked, READER, tmp_path / "capture")
    few = layouts.write_eg3d(tmp_path / "few", layouts.actor_shots(4))
    asked = config(film[0], cameras="landmarks", truth=str(few))
    with pytest.raises(errors.DataFormatError, match=rf"expected {FRAMES} frames.*got 4.*truth"):
        video_capture.prepare_video(asked, READER, tmp_path / "capture")
    assert not (tmp_path / "capture").exists()


def test_a_missing_package_is_named_before_anything_is_read(film, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    with pytest.raises(errors.MissingDependencyError, match=r"preprocess.*cameras=landmarks"):
        video_capture.prepare_video(config(film[0]), READER, tmp_path / "capture")
    assert not (tmp_path / "capture" / "landmarks").exists()


@pytest.mark.parametrize("video", [{"cameras": "colmap"}, {"matte": "fast"}])
def test_no_model_file_is_fetched_where_that_is_forbidden(video, film, tmp_path, monkeypatch):
    pytest.importorskip("pymatting")
    monkeypatch.setattr(video_structure, "check_available", lambda: None)
    monkeypatch.setattr(model_files, "_inside_package", lambda *_: [])
    monkeypatch.delenv(model_files.SELFIE_SEGMENTER.env_var, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    offline = dataclasses.replace(READER, allow_download=False)
    asked = config(film[0], **{"cameras": "landmarks", **video})
    with pytest.raises(errors.EstimatorError, match=r"selfie_segmenter.*not found"):
        video_capture.prepare_video(asked, offline, tmp_path / "capture")
    assert not (tmp_path / "capture" / "landmarks").exists()


def test_pairs_reach_every_view_and_look_from_like_sides():
    poses = ring(80)
    pairs = video_structure.choose_pairs(poses)
    assert all(i < j for i, j in pairs)
    assert len(set(pairs)) == len(pairs)
    assert len(pairs) < 80 * 8
    forward = poses[:, :3, 2]
    angle = np.degrees(np.arccos(np.clip([forward[i] @ forward[j] for i, j in pairs], -1, 1)))
    assert angle.max() <= 30.0
    partners = np.bincount(np.array(pairs).ravel(), minlength=80)
    assert partners.min() >= 4
    assert partners.max() >= 20  # Some views are everybody's reference.


def test_pairs_of_a_still_head_are_few_and_sound():
    still = np.tile(np.eye(4), (30, 1, 1))
    pairs = video_structure.choose_pairs(still)
    assert {(i, i + 1) for i in range(29)} <= set(pairs)
    assert video_structure.choose_pairs(still[:2]) == [(0, 1)]


STOPPED = """
import os, pathlib, signal, sys, threading
import numpy as np
from ganavatar_jax.films import video_structure
from ganavatar_jax.runs import signals

count, noise = 20, np.random.default_rng(0)
pictures = (
    (noise.integers(0, 256, (384, 384, 3)).astype(np.uint8), np.ones((384, 384), bool))
    for _ in range(count)
)
lens = np.array([[500.0, 0, 192], [0, 500, 192], [0, 0, 1]])
try:
    with signals.ending():
        threading.Timer(0.8, os.kill, (os.getpid(), signal.SIGTERM)).start()
        video_structure.match_pictures(
            pathlib.Path(sys.argv[1]), pictures, np.tile(np.eye(4), (count, 1, 1)),
            np.tile(lens, (count, 1, 1)),
        )
except signals.Ended as end:
    print(end, file=sys.stderr)
    sys.exit(end.exit_code)
"""


def test_a_signal_inside_colmap_ends_in_one_line(tmp_path, repo_root):
    pytest.importorskip("pycolmap")
    done = subprocess.run(
        [sys.executable, "-c", STOPPED, str(tmp_path / "structure")],
        env=os.environ | {"PYTHONPATH": str(repo_root)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 143
    assert done.stderr.startswith("ended by SIGTERM")
    assert len(done.stderr.splitlines()) == 1
