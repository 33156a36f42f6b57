"""What is measured on a film's frames for its findings, and the capture's clip.json."""

import io
import json
import pathlib
import zipfile

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from ganavatar_jax.apps import prepare_data
from ganavatar_jax.core import errors
from ganavatar_jax.data import data_config
from ganavatar_jax.data.builders import gan_frames
from ganavatar_jax.data.formats import eg3d
from ganavatar_jax.faces import estimator_config
from ganavatar_jax.films import clip_summary, video_capture
from ganavatar_jax.geometry import head_angles, triangulation
from helpers import layouts

READER = estimator_config.EstimatorConfig(flip_average=False)


def test_heads_that_leave_the_picture_are_found():
    points = np.random.default_rng(0).uniform(40.0, 60.0, (4, 478, 3))
    points[:, 10, :2], points[:, 152, :2] = (50.0, 30.0), (50.0, 70.0)
    points[1, :, 0] -= 50.0  # one half of the face is gone
    points[2, :, 1] -= 20.0  # the hair is gone
    points[3, 5:10, 0] = 120.0  # some landmarks stray
    assert clip_summary.find_cut(points, (100, 100)).tolist() == [False, True, True, False]
    assert clip_summary.find_cut(points, (45, 100)).all()


def test_blurred_crops_are_told_from_sharp_ones():
    sharp = [shot.image for shot in layouts.actor_shots(4, side=128)]

    def blur(pixels, radius):
        return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))

    assert not clip_summary.find_blur(sharp)
    assert not clip_summary.find_blur([blur(image, 0.5) for image in sharp])
    assert clip_summary.find_blur([blur(image, 2.5) for image in sharp])
    grey = np.random.default_rng(0).normal(0.0, 1.0, (128, 128, 1))
    noisy = [np.clip(blur(image, 2.5) + grey, 0, 255).astype(np.uint8) for image in sharp]
    assert clip_summary.find_blur(noisy)  # a film's noise is no detail


def frames(choose, count):
    """Frames of the shipped actor whose true yaw is chosen."""
    with eg3d.open_capture(gan_frames.source_path("package:actor")) as capture:
        poses = np.stack([f.label25[:16].reshape(4, 4) for f in capture.frames])
        yaw = head_angles.from_cameras(poses)[:, 0]
        order = [i for i in range(len(yaw)) if choose(yaw[i])]
        return [capture.frames[i].read_pixels()[0] for i in order[:count]]


def film(path, images):
    enlarged = [
        np.asarray(Image.fromarray(i).resize((256, 256), Image.Resampling.BICUBIC)) for i in images
    ]
    layouts.save_video(path, enlarged)
    return data_config.DataConfig(
        source=str(path),
        resolution=64,
        format="video",
        video=data_config.VideoConfig(matte="none", cameras="landmarks"),
    )


def cartoon(time):
    """A drawn face that moves and speaks."""
    side = 256
    picture = Image.new("RGB", (2 * side, 2 * side), (120, 190, 240))
    draw = ImageDraw.Draw(picture)
    dx, dy, mouth = 8 * np.sin(time / 6), 5 * np.cos(time / 9), abs(np.sin(time / 3))

    def oval(x, y, width, height, fill):
        left, top = 2 * side * (x - width) + dx, 2 * side * (y - height) + dy
        box = [left, top, left + 4 * side * width, top + 4 * side * height]
        draw.ellipse(box, fill=fill, outline=(60, 40, 30), width=4)

    oval(0.5, 0.42, 0.27, 0.33, (80, 50, 30))
    oval(0.5, 0.5, 0.23, 0.3, (250, 214, 170))
    for x in (0.41, 0.59):
        oval(x, 0.45, 0.05, 0.03, (255, 255, 255))
        oval(x, 0.45, 0.02, 0.025, (60, 90, 60))
        ends = [2 * side * (x - 0.055) + dx, 202 + dy, 2 * side * (x + 0.055) + dx, 200 + dy]
        draw.line(ends, fill=(70, 40, 20), width=10)
    nose = [(256 + dx, 236 + dy), (243 + dx, 292 + dy), (264 + dx, 294 + dy)]
    draw.line(nose, fill=(190, 140, 110), width=6)
    oval(0.5, 0.66, 0.08, 0.015 + 0.03 * mouth, (190, 60, 70))
    return np.asarray(picture.resize((side, side), Image.Resampling.LANCZOS))


def refused(config, folder, match):
    with pytest.raises(errors.DataFormatError, match=match) as caught:
        video_capture.prepare_video(config, READER, folder)
    assert "\n" not in str(caught.value)
    assert not (folder / "dataset.json").exists()


