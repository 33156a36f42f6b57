"""Films that drive: their own times, their sound, and what is no film of a kind that is read."""

import json
import os

import av
import numpy as np
import pytest

from ganavatar_jax.apps import drive, drive_sources, experiment, experiment_config, presets
from ganavatar_jax.core import errors
from ganavatar_jax.data.formats import film_sound
from ganavatar_jax.faces import estimation, estimators
from ganavatar_jax.reports import media
from ganavatar_jax.runs import run_dir
from helpers import captures, compiled, films, tiny_gan

NAMES = ("jawOpen", "eyeBlinkLeft")
CODES = np.random.default_rng(0).uniform(size=(40, 2)).astype(np.float32)
# Slow for a second, quick for another one.
TIMES_S = [i / 10 for i in range(10)] + [1 + i / 50 for i in range(50)]


class Levels:
    """An estimator that reads the number of a `films.shade`."""

    names = NAMES

    def estimate(self, image_u8, *, frame=None):
        number = films.number_of(image_u8)
        return estimation.Reading(np.array([number / 60, 0.5], np.float32), 1.0, None)


@pytest.fixture(scope="module")
def person():
    with compiled.quickly():
        yield tiny_gan.make_avatar(CODES, NAMES)


@pytest.fixture
def changing(tmp_path):
    """A film of changing rate; a tone sounds from 1.2 to 1.4 s, while frames 20 to 29 are seen."""
    # Neighbours differ much, so that no encoder passes over a step.
    images = [films.shade(2 * (7 * number % 30)) for number in range(60)]
    return films.write(
        tmp_path / "me.mkv", images, times_s=TIMES_S, tone_s=(1.2, 1.4), options={"crf": "4"}
    )


def opened(path, **options):
    return drive_sources.open_source(experiment_config.DriveConfig(source=str(path), **options))


def test_parts_are_chosen_by_time(changing):
    config = experiment_config.DriveConfig(source=str(changing), start_s=1.0, end_s=1.5)
    with drive_sources.open_source(config) as source:
        rows, fps = drive_sources.choose_frames(source, config)
        np.testing.assert_array_equal(rows, np.arange(10, 35))
        assert fps == 50
        assert len(source.frames) < 60 + 1
    with opened(changing) as source:
        rows, _ = drive_sources.choose_frames(source, experiment_config.DriveConfig())
    assert len(rows) == 100
    np.testing.assert_array_equal(np.unique(rows), np.arange(60))


@pytest.mark.parametrize("start_s", [0.0, 0.62, 1.1])
def test_the_result_keeps_time_and_sound_of_the_driver(
    start_s, person, changing, tmp_path, monkeypatch
):
    monkeypatch.setattr(estimators, "make_estimator", lambda config: Levels())
    config = presets.smoke(presets.full())
    config.drive.update({"source": str(changing), "start_s": start_s, "end_s": 1.6})
    with opened(changing, start_s=start_s, end_s=1.6) as source:
        drive.drive(person, source, experiment.resolve(config), run_dir.RunDir(tmp_path / "run"))
    folder = tmp_path / "run" / "samples" / "drive" / "me"
    for name in ("driven.mp4", "avatar.mp4"):
        begin_s, end_s = films.tone_of(folder / name)
        assert begin_s == pytest.approx(1.2 - start_s, abs=0.03)
        assert end_s == pytest.approx(1.4 - start_s, abs=0.03)
    time_s, number = np.array(driver_numbers(folder / "driven.mp4")).T
    nearest = np.abs(np.array(TIMES_S) - (start_s + time_s)[:, None]).argmin(axis=1)
    assert (nearest % 30 == number).mean() > 0.9
    assert len(number) == round((1.6 - start_s) * 50)
    # The codes that are kept drive in the same time.
    with opened(folder / "codes.json") as again:
        rows, fps = drive_sources.choose_frames(again, experiment_config.DriveConfig())
        assert (fps, again.in_time) == (50, True)
        own_s = np.array(TIMES_S)[[int(name) for name in again.frames]]
        np.testing.assert_allclose(again.times_s, own_s - own_s[0], atol=1.1e-3)


