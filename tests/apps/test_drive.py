"""Drivers move the avatar: codes are mended and restated, cameras placed, files written whole."""

import dataclasses
import json
import pathlib

import av
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from ganavatar_jax.apps import (
    drive,
    drive_codes,
    drive_sources,
    experiment,
    experiment_config,
    presets,
    ranges,
    restating,
)
from ganavatar_jax.core import errors, portable
from ganavatar_jax.faces import (
    coefficients,
    estimation,
    estimator_config,
    estimators,
    model_files,
    precomputed,
    regions,
)
from ganavatar_jax.geometry import cameras
from ganavatar_jax.runs import run_dir
from helpers import captures, compiled, tiny_gan, tiny_pages

FACES = pathlib.Path(__file__).parents[1] / "faces" / "data"
NAMES = ("jawOpen", "eyeBlinkLeft")
CODES = np.random.default_rng(0).uniform(size=(40, 2)).astype(np.float32)
READER = estimator_config.EstimatorConfig(tile_levels=0)


@pytest.fixture(scope="module")
def person():
    with compiled.quickly():
        yield tiny_gan.make_avatar(CODES, NAMES)


def resolve(**options):
    config = presets.smoke(presets.full())
    config.estimator.update({"assume_face": False, "min_confidence": 0.5})
    config.drive.update(options)
    return experiment.resolve(config)


def run(person, tmp_path, **options):
    return run_resolved(person, tmp_path, resolve(**options))


def looked_up(person, tmp_path, source, table, **options):
    """Drives with pictures whose codes stand in a table."""
    config = presets.smoke(presets.full())
    config.estimator.update({"name": "precomputed", "codes_path": str(table)})
    config.drive.update({"source": str(source)} | options)
    return run_resolved(person, tmp_path, experiment.resolve(config))


def run_resolved(person, tmp_path, resolved):
    with drive_sources.open_source(resolved.drive) as source:
        return drive.drive(person, source, resolved, run_dir.RunDir(tmp_path / "run"))


def decode(path):
    with av.open(str(path)) as container:
        rate = float(container.streams.video[0].average_rate)
        return [f.to_ndarray(format="rgb24") for f in container.decode(video=0)], rate


def write_codes(path, codes, names=NAMES, suffix=""):
    frames = [f"{i}{suffix}" for i in range(len(codes))]
    path.write_text(precomputed.to_json(names, frames, codes, fps=10.0))
    return path


# --- codes ---


def test_gaps_are_filled_from_their_neighbours_and_ends_held():
    nan = np.nan
    codes = np.array([[nan, nan], [0.0, 1.0], [nan, nan], [0.4, 0.0], [nan, nan]], np.float32)
    filled, found = drive_codes.prepare(codes, times_s=np.arange(5) / 25, sigma_s=0.0)
    np.testing.assert_allclose(filled[:, 0], [0.0, 0.0, 0.2, 0.4, 0.4], atol=1e-6)
    np.testing.assert_allclose(filled[:, 1], [1.0, 1.0, 0.5, 0.0, 0.0], atol=1e-6)
    late = drive_codes.prepare(codes, times_s=np.array([0, 0.1, 0.4, 0.5, 0.6]), sigma_s=0.0)[0]
    np.testing.assert_allclose(late[:, 0], [0.0, 0.0, 0.3, 0.4, 0.4], atol=1e-6)
    np.testing.assert_array_equal(found, [False, True, False, True, False])


def test_smoothing_calms_noise_keeps_the_mean_and_delays_nothing():
    draws = np.random.default_rng(0)
    noise = draws.normal(size=(2000, 1)).astype(np.float32)
    steady_s = np.arange(2000) / 25
    smooth, _ = drive_codes.prepare(noise, times_s=steady_s, sigma_s=0.03)
    by_frames = ndimage.gaussian_filter1d(noise, 0.75, axis=0, mode="nearest")
    np.testing.assert_allclose(smooth, by_frames, atol=2e-4)
    assert smooth.std() == pytest.approx((2 * np.sqrt(np.pi) * 0.75) ** -0.5, rel=0.1)
    peak = np.zeros((41, 1), np.float32)
    peak[20] = 1.0
    smooth, _ = drive_codes.prepare(peak, times_s=np.arange(41) / 25, sigma_s=0.03)
    assert smooth.sum() == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_allclose(smooth, smooth[::-1], atol=1e-7)


