"""A finished run, opened for scripts: its avatar, its frames and its estimator."""

import json
import pathlib

import numpy as np

from ganavatar_jax.apps import avatar, experiment_config, prepare_data
from ganavatar_jax.core import config as config_lib
from ganavatar_jax.faces import coefficients, estimation, estimators
from ganavatar_jax.runs import run_dir


class Run:
    """A finished run: its avatar, its frames and its estimator."""

    def __init__(self, workdir: pathlib.Path) -> None:
        stored = experiment_config.leave_gone_out(json.loads((workdir / "config.json").read_text()))
        self.config = config_lib.resolve(experiment_config.ExperimentConfig, stored)
        opened = run_dir.RunDir(workdir, primary=True)
        self.folder = prepare_data.dataset_folder(opened)
        self.avatar = avatar.load(self.config, opened)
        self.estimator = estimators.make_estimator(self.config.estimator)

    def read(self, images_u8: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Reads images; returns the avatar's coefficients and which images had a face."""
        frames = [str(index) for index in range(len(images_u8))]
        found = estimation.estimate_many(self.estimator, images_u8, frames=frames)
        return coefficients.select(
            found.codes, self.estimator.names, self.avatar.names
        ), found.found
