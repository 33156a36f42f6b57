"""The estimator interface: configs, choice, and reading many images."""

import pathlib

import numpy as np
import pytest

from ganavatar_jax.core import config, errors
from ganavatar_jax.faces import estimation, estimator_config, estimators, precomputed

DATA = pathlib.Path(__file__).parent / "data"
IMAGE = np.zeros((4, 4, 3), np.uint8)


@pytest.fixture
def estimator():
    codes = np.array([[0.1, 0.2], [0.3, 0.4]], np.float32)
    return precomputed.PrecomputedEstimator(["a", "b"], ["first", "second"], codes)


def test_unread_images_keep_their_row_and_are_counted(estimator):
    calls = []
    readings = estimation.estimate_many(
        estimator,
        (IMAGE for _ in range(3)),
        frames=["second", "unknown", "first"],
        progress=lambda done, skipped: calls.append((done, skipped)),
    )
    assert readings.found.tolist() == [True, False, True]
    np.testing.assert_allclose(readings.codes[[0, 2]], [[0.3, 0.4], [0.1, 0.2]])
    assert np.isnan(readings.codes[1]).all()
    assert readings.confidence.tolist() == [1.0, 0.0, 1.0]
    assert calls == [(1, 0), (2, 1), (3, 1)]
    codes, found = readings.codes, readings.found
    assert codes.shape == (3, 2)
    assert found is readings.found


def test_no_images_give_no_rows(estimator):
    readings = estimation.estimate_many(estimator, [])
    assert readings.codes.shape == (0, 2)
    assert readings.found.shape == (0,)


@pytest.mark.parametrize("frames", [["first"], ["first", "second", "first"]])
def test_every_image_needs_its_frame_name(estimator, frames):
    with pytest.raises(ValueError, match="one frame name per image"):
        estimation.estimate_many(estimator, [IMAGE, IMAGE], frames=frames)


def test_the_config_chooses_the_estimator():
    chosen = estimators.make_estimator(
        estimator_config.EstimatorConfig(
            name="precomputed", codes_path=str(DATA / "expressions.json")
        )
    )
    assert isinstance(chosen, precomputed.PrecomputedEstimator)
    with pytest.raises(errors.EstimatorError, match="needs codes_path"):
        estimators.make_estimator(estimator_config.EstimatorConfig(name="precomputed"))


@pytest.mark.parametrize(
    "values",
    [
        {"name": "guess"},
        {"min_confidence": 1.5},
        {"num_threads": 0},
        {"upsample_px": 0},
        {"refine_passes": -1},
        {"tile_levels": -1},
    ],
)
def test_options_out_of_range_are_config_errors(values):
    with pytest.raises(errors.ConfigError):
        config.resolve(estimator_config.EstimatorConfig, values)


def test_an_estimator_is_known_by_its_files(tmp_path):
    def identify(**options):
        return estimators.identify(estimator_config.EstimatorConfig(**options))

    codes = tmp_path / "codes.json"
    codes.write_text("{}")
    copy = tmp_path / "copy.json"
    copy.write_text("{}")
    known = identify(name="precomputed", codes_path=str(codes))
    assert known is not None
    assert known == identify(name="precomputed", codes_path=str(copy))
    copy.write_text("{ }")
    assert known != identify(name="precomputed", codes_path=str(copy))
    assert identify(name="precomputed", codes_path=str(tmp_path / "gone.json")) is None
    assert identify(name="precomputed") is None
    own = identify(calibration=str(codes))
    assert len({known, own, identify(), identify(calibration="none")}) == 4
    assert identify(name="deep3dface", model_path=str(tmp_path / "gone")) is None
    assert identify(calibration=str(tmp_path / "gone.json")) is None