def test_smoothing_goes_by_time_where_the_rate_changes():
    # A quick part and a slow one: the curve is the same in time, and none is delayed.
    times_s = np.concatenate([np.arange(0, 4, 0.1), np.arange(4, 6, 1 / 60)])
    wave = np.sin(2 * np.pi * 0.5 * times_s)[:, None].astype(np.float32)
    smooth, _ = drive_codes.prepare(wave, times_s=times_s, sigma_s=0.2)
    kept = np.exp(-0.5 * (2 * np.pi * 0.5 * 0.2) ** 2)
    inner = (times_s > 1) & (times_s < 5)
    np.testing.assert_allclose(smooth[inner], kept * wave[inner], atol=0.02)
    ramp, _ = drive_codes.prepare(
        times_s[:, None].astype(np.float32), times_s=times_s, sigma_s=0.03
    )
    np.testing.assert_allclose(ramp[2:-2, 0], times_s[2:-2], atol=0.02)


def test_the_beginning_is_the_driver_at_rest_where_the_user_says_so():
    times_s = np.arange(40) / 10
    assert drive_codes.at_rest(CODES, times_s=times_s, config=resolve().drive) is None
    found = drive_codes.at_rest(CODES, times_s=times_s + 7.0, config=resolve(neutral_s=0.25).drive)
    np.testing.assert_array_equal(found, CODES[:3])


class BrightSpot:
    """An estimator whose face is the brightest spot, which is its code, too."""

    names = NAMES

    def __init__(self):
        self.widths = []

    def estimate(self, image_u8, *, frame=None):
        self.widths.append(image_u8.shape[1])
        if image_u8.max() == 0:
            return None
        rows, columns = np.nonzero(image_u8[..., 0] == image_u8.max())
        points = np.zeros((478, 3), np.float32)
        points[:, 0] = np.linspace(columns.min(), columns.max() + 1, 478)
        points[:, 1] = np.linspace(rows.min(), rows.max() + 1, 478)
        code = np.full(2, image_u8.max(), np.float32)
        return estimation.Reading(code, 1.0, points)


def spots(*places):
    """Frames of two faces each: the brighter one comes first, then the darker one."""
    for bright, dark in places:
        image_u8 = np.zeros((60, 200, 3), np.uint8)
        for level, x in ((200, bright), (100, dark)):
            if x is not None:
                image_u8[20:30, x : x + 10] = level
        yield image_u8


def film(tmp_path, monkeypatch, *places, fps):
    """Reads pictures with BrightSpot; returns the codes, the widths it saw and the square."""
    folder = tmp_path / "film"
    folder.mkdir()
    for number, image_u8 in enumerate(spots(*places)):
        (folder / f"{number}.png").write_bytes(captures.encode(image_u8))
    reader = BrightSpot()
    monkeypatch.setattr(estimators, "make_estimator", lambda config: reader)
    config = experiment_config.DriveConfig(source=str(folder), fps=fps)
    with drive_sources.open_source(config) as source:
        read = drive_codes.read(source, np.arange(len(places)), NAMES, READER)
    return read.codes[:, 0].tolist(), reader.widths, read.head


def test_the_face_of_a_film_is_looked_for_where_it_was(tmp_path, monkeypatch):
    # The other person grows brighter than the one who was found first, who then jumps away.
    places = ((None, 50), (150, 54), (150, 58), (150, None))
    codes, widths, head = film(tmp_path, monkeypatch, *places, fps=25.0)
    assert codes == [100, 100, 100, 200]
    assert widths == [200, 30, 30, 30, 200]
    assert 55 < head.center_x_px < 155


def test_single_pictures_are_searched_as_a_whole(tmp_path, monkeypatch):
    codes, widths, _ = film(tmp_path, monkeypatch, (None, 50), (150, 54), fps=0.0)
    assert (codes, widths) == ([100, 200], [200, 200])


# --- cameras ---


def test_the_camera_stands_where_the_options_say(person):
    times_s = np.array([0.0, 1.0, 2.0])

    def angles(**options):
        config = experiment_config.DriveConfig(period_s=4.0, **options)
        labels = drive.camera_path(config, person.frontal_label25, times_s)
        camera = cameras.from_label25(labels)
        yaw_deg, pitch_deg = cameras.yaw_pitch_deg(camera.cam2world)
        return labels, np.asarray(yaw_deg), np.asarray(pitch_deg)

    labels, _, _ = angles()
    np.testing.assert_allclose(labels, np.tile(person.frontal_label25, (3, 1)), atol=1e-5)
    _, yaw_deg, pitch_deg = angles(yaw_deg=30.0, pitch_deg=-10.0)
    np.testing.assert_allclose(yaw_deg, 30.0, atol=1e-3)
    np.testing.assert_allclose(pitch_deg, -10.0, atol=1e-3)
    np.testing.assert_allclose(angles(camera="orbit")[1] % 360, [0.0, 90.0, 180.0], atol=1e-3)
    sway = angles(camera="sway", yaw_deg=5.0, sway_deg=20.0)[1]
    np.testing.assert_allclose(sway, [5.0, 25.0, 5.0], atol=1e-3)


