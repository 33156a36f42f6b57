"""Where a recording begins anew, and what a matter with a memory must see of it."""

import json
import logging

import numpy as np
import pytest

from ganavatar_jax.data import data_config, frame_table
from ganavatar_jax.data.builders import gan_frames
from ganavatar_jax.data.formats import video_file
from ganavatar_jax.faces import estimator_config, regions
from ganavatar_jax.films import (
    matte_solver,
    matting,
    onnx_matting,
    video_capture,
    video_images,
    video_landmarks,
)
from helpers import captures


def labels(turns_deg):
    """Cameras on a circle around the head, so many degrees apart."""
    found = np.tile(np.array(captures.LABEL, np.float64), (len(turns_deg), 1))
    for label, yaw in zip(found, np.radians(np.cumsum(turns_deg)), strict=True):
        turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
        label[:16].reshape(4, 4)[:3] = turn @ label[:16].reshape(4, 4)[:3]
    return found


def test_shots_begin_after_gaps_and_cuts():
    frame = np.array([0, 2, 4, 6, 30, 32, 34, 36])
    begins = video_capture._find_shots(frame / 25, labels([0, 1, 1, 1, 1, 1, 25, 1]))
    assert np.flatnonzero(begins).tolist() == [0, 4, 6]


def test_gaps_are_found_by_time_where_the_rate_changes():
    time_s = np.cumsum([0, *[0.1] * 20, *[1 / 60] * 60, 1.5, *[1 / 60] * 20])
    assert video_landmarks.find_starts(time_s).tolist() == [0, 81]
    assert video_landmarks.find_starts(np.array([0.3])).tolist() == [0]


def test_a_memory_needs_each_shot_up_to_what_is_missing():
    begins = np.array([1, 0, 0, 1, 0, 0, 1, 0], bool)
    missing = np.array([0, 0, 0, 0, 1, 0, 1, 1], bool)
    due = video_images.find_due(missing, begins)
    assert np.flatnonzero(due).tolist() == [3, 4, 6, 7]
    assert not video_images.find_due(np.zeros(8, bool), begins).any()


class Film(video_file.VideoFile):
    """Pictures of a grey room with a lighter disc, in memory."""

    def __init__(self):
        self.size, self.has_alpha = (48, 40), False

    def read(self, number):
        picture = np.full((40, 48, 3), 60, np.uint8)
        picture[10:30, 14:34] = 180 + number
        return picture


class Matter(onnx_matting.OnnxMatter):
    """Takes what is bright for the head; keeps the room in the frames of a set."""

    remembers, takes_plates = False, False

    def __init__(self, spoilt=()):
        self.spoilt, self.count = spoilt, 0

    def matte(self, image_u8, hint=matting.NO_HINT):
        alpha = np.where(image_u8[..., 0] > 120, 255, 0).astype(np.uint8)
        if self.count in self.spoilt:
            alpha[:16] = 255
        self.count += 1
        return matte_solver.Matte(alpha, image_u8)

    def forget(self):
        pass


def write(folder, square, *, matter, count=12):
    """Writes the images of a film whose crops are all the same."""
    names = [f"00/{i:06d}" for i in range(count)]
    views = video_images.Views(Film(), np.arange(count), [square] * count, 32)
    begins = np.arange(count) == 0
    beyond = video_images.write(folder, names, views, matter=matter, begins=begins, progress=None)
    return names, begins, beyond


BEYOND = regions.Region(24.0, 28.0, 32.0)  # Reaches four rows below the picture.


@pytest.mark.parametrize("matter", [None, Matter()])
def test_where_a_crop_leaves_the_picture_it_is_white_and_masked_and_stays_so(matter, tmp_path):
    folder = tmp_path / "capture"
    names, _, beyond = write(folder, BEYOND, matter=matter)
    assert beyond.all()
    labels = [[f"images/{name}.jpg", captures.label(i)] for i, name in enumerate(names)]
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    config = data_config.DataConfig(source=str(folder), resolution=32)
    gan_frames.prepare(config, tmp_path / "data")
    table = frame_table.load_split(tmp_path / "data", "train", with_alpha=True)
    assert (table.filmed[:, :28] == 255).all()
    assert not table.filmed[:, 28:].any()
    assert (table.image[:, 28:] == 255).all()
    assert np.abs(table.image[0, 27, :4].astype(int) - (255 if matter else 60)).max() < 20
    if matter:
        assert not table.alpha[:, 28:].any()


def test_crops_within_the_picture_have_no_masks(tmp_path):
    _, _, beyond = write(tmp_path, regions.Region(24.0, 20.0, 32.0), matter=Matter(), count=3)
    assert not beyond.any()
    assert not (tmp_path / "filmed").exists()


def test_frames_with_bad_mattes_are_left_out_and_told(tmp_path, caplog):
    names, begins, _ = write(tmp_path, BEYOND, matter=Matter(spoilt={5, 6}))
    with caplog.at_level(logging.WARNING):
        leaps = video_images.drop_leaps(tmp_path, names, begins)
    assert np.flatnonzero(leaps).tolist() == [5, 6]
    assert "mattes of 2 of 12 frames leap (00/000005, 00/000006)" in caplog.text
    for kind in ("images", "alpha", "filmed"):
        left = {path.stem for path in (tmp_path / kind).rglob("*.*")}
        assert left == {name[3:] for name in names} - {"000005", "000006"}


def test_a_limit_that_reads_the_same_faces_makes_nothing_anew(tmp_path):
    def claim(limit):
        estimator = estimator_config.EstimatorConfig(min_confidence=limit)
        config = data_config.DataConfig(source=str(tmp_path / "me.mp4"), format="video")
        claims = video_capture._claims(tmp_path / "me.mp4", config, estimator)
        video_capture._claim(folder, claims, notes=())
        return chunk.is_file()

    folder = tmp_path / "capture"
    chunk = folder / "landmarks" / "00000.npz"

    def read(*, finished):
        chunk.parent.mkdir(parents=True, exist_ok=True)
        np.savez(chunk, presence=np.array([0.9, 0.75]))
        if finished:
            (folder / "summary.json").write_text("{}")

    (tmp_path / "me.mp4").write_bytes(b"film")
    claim(0.5)
    read(finished=True)
    assert claim(0.75)
    assert claim(0.5)
    assert not claim(0.8)  # one of the faces is too unsure
    read(finished=True)
    assert not claim(0.5)  # more faces may be found
    read(finished=False)
    assert not claim(0.6)  # the rest was not read yet


@pytest.mark.parametrize("notes", [(), ("5 frames before the first key frame were skipped",)])
def test_a_finished_capture_is_used_without_opening_its_film(notes, tmp_path, monkeypatch):
    folder, source = tmp_path / "capture", tmp_path / "me.mp4"
    source.write_bytes(b"film")
    estimator = estimator_config.EstimatorConfig()
    config = data_config.DataConfig(source=str(source), format="video")
    claims = video_capture._claims(source, config, estimator)
    video_capture._claim(folder, claims, notes=notes)
    (folder / "dataset.json").write_text("{}")
    (folder / "summary.json").write_text('{"frames": 3}')

    def open_film(*_args, **_options):
        raise AssertionError("decodes the whole film")

    monkeypatch.setattr(video_file, "VideoFile", open_film)
    assert video_capture.prepare_video(config, estimator, folder) == {"frames": 3}
    source.write_bytes(b"another film")
    with pytest.raises(AssertionError, match="decodes"):
        video_capture.prepare_video(config, estimator, folder)
