"""Run folders of earlier versions go on, whatever options have come and gone since."""

import copy
import json
import pathlib

import pytest

from configs import monocular
from ganavatar_jax.apps import experiment, experiment_config
from ganavatar_jax.core import config as config_lib
from ganavatar_jax.core import errors, trees
from ganavatar_jax.runs import identity, run_dir


@pytest.fixture
def config():
    loaded = monocular.get_config("small")
    loaded.data.source = "me.mp4"
    loaded.gan.reconstruction.unseen_interval = 0  # as it was then
    return loaded


def earlier(config):
    """The options of the version that undid a landmarker's habits by two factors."""
    old = copy.deepcopy(config_lib.to_dict(experiment.resolve(config)))
    old["data"]["video"] |= {"pitch_response": 0.6, "yaw_response": 0.93}
    old["evaluation"]["driver_gain"] = 1.25
    del old["data"]["split"]["test_blocks"], old["data"]["split"]["guard_frames"]
    del old["data"]["video"]["fov_deg"], old["data"]["reader"]["flame_joints"]
    return old


@pytest.fixture
def folder(config, tmp_path):
    """A run of that version, trained."""
    run = run_dir.open_run(tmp_path, earlier(config))
    run.mark_done("train_gan", {})
    return tmp_path


def test_a_run_of_an_earlier_version_goes_on(config, folder):
    assert experiment.read_run(config, folder)[1].path == folder
    experiment.open_run(config, folder)
    assert "fov_deg" in json.loads((folder / "config.json").read_text())["data"]["video"]


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [("video", "fov_deg", 40.0), ("reader", "flame_joints", (0.0,) * 6)],
)
def test_an_option_it_did_not_have_is_refused_where_it_changes_the_data(
    config, folder, section, key, value
):
    config.data[section][key] = value
    for opening in (experiment.read_run, experiment.open_run):
        with pytest.raises(
            errors.RunError, match=rf"data\.{section}\.{key} \(was (0\.0|\[\]), now"
        ):
            opening(config, folder)


def test_options_that_are_gone_do_not_keep_an_avatar_from_loading(config):
    stored = experiment_config.leave_gone_out(earlier(config))
    found = config_lib.resolve(experiment_config.ExperimentConfig, stored)
    assert found == experiment.resolve(config)


def test_another_option_is_still_refused(config, folder):
    config.data.crop_extent = 0.7
    with pytest.raises(errors.RunError, match=r"data\.crop_extent \(was "):
        experiment.read_run(config, folder)


def test_every_option_since_then_may_be_lacking(config):
    """A new key that is forgotten here would lock everybody out of their runs."""
    listed = pathlib.Path(__file__).with_name("keys_of_an_earlier_version.txt").read_text("utf-8")
    today = dict(trees.flatten_names(config_lib.to_dict(experiment.resolve(config))))
    for key in today.keys() - set(listed.split()):
        assert key in experiment.ADDED or identity.matches(key, experiment.CHANGEABLE), key
