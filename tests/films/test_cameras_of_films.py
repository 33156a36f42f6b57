"""What films' cameras are taken from: landmarks, features where both agree, and what is known."""

import logging

import numpy as np
import pytest

from ganavatar_jax.data import data_config
from ganavatar_jax.data.formats import video_file
from ganavatar_jax.faces import estimator_config
from ganavatar_jax.films import (
    matting,
    video_cameras,
    video_landmarks,
    video_structure,
    video_truth,
)
from ganavatar_jax.geometry import head_angles, pose_errors, rotation_vectors
from helpers import heads, layouts

FRAMES = 40
READER = estimator_config.EstimatorConfig()


class Film(video_file.VideoFile):
    """A film of which nothing but its size is asked for."""

    def __init__(self):
        self.size = tuple((2 * heads.CENTER_PX).astype(int).tolist())


@pytest.fixture
def opinion(monkeypatch):
    """Does without the landmarker's file."""
    unknown = np.full(FRAMES, np.nan)
    monkeypatch.setattr(video_cameras, "_second_opinion", lambda *_: unknown)


@pytest.fixture
def structure(opinion, monkeypatch):
    """Replaces features and their adjustment by a function of a pass's cameras."""

    def use(adjust):
        unused = object.__new__(matting.SelfieSegmenter)
        monkeypatch.setattr(video_cameras, "_load_segmenter", lambda *_: unused)
        monkeypatch.setattr(video_structure, "match_pictures", lambda *_, **__: None)
        monkeypatch.setattr(
            video_structure, "adjust", lambda _, cameras, *__, index: adjust(cameras)
        )

    return use


def moving(limit_deg=40.0):
    return heads.cameras(
        heads.swing(-limit_deg, limit_deg, turns=1.0, count=FRAMES),
        heads.swing(-limit_deg / 4, limit_deg / 4, turns=2.0, count=FRAMES),
    )


def read(cameras, seed=0):
    """Tracks of anybody before these cameras."""
    generator = np.random.default_rng(seed)
    landmarks = heads.landmarks(cameras, heads.Person.draw(generator), generator)
    return video_landmarks.Tracks(
        np.arange(FRAMES),
        landmarks,
        np.zeros((FRAMES, 1)),
        ("jawOpen",),
        np.ones(FRAMES),
        np.arange(FRAMES) / 25.0,
    )


def solve(tracks, folder, **video):
    config = data_config.DataConfig(
        source="me.mp4", format="video", video=data_config.VideoConfig(**video)
    )
    folder.mkdir(exist_ok=True)
    return video_cameras.solve(Film(), config, READER, tracks, folder=folder)


def elsewhere(cameras):
    """The same cameras as a structure knows them: in a world of its own."""
    turn, moved = layouts.rotation(3), cameras.copy()
    moved[:, :3, :3] = turn @ cameras[:, :3, :3]
    moved[:, :3, 3] = 2.5 * cameras[:, :3, 3] @ turn.T + 4.0
    return moved


def test_landmarks_give_cameras_and_say_how_good_they_are(opinion, tmp_path):
    truth = moving()
    found = solve(read(truth), tmp_path, cameras="landmarks")
    assert found.cameras == "landmarks"
    assert not found.refined.any()
    assert found.kept.tolist() == list(range(FRAMES))
    errors = np.abs(head_angles.from_cameras(found.cam2world) - head_angles.from_cameras(truth))
    assert ((errors < 2.0 * found.sigma_deg).mean(axis=0) >= 0.9).all()
    depth = -np.einsum("fi,fi->f", found.cam2world[:, :3, 2], found.cam2world[:, :3, 3])
    assert np.median(depth) == pytest.approx(2.7, rel=0.03)


@pytest.mark.parametrize("fov_deg", [20.0, 60.0])
def test_a_known_field_of_view_sets_the_focal_length(fov_deg, opinion, tmp_path):
    tracks = read(moving())
    plain = solve(tracks, tmp_path / "plain", cameras="landmarks")
    found = solve(tracks, tmp_path / "known", cameras="landmarks", fov_deg=fov_deg)
    focal_px = Film().size[0] / 2.0 / np.tan(np.radians(fov_deg) / 2.0)
    assert found.focal_px == pytest.approx(focal_px)
    ratio = np.linalg.norm(found.cam2world[:, :3, 3], axis=1) / np.linalg.norm(
        plain.cam2world[:, :3, 3], axis=1
    )
    np.testing.assert_allclose(ratio, focal_px / plain.focal_px, rtol=0.05)


def test_what_does_not_fit_is_left_out_and_counted(opinion, tmp_path):
    tracks = read(moving())
    generator = np.random.default_rng(0)
    for index in (7, 30):
        tracks.landmarks[index] = tracks.landmarks[index, generator.permutation(478)]
    found = solve(tracks, tmp_path, cameras="landmarks")
    assert found.misread == 2
    assert sorted(set(range(FRAMES)) - set(found.kept.tolist())) == [7, 30]


