"""What an earlier training of a run has left: to go on from, or to keep aside.

Checkpoints note which dataset and which start they were trained with. A training with others starts
anew, and what was trained before is kept in checkpoints/before_<number>: nothing is thrown away
because a capture was edited.
"""

import datetime
import logging
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

from ganavatar_jax.apps import completeness, stages, weights
from ganavatar_jax.core import files, portable
from ganavatar_jax.runs import run_dir, together
from ganavatar_jax.training import checkpoints

_LOG = logging.getLogger(__name__)
_ORIGIN = "made_from"  # key of a checkpoint's facts
_STARTS_ANEW = ("dataset", "start", "options")


def note(begun: completeness.Begun) -> dict[str, Any]:
    """Says what a checkpoint is trained with, for its facts.

    Args:
      begun: The training.

    Returns:
      JSON-serialisable facts.
    """
    return {_ORIGIN: dict(begun.consumed)}


def settle(
    begun: completeness.Begun, verdict: completeness.Verdict, opened: run_dir.RunDir
) -> None:
    """Keeps aside what was trained with something else, and tells what the training goes on from.

    Args:
      begun: The training that begins.
      verdict: On what is there of it.
      opened: The run.

    Raises:
      RunError: the newest checkpoint is damaged, or the folder cannot be written.
    """
    if opened.primary:
        _settle(begun, verdict, opened)
    together.meet("what was trained before is kept aside")


def _settle(
    begun: completeness.Begun, verdict: completeness.Verdict, opened: run_dir.RunDir
) -> None:
    """Does what `settle` says, in the first process."""
    folder = opened.folder("checkpoints", "gan")
    with checkpoints.Checkpoints(folder) as saved:
        facts, steps = saved.latest_meta(), saved.steps()
    if facts is None:
        reasons = [verdict.changed[key] for key in _STARTS_ANEW if key in verdict.changed]
        if not reasons and verdict.info is not None:
            reasons = [f"{verdict.describe()}, and there is no checkpoint to go on from"]
    else:
        reasons = _compare(begun, verdict, facts, opened, newest=folder / str(steps[-1]))
        if not reasons and verdict.changed.keys() - {"length", *_STARTS_ANEW}:
            _LOG.warning(
                "train_gan: %s; the networks are exported again from the newest checkpoint.",
                verdict.describe(),
            )
    if reasons:
        kept = _keep_aside(opened, folder if facts is not None else None)
        _LOG.warning(
            "train_gan: %s; training starts anew%s.",
            "; ".join(reasons),
            f", what was trained before is kept in {kept}" if kept is not None else "",
        )


def _compare(
    begun: completeness.Begun,
    verdict: completeness.Verdict,
    facts: Mapping[str, Any],
    opened: run_dir.RunDir,
    *,
    newest: pathlib.Path,
) -> list[str]:
    """Says in which ways the newest checkpoint was trained with something else."""
    origin = facts.get(_ORIGIN)
    if isinstance(origin, Mapping):
        changed = [
            stages.THINGS[name]
            for name, now in begun.consumed.items()
            if now is not None and origin.get(name) not in (None, now)
        ]
        return [f"its checkpoints are of another {t.what} ({t.where} changed)" for t in changed]
    # Of an earlier version: what was complete is judged by its marker, the rest by its time.
    if verdict.info is not None:
        return [verdict.changed[key] for key in _STARTS_ANEW if key in verdict.changed]
    # Not the file's time: a marker of an earlier version is written again when it is adopted.
    marker = opened.read_marker("prepare_data")
    if marker is None or newest.stat().st_mtime < _seconds(marker.time_utc):
        return ["its checkpoints are older than the dataset"]
    _LOG.warning(
        "train_gan: its checkpoints are of an earlier version, which did not note their dataset: "
        "taken as trained with what is there."
    )
    return []


def _seconds(time_utc: str) -> float:
    """When a marker was written; later than everything where it does not say."""
    try:
        return datetime.datetime.fromisoformat(time_utc).timestamp()
    except ValueError:
        return float("inf")


def _keep_aside(opened: run_dir.RunDir, folder: pathlib.Path | None) -> pathlib.Path | None:
    """Moves checkpoints away and copies the networks and metrics that will be replaced."""
    export = opened.path / "checkpoints" / "export"
    known = list((opened.path / "checkpoints").glob("before_[0-9]*"))
    if folder is None:
        here = portable.identify(export / weights.GENERATOR, thorough=False)
        kept = [
            portable.identify(path / "export" / weights.GENERATOR, thorough=False) for path in known
        ]
        if here is None or here in kept:  # nothing, or kept by a run that was interrupted
            return None
    number = next(n for n in range(1, len(known) + 2) if not _aside(opened, n).exists())
    aside = opened.folder("checkpoints", _aside(opened, number).name)
    try:
        if export.is_dir():
            shutil.copytree(export, aside / "export")
        if opened.metrics.is_file():
            shutil.copy2(opened.metrics, aside / opened.metrics.name)
        if folder is not None:  # last: an interruption before finds it where it was
            folder.rename(aside / "gan")
    except OSError as error:
        raise files.write_error(aside, error) from error
    return aside


def _aside(opened: run_dir.RunDir, number: int) -> pathlib.Path:
    return opened.path / "checkpoints" / f"before_{number}"
