"""Held-out frames are driven by the codes that are meant, and compared with what is comparable."""

import csv
import dataclasses
import json

import numpy as np
import pytest

from ganavatar_jax.apps import avatar, evaluate
from ganavatar_jax.core import errors
from ganavatar_jax.faces import normalization
from ganavatar_jax.runs import run_dir
from helpers import tiny_gan, tiny_runs

NAMES = ("eyeBlinkLeft", "eyeBlinkRight")
STORED = ("jawOpen", "eyeBlinkRight", "eyeBlinkLeft")
STORED_DRIVE = tiny_runs.resolve(evaluation={"codes": "dataset"})
SIDE = 16  # SSIM's window needs 11 pixels


@pytest.fixture(scope="module")
def person():
    codes = np.random.default_rng(5).uniform(size=(40, 2)).astype(np.float32)
    found = tiny_gan.make_avatar(codes, NAMES)
    larger = dataclasses.replace(found.g_config, img_resolution=SIDE, neural_resolution=SIDE)
    return dataclasses.replace(found, g_config=larger)


def make_table(count, seed, *, has=None):
    rng = np.random.default_rng(seed)
    codes = rng.uniform(size=(count, 3)).astype(np.float32)
    if has is not None:
        codes[~has] = np.nan
    return tiny_runs.make_table(
        rng.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8),
        tiny_runs.labels(rng.uniform(-0.4, 0.4, count)),
        codes=codes,
        names=STORED,
        has=has,
    )


