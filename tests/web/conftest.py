"""A trained avatar with its page."""

import os
import pathlib

import pytest

from ganavatar_jax import main


@pytest.fixture(scope="session")
def web_run(repo_root: pathlib.Path) -> pathlib.Path:
    """The quickstart's run folder with its page; WEB_RUN names another, taken as it is."""
    if "WEB_RUN" in os.environ:
        return pathlib.Path(os.environ["WEB_RUN"])
    folder = repo_root / "runs" / "quickstart"
    config = f"--config={repo_root / 'configs' / 'quickstart.py'}"
    assert (folder / "config.json").is_file(), f"{folder} is missing: run `make quickstart`"
    arguments = ["main", config, f"--workdir={folder}", "--task=export_web"]
    assert main.main([*arguments, "--config.devices.cpu_virtual=0"]) == 0
    return folder