@pytest.mark.captures
def test_one_frame_repeated_is_refused(tmp_path):
    still = film(tmp_path / "me.mp4", frames(lambda yaw: abs(yaw) < 10, 1) * 30)
    refused(still, tmp_path / "capture", r"me\.mp4: motion is missing.*Film a person who moves")


@pytest.mark.captures
def test_a_photograph_that_is_moved_is_refused(tmp_path):
    [image] = frames(lambda yaw: abs(yaw) < 10, 1)
    picture = Image.fromarray(image)
    moved = []
    for time in range(60):
        angle, shift = 4 * np.sin(time / 7), (5 * np.sin(time / 5), 4 * np.cos(time / 6))
        turned = picture.rotate(angle, Image.Resampling.BICUBIC, translate=shift, fillcolor="white")
        moved.append(np.asarray(turned))
    photo = film(tmp_path / "me.mp4", moved)
    refused(photo, tmp_path / "capture", r"me\.mp4: expression is missing.*photograph.*speaks")


@pytest.mark.captures
def test_a_profile_alone_is_refused(tmp_path):
    side = film(tmp_path / "me.mp4", frames(lambda yaw: yaw > 58, 24))
    refused(
        side, tmp_path / "capture", r"me\.mp4: the face is missing.*to its left.*from the front"
    )


@pytest.mark.captures
def test_a_cartoon_is_refused(tmp_path):
    drawn = film(tmp_path / "me.mp4", [cartoon(time) for time in range(30)])
    refused(drawn, tmp_path / "capture", r"me\.mp4: a real face is missing.*cartoon.*Film a person")


@pytest.fixture
def around():
    """Opens the capture with cameras all around, where it lies beside the repository."""
    path = pathlib.Path(__file__).parents[3] / "shared" / "data" / "actor" / "multiview.zip"
    if not path.is_file():
        pytest.skip("the capture with cameras all around is not part of the repository")
    with zipfile.ZipFile(path) as archive:
        labels = json.loads(archive.read("dataset.json"))["labels"]
        poses = np.array([label[:16] for _, label in labels]).reshape(-1, 4, 4)
        yaw = head_angles.from_cameras(poses)[:, 0]

        def read(choose, count):
            names = [name for (name, _), y in zip(labels, yaw, strict=True) if choose(y)][:count]
            stored = set(archive.namelist())
            paths = [name if name in stored else f"images/{name}" for name in names]
            opened = (Image.open(io.BytesIO(archive.read(path))) for path in paths)
            return [np.asarray(picture.convert("RGB")) for picture in opened]

        yield read


@pytest.mark.captures
def test_the_back_of_a_head_is_refused(around, tmp_path):
    back = film(tmp_path / "me.mp4", around(lambda yaw: abs(yaw) > 150, 20))
    refused(
        back, tmp_path / "capture", r"me\.mp4: a face is missing: none.*the back.*from the front"
    )


@pytest.mark.captures
def test_a_head_whose_ear_is_taken_for_a_face_is_refused(around, tmp_path):
    side = film(tmp_path / "me.mp4", around(lambda yaw: -92 < yaw < -88, 30))
    refused(side, tmp_path / "capture", r"me\.mp4: (a|the) face is missing.*from the front")


@pytest.mark.captures
def test_a_film_is_judged_and_told_stage_by_stage(tmp_path, caplog):
    asked = film(tmp_path / "me.mp4", frames(lambda yaw: abs(yaw) < 40, 40))
    told = []
    video_capture.prepare_video(
        asked, READER, tmp_path / "capture", progress=lambda *step: told.append(step)
    )
    begun = [stage for stage, done, _ in told if done == 0]
    assert begun == ["landmarks", "poses", "images"]
    assert all(told[[t[0] for t in told].index(stage)][1] == 0 for stage in begun)  # at once
    clip = json.loads((tmp_path / "capture" / clip_summary.FILE).read_text())
    assert clip["line"].startswith(("turns ", "is turned "))
    assert any("film longer" in line for line in clip["advice"])
    labels = json.loads((tmp_path / "capture" / "dataset.json").read_text())["labels"]
    table = clip["frames"]
    assert len(labels) == len(table["frame"])
    assert all(len(values) == len(labels) for values in table.values())
    label = np.array(labels[0][1])
    [[eyes]], _ = triangulation.project(
        np.array([clip["between_eyes"]]), label[:16].reshape(1, 4, 4), label[16:].reshape(1, 3, 3)
    )
    assert 0.2 < eyes[0] < 0.8
    assert 0.2 < eyes[1] < 0.6
    with caplog.at_level("INFO"):
        prepare_data._tell("me.mp4", clip)
    assert f"me.mp4: the head {clip['line']}." in caplog.text
    assert "for a better film: " in caplog.text
