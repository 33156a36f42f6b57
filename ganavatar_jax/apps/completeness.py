"""Whether what a stage made still stands: for these options, made from what is there now."""

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

from ganavatar_jax.apps import stages, weights
from ganavatar_jax.core import config as config_lib
from ganavatar_jax.core import errors, portable
from ganavatar_jax.data.builders import expression_pairs, storage
from ganavatar_jax.runs import identity, run_dir

_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether a stage's results stand.

    Attributes:
      info: What its marker notes; None if it was never complete.
      changed: What no longer fits, each in words; by the name of the thing, or "options" or
        "length".
    """

    info: dict[str, Any] | None
    changed: Mapping[str, str]

    @property
    def stands(self) -> bool:
        """Whether it is complete for what is there."""
        return self.info is not None and not self.changed

    def describe(self) -> str:
        """Returns what no longer fits in one line."""
        return "; ".join(self.changed.values())


@dataclasses.dataclass(frozen=True)
class Begun:
    """A stage under way.

    Attributes:
      name: The stage.
      consumed: What it takes, as it was when it began.
      options: The options it depends on.
    """

    name: str
    consumed: Mapping[str, str | None]
    options: Mapping[str, Any]


def judge(name: str, resolved: stages.Config, opened: run_dir.RunDir) -> Verdict:
    """Compares what a stage was made from, and made, with what is there.

    Args:
      name: The stage.
      resolved: The configuration.
      opened: The run.

    Returns:
      The verdict.

    Raises:
      RunError: the stage's marker is unreadable.
    """
    marker = opened.read_marker(name)
    if marker is None:
        return Verdict(None, {})
    known = marker.identity or _recall(name, marker, resolved, opened)
    changed: dict[str, str] = {}
    options = stages.options_of(name, config_lib.to_dict(resolved))
    if (other := identity.find_changed_options(known.options, options)) is not None:
        changed["options"] = f"made with other options: {other}"
    for thing in stages.STAGES[name].takes(resolved):
        if thing in known.consumed and _differs(thing, known.consumed[thing], resolved, opened):
            facts = stages.THINGS[thing]
            changed[thing] = f"made from another {facts.what} ({facts.where} changed)"
    for thing, made in known.made.items():
        now = stages.THINGS[thing].identify(resolved, opened) if thing in stages.THINGS else made
        if now is None:
            changed[thing] = f"{stages.THINGS[thing].where} is missing or damaged"
        elif made is not None and now != made:
            changed[thing] = f"{stages.THINGS[thing].where} is not what it made"
    if (short := _find_missing_length(name, marker.info, resolved)) is not None:
        changed["length"] = short
    return Verdict(marker.info, changed)


def begin(name: str, resolved: stages.Config, opened: run_dir.RunDir) -> Begun:
    """Insists that all a stage builds on stands, and notes what that is.

    Args:
      name: The stage.
      resolved: The configuration.
      opened: The run.

    Returns:
      What `finish` needs.

    Raises:
      RunError: an earlier stage is not complete, or no longer stands; names its task.
    """
    require(stages.find_earlier(name, resolved), resolved, opened, needed_by=name)
    return Begun(
        name,
        {
            thing: stages.THINGS[thing].identify(resolved, opened)
            for thing in stages.STAGES[name].takes(resolved)
        },
        stages.options_of(name, config_lib.to_dict(resolved)),
    )


def require(
    names: list[str], resolved: stages.Config, opened: run_dir.RunDir, *, needed_by: str
) -> None:
    """Insists that stages stand.

    Args:
      names: The stages, in the order they run.
      resolved: The configuration.
      opened: The run.
      needed_by: What builds on them, for the message.

    Raises:
      RunError: one is not complete, or no longer stands; names its task.
    """
    missing = [name for name in names if opened.read_marker(name) is None]
    if len(missing) == 1:
        opened.require_stage(missing[0], task=missing[0])
    if missing:
        raise errors.RunError(
            f'{opened.path}: "{needed_by}" needs stages that are not complete in this run folder; '
            f"run {', '.join(f'--task={name}' for name in missing)}, or all without --task, with "
            "the same --workdir first."
        )
    for name in names:
        verdict = judge(name, resolved, opened)
        if not verdict.stands:
            raise errors.RunError(
                f'{opened.path}: "{needed_by}" needs the stage "{name}", which no longer stands: '
                f"{verdict.describe()}; run --task={name} and the stages after it, or all without "
                "--task, with the same --workdir first."
            )


def finish(begun: Begun, resolved: stages.Config, opened: run_dir.RunDir, info: Any) -> None:
    """Notes that a stage is complete.

    Args:
      begun: From `begin`.
      resolved: The configuration.
      opened: The run.
      info: JSON-serialisable results that later stages need.

    Raises:
      RunError: the marker cannot be written.
    """
    made = _find_made(begun.name, resolved, opened)
    known = identity.Identity(begun.consumed, begun.options, made)
    opened.mark_done(begun.name, info, identity=known)


def adopt(name: str, resolved: stages.Config, opened: run_dir.RunDir) -> None:
    """Completes the marker of an earlier version, which notes no identity, if its stage stands.

    Args:
      name: The stage.
      resolved: The configuration.
      opened: The run.

    Raises:
      RunError: the marker is unreadable or cannot be written.
    """
    marker = opened.read_marker(name)
    if marker is None or marker.identity is not None:
        return
    verdict = judge(name, resolved, opened)
    if verdict.changed.keys() - {"length"}:
        return  # it is told and made anew, as any other
    _LOG.warning(
        "%s: of an earlier version, which did not note what it was made from: taken as made from "
        "what is there.",
        name,
    )
    known = _recall(name, marker, resolved, opened)
    opened.mark_done(name, marker.info, identity=known, time_utc=marker.time_utc)


def check_avatar(resolved: stages.Config, opened: run_dir.RunDir) -> None:
    """Insists that the mapping of a run belongs to its generator; nothing is written.

    Args:
      resolved: The configuration.
      opened: The run.

    Raises:
      RunError: a part is missing, or the mapping was trained through another generator.
    """
    for name in ("train_mapping", "train_gan"):
        opened.require_stage(name, task=name)
    marker = opened.read_marker("train_mapping")
    assert marker is not None
    known = marker.identity or _recall("train_mapping", marker, resolved, opened)
    # Tensors are compared with their checksums when they are loaded.
    file = stages.export_path(opened, weights.GENERATOR)
    now = portable.identify(file, thorough=False)
    if now is not None and known.consumed.get("generator") != now:
        raise errors.RunError(
            f"{opened.path}: the mapping belongs to another generator: {file} was made anew after "
            "it. Run without --task, or --task=make_frontals and then --task=train_mapping."
        )
    options = stages.options_of("train_mapping", config_lib.to_dict(resolved))
    if (other := identity.find_changed_options(known.options, options)) is not None:
        _LOG.warning(
            "%s: the mapping was made with other options: %s; --task=train_mapping makes it anew.",
            opened.path,
            other,
        )
    pairs = storage.identify(stages.dataset_path(opened), expression_pairs.ExpressionPairs)
    if pairs is not None and known.consumed.get("pairs") not in (None, pairs):
        _LOG.warning(
            "%s: the mapping was made from another set of pairs; --task=train_mapping makes it "
            "anew.",
            opened.path,
        )


def _differs(
    thing: str, known: str | None, resolved: stages.Config, opened: run_dir.RunDir
) -> bool:
    facts = stages.THINGS[thing]
    if known is None:
        return False  # it could not be told then
    now = facts.identify(resolved, opened)
    return now != known and not (now is None and facts.outside)


def _find_made(name: str, resolved: stages.Config, opened: run_dir.RunDir) -> dict[str, str | None]:
    stage = stages.STAGES[name]
    found = {
        thing: stages.THINGS[thing].identify(resolved, opened)
        for thing in (*stage.makes, *stage.may_make)
    }
    return {t: value for t, value in found.items() if value is not None or t in stage.makes}


def _find_missing_length(name: str, info: Mapping[str, Any], resolved: stages.Config) -> str | None:
    """What is missing of a training that has been asked to go further."""
    if name != "train_gan":
        return None
    gan = resolved.gan
    asked = gan.iterations * gan.batch_size / 1000
    done = info.get("kimg")
    if isinstance(done, int | float) and done >= asked:
        return None
    return f"trained to {done} of {asked:.6g} kimg"


def _recall(
    name: str, marker: run_dir.Marker, resolved: stages.Config, opened: run_dir.RunDir
) -> identity.Identity:
    """Puts together what a marker of an earlier version did not note.

    Options are those of today but for what was changed after the marker's time; what a stage took
    is what is there, unless that was made after it.
    """
    config = config_lib.to_dict(resolved)
    options = stages.options_of(name, config)
    for time_utc, old in reversed(run_dir.read_changes(opened.path)):
        if time_utc > marker.time_utc:
            options |= {key: value for key, value in old.items() if key in options}
    # What an option that did not exist yet would have been, nobody can tell.
    options = {key: value for key, value in options.items() if value != run_dir.ABSENT}
    consumed: dict[str, str | None] = {}
    for thing in stages.STAGES[name].takes(resolved):
        maker = stages.MAKERS.get(thing)
        made = opened.read_marker(maker) if maker is not None else None
        if made is not None and made.time_utc > marker.time_utc:
            consumed[thing] = "an older one"
        else:
            consumed[thing] = stages.THINGS[thing].identify(resolved, opened)
    return identity.Identity(consumed, options, _find_made(name, resolved, opened))