def driver_numbers(path):
    """Time and number (modulo 30) of the driver in each frame of a result."""
    found = []
    with av.open(str(path)) as film:
        for frame in film.decode(video=0):
            image = frame.to_ndarray(format="rgb24")
            driver = image[image.shape[0] // 2 :, 200:256]
            level = round((float(np.median(driver)) - 8) / 8)
            found.append((frame.time, 13 * level % 30))
    return found


def test_sound_that_begins_late_or_ends_early_is_silent_there(tmp_path):
    path = films.write(tmp_path / "me.mp4", [films.shade(n) for n in range(30)], tone_s=(0.0, 1.2))
    blocks = film_sound.read_sound(path, where="me.mp4", begin_s=-0.5, length_s=2.0)
    wave = np.concatenate([*blocks], axis=1)
    assert wave.shape == (2, 96000)
    loud = np.flatnonzero(np.abs(wave[0]) > 0.1) / 48000
    assert loud[0] == pytest.approx(0.5, abs=0.03)
    assert loud[-1] == pytest.approx(1.7, abs=0.03)
    late = film_sound.read_sound(path, where="me.mp4", begin_s=1.0, length_s=0.1)
    assert np.abs(np.concatenate([*late], axis=1)).min(axis=1).max() < 0.5
    gone = film_sound.read_sound(path, where="me.mp4", begin_s=9.0, length_s=0.5)
    assert not np.concatenate([*gone], axis=1).any()


@pytest.mark.parametrize("times", ["soon", [0.0], [0.0, 0.2, 0.1], [0.0, 0.1, float("nan")]])
def test_times_of_codes_that_do_not_rise_are_refused(times, tmp_path):
    content = {"names": ["jawOpen"], "times": times, "codes": {n: [0.1] for n in "abc"}}
    (tmp_path / "c.json").write_text(json.dumps(content))
    with pytest.raises(errors.DataFormatError, match='"times" must hold seconds that rise'):
        with opened(tmp_path / "c.json"):
            pass


def test_films_without_sound_stay_silent(tmp_path):
    path = films.write(tmp_path / "me.mp4", [films.shade(1)] * 3)
    assert not film_sound.has_sound(path, where="me.mp4")
    with opened(path) as source:
        assert source.sound is None


def test_a_video_is_written_with_sound(tmp_path):
    time_s = np.arange(48000) / 48000
    wave = np.sin(2 * np.pi * 500 * time_s) * (time_s > 0.5) / 2
    blocks = iter(np.split(np.stack([wave, wave]).astype(np.float32), 96, axis=1))
    sound = media.Sound(48000, blocks)
    with media.open_video(tmp_path / "a.mp4", fps=25, sound=sound) as add:
        for number in range(25):
            add(films.shade(number))
    assert films.tone_of(tmp_path / "a.mp4")[0] == pytest.approx(0.5, abs=0.03)


def test_a_capture_of_a_film_drives_in_its_own_time(tmp_path):
    capture = captures.make()
    names = [name for name, _ in capture.labels]
    capture.meta["times"] = {name: 3.0 + 0.1 * n**1.5 for n, name in enumerate(names)}
    with opened(capture.write_zip(tmp_path / "me.zip")) as source:
        np.testing.assert_allclose(source.times_s, 0.1 * np.arange(len(names)) ** 1.5)
        assert source.in_time
    capture.meta["times"][names[1]] = "soon"
    with (
        pytest.raises(errors.DataFormatError, match='"times" must be'),
        opened(capture.write_zip(tmp_path / "bad.zip")),
    ):
        pass


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("me.heic", "me.heic: HEIC pictures are not read. Convert it to PNG or JPEG"),
        ("me.AVIF", "me.AVIF: AVIF pictures are not read"),
        ("folder", "0.heic: HEIC pictures are not read"),
        ("-", "drive.source=-: standard input is not read"),
        ("pipe.mp4", "pipe.mp4: expected a file; it is a pipe or a device"),
    ],
)
def test_what_cannot_drive_is_said_to_be_what_it_is(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for picture in ("me.heic", "me.AVIF"):
        (tmp_path / picture).write_bytes(b"any")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "0.heic").write_bytes(b"any")
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(errors.DataFormatError, match=message) as error, opened(name):
        pass
    assert "\n" not in str(error.value)


def test_a_colon_in_a_relative_name_is_no_protocol(tmp_path, monkeypatch):
    films.write(tmp_path / "me.mp4", [films.shade(n) for n in range(3)])
    (tmp_path / "me.mp4").rename(tmp_path / "10:15:32.mp4")
    monkeypatch.chdir(tmp_path)
    with opened("10:15:32.mp4") as source:
        assert source.name == "10:15:32"
        assert films.number_of(source.read(2)) == 2
