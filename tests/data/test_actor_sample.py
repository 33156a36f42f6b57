"""The sample that is installed with the package is sound and covers what it promises."""

import json
import zipfile

import numpy as np
import pytest

from ganavatar_jax.data.builders import gan_frames
from ganavatar_jax.data.formats import eg3d
from ganavatar_jax.geometry import cameras


@pytest.fixture(scope="module")
def capture():
    with eg3d.open_capture(gan_frames.source_path("package:actor")) as opened:
        yield opened


def split(capture, name):
    return [frame for frame in capture.frames if frame.split == name]


def test_it_holds_a_recording_and_its_held_out_end(capture):
    train, test = split(capture, "train"), split(capture, "test")
    assert (len(train), len(test)) == (1200, 144)
    assert max(frame.frame_id for frame in train) < min(frame.frame_id for frame in test)
    assert (capture.resolution, capture.background, capture.has_alpha) == (128, "white", True)


def test_it_is_small_and_free(capture):
    path = gan_frames.source_path("package:actor")
    assert path.stat().st_size < 6e6
    with zipfile.ZipFile(path) as archive:
        meta = json.loads(archive.read("meta.json"))
    assert meta["license"] == "CC0-1.0"
    assert "MakeHuman" in meta["note"]


def test_training_covers_the_heads_turns_and_the_face(capture):
    labels = np.stack([frame.label25 for frame in split(capture, "train")])
    yaw, pitch = cameras.yaw_pitch_deg(labels[:, :16].reshape(-1, 4, 4))
    assert float(yaw.min()) < -60
    assert float(yaw.max()) > 60
    assert float(pitch.max() - pitch.min()) > 40
    codes = np.stack([frame.expression for frame in split(capture, "train")])
    used = {n for n, m in zip(capture.expression_names, codes.max(axis=0), strict=True) if m > 0.5}
    assert {"jawOpen", "eyeBlinkLeft", "eyeBlinkRight", "mouthSmileLeft", "mouthPucker"} <= used


def test_frames_show_a_head_on_white(capture):
    for reference in capture.frames[::168]:
        frame = reference.load()
        share = (frame.alpha > 127).mean()
        assert 0.2 < share < 0.8
        assert frame.image[frame.alpha == 0].mean() > 250
        assert frame.image[frame.alpha == 255].mean() < 200
