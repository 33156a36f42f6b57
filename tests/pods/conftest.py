"""Runs of several processes on this machine."""

import os
import pathlib

import pytest

from helpers import pods as pods_lib


@pytest.fixture(scope="session")
def pods(repo_root, tmp_path_factory):
    cache = os.environ.get("PODS_CACHE_DIR") or tmp_path_factory.mktemp("cache")
    made = pods_lib.Pods(repo_root, pathlib.Path(cache))
    yield made
    for process in made.started:
        if process.poll() is None:
            process.kill()
        process.communicate()
