"""The folder of one run, laid out so that anyone can tell what was run and how far it came.

    workdir/
      config.json           the resolved config; a reopened run must have the same
      config_changes.jsonl  later changes to the few keys that may change
      commit.txt            commit of the code, one line for each time it changed
      environment.txt       Python, packages, devices, CPUs, system; a block for each change
      metrics.jsonl         see metric_writer
      stages/<name>.json    written when a stage is complete, with its results
      samples/ checkpoints/ evaluation/ dataset/ renders/ weights/ tensorboard/

In a run of several processes only the first one writes here.
"""

import dataclasses
import datetime
import fnmatch
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from ganavatar_jax.core import errors, files, trees

FOLDERS = (
    "samples", "checkpoints", "evaluation", "dataset", "renders", "weights", "tensorboard"
)  # fmt: skip
_PACKAGES = (
    "ganavatar-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain",
    "tensorflow-datasets", "numpy", "ml-collections", "ai-edge-litert", "av", "pillow",
)  # fmt: skip
_LISTED = 5  # differing keys shown, so that the message stays one line
_STAGE_NAME = re.compile(r"[a-z0-9_]+")


@dataclasses.dataclass(frozen=True)
class RunDir:
    """An open run folder.

    Attributes:
      path: The folder, absolute.
      primary: Whether this process is the one that writes into it.
    """

    path: pathlib.Path
    primary: bool = True

    @property
    def metrics(self) -> pathlib.Path:
        """The metrics file."""
        return self.path / "metrics.jsonl"

    def folder(self, name: str, *parts: str) -> pathlib.Path:
        """Makes and names one of the run's folders.

        Args:
          name: One of FOLDERS.
          *parts: Folders inside it, e.g. the stage.

        Returns:
          The folder's path.

        Raises:
          ValueError: the name is not one of FOLDERS.
          RunError: the folder cannot be made.

        Source: ours.
        """
        if name not in FOLDERS:
            raise ValueError(f"expected one of {', '.join(FOLDERS)}; got {name!r}.")
        return files.make_folder(self.path.joinpath(name, *parts))

    def stage_done(self, name: str) -> dict[str, Any] | None:
        """Reads what a complete stage has noted.

        Args:
          name: Stage, lower case letters, digits and underscores.

        Returns:
          The stage's info; None when the stage is not complete.

        Raises:
          RunError: the marker is unreadable.

        Source: ours.
        """
        path, fix = self._marker(name), "delete it to run the stage again"
        if not path.is_file():
            return None
        marker = _read_json(path, fix)
        if not isinstance(marker.get("info"), dict):
            raise errors.RunError(f'{path}: expected the key "info" with an object; {fix}.')
        return marker["info"]

    def mark_done(self, name: str, info: Mapping[str, Any]) -> None:
        """Notes that a stage is complete; a later `stage_done` returns the info.

        Args:
          name: Stage, lower case letters, digits and underscores.
          info: JSON-serialisable results that later stages need.

        Raises:
          RunError: the marker cannot be written.

        Source: ours.
        """
        path = self._marker(name)
        if self.primary:
            marker = {"stage": name, "time_utc": _now(), "info": dict(info)}
            files.write_atomic(path, json.dumps(marker, indent=1) + "\n")

    def require_stage(self, name: str, *, task: str) -> dict[str, Any]:
        """Reads what an earlier stage has noted and insists that it is complete.

        Args:
          name: The earlier stage.
          task: The task that would run it, for the message.

        Returns:
          The stage's info.

        Raises:
          RunError: the stage is not complete, or its marker is unreadable.

        Source: ours.
        """
        info = self.stage_done(name)
        if info is None:
            raise errors.RunError(
                f'{self.path}: the stage "{name}" is not complete in this run folder; run '
                f"--task={task} with the same --workdir first."
            )
        return info

    def _marker(self, name: str) -> pathlib.Path:
        if not _STAGE_NAME.fullmatch(name):
            raise ValueError(f"stage names are lower case letters, digits and _; got {name!r}.")
        return self.path / "stages" / f"{name}.json"


