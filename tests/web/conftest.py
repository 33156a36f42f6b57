"""A trained avatar with its page: WEB_RUN names its run folder, `make test-web` trains one."""

import os
import pathlib

import pytest

from ganavatar_jax import main


@pytest.fixture(scope="session")
def web_run(repo_root: pathlib.Path) -> pathlib.Path:
    """A run folder after --task=export_web: the quickstart's, or the one that WEB_RUN names."""
    folder = pathlib.Path(os.environ.get("WEB_RUN", repo_root / "runs" / "quickstart"))
    config = f"--config={repo_root / 'configs' / 'quickstart.py'}"
    assert (folder / "config.json").is_file(), f"{folder} is missing: run `make quickstart`"
    arguments = ["main", config, f"--workdir={folder}", "--task=export_web"]
    assert main.main([*arguments, "--config.devices.cpu_virtual=0"]) == 0
    return folder
