"""Run folders of earlier versions go on, whatever options have come and gone since."""

import copy

import pytest

from configs import monocular
from ganavatar_jax.apps import experiment
from ganavatar_jax.core import errors
from ganavatar_jax.runs import run_dir


@pytest.fixture
def config():
    return monocular.get_config("small").to_dict()


def earlier(config):
    """The options of the version that undid a landmarker's habits by two factors."""
    old = copy.deepcopy(config)
    old["data"]["video"] |= {"pitch_response": 0.6, "yaw_response": 0.93}
    del old["data"]["video"]["fov_deg"], old["data"]["reader"]["flame_joints"]
    return old


def test_a_run_of_an_earlier_version_goes_on(config, tmp_path):
    run_dir.open_run(tmp_path, earlier(config)).mark_done("train_gan", {})
    changeable = experiment.CHANGEABLE
    assert run_dir.read_run(tmp_path, config, changeable=changeable).path == tmp_path
    run_dir.open_run(tmp_path, config, changeable=changeable)


def test_another_option_is_still_refused(config, tmp_path):
    old = earlier(config)
    old["data"]["crop_extent"] = 0.7
    run_dir.open_run(tmp_path, old).mark_done("train_gan", {})
    with pytest.raises(errors.RunError, match=r"data\.crop_extent \(was 0\.7"):
        run_dir.read_run(tmp_path, config, changeable=experiment.CHANGEABLE)
