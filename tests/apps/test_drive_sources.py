"""Whatever drives an avatar is opened as frames in time; all else is refused in one line."""

import contextlib
import json
import zipfile

import numpy as np
import pytest

from ganavatar_jax.apps import drive_sources, experiment_config
from ganavatar_jax.core import errors
from ganavatar_jax.faces import coefficients
from helpers import captures, layouts


def grey(level, side=16):
    return np.full((side, side, 3), level, np.uint8)


def write_video(path, count=6, fps=10):
    layouts.save_video(path, [grey(20 * i) for i in range(count)], fps=fps)
    return path


def write_pictures(folder, names):
    for level, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(captures.encode(grey(20 * level)))
    return folder


def write_codes(path, codes, **extra):
    path.write_text(json.dumps({"names": ["jawOpen"], "codes": codes} | extra))
    return path


def write_recording(path, count=60):
    rows = [f"00:00:{i // 30:02d}:{i % 30:02d}.0,61,{i / 100}" for i in range(count)]
    path.write_text("\n".join(["Timecode,BlendShapeCount,JawOpen", *rows]))
    return path


@contextlib.contextmanager
def opened(path, **options):
    config = experiment_config.DriveConfig(source=str(path), **options)
    with drive_sources.open_source(config) as source:
        yield source, config


def test_a_video_is_read_at_its_own_rate(tmp_path):
    with opened(write_video(tmp_path / "Other Clip.MP4")) as (source, config):
        rows, fps = drive_sources.choose_frames(source, config)
        levels = [source.read(int(row)).mean() for row in rows]
    assert (source.name, source.fps, source.in_time, source.codes) == ("Other Clip", 10, True, None)
    np.testing.assert_array_equal(rows, np.arange(6))
    assert fps == 10
    np.testing.assert_allclose(levels, 20 * np.arange(6), atol=3)


@pytest.mark.parametrize("as_zip", [False, True])
def test_pictures_are_ordered_by_number_and_mattes_left_out(tmp_path, as_zip):
    names = ("f_2.png", "f_10.png", "alpha/f_2.png", ".hidden.png")
    path = write_pictures(tmp_path / "shots", names)
    (path / "notes.txt").write_text("")
    if as_zip:
        with zipfile.ZipFile(tmp_path / "shots.zip", "w") as archive:
            for name in names:
                archive.write(path / name, name)
        path = tmp_path / "shots.zip"
    with opened(path) as (source, _):
        assert source.frames == ("f_2.png", "f_10.png")
        assert [source.read(i).mean() for i in range(2)] == [0, 20]
    assert (source.name, source.fps, source.in_time) == ("shots", 25, False)
    with opened(path, fps=50.0) as (source, _):
        assert (source.fps, source.in_time) == (50, True)


def test_transparent_pictures_stand_on_white(tmp_path):
    (tmp_path / "a").mkdir()
    clear = np.zeros((4, 4, 4), np.uint8)
    clear[:2, :, 3] = 255
    (tmp_path / "a" / "0.png").write_bytes(captures.encode(clear))
    with opened(tmp_path / "a") as (source, _):
        image = source.read(0)
    assert (image[:2].max(), image[2:].min()) == (0, 255)


def test_a_capture_is_driven_by_its_codes_unless_they_are_to_be_read_anew(tmp_path):
    capture = captures.make()
    capture.expressions["codes"]["images/0001.png"] = None
    path = capture.write_zip(tmp_path / "me.zip")
    with opened(path) as (source, _):
        assert source.names == captures.NAMES
        np.testing.assert_allclose(source.codes[2], [0.2, 0.5, 0.25])
        assert np.isnan(source.codes[1]).all()
        np.testing.assert_array_equal(source.read(3), captures.image(3))
    with opened(path, codes="estimate") as (source, _):
        assert source.codes is None
    with opened("package:actor") as (source, _):
        assert source.codes.shape == (len(source.frames), len(coefficients.ARKIT_NAMES))


def test_codes_files_are_ordered_by_number_and_keep_their_rate(tmp_path):
    codes = {"f10": [0.3], "f2": [0.1], "f3": None}
    with opened(write_codes(tmp_path / "c.json", codes, fps=30)) as (source, _):
        assert source.frames == ("f2", "f3", "f10")
        np.testing.assert_allclose(source.codes[:, 0], [0.1, np.nan, 0.3])
    assert (source.fps, source.in_time, source.read) == (30, True, None)
    with opened(write_codes(tmp_path / "c.json", codes)) as (source, _):
        assert (source.fps, source.in_time) == (25, False)
    np.savez(tmp_path / "c.npz", names=["a"], frames=["x", "y"], codes=[[1.0], [2.0]])
    with opened(tmp_path / "c.npz") as (source, _):
        np.testing.assert_array_equal(source.codes, [[1.0], [2.0]])