# --- whole ---


def test_codes_drive_the_avatar_and_are_kept(person, tmp_path):
    codes = CODES[:11].copy()
    codes[4] = np.nan
    options = {"smoothing_s": 0.0, "batch_size": 4}
    folder = run(person, tmp_path, source=str(write_codes(tmp_path / "c.json", codes)), **options)
    assert sorted(path.name for path in folder.iterdir()) == [
        *("avatar.mp4", "codes.json", "contact_sheet.png", "driven.mp4", "made_from.json")
    ]
    frames, rate = decode(folder / "avatar.mp4")
    assert (len(frames), rate) == (11, 10)
    driven, _ = decode(folder / "driven.mp4")
    assert len(driven) == 11
    np.testing.assert_array_equal(precomputed.load(folder / "codes.json").codes, codes)
    # The same frames as the Python interface renders.
    mended, _ = drive_codes.prepare(codes, times_s=np.arange(11) / 10, sigma_s=0.0)
    w = person.encode(restating.restate(mended, person, resolve(), read=False))
    expected = person.render(w, np.tile(person.frontal_label25, (11, 1))).image
    side = frames[0].shape[0] // expected.shape[1]
    for frame, image in zip(frames, expected, strict=True):
        small = frame.reshape(image.shape[0], side, image.shape[1], side, 3).mean(axis=(1, 3))
        assert np.abs(small - image).mean() < 8


def write_pictures(folder, image_u8, count):
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.png").write_bytes(captures.encode(image_u8))
    return folder


