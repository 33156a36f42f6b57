"""Broken captures of every layout and broken videos: one clear line, and what was there stays."""

import dataclasses
import functools
import itertools
import json
import logging
import os
import struct
import subprocess
import wave

import av
import numpy as np
import pytest
from PIL import Image

from ganavatar_jax.core import errors
from ganavatar_jax.data import data_config
from ganavatar_jax.data.builders import gan_frames
from ganavatar_jax.data.formats import eg3d, reader_table, video_file
from ganavatar_jax.faces import calibration, estimator_config, mediapipe_face
from ganavatar_jax.films import matte_solver, matters, matting, onnx_matting, video_capture
from helpers import films, layouts

pytestmark = [pytest.mark.captures, pytest.mark.system]

READER = estimator_config.EstimatorConfig(tile_levels=0)


@pytest.fixture(scope="module")
def shots():
    return layouts.actor_shots()


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def set_pose(folder, change):
    """Changes the pose of the second frame in transforms.json."""
    for name in ("transforms.json", "transforms_train.json"):
        edit(folder / name, lambda content: change(content["frames"][1]["transform_matrix"]))


def nan_camera(folder):
    set_pose(folder, lambda pose: pose[0].__setitem__(3, float("nan")))


def left_handed(folder):
    set_pose(folder, lambda pose: [row.__setitem__(0, -row[0]) for row in pose[:3]])


def other_size(folder):
    layouts.save_png(folder / "images" / "00002.png", np.zeros((16, 16, 4), np.uint8))


def not_transparent(folder):
    layouts.save_png(folder / "images" / "00002.png", np.zeros((32, 32, 3), np.uint8))


def drop(name):
    return lambda folder: (folder / name).unlink()


def doubled(folder):
    edit(folder / "transforms.json", lambda c: c["frames"].append(c["frames"][0]))


def degrees(folder):
    edit(folder / "transforms.json", lambda c: c.__setitem__("camera_angle_x", 13.4))


def no_frames(folder):
    edit(folder / "transforms.json", lambda c: c.__setitem__("frames", []))


def pixel_center(folder):
    edit(folder / "transforms_train.json", lambda c: c["intrinsics"].__setitem__(2, 128.0))


def short_code(folder):
    edit(folder / "transforms_train.json", lambda c: c["frames"][0]["expression"].pop())


def cut(name, size):
    def change(folder):
        (folder / name).write_bytes((folder / name).read_bytes()[:size])

    return change


def fisheye(folder):
    path = folder / "sparse" / "0" / "cameras.txt"
    path.write_text(path.read_text().replace("PINHOLE", "RAD_TAN_THIN_PRISM_FISHEYE"))


def other_camera(folder):
    path = folder / "sparse" / "0" / "images.bin"
    data = bytearray(path.read_bytes())
    struct.pack_into("<i", data, 8 + 60, 9)
    path.write_bytes(bytes(data))


def nan_krt(folder):
    lines = (folder / "KRT").read_text().splitlines()
    lines[5] = "1 0 0 nan"
    (folder / "KRT").write_text("\n".join(lines))


def short_mattes(folder):
    place = folder / "sequences/EXP-1-head/alpha_maps/cam_222200037.mp4"
    layouts.save_video(place, [np.zeros((32, 32, 3), np.uint8)] * 2)


def nan_tracking(folder):
    path = folder / "sequences/FREE/tracking/flame2023_tracking.npz"
    with np.load(path) as stored:
        arrays = dict(stored)
    arrays["translation"][0, 1] = np.nan
    np.savez(path, **arrays)


