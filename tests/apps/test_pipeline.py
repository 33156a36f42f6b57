"""What the whole method refuses before its first stage."""

import pytest

from ganavatar_jax.apps import command_line, pipeline
from ganavatar_jax.core import errors


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("gan", "init", "nowhere", r"gan\.init: .*got 'nowhere'"),
        ("estimator", "model_path", "nowhere.task", r"nowhere\.task: expected the file"),
        ("estimator", "calibration", "nowhere.json", r"nowhere\.json"),
        ("mapping", "coefficients", ("smile",), r"mapping\.coefficients: .*got smile"),
    ],
)
def test_what_later_stages_need_is_asked_for_first(section, key, value, message, tmp_path):
    config = command_line.load_config("configs/quickstart.py:smoke")
    config[section][key] = value
    with pytest.raises(errors.GanAvatarError, match=message):
        pipeline.run_all(config, tmp_path / "run")
    assert not (tmp_path / "run" / "dataset").exists()
