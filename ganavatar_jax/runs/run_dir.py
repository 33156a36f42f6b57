"""The folder of one run, laid out so that anyone can tell what was run and how far it came.

    workdir/
      config.json           the resolved config; a reopened run must have the same
      config_changes.jsonl  later changes to the few keys that may change
      commit.txt            commit of the code, one line for each time it changed
      environment.txt       Python, packages, devices, CPUs, system; a block for each change
      metrics.jsonl         see metric_writer
      stages/<name>.json    written when a stage is complete: its results, and what it was made from
      run.lock              names the process that works here, while one does
      samples/ checkpoints/ evaluation/ dataset/ renders/ weights/ tensorboard/

In a run of several processes only the first one writes here.
"""

import dataclasses
import datetime
import json
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ganavatar_jax.core import errors, files, trees
from ganavatar_jax.core.readers import json_files
from ganavatar_jax.runs import environment
from ganavatar_jax.runs import identity as identity_lib
from ganavatar_jax.runs import mirror as mirror_lib

FOLDERS = (
    "samples", "checkpoints", "evaluation", "dataset", "renders", "weights", "tensorboard"
)  # fmt: skip
_LISTED = 5  # differing keys shown, so that the message stays one line
_CONFIG = "config.json"
CHANGES = "config_changes.jsonl"
ABSENT = "(absent)"  # stands for a key that is not there
_STAGE_NAME = re.compile(r"[a-z0-9_]+")


@dataclasses.dataclass(frozen=True)
class Marker:
    """What is noted about a complete stage.

    Attributes:
      info: Results that later stages need.
      time_utc: When the stage was completed.
      identity: What it was made from, and what it made; None in folders of earlier versions.
    """

    info: dict[str, Any]
    time_utc: str
    identity: identity_lib.Identity | None