def test_a_head_that_hardly_moves_asks_no_features(structure, tmp_path, caplog):
    def refuse(_):
        raise AssertionError("features of a still head were adjusted")

    structure(refuse)
    with caplog.at_level(logging.INFO):
        found = solve(read(moving(6.0)), tmp_path)
    assert found.cameras == "landmarks"
    assert not found.refined.any()
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith("me.mp4: the head moves 1")
    assert "below 15" in line


def test_features_refine_frames_in_which_both_agree(structure, tmp_path, caplog):
    truth = moving()
    blind = np.arange(FRAMES) % 5 == 0

    def adjust(_):
        seen = np.where(blind, 3, 100)
        return video_structure.Structure(elsewhere(truth), seen, np.where(blind, np.nan, 0.5))

    structure(adjust)
    tracks = read(truth)
    with caplog.at_level(logging.WARNING):
        found = solve(tracks, tmp_path)
    rough = solve(tracks, tmp_path / "rough", cameras="landmarks")
    assert found.cameras == "colmap"
    np.testing.assert_array_equal(found.refined, ~blind)
    left = pose_errors.compare_poses(found.cam2world[~blind], truth[~blind])
    assert left.rotation_deg.max() < 1e-3
    apart = rotation_vectors.angle_deg(found.cam2world[:, :3, :3], rough.cam2world[:, :3, :3])
    assert apart[blind].max() == 0.0
    assert (found.sigma_deg[~blind] < rough.sigma_deg[~blind]).all()
    np.testing.assert_array_equal(found.sigma_deg[blind], rough.sigma_deg[blind])
    assert np.isfinite(found.residual_px).all()
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith("me.mp4: features agree with landmarks in 32 of 40 frames")


@pytest.mark.parametrize("case", ["another head", "too few features", "no features"])
def test_a_structure_that_cannot_be_right_leaves_the_landmarks_cameras(
    case, structure, tmp_path, caplog
):
    truth = moving()

    def adjust(cameras):
        seen, moved = np.full(FRAMES, 100), elsewhere(truth)
        if case == "another head":
            moved[:, :3, :3] = np.stack([layouts.rotation(seed) for seed in range(FRAMES)])
        else:
            seen[: FRAMES // 2 + 1 if case == "too few features" else None] = 3
        return video_structure.Structure(moved, seen, np.ones(FRAMES))

    structure(adjust)
    tracks = read(truth)
    with caplog.at_level(logging.WARNING):
        found = solve(tracks, tmp_path)
    [line] = [record.getMessage() for record in caplog.records]
    words = {
        "another head": "% of the frames (median difference",
        "too few features": "19 of 40 frames show enough features",
        "no features": "0 of 40 frames show enough features",
    }[case]
    assert words in line
    assert "Cameras come from landmarks alone. Film the head larger" in line
    rough = solve(tracks, tmp_path / "rough", cameras="landmarks")
    assert found.cameras == "landmarks"
    assert not found.refined.any()
    np.testing.assert_array_equal(found.cam2world, rough.cam2world)


def test_what_was_found_is_taken_up(opinion, tmp_path, monkeypatch):
    first = solve(read(moving()), tmp_path, cameras="landmarks")
    monkeypatch.setattr(video_cameras, "_from_landmarks", None)
    again = solve(read(moving()), tmp_path, cameras="landmarks")
    assert again._fields == first._fields
    for now, before in zip(again, first, strict=True):
        np.testing.assert_array_equal(now, before)
        assert type(now) is type(before)


def test_the_truth_is_told_with_and_without_a_similarity():
    truth = moving()
    nod = rotation_vectors.exp(np.array([[np.radians(6.0), 0.0, 0.0]]))[0]
    found = truth.copy()
    found[:, :3, :3], found[:, :3, 3] = nod @ truth[:, :3, :3], truth[:, :3, 3] @ nod.T
    facts = video_truth.compare_poses(found, truth)
    assert facts["truth_frames"] == FRAMES
    assert facts["truth_rotation_deg"] < 1e-3  # a head frame that nods is a similarity
    assert facts["truth_absolute_deg"] == pytest.approx(6.0, abs=1e-3)
    assert video_truth.compare_poses(truth, truth)["truth_absolute_deg"] < 1e-3


def test_faces_from_the_side_do_not_count_in_comparisons():
    truth = heads.cameras(np.linspace(0.0, 80.0, FRAMES))
    wrong = truth.copy()
    wrong[FRAMES // 2 + 3 :, :3, :3] = layouts.rotation(1)  # beyond 46 degrees
    facts = video_truth.compare_poses(wrong, truth)
    assert facts["truth_frames"] == FRAMES // 2 + 2
    assert facts["truth_absolute_deg"] < 1e-3
    assert video_truth.compare_poses(truth[-5:], truth[-5:]) == {"truth_frames": 0}