@pytest.fixture
def run(monkeypatch, tmp_path, person):
    def evaluated(train, test, estimator=None, driven=None, **options):
        driven = person if driven is None else driven
        if estimator is None:
            estimator = tiny_runs.FakeEstimator(NAMES, lambda *_: None)
        tables = {"train": train, "test": test}
        tiny_runs.without_earlier_stages(monkeypatch, evaluate)
        monkeypatch.setattr(evaluate.avatar, "load", lambda *_: driven)
        monkeypatch.setattr(
            evaluate.frame_table, "load_split", lambda _, split, **__: tables[split]
        )
        monkeypatch.setattr(evaluate.estimators, "make_estimator", lambda _: estimator)
        sections = {"evaluation": {"codes": "dataset"} | options}
        evaluate.evaluate(tiny_runs.resolve(**sections), run_dir.RunDir(tmp_path / "run"))
        folder = tmp_path / "run" / "evaluation"
        with (folder / "per_frame.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        return json.loads((folder / "metrics.json").read_text()), rows

    return evaluated


def test_stored_codes_come_in_the_order_the_avatar_takes_and_holes_are_told():
    has = np.array([True, False, True, True])
    table = make_table(4, 0, has=has)
    table.expression[3, 2] = np.nan  # half a code is none
    codes, have = evaluate.driving_codes(table, NAMES, STORED_DRIVE)
    np.testing.assert_array_equal(codes, table.expression[:, [2, 1]])
    np.testing.assert_array_equal(have, [True, False, True, False])


def test_estimated_codes_are_read_off_the_frames_themselves(monkeypatch):
    table = make_table(4, 0)

    def read(image_u8, frame):
        return None if frame == "002" else [0.0, image_u8.mean(), float(frame)]

    estimator = tiny_runs.FakeEstimator(("other", *NAMES), read)
    monkeypatch.setattr(evaluate.estimators, "make_estimator", lambda _: estimator)
    codes, have = evaluate.driving_codes(table, NAMES, tiny_runs.resolve())
    np.testing.assert_array_equal(have, [True, True, False, True])
    np.testing.assert_allclose(codes[have, 1], [0, 1, 3])
    np.testing.assert_allclose(codes[have, 0], table.image[have].mean(axis=(1, 2, 3)), rtol=1e-5)


def test_captures_without_the_codes_are_refused():
    bare = dataclasses.replace(make_table(4, 0), expression=None, expression_names=())
    with pytest.raises(errors.DataFormatError, match="carry no expression codes"):
        evaluate.driving_codes(bare, NAMES, STORED_DRIVE)
    with pytest.raises(errors.DataFormatError, match="codes lack browDownLeft"):
        evaluate.driving_codes(make_table(4, 0), (*NAMES, "browDownLeft"), STORED_DRIVE)


def test_every_nth_frame_with_a_code_is_driven_by_statistics_of_all(run, person):
    has = np.arange(11) != 4
    test = make_table(11, 1, has=has)
    metrics, rows = run(make_table(8, 2), test, stride=3, driver_statistics="driver")
    chosen = np.flatnonzero(has)[::3]
    assert [row["frame"] for row in rows] == [f"{i:03d}" for i in chosen]
    assert metrics["frames"] == len(chosen)
    codes = test.expression[:, [2, 1]]
    statistics = codes[has].mean(axis=0), codes[has].std(axis=0)
    w = person.encode(codes[chosen], statistics=statistics)
    shown = person.render(w, test.label25[chosen]).image / 255.0
    l2 = np.square(shown - test.image[chosen] / 255.0).mean()
    assert metrics["ours"]["l2"] == pytest.approx(l2, rel=1e-5)


def test_codes_of_the_avatars_own_estimator_are_taken_as_they_are(run, person):
    test = make_table(6, 1)
    metrics, _ = run(make_table(8, 2), test, driver_statistics="pairs")
    shown = person.render(person.encode(test.expression[:, [2, 1]]), test.label25).image / 255.0
    l2 = np.square(shown - test.image / 255.0).mean()
    assert metrics["ours"]["l2"] == pytest.approx(l2, rel=1e-5)


def test_no_frame_with_a_code_is_told(run):
    with pytest.raises(errors.DataFormatError, match="held-out frame with a code; got none"):
        run(make_table(8, 2), make_table(5, 1, has=np.zeros(5, bool)))


def test_the_baselines_are_the_mean_and_the_nearest_of_the_training_frames(run):
    train = make_table(9, 3)
    test = tiny_runs.make_table(  # these very frames
        train.image[[7, 2, 4]],
        train.label25[[7, 2, 4]],
        codes=train.expression[[7, 2, 4]],
        names=STORED,
    )
    metrics, _ = run(train, test)
    assert metrics["nearest_frame"]["l2"] == 0.0
    mean = np.round(train.image.mean(axis=0)) / 255.0
    l2 = np.square(mean - test.image / 255.0).mean()
    assert metrics["mean_image"]["l2"] == pytest.approx(l2, rel=1e-5)
    assert metrics["protocol"]["nearest_frame_by"] == "camera and code"


def test_stored_codes_find_the_nearest_frame_although_readings_drive(run):
    train = make_table(9, 3)
    straight = np.tile(train.label25[:1], (9, 1))  # the code alone tells them apart
    train = dataclasses.replace(train, label25=straight)
    test = tiny_runs.make_table(
        train.image[[7, 2, 4]],
        train.label25[[7, 2, 4]],
        codes=train.expression[[7, 2, 4]],
        names=STORED,
    )
    estimator = tiny_runs.FakeEstimator(NAMES, lambda image, _: [50.0, 50.0 + image.mean()])
    metrics, _ = run(train, test, estimator, codes="estimate")
    assert metrics["nearest_frame"]["l2"] == 0.0
    bare = dataclasses.replace(test, expression=None, expression_names=())
    metrics, _ = run(train, bare, estimator, codes="estimate")
    assert metrics["protocol"]["nearest_frame_by"] == "camera"


def test_amplitude_is_reported_beside_correlation(run, caplog):
    test = make_table(8, 1)
    codes = {f"{i:03d}": test.expression[i, [2, 1]] for i in range(8)}
    asked = []

    def halved(image_u8, frame):
        """Reads the frames first, then their renders."""
        asked.append(frame)
        if len(asked) <= 8:
            assert image_u8.tobytes() == test.image[int(frame)].tobytes()
            return codes[frame] * 0.9
        return None if frame == "003" else 0.45 * codes[frame] + 0.2

    with caplog.at_level("INFO"):
        metrics, _ = run(make_table(8, 2), test, tiny_runs.FakeEstimator(NAMES, halved))
    for end, name in (("", "eyeBlinkLeft"), ("_both_sides", "eyeBlink")):
        assert metrics[f"code_correlation{end}"][name] == pytest.approx(1.0, abs=1e-5)
        assert metrics[f"code_slope{end}"][name] == pytest.approx(0.5, rel=1e-4)
        assert metrics[f"code_correlation_stored{end}"][name] == pytest.approx(1.0, abs=1e-5)
    assert any(line.split() == ["eyeBlink", "1.00", "0.50"] for line in caplog.messages)


def test_codes_looked_up_by_name_are_not_passed_off_as_read_back(run, monkeypatch):
    resolve = tiny_runs.resolve

    def precomputed(**sections):
        return resolve(**sections, estimator={"name": "precomputed", "codes_path": "codes.json"})

    monkeypatch.setattr(tiny_runs, "resolve", precomputed)
    metrics, _ = run(make_table(8, 2), make_table(6, 1))
    assert metrics["code_correlation"] is None
    assert metrics["code_slope"] is None
    assert metrics["openings"] is None


def test_a_driver_is_not_brought_to_a_spread_that_nobody_knows(run, person):
    eye = np.eye(2, dtype=np.float32)
    raw = normalization.CodeNormalizer(NAMES, np.zeros(2, np.float32), eye, eye)
    imported = dataclasses.replace(person, normalizer=raw)
    tables = make_table(8, 2), make_table(6, 1)
    with pytest.raises(errors.ConfigError, match=r'imported.*driver_statistics="pairs"'):
        run(*tables, driven=imported, driver_statistics="driver")
    metrics, _ = run(*tables, driven=imported, driver_statistics="pairs")
    assert metrics["frames"] == 6


def test_wrong_inception_weights_are_told_before_anything_is_rendered(run, monkeypatch, tmp_path):
    monkeypatch.setattr(avatar.Avatar, "render", lambda *_, **__: pytest.fail("rendered"))
    path = tmp_path / "inception.npz"
    with pytest.raises(errors.WeightError, match=r"inception\.npz"):
        run(make_table(8, 2), make_table(6, 1), inception=str(path))
