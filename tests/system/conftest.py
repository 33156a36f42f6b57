"""One run of the whole method for all tests of a session; tests that change it copy it."""

import pathlib

import pytest

from ganavatar_jax import main
from helpers import compiled, smoke


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory, repo_root: pathlib.Path) -> pathlib.Path:
    """A run folder after the whole method."""
    folder = tmp_path_factory.mktemp("runs") / "smoke"
    with compiled.quickly():
        assert main.main(smoke.command(repo_root, folder)) == 0
    return folder
