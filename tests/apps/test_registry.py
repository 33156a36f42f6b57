"""Tasks are found by name."""

import inspect

import pytest

from ganavatar_jax.apps import registry


@pytest.mark.parametrize("name", registry.TASKS)
def test_every_task_takes_a_config_and_a_run_folder(name):
    assert list(inspect.signature(registry.load(name)).parameters) == ["config", "workdir"]