COLMAP = {
    ending: functools.partial(layouts.write_colmap, binary=ending == "bin")
    for ending in ("bin", "txt")
}
POSES = "tracked_mesh/EXP_jaw000/000100_transform.txt"
# layout, writer, what breaks, what the line must say.
LAYOUTS = {
    "NaN camera": ("insta", layouts.write_insta, nan_camera, "00002.png.*finite number; got nan"),
    "left-handed": ("insta", layouts.write_insta, left_handed, "00002.png.*right-handed"),
    "mixed sizes": ("insta", layouts.write_insta, other_size, "00002.png.*one size; got 16x16"),
    "mixed mattes": ("insta", layouts.write_insta, not_transparent, "00002.png.*transparent"),
    "missing image": (
        "transforms",
        layouts.write_transforms,
        drop("images/r_1.png"),
        "images/r_1 is not there. Add it",
    ),
    "duplicate": ("transforms", layouts.write_transforms, doubled, "two frames are called images/"),
    "degrees": ("transforms", layouts.write_transforms, degrees, "radians; got 13.4. Convert"),
    "no frames": ("transforms", layouts.write_transforms, no_frames, "got an empty list"),
    "pixel centre": ("nerface", layouts.write_nerface, pixel_center, "128.*Divide the centre"),
    "short code": ("nerface", layouts.write_nerface, short_code, "equally many numbers"),
    "no json": (
        "imavatar",
        layouts.write_imavatar,
        lambda f: [p.unlink() for p in f.rglob("flame_params.json")],
        "no flame_params.json, neither",
    ),
    "cut model": ("colmap", COLMAP["bin"], cut("sparse/0/images.bin", 90), "cut off or damaged"),
    "fisheye": (
        "colmap",
        COLMAP["txt"],
        fisheye,
        "THIN_PRISM_FISHEYE is not supported.*undistorter",
    ),
    "no camera": (
        "colmap",
        COLMAP["bin"],
        other_camera,
        "uses camera 9, which .*cameras.bin lacks",
    ),
    "no model": ("colmap", COLMAP["txt"], drop("sparse/0/cameras.txt"), "no COLMAP model"),
    "no KRT": ("multiface", layouts.write_multiface, drop("KRT"), "no file KRT"),
    "NaN KRT": ("multiface", layouts.write_multiface, nan_krt, "camera '400262' must have 3 lines"),
    "no head pose": ("multiface", layouts.write_multiface, drop(POSES), f"{POSES} is not there"),
    "half mattes": ("nersemble", layouts.write_nersemble, short_mattes, "alpha_maps .2.*equal"),
    "NaN tracking": ("nersemble", layouts.write_nersemble, nan_tracking, "translation must hold"),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_a_broken_capture_is_refused_in_one_line(case, shots, tmp_path):
    layout, writer, change, message = LAYOUTS[case]
    folder = writer(tmp_path / "capture", shots)
    change(folder)
    with (
        pytest.raises(errors.DataFormatError, match=message) as error,
        reader_table.READERS[layout](folder),
    ):
        pass
    assert "\n" not in str(error.value)


def test_unicode_names_are_read(shots, tmp_path):
    folder = layouts.write_transforms(tmp_path / "Größe_²", shots)
    for old, new in (("r_1", "Kopf_é²_1"), ("r_2", "頭_2")):
        (folder / f"images/{old}.png").rename(folder / f"images/{new}.png")
        path = folder / "transforms.json"
        path.write_text(path.read_text().replace(f"/{old}", f"/{new}"))
    with reader_table.READERS["transforms"](folder) as capture:
        names = [frame.load().frame_id for frame in capture.frames]
    assert {"images/Kopf_é²_1.png", "images/頭_2.png"} <= set(names)


# --- videos ---


@pytest.fixture(scope="module")
def faces():
    """Frames of the actor that turn a little, 128 pixels."""
    with eg3d.open_capture(gan_frames.source_path("package:actor")) as capture:
        front = [f for f in capture.frames if f.label25[10] < -0.93][::6][:12]
        return [frame.load().image for frame in front]


RESULTS = ("landmarks", "poses.npz", "images")


def config(path, **video):
    options = data_config.VideoConfig(**({"matte": "none", "cameras": "landmarks"} | video))
    return data_config.DataConfig(
        source=str(path), resolution=64, format="video", video=options, background="keep"
    )


def prepare(path, folder, **options):
    return video_capture.prepare_video(config(path), READER, folder, **options)


def test_a_video_becomes_a_capture_that_the_reader_of_eg3d_takes(faces, tmp_path):
    layouts.save_video(tmp_path / "me.mp4", faces)
    facts = prepare(tmp_path / "me.mp4", tmp_path / "capture")
    assert facts["frames"] + facts["frames_misread"] == len(faces)
    assert facts["reprojection_px_at_512"] < 4
    with eg3d.open_capture(tmp_path / "capture") as capture:
        frames = [frame.load() for frame in capture.frames]
    assert capture.resolution == 64
    kept = calibration.load("synthetic-people").names
    assert capture.expression_names == kept
    distance = [np.linalg.norm(frame.label25[[3, 7, 11]]) for frame in frames]
    assert 2.2 < min(distance) <= max(distance) < 3.2
    assert all(frame.label25[10] < -0.8 for frame in frames)  # looked at from the front


def test_half_a_video_is_refused(faces, tmp_path):
    data = layouts.encode_video(faces * 4)
    (tmp_path / "me.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(errors.DataFormatError, match=r"me\.mp4: .*Copy it again"):
        prepare(tmp_path / "me.mp4", tmp_path / "capture")


@pytest.mark.parametrize(("content", "message"), [(b"", "cannot be"), (b"text" * 99, "cannot be")])
def test_what_is_no_video_is_refused(content, message, tmp_path):
    (tmp_path / "me.mp4").write_bytes(content)
    with pytest.raises(errors.DataFormatError, match=message):
        prepare(tmp_path / "me.mp4", tmp_path / "capture")


def test_a_video_without_frames_or_without_a_file_is_refused(tmp_path):
    sound = tmp_path / "sound.wav"
    with wave.open(str(sound), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16000))
    with pytest.raises(errors.DataFormatError, match="there is only sound"):
        prepare(sound, tmp_path / "capture")
    with pytest.raises(errors.DataFormatError, match="there is no such video"):
        prepare(tmp_path / "nowhere.mp4", tmp_path / "capture")


def test_a_video_without_a_face_is_refused(tmp_path):
    layouts.save_video(tmp_path / "me.mp4", [np.full((64, 64, 3), 90, np.uint8)] * 12)
    with pytest.raises(
        errors.DataFormatError, match="a face is missing: none was found in 12 frames"
    ):
        prepare(tmp_path / "me.mp4", tmp_path / "capture")


def test_two_faces_are_refused(faces, tmp_path):
    double = [np.concatenate([image, image], axis=1) for image in faces]
    layouts.save_video(tmp_path / "me.mp4", double)
    with pytest.raises(errors.DataFormatError, match="12 of 12 frames .* more than one face"):
        prepare(tmp_path / "me.mp4", tmp_path / "capture")


def test_a_long_gap_without_a_face_is_told_and_left_out(faces, tmp_path, caplog):
    empty = [np.full_like(faces[0], 120)] * 100
    layouts.save_video(tmp_path / "me.mp4", [*faces, *empty, *faces])
    with caplog.at_level(logging.WARNING):
        facts = prepare(tmp_path / "me.mp4", tmp_path / "capture")
    assert facts["frames_without_face"] == 100
    assert "no face in frames 12 to 111" in caplog.text
    with eg3d.open_capture(tmp_path / "capture") as capture:
        assert {frame.sequence for frame in capture.frames} == {"images/00", "images/01"}


def test_a_portrait_video_is_turned_upright(faces, tmp_path):
    tall = [np.pad(image, ((32, 32), (0, 0), (0, 0)), mode="edge") for image in faces[:2]]
    lying = [np.ascontiguousarray(np.rot90(image)) for image in tall]
    data = layouts.turn_video(layouts.encode_video(lying), quarters=1)
    video = video_file.VideoFile(data, where="me.mp4")
    assert video.size == (128, 192)
    for frame, image in zip(video, tall, strict=True):
        assert np.abs(frame.astype(int) - image).mean() < 6


def test_times_of_a_film_reach_the_capture_and_progress_goes_by_frames(faces, tmp_path):
    times_s = (
        [i / 10 for i in range(8)]
        + [0.8 + i / 30 for i in range(16)]
        + [5 + i / 30 for i in range(8)]
    )
    films.write(tmp_path / "me.mkv", (faces * 3)[:32], times_s=times_s, options={"crf": "4"})
    told = []
    prepare(tmp_path / "me.mkv", tmp_path / "capture", progress=lambda *now: told.append(now))
    with eg3d.open_capture(tmp_path / "capture") as capture:
        for frame in capture.frames:
            number = int(frame.frame_id[-10:-4])
            assert frame.time_s == pytest.approx(times_s[number], abs=1e-3)
            assert frame.sequence == f"images/0{int(number >= 24)}"
    done = [now[1] for now in told if now[0] == "landmarks"]
    assert done == [*range(32), 32]


def test_a_transparent_film_brings_its_matte(faces, tmp_path, monkeypatch):
    cover = np.zeros((128, 128), np.uint8)
    cover[8:120, 20:108] = 255
    images = [np.dstack([image, cover]) for image in faces]
    films.write(tmp_path / "me.mov", images, codec="png", layout="rgba")

    def refuse(*arguments, **options):
        raise AssertionError("a matte was looked for")

    monkeypatch.setattr(matters, "make_matter", refuse)
    options = config(tmp_path / "me.mov", matte="closed_form")
    video_capture.prepare_video(options, READER, tmp_path / "capture")
    with eg3d.open_capture(tmp_path / "capture") as capture:
        assert (capture.background, capture.has_alpha) == ("white", True)
        frame = capture.frames[3].load()
    assert 0.2 < (frame.alpha == 255).mean() < 0.95
    assert (frame.image[frame.alpha == 0] > 240).all()


def test_an_unusual_film_that_an_earlier_version_read_is_read_again(faces, tmp_path):
    stretched = [np.asarray(Image.fromarray(image).resize((96, 128))) for image in faces]
    films.write(tmp_path / "me.mkv", stretched, stretch=(4, 3))
    prepare(tmp_path / "me.mkv", tmp_path / "capture")
    path = tmp_path / "capture" / "source.json"
    known = json.loads(path.read_text())
    assert known["landmarks"].pop("film")
    path.write_text(json.dumps(known))
    (tmp_path / "capture" / "dataset.json").write_text("{}")
    prepare(tmp_path / "me.mkv", tmp_path / "capture")
    assert json.loads((tmp_path / "capture" / "dataset.json").read_text())["labels"]


def test_a_video_of_odd_size_is_read_whole(tmp_path):
    rows = np.random.default_rng(0).integers(0, 256, (33, 47, 3)).astype(np.uint8)
    with av.open(str(tmp_path / "me.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 47, 33, "bgr0"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(rows, format="rgb24")))
        container.mux(stream.encode())
    video = video_file.VideoFile(tmp_path / "me.mkv", where="me.mkv")
    assert video.size == (47, 33)
    np.testing.assert_array_equal(video.read(0), rows)


def test_an_interrupted_run_goes_on_where_it_stopped(faces, tmp_path, monkeypatch):
    layouts.save_video(tmp_path / "me.mp4", faces)
    folder = tmp_path / "capture"

    def interrupt(stage, done, total):
        if stage == "images" and done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path / "me.mp4", folder, progress=interrupt)
    made = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
    assert sum(p.suffix == ".jpg" for p in made) == 5
    assert not (folder / "dataset.json").exists()

    def refuse(self, image_u8, *, frame=None):
        raise AssertionError("landmarks were read again")

    monkeypatch.setattr(mediapipe_face.MediaPipeFace, "estimate", refuse)
    facts = prepare(tmp_path / "me.mp4", folder)
    assert len(list((folder / "images").rglob("*.jpg"))) == facts["frames"]
    assert made.items() <= {p: p.stat().st_mtime_ns for p in folder.rglob("*")}.items()


class Counter(onnx_matting.OnnxMatter):
    """A matter whose mattes tell how many images of the shot it has seen."""

    remembers = True

    def __init__(self):
        self.seen = 0

    def forget(self):
        self.seen = 0

    def matte(self, image_u8, hint=matting.NO_HINT):
        self.seen += 1
        alpha = np.full(image_u8.shape[:2], self.seen, np.uint8)
        return matte_solver.Matte(alpha, image_u8)


def test_a_matter_with_a_memory_sees_each_shot_whole(faces, tmp_path, monkeypatch):
    monkeypatch.setattr(matters, "make_matter", lambda *_, **__: Counter())
    empty = [np.full_like(faces[0], 120)] * 40
    layouts.save_video(tmp_path / "me.mp4", [*faces, *empty, *faces])
    asked = config(tmp_path / "me.mp4", matte="onnx", matte_model="rvm.onnx")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    video_capture.prepare_video(asked, READER, whole)

    def interrupt(stage, done, total):
        if stage == "images" and done == total - 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        video_capture.prepare_video(asked, READER, broken, progress=interrupt)
    first = {p: p.stat().st_mtime_ns for p in (broken / "alpha" / "00").iterdir()}
    video_capture.prepare_video(asked, READER, broken)
    for part in ("00", "01"):
        mattes = sorted((whole / "alpha" / part).iterdir())
        seen = [int(np.asarray(Image.open(path)).max()) for path in mattes]
        # The frames are a selection: the head jumps now and then.
        assert seen[0] == 1
        assert all(now in (1, before + 1) for before, now in itertools.pairwise(seen))
        assert max(seen) > 4
        for path in mattes:
            assert (broken / "alpha" / part / path.name).read_bytes() == path.read_bytes()
    assert {p: p.stat().st_mtime_ns for p in first} == first  # a finished shot is left alone


def _made(folder):
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def test_another_option_makes_anew_what_depends_on_it(faces, tmp_path):
    layouts.save_video(tmp_path / "me.mp4", faces)
    folder = tmp_path / "capture"
    plain = config(tmp_path / "me.mp4")
    for other, kept in (
        (dataclasses.replace(plain, resolution=32), {"landmarks", "poses"}),
        (config(tmp_path / "me.mp4", fov_deg=30.0), {"landmarks"}),
        (config(tmp_path / "me.mp4", fewest_frames=5), {"landmarks", "poses", "images"}),
        (config(tmp_path / "me.mp4", max_frames=11), set()),
    ):
        video_capture.prepare_video(plain, READER, folder)
        before = _made(folder)
        video_capture.prepare_video(other, READER, folder)
        after = _made(folder)
        same = {p.relative_to(folder).parts[0] for p in before if after.get(p) == before[p]}
        changed = {p.relative_to(folder).parts[0] for p in after if after[p] != before.get(p)}
        assert {name.removesuffix(".npz") for name in same & set(RESULTS)} == kept
        assert changed & set(RESULTS) == {n for n in RESULTS if n.removesuffix(".npz") not in kept}
        with eg3d.open_capture(folder) as capture:
            assert capture.resolution == other.resolution
            assert len(capture.frames) <= (other.video.max_frames or len(faces))


def test_another_video_makes_everything_anew(faces, tmp_path):
    layouts.save_video(tmp_path / "me.mp4", faces)
    prepare(tmp_path / "me.mp4", tmp_path / "capture")
    before = _made(tmp_path / "capture")
    layouts.save_video(tmp_path / "me.mp4", faces[:11])
    prepare(tmp_path / "me.mp4", tmp_path / "capture")
    assert not before.items() & _made(tmp_path / "capture").items()


def test_a_read_only_place_is_named(faces, tmp_path):
    layouts.save_video(tmp_path / "me.mp4", faces)
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    folder = "/proc/capture" if os.access(locked, os.W_OK) else locked / "capture"
    with pytest.raises(errors.RunError, match="cannot be written"):
        prepare(tmp_path / "me.mp4", type(tmp_path)(folder))


@pytest.fixture
def full_disk(tmp_path):
    """A file system of 200 kB."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_told_and_the_former_dataset_stays(full_disk, shots, tmp_path):
    small = layouts.write_eg3d(tmp_path / "small_capture", shots)
    options = data_config.DataConfig(
        source=str(small), resolution=16, split=data_config.SplitConfig(policy="none")
    )
    gan_frames.prepare(options, full_disk / "data")
    before = sorted(p.name for p in (full_disk / "data").rglob("*"))
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3)).astype(np.uint8)
    large = [dataclasses.replace(shot, image=noise, alpha=noise[..., 0]) for shot in shots * 3]
    folder = layouts.write_eg3d(tmp_path / "large_capture", large)
    with pytest.raises(errors.RunError, match="cannot be written there"):
        gan_frames.prepare(
            dataclasses.replace(options, source=str(folder), resolution=128), full_disk / "data"
        )
    assert sorted(p.name for p in (full_disk / "data").rglob("*")) == before