def test_a_recording_of_live_link_face_has_its_own_times(tmp_path):
    with opened(write_recording(tmp_path / "take.csv")) as (source, config):
        rows, fps = drive_sources.choose_frames(source, config)
    assert source.names == ("jawOpen",)
    assert set(source.names) <= set(coefficients.ARKIT_NAMES)
    assert fps == pytest.approx(30)
    np.testing.assert_array_equal(rows, np.arange(60))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"start_s": 0.2, "end_s": 0.5}, [2, 3, 4]),
        ({"fps": 5.0}, [0, 2, 4]),
        ({"fps": 20.0, "end_s": 0.2}, [0, 0, 1, 1]),
        ({"end_s": 99.0}, [0, 1, 2, 3, 4, 5]),
        ({"start_s": 0.59}, [5]),
    ],
)
def test_parts_and_other_rates_take_the_nearest_frames(tmp_path, options, expected):
    with opened(write_video(tmp_path / "a.mp4"), **options) as (source, config):
        rows, fps = drive_sources.choose_frames(source, config)
    np.testing.assert_array_equal(rows, expected)
    assert fps == (options.get("fps") or 10)


def test_a_single_frame_is_a_source_too(tmp_path):
    with opened(write_codes(tmp_path / "c.json", {"f": [0.3]})) as (source, config):
        np.testing.assert_array_equal(drive_sources.choose_frames(source, config)[0], [0])


def make_faulty(kind, folder):
    path = folder / "source"
    if kind == "empty folder":
        path.mkdir()
    elif kind == "text":
        path = folder / "notes.txt"
        path.write_text("smile")
    elif kind == "picture":
        path = folder / "me.png"
        path.write_bytes(captures.encode(grey(9)))
    elif kind == "no zip":
        path = folder / "me.zip"
        path.write_bytes(b"PK\x03\x04 nothing")
    elif kind == "no video":
        path = folder / "me.mp4"
        path.write_bytes(b"\x00" * 100)
    elif kind == "no codes":
        path = write_codes(folder / "c.json", {})
    elif kind == "broken json":
        path = folder / "c.json"
        path.write_text("{")
    elif kind == "other csv":
        path = folder / "c.csv"
        path.write_text("a,b\n1,2\n")
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", r"source: there is no such file. Set drive.source to a video"),
        ("empty folder", r"source: there are no pictures \(bmp, "),
        ("text", r"notes.txt: cannot drive an avatar"),
        ("picture", r"me.png: cannot drive an avatar"),
        ("no zip", r"me.zip: cannot drive an avatar"),
        ("no video", r"me.mp4: cannot be opened as a video"),
        ("no codes", r"c.json: holds no codes"),
        ("broken json", r"c.json: expected JSON"),
        ("other csv", r"c.csv: expected a header Timecode"),
    ],
)
def test_what_cannot_drive_is_refused_in_one_line(tmp_path, kind, message):
    with (
        pytest.raises(errors.DataFormatError, match=message) as error,
        opened(make_faulty(kind, tmp_path)),
    ):
        pass
    assert "\n" not in str(error.value)


def test_a_source_must_be_named():
    with pytest.raises(errors.ConfigError, match=r"--config\.drive\.source="), opened(""):
        pass


def test_parts_outside_and_endless_results_are_refused(tmp_path):
    path = write_codes(tmp_path / "c.json", {"a": [0.1], "b": [0.2]}, fps=2)
    with opened(path, start_s=1.0) as (source, config):
        with pytest.raises(errors.DataFormatError, match=r"lasts 1.00 s; drive.start_s=1 lies"):
            drive_sources.choose_frames(source, config)
    slow = write_codes(tmp_path / "c.json", {"a": [0.1]}, fps=1e-6)
    with opened(slow, fps=25.0) as (source, config):
        with pytest.raises(errors.DataFormatError, match=r"25000000 frames.*drive.end_s"):
            drive_sources.choose_frames(source, config)


@pytest.mark.parametrize(
    "options",
    [
        {"start_s": -1.0},
        {"start_s": 2.0, "end_s": 1.0},
        {"fps": 1000.0},
        {"smoothing_s": -0.1},
        {"pitch_deg": 90.0},
        {"largest_gain": 0.0},
        {"period_s": 0.0},
    ],
)
def test_options_that_cannot_be_meant_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        experiment_config.DriveConfig(**options)