def test_the_driver_stands_beside_the_avatar_unmirrored(person, tmp_path):
    sides = np.full((32, 64, 3), 250, np.uint8)
    sides[:, :32] = 10  # dark on the left
    source = write_pictures(tmp_path / "other", sides, 6)
    table = write_codes(tmp_path / "codes.json", CODES[:6], suffix=".png")
    [first, *_], _ = decode(looked_up(person, tmp_path, source, table) / "driven.mp4")
    strip = first[first.shape[0] // 2 :, 8 : 8 + 256].mean(axis=(0, 2))  # the middle square
    assert strip[:120].max() < 50
    assert strip[136:248].min() > 200


def test_codes_that_were_used_are_not_replaced_by_a_part_of_them(person, tmp_path):
    source = write_pictures(tmp_path / "other", captures.image(0), 6)
    folder = tmp_path / "run" / "samples" / "drive" / "other"
    folder.mkdir(parents=True)
    table = write_codes(folder / "codes.json", CODES, suffix=".png")
    before = table.read_bytes()
    found = looked_up(person, tmp_path, source, table, end_s=0.12)
    assert len(decode(found / "driven.mp4")[0]) == 3
    assert table.read_bytes() == before


def test_codes_that_drive_are_not_replaced_by_a_part_of_themselves(person, tmp_path):
    folder = tmp_path / "run" / "samples" / "drive" / "codes"
    folder.mkdir(parents=True)
    table = write_codes(folder / "codes.json", CODES)
    before = table.read_bytes()
    found = run(person, tmp_path, source=str(table), end_s=0.3)
    assert len(decode(found / "avatar.mp4")[0]) == 3
    assert table.read_bytes() == before


def test_another_source_or_other_options_of_one_name_overwrite_nothing(person, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = write_codes(tmp_path / "a" / "me.json", CODES[:3])
    second = write_codes(tmp_path / "b" / "me.json", CODES[:4])
    folders = [run(person, tmp_path, source=str(path)) for path in (first, second, first)]
    folders.append(run(person, tmp_path, source=str(first), camera="orbit"))
    assert [folder.name for folder in folders] == ["me", "me-2", "me", "me-3"]
    counts = [len(decode(folder / "avatar.mp4")[0]) for folder in folders]
    assert counts == [3, 4, 3, 3]
    write_codes(first, CODES[:5])
    assert run(person, tmp_path, source=str(first)).name == "me-4"


def test_an_avatar_that_was_trained_on_or_another_statistic_overwrites_nothing(person, tmp_path):
    source = write_codes(tmp_path / "me.json", CODES[:3])
    export = tmp_path / "run" / "checkpoints" / "export"
    first = run(person, tmp_path, source=str(source))
    portable.save_params(export / "mapping.safetensors", {"a": {"b": np.zeros(2)}}, {})
    assert run(person, tmp_path, source=str(source)) != first
    again = run(person, tmp_path, source=str(source))
    resolved = resolve(source=str(source))
    other = dataclasses.replace(
        resolved, evaluation=dataclasses.replace(resolved.evaluation, driver_statistics="pairs")
    )
    assert run_resolved(person, tmp_path, other) not in (first, again)


def test_frames_unlike_the_pairs_are_told_and_brought_back(person, tmp_path, caplog):
    tiny_pages.write_pairs(tmp_path / "run")
    codes = np.concatenate([tiny_pages.CODES[32:], 4.0 * tiny_pages.CODES[32:]])
    resolved = resolve(source=str(write_codes(tmp_path / "me.json", codes)), smoothing_s=0.0)
    resolved = dataclasses.replace(
        resolved, evaluation=dataclasses.replace(resolved.evaluation, driver_statistics="pairs")
    )
    folder = run_resolved(person, tmp_path, resolved)
    note = json.loads((folder / "range.json").read_text())
    seen, far = np.array(note["scores"][:8]), np.array(note["scores"][8:])
    assert np.mean(far[:, None] > seen[None]) > 0.95
    assert note["frames_outside"] == np.mean(np.array(note["scores"]) > 1.0)
    assert "unlike those the avatar has seen" in caplog.text
    clamped = ranges.hold(
        person, run_dir.RunDir(tmp_path / "run"), codes, folder=tmp_path, clamp=True
    )
    known = ranges.load(person, run_dir.RunDir(tmp_path / "run"))
    assert known.score(np.asarray(person.normalizer.apply(clamped))).max() <= 1.2
    inside = np.array(note["scores"]) <= 1.0
    np.testing.assert_allclose(clamped[inside], codes[inside], atol=1e-5)


def test_a_rate_is_kept_with_the_codes_only_where_it_is_known(person, tmp_path):
    source = write_pictures(tmp_path / "stills", captures.image(0), 2)
    table = write_codes(tmp_path / "codes.json", CODES[:2], suffix=".png")
    folder = looked_up(person, tmp_path, source, table)
    assert precomputed.load(folder / "codes.json").fps is None
    folder = looked_up(person, tmp_path, source, table, fps=5.0)
    assert precomputed.load(folder / "codes.json").fps == 5.0


def test_a_source_without_the_avatars_coefficients_is_refused(person, tmp_path):
    path = write_codes(tmp_path / "c.json", CODES, names=("jawOpen", "other"))
    with pytest.raises(errors.DataFormatError, match=r"c\.json: .*eyeBlinkLeft is lacking"):
        run(person, tmp_path, source=str(path))
    assert not list((tmp_path / "run").rglob("*.*"))


# --- the real face networks ---


@pytest.fixture(scope="module")
def networks():
    try:
        model_files.find(model_files.FACE_LANDMARKER, allow_download=False)
    except errors.EstimatorError as error:
        pytest.skip(str(error))


@pytest.fixture
def portraits(tmp_path):
    """Wide pictures with a small face at the right, and one without any."""
    folder = tmp_path / "portraits"
    folder.mkdir()
    for number, name in enumerate(("open_mouth", None, "neutral", "wink_left")):
        wide = np.full((240, 400, 3), 255, np.uint8)
        if name is not None:
            face = Image.open(FACES / f"{name}.webp").convert("RGB").resize((160, 160))
            wide[40:200, 220:380] = np.asarray(face)
        (folder / f"{number}.png").write_bytes(captures.encode(wide))
    return folder


def test_faces_are_read_off_pictures_of_any_shape(networks, portraits, caplog):
    with drive_sources.open_source(experiment_config.DriveConfig(source=str(portraits))) as source:
        read = drive_codes.read(source, np.arange(4), NAMES, READER)
    assert read.frames == ("0.png", "1.png", "2.png", "3.png")
    jaw = coefficients.select(read.codes, read.names, ["jawOpen"])[:, 0]
    np.testing.assert_array_equal(np.isnan(jaw), [False, True, False, False])
    assert jaw[0] > jaw[2] + 0.3
    assert "1 of 4 frames without a face" in caplog.text
    assert isinstance(read.head, regions.Region)
    assert abs(read.head.center_x_px - 300) < 25
    assert 80 < read.head.side_px < 240


def test_a_source_without_a_face_is_refused(networks, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.png").write_bytes(captures.encode(np.full((64, 64, 3), 255, np.uint8)))
    with drive_sources.open_source(
        experiment_config.DriveConfig(source=str(tmp_path / "a"))
    ) as source:
        with pytest.raises(errors.DataFormatError, match="no face was found in any of 1 frames"):
            drive_codes.read(source, np.arange(1), NAMES, READER)
