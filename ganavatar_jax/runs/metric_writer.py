"""Numbers of a run: JSON objects in metrics.jsonl, and TensorBoard, and Weights & Biases if asked.

Each line is {"step": int, "kimg": float, "stage": str, name: value, ...}. All stages of a run
share the file. A resumed stage first drops its lines from beyond the step it resumes at, so that
every (stage, step) has one truth. Values that are not finite are written as null.
"""

import hashlib
import json
import logging
import math
import os
import pathlib
import types
from collections.abc import Mapping
from typing import Any

import numpy as np

from ganavatar_jax.core import errors, files

_LOG = logging.getLogger(__name__)
_RESERVED = ("step", "kimg", "stage")


class MetricWriter:
    """Writes the metrics of one stage; use it as a context manager.

    Attributes:
      path: The JSON-lines file.
      stage: Name of the stage, repeated on every line.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        stage: str,
        resumed_step: int | None,
        tensorboard_dir: str | os.PathLike[str] | None = None,
        wandb: str = "",
        primary: bool = True,
    ) -> None:
        """Opens the file for appending, after dropping what the stage is about to redo.

        Args:
          path: The JSON-lines file; made if missing.
          stage: Name of the stage.
          resumed_step: Step of the checkpoint the stage continues from; None starts it anew.
          tensorboard_dir: Where TensorBoard events go as well; None for none.
          wandb: Project of Weights & Biases that the numbers go to as well; "" for none.
          primary: Whether this process writes; the others of a multi-process run do not.

        Raises:
          RunError: the file is unreadable or cannot be written.
          MissingDependencyError: wandb is asked for and not installed.
        """
        self.path = pathlib.Path(path)
        self.stage = stage
        self._file = None
        self._tensorboard = None
        self._wandb = None
        if not primary:
            return
        if wandb:
            self._wandb = _open_wandb(wandb, self.path.parent, stage)
        last = -1 if resumed_step is None else resumed_step
        _drop_beyond(self.path, stage, last)
        try:
            self._file = open(self.path, "a")
        except OSError as error:
            raise files.write_error(self.path, error) from error
        if tensorboard_dir is not None:
            self._tensorboard = _open_tensorboard(tensorboard_dir, purge_step=last + 1)

    def write(self, step: int, *, kimg: float, metrics: Mapping[str, Any]) -> None:
        """Appends one line; the arrays among the metrics are fetched from the devices.

        Args:
          step: Iteration of the stage.
          kimg: Thousands of images seen by the stage.
          metrics: Name -> scalar.

        Raises:
          ValueError: a metric has a reserved name.
          RunError: the line cannot be written.
        """
        if clashes := [name for name in _RESERVED if name in metrics]:
            raise ValueError(f"metrics must not be called {clashes}: the line has these already.")
        if self._file is None:
            return
        values = to_floats(metrics)
        line: dict[str, Any] = {"step": int(step), "kimg": float(kimg), "stage": self.stage}
        line |= {name: v if math.isfinite(v) else None for name, v in values.items()}
        try:
            self._file.write(json.dumps(line, allow_nan=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise files.write_error(self.path, error) from error
        if self._tensorboard is not None:
            for name, value in values.items():
                self._tensorboard.add_scalar(name, value, int(step))
        if self._wandb is not None:
            named = {"step": int(step), "kimg": float(kimg)} | values
            self._wandb.log({f"{self.stage}/{name}": value for name, value in named.items()})

    def close(self) -> None:
        """Closes the files."""
        if self._file is not None:
            self._file.close()
        if self._tensorboard is not None:
            self._tensorboard.close()
        if self._wandb is not None:
            self._wandb.finish()

    def __enter__(self) -> "MetricWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self.close()


def read_metrics(path: str | os.PathLike[str], *, stage: str | None = None) -> list[dict[str, Any]]:
    """Reads a metrics file; half a last line, left by a kill, is skipped.

    Args:
      path: The JSON-lines file.
      stage: Only this stage's lines; None for all.

    Returns:
      One dict a line, in file order; empty if there is no file.

    Raises:
      RunError: a line other than the last is not a JSON object.
    """
    path = pathlib.Path(path)
    if not path.exists():
        return []
    try:
        texts = path.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise errors.RunError(
            f"{path}: the metrics file cannot be read ({error}); move it away."
        ) from error
    lines = []
    for number, text in enumerate(texts, start=1):
        line = _parse_line(text)
        if line is not None:
            lines.append(line)
        elif number < len(texts):
            raise errors.RunError(
                f'{path}: line {number}: expected an object with "step" and "stage"; got '
                f"{text[:40]!r}. Remove that line."
            )
    return [line for line in lines if stage is None or line["stage"] == stage]


def to_floats(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Fetches scalars from the devices.

    Args:
      metrics: Name -> Python number or array with one element.

    Returns:
      Name -> Python float.
    """
    return {name: float(np.asarray(value).item()) for name, value in metrics.items()}


def check_finite(metrics: Mapping[str, Any], *, step: int, stage: str) -> None:
    """Stops a run whose numbers have become NaN or infinite.

    Args:
      metrics: Name -> scalar.
      step: Iteration, for the message.
      stage: Stage, for the message.

    Raises:
      RunError: a value is not finite; names all of them.
    """
    values = to_floats(metrics)
    bad = ", ".join(f"{name}={v}" for name, v in values.items() if not math.isfinite(v))
    if bad:
        raise errors.RunError(
            f"{stage}: the training diverged by step {step}: {bad}; start again from the last "
            f"checkpoint, with the same command and lower learning rates."
        )


def _parse_line(text: str) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) and {"step", "stage"} <= line.keys() else None


def _drop_beyond(path: pathlib.Path, stage: str, last_step: int) -> None:
    if not path.exists():
        files.write_atomic(path, "")
        return
    lines = read_metrics(path)
    kept = [line for line in lines if line["stage"] != stage or line["step"] <= last_step]
    files.write_atomic(path, "".join(json.dumps(line) + "\n" for line in kept))


def _open_wandb(project: str, folder: pathlib.Path, stage: str) -> Any:
    """Opens the run of this folder, the same one after a resume; all its stages share it."""
    try:
        import wandb  # type: ignore[import-not-found]  # optional
    except ImportError as error:
        raise errors.MissingDependencyError(
            f'wandb="{project}" needs Weights & Biases: pip install "ganavatar-jax[wandb]", or '
            'leave --config.wandb="".'
        ) from error
    run = wandb.init(
        project=project,
        name=folder.name,
        id=hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16],
        dir=str(folder),
        resume="allow",
    )
    run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
    return run


def _open_tensorboard(folder: str | os.PathLike[str], *, purge_step: int) -> Any:
    try:
        import tensorboardX  # optional: the JSON lines hold the same numbers
    except ImportError:
        _LOG.warning(
            "tensorboardX is not installed: metrics go to metrics.jsonl only "
            "(pip install tensorboardX adds TensorBoard files)."
        )
        return None
    return tensorboardX.SummaryWriter(str(files.make_folder(folder)), purge_step=purge_step)