def open_run(
    workdir: str | os.PathLike[str],
    config_json: Mapping[str, Any],
    *,
    changeable: Sequence[str] = (),
    renewed: Sequence[str] = (),
) -> RunDir:
    """Opens a run folder: new ones are described, known ones must have the same config.

    Args:
      workdir: The run folder; made if missing.
      config_json: The resolved config as nested JSON-serialisable values.
      changeable: Dotted keys, `*` allowed, that may differ from what the folder was made with,
        e.g. "train.total_kimg" or "log.*". Such changes are noted in config_changes.jsonl.
      renewed: Stages that make their results anew where these no longer fit the config: as long as
        no other is complete or has written metrics, all keys may differ.

    Returns:
      The open run.

    Raises:
      RunError: the folder cannot be written, its config.json is unreadable, or its config
        differs in other keys and a stage is complete or has written metrics.

    Source: ours.
    """
    import jax  # starts the devices, which the callers that only check a folder do not need

    path = files.check_writable(workdir)
    run = RunDir(path, primary=jax.process_index() == 0)
    if not run.primary:
        return run
    config = json.loads(json.dumps(config_json))
    stored_path = path / "config.json"
    if stored_path.is_file():
        stored = _read_json(stored_path, "choose a new --workdir")
        changes = config_differences(stored, config)
        complete = {marker.stem for marker in (path / "stages").glob("*.json")}
        if complete - set(renewed) or run.metrics.is_file():  # before, nothing depends on it
            _refuse_changes(path, changes, changeable)
        if changes:
            note = json.dumps({"time_utc": _now(), "changes": changes}) + "\n"
            _append_if_new(path / "config_changes.jsonl", note)
    files.write_atomic(stored_path, json.dumps(config, indent=1, sort_keys=True) + "\n")
    _append_if_new(path / "commit.txt", describe_commit() + "\n")
    _append_if_new(path / "environment.txt", describe_environment())
    return run


def config_differences(
    old: Mapping[str, Any], new: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """Lists the keys in which two configs differ.

    Args:
      old: Nested JSON values.
      new: Nested JSON values.

    Returns:
      Dotted key -> (old value, new value); "(absent)" stands for a key that is not there.

    Source: ours.
    """
    flat_old, flat_new = dict(trees.flatten_names(old)), dict(trees.flatten_names(new))
    absent = "(absent)"
    return {
        key: (flat_old.get(key, absent), flat_new.get(key, absent))
        for key in sorted(flat_old.keys() | flat_new.keys())
        if flat_old.get(key, absent) != flat_new.get(key, absent)
    }


def describe_commit() -> str:
    """Names the commit of the running code.

    Returns:
      The hash, with "-dirty" when tracked files differ from it; "unknown" outside a checkout.

    Source: ours.
    """
    package = pathlib.Path(__file__).parent.parent

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["git", "-C", str(package), *arguments], capture_output=True, text=True, check=False
        )

    try:
        # An installed copy may lie inside somebody else's checkout: only a tracked one counts.
        tracked = git("ls-files", "--error-unmatch", "__init__.py").returncode == 0
        commit = git("rev-parse", "HEAD").stdout.strip()
        dirty = git("diff", "--quiet", "HEAD", "--", str(package)).returncode != 0
    except FileNotFoundError:
        return "unknown (git is not installed)"
    if not tracked or not commit:
        return "unknown (not a git checkout)"
    return commit + "-dirty" * dirty


def describe_environment() -> str:
    """Describes what the run runs on.

    Returns:
      Lines "name: value" about system, Python, packages, CPUs and JAX devices, and an empty one.

    Source: ours.
    """
    import jax  # starts the devices

    lines = {
        "system": platform.platform(),
        "python": platform.python_version(),
        "cpus": str(os.cpu_count()),
        "processes": str(jax.process_count()),
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "backend": jax.default_backend(),
    }
    for package in _PACKAGES:
        try:
            lines[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            lines[package] = "not installed"
    return "".join(f"{name}: {value}\n" for name, value in lines.items()) + "\n"


def _refuse_changes(
    path: pathlib.Path, changes: Mapping[str, tuple[Any, Any]], changeable: Sequence[str]
) -> None:
    refused = {
        key: values
        for key, values in changes.items()
        if not any(fnmatch.fnmatchcase(key, pattern) for pattern in changeable)
    }
    if not refused:
        return
    shown = ", ".join(
        f"{key} (was {old!r}, now {new!r})" for key, (old, new) in list(refused.items())[:_LISTED]
    )
    more = f" and {len(refused) - _LISTED} more" if len(refused) > _LISTED else ""
    raise errors.RunError(
        f"{path}: this run folder was made with another config: {shown}{more}; give the old "
        f"values or a new --workdir."
    )


def _read_json(path: pathlib.Path, fix: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise errors.RunError(f"{path}: expected JSON, got {error}; {fix}.") from error
    if not isinstance(content, dict):
        raise errors.RunError(f"{path}: expected a JSON object; {fix}.")
    return content


def _append_if_new(path: pathlib.Path, block: str) -> None:
    try:
        known = path.read_text() if path.is_file() else ""
    except (OSError, ValueError) as error:
        raise errors.RunError(f"{path}: cannot be read ({error}); delete it.") from error
    if not known.endswith(block):
        files.write_atomic(path, known + block)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