@dataclasses.dataclass(frozen=True)
class RunDir:
    """An open run folder.

    Attributes:
      path: The folder, absolute.
      primary: Whether this process is the one that writes into it.
      mirror: Where it is copied to; None for nowhere.
    """

    path: pathlib.Path
    primary: bool = True
    mirror: mirror_lib.Mirror | None = None

    @property
    def metrics(self) -> pathlib.Path:
        """The metrics file."""
        return self.path / "metrics.jsonl"

    @property
    def has_begun(self) -> bool:
        """Whether training has left something to go on from: a checkpoint, or a row of metrics."""
        if any((self.path / "checkpoints").glob("*/[0-9]*")):
            return True
        try:
            return bool(self.metrics.read_text("utf-8").strip())
        except FileNotFoundError:
            return False
        except (OSError, ValueError):
            return True  # whatever it holds, it is not ours to pass over

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
        """
        if name not in FOLDERS:
            raise ValueError(f"expected one of {', '.join(FOLDERS)}; got {name!r}.")
        return files.make_folder(self.path.joinpath(name, *parts))

    def copy(self) -> None:
        """Copies what has changed to the mirror, if there is one; never fails."""
        if self.mirror is not None and self.primary:
            self.mirror.push()

    def stage_done(self, name: str) -> dict[str, Any] | None:
        """Reads what a complete stage has noted.

        Args:
          name: Stage, lower case letters, digits and underscores.

        Returns:
          The stage's info; None when the stage is not complete.

        Raises:
          RunError: the marker is unreadable.
        """
        marker = self.read_marker(name)
        return None if marker is None else marker.info

    def read_marker(self, name: str) -> "Marker | None":
        """Reads all that is noted about a complete stage.

        Args:
          name: Stage, lower case letters, digits and underscores.

        Returns:
          The marker; None when the stage is not complete.

        Raises:
          RunError: the marker is unreadable.
        """
        path, fix = self.marker_path(name), "delete it to run the stage again"
        if not path.is_file():
            return None
        content = json_files.read_object(path, fix=fix)
        if not isinstance(content.get("info"), dict):
            raise errors.RunError(f'{path}: expected the key "info" with an object; {fix}.')
        known = identity_lib.from_json(content.get("identity"))
        return Marker(content["info"], str(content.get("time_utc", "")), known)

    def mark_done(
        self,
        name: str,
        info: Mapping[str, Any],
        *,
        identity: identity_lib.Identity | None = None,
        time_utc: str | None = None,
    ) -> None:
        """Notes that a stage is complete; a later `stage_done` returns the info.

        Args:
          name: Stage, lower case letters, digits and underscores.
          info: JSON-serialisable results that later stages need.
          identity: What the stage was made from, and what it made.
          time_utc: When it was completed; None is now.

        Raises:
          RunError: the marker cannot be written.
        """
        path = self.marker_path(name)
        if self.primary:
            marker = {"stage": name, "time_utc": time_utc or _now(), "info": dict(info)}
            if identity is not None:
                marker["identity"] = identity.to_json()
            files.write_atomic(path, json.dumps(marker, indent=1) + "\n")
            self.copy()

    def require_stage(self, name: str, *, task: str) -> dict[str, Any]:
        """Reads what an earlier stage has noted and insists that it is complete.

        Args:
          name: The earlier stage.
          task: The task that would run it, for the message.

        Returns:
          The stage's info.

        Raises:
          RunError: the stage is not complete, or its marker is unreadable.
        """
        info = self.stage_done(name)
        if info is None:
            raise errors.RunError(
                f'{self.path}: the stage "{name}" is not complete in this run folder; run '
                f"--task={task} with the same --workdir first."
            )
        return info

    def marker_path(self, name: str) -> pathlib.Path:
        """Names the file that says a stage is complete.

        Args:
          name: Stage, lower case letters, digits and underscores.

        Raises:
          ValueError: the name holds something else.
        """
        if not _STAGE_NAME.fullmatch(name):
            raise ValueError(f"stage names are lower case letters, digits and _; got {name!r}.")
        return self.path / "stages" / f"{name}.json"


def open_run(
    workdir: str | os.PathLike[str],
    config_json: Mapping[str, Any],
    *,
    changeable: Sequence[str] = (),
    mendable: Sequence[str] = (),
    renewed: Sequence[str] = (),
    added: Mapping[str, Any] | None = None,
) -> RunDir:
    """Opens a run folder: new ones are described, known ones must have the same config.

    Args:
      workdir: The run folder; made if missing.
      config_json: The resolved config as nested JSON-serialisable values.
      changeable: Dotted keys, `*` allowed, that may differ from what the folder was made with,
        e.g. "train.total_kimg" or "log.*". Such changes are noted in config_changes.jsonl.
      mendable: Keys that may also differ until training has begun.
      renewed: Stages that make their results anew where these no longer fit the config: as long as
        no other is complete and training has not begun, all keys may differ.
      added: Keys that a folder may lack -> the value that stands for their absence.

    Returns:
      The open run.

    Raises:
      RunError: the folder cannot be written, its config.json is unreadable, or its config
        differs in other keys and a stage is complete or training has begun.
    """
    import jax  # starts the devices, which the callers that only check a folder do not need

    path = files.check_writable(workdir)
    run = RunDir(path, primary=jax.process_index() == 0)
    if not run.primary:
        return run
    config = json.loads(json.dumps(config_json))
    changes = _stored_changes(path, config, added or {})
    if changes:
        complete = {marker.stem for marker in (path / "stages").glob("*.json")}
        if complete - set(renewed) or run.has_begun:  # before, nothing depends on it
            _refuse_changes(path, changes, (*changeable, *(() if run.has_begun else mendable)))
        note = json.dumps({"time_utc": _now(), "changes": changes}) + "\n"
        _append_if_new(path / CHANGES, note)
    files.write_atomic(path / _CONFIG, json.dumps(config, indent=1, sort_keys=True) + "\n")
    _append_if_new(path / "commit.txt", environment.describe_commit() + "\n")
    _append_if_new(path / "environment.txt", environment.describe_environment())
    return run


def read_run(
    workdir: str | os.PathLike[str],
    config_json: Mapping[str, Any],
    *,
    changeable: Sequence[str] = (),
    added: Mapping[str, Any] | None = None,
) -> RunDir:
    """Opens a run folder to use what is in it: nothing in it is written or noted.

    Args:
      workdir: The run folder.
      config_json: The resolved config as nested JSON-serialisable values.
      changeable: Dotted keys, `*` allowed, that may differ from what the folder was made with.
      added: As for `open_run`.

    Returns:
      The open run.

    Raises:
      RunError: its config.json is unreadable, or its config differs in other keys.
    """
    import jax  # as in open_run

    path = files.expand_user(workdir).absolute()
    changes = _stored_changes(path, json.loads(json.dumps(config_json)), added or {})
    _refuse_changes(path, changes, changeable)
    return RunDir(path, primary=jax.process_index() == 0)


def read_changes(path: str | os.PathLike[str]) -> list[tuple[str, dict[str, Any]]]:
    """Reads which keys of the config were changed after a run folder was made.

    Args:
      path: The run folder.

    Returns:
      For each change its time and the old values by dotted key, in order; what is no such line is
      left out.
    """
    changes = []
    try:
        lines = (pathlib.Path(path) / CHANGES).read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return []
    for line in lines:
        try:
            noted = json.loads(line)
            old = {key: before for key, (before, _) in noted["changes"].items()}
            changes.append((str(noted["time_utc"]), old))
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            continue
    return changes


def _stored_changes(
    path: pathlib.Path, config: Mapping[str, Any], added: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """How a config differs from the one the folder was made with; none for a new folder."""
    if not (path / _CONFIG).is_file():
        return {}
    stored = json_files.read_object(path / _CONFIG, fix="choose a new --workdir")
    found = {}
    for key, (old, new) in config_differences(stored, config).items():
        meant = added.get(key, old) if old == ABSENT else old
        if meant != new:
            found[key] = meant, new
    return found


def config_differences(
    old: Mapping[str, Any], new: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """Lists the keys in which two configs differ.

    Args:
      old: Nested JSON values.
      new: Nested JSON values.

    Returns:
      Dotted key -> (old value, new value); "(absent)" stands for a key that is not there.
    """
    flat_old, flat_new = dict(trees.flatten_names(old)), dict(trees.flatten_names(new))
    return {
        key: (flat_old.get(key, ABSENT), flat_new.get(key, ABSENT))
        for key in sorted(flat_old.keys() | flat_new.keys())
        if flat_old.get(key, ABSENT) != flat_new.get(key, ABSENT)
    }


def _refuse_changes(
    path: pathlib.Path, changes: Mapping[str, tuple[Any, Any]], changeable: Sequence[str]
) -> None:
    """Names the first of the keys that may not differ, so that the message stays one line."""
    refused = {
        key: values for key, values in changes.items() if not identity_lib.matches(key, changeable)
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


def _append_if_new(path: pathlib.Path, block: str) -> None:
    try:
        known = path.read_text("utf-8") if path.is_file() else ""
    except (OSError, ValueError) as error:
        raise errors.RunError(f"{path}: cannot be read ({error}); delete it.") from error
    if not known.endswith(block):
        files.write_atomic(path, known + block)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
