"""Checkpoints of a training stage: state, position of the data pipeline, and what made them.

Written by orbax in the background; a step counts only once it is complete, so a kill at any
moment leaves the last complete step. Weights for use elsewhere go into the portable format
instead (`core.portable`). The position of the data pipeline must be the same in every process.
"""

import base64
import contextlib
import dataclasses
import json
import logging
import os
import pathlib
import re
import types
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from ganavatar_jax.core import errors, files, portable
from ganavatar_jax.core.arrays import PyTree

_LOG = logging.getLogger(__name__)
DIVERGED_ADVICE = (
    "Lower the learning rates (gan.g_lr, gan.d_lr, gan.reconstruction.adam.lr) or change "
    "gan.gamma, and run the same command."
)
_FORMAT = "ganavatar_jax.checkpoint/1"
_OS_ERROR = re.compile(r"\[os_error_code='(\d+)'\]")  # how the storage tells a full disk


@dataclasses.dataclass(frozen=True)
class Restored:
    """What a checkpoint holds.

    Attributes:
      step: Iteration it was saved at.
      state: The training state, as whole arrays.
      data_state: Position of the data pipeline as it was given to `save`.
      meta: Facts that were saved with it.
    """

    step: int
    state: PyTree
    data_state: bytes | dict[str, Any]
    meta: dict[str, Any]


class Checkpoints:
    """The checkpoints of one stage; use it as a context manager, or the last save may be lost.

    Attributes:
      path: The folder, absolute.
    """

    def __init__(
        self, folder: str | os.PathLike[str], *, keep: int = 2, keep_period: int | None = None
    ) -> None:
        """Opens the folder and removes what an interrupted save has left.

        Args:
          folder: Where the steps are; made if missing.
          keep: Number of newest steps to keep.
          keep_period: Steps divisible by this are kept forever; None keeps only the newest.

        Raises:
          RunError: the folder cannot be made or holds something else.

        Source: orbax.checkpoint.CheckpointManager.
        """
        self.path = files.make_folder(pathlib.Path(folder).absolute())
        policies: list[preservation_policy.PreservationPolicy] = [preservation_policy.LatestN(keep)]
        if keep_period is not None:
            policies.append(preservation_policy.EveryNSteps(keep_period))
        options = ocp.CheckpointManagerOptions(
            preservation_policy=preservation_policy.AnyPreservationPolicy(policies),
            cleanup_tmp_directories=True,
        )
        try:
            self._manager = ocp.CheckpointManager(
                self.path,
                options=options,
                # Named here, so that the metadata can be read before anything is restored.
                item_handlers={
                    "state": ocp.StandardCheckpointHandler(),
                    "data": ocp.JsonCheckpointHandler(),
                    "meta": ocp.JsonCheckpointHandler(),
                },
            )
        except OSError as error:
            raise files.write_error(self.path, error) from error

    def steps(self) -> list[int]:
        """Lists the complete steps.

        Returns:
          Steps in ascending order.
        """
        return sorted(self._manager.all_steps())

    def save(
        self,
        step: int,
        state: PyTree,
        *,
        data_state: bytes | Mapping[str, Any],
        meta: Mapping[str, Any],
    ) -> None:
        """Starts to save; returns once the state may be changed or donated.

        Args:
          step: Iteration; a step that is saved already is left as it is.
          state: Pytree of whole arrays, see `parallel.Layout.unplace_state`.
          data_state: Position of the data pipeline.
          meta: JSON-serialisable facts, e.g. kimg, config and commit.

        Raises:
          RunError: the state is not finite, and is not saved; or the step, or the one before that
            was still being saved, cannot be written.

        Source: orbax.checkpoint.CheckpointManager.
        """
        if step in self._manager.all_steps():
            return
        self._refuse_not_finite(step, state)
        data = _encode(data_state)
        facts = {"format": _FORMAT, "crc32": _checksums(state), "meta": dict(meta)}
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            data=ocp.args.JsonSave(data),
            meta=ocp.args.JsonSave({**facts, "text_crc32": _text_checksum(data, meta)}),
        )
        with _told(self.path / str(step)):
            self._manager.save(step, args=items, force=True)

    def latest_meta(self) -> dict[str, Any] | None:
        """Reads the facts that were saved with the newest complete step.

        Returns:
          The facts; None if there is no complete step.

        Raises:
          RunError: it is damaged or was made by another program.
        """
        self.wait()
        steps = self.steps()
        if not steps:
            return None
        with self._readable(steps[-1]):
            arguments = ocp.args.Composite(meta=ocp.args.JsonRestore())
            stored: Any = self._manager.restore(steps[-1], args=arguments)
            return dict(stored.meta["meta"])

    def restore_latest(
        self, abstract_state: PyTree, *, sharding: jax.sharding.Sharding | None = None
    ) -> Restored | None:
        """Loads the newest complete step.

        Args:
          abstract_state: Pytree with the shapes and dtypes to expect, e.g. of `jax.eval_shape`.
          sharding: Where the arrays go; None puts them on this process's first device, which
            fits runs of one process.

        Returns:
          The checkpoint; None if there is no complete step.

        Raises:
          WeightError: the checkpoint is of a differently shaped state.
          RunError: it is damaged or was made by another program.

        Source: orbax.checkpoint.CheckpointManager.
        """
        self.wait()
        steps = self.steps()
        if not steps:
            return None
        step = steps[-1]
        sharding = sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        targets = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            abstract_state,
        )
        with self._readable(step):
            items = self._restore(step, targets)
            restored = Restored(step, items.state, _decode(items.data), dict(items.meta["meta"]))
        _LOG.info("restored step %d of %s", step, self.path)
        return restored

    def wait(self) -> None:
        """Waits until what was saved is complete on disk.

        Raises:
          RunError: the save failed.
        """
        with _told(self.path):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for the save in progress and ends the background work.

        Raises:
          RunError: the save failed.
        """
        try:
            self.wait()
        finally:
            self._manager.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def _readable(self, step: int) -> Iterator[None]:
        """Tells in one line what reading a damaged step raises."""
        try:
            yield
        except errors.GanAvatarError:
            raise
        except Exception as error:  # orbax raises bare Exception when array data is cut
            lacks = f"it lacks {error}" if isinstance(error, KeyError) else str(error).strip()
            reason = (lacks or type(error).__name__).splitlines()[0][:160]
            raise errors.RunError(
                f"{self.path / str(step)}: damaged, or not a checkpoint of this program "
                f"({reason}); move this folder away to continue from the step before."
            ) from error

    def _refuse_not_finite(self, step: int, state: PyTree) -> None:
        """A state that has diverged must not push out the checkpoints that have not."""
        bad = [name for name, leaf in _named_leaves(state) if not _is_finite(leaf)]
        if not bad:
            return
        good = [known for known in self.steps() if known < step]
        last = f"checkpoint {good[-1]} is the last good one" if good else "no checkpoint is lost"
        holds = f" and {len(bad) - 1} more hold" if len(bad) > 1 else " holds"
        raise errors.RunError(
            f"{self.path}: the training diverged by step {step}: {bad[0]}{holds} NaN or "
            f"infinity; it is not saved, {last}. {DIVERGED_ADVICE}"
        )

    def _restore(self, step: int, targets: PyTree) -> Any:
        """Reads a step, and insists that shapes, format and checksums are those that were saved."""
        stored = self._manager.item_metadata(step).state
        if stored is None:
            raise ValueError("no state in it")
        portable.check_fit(
            _describe(targets), _describe(stored.tree), what=f"checkpoint {self.path / str(step)}"
        )
        items: Any = self._manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(targets),
                data=ocp.args.JsonRestore(),
                meta=ocp.args.JsonRestore(),
            ),
        )
        if items.meta["format"] != _FORMAT:
            raise ValueError(f"format {items.meta['format']!r}")
        sums = _checksums(items.state)
        if damaged := [name for name in sums if sums[name] != items.meta["crc32"][name]]:
            raise ValueError(f"the bytes of {damaged[0]} have changed")
        # Checkpoints of earlier versions have no checksum of the texts.
        texts = items.meta.get("text_crc32")
        if texts is not None and texts != _text_checksum(items.data, items.meta["meta"]):
            raise ValueError("the data position or the facts beside the state have changed")
        return items


def _named_leaves(tree: PyTree) -> list[tuple[str, Any]]:
    return [
        (jax.tree_util.keystr(path, simple=True, separator="."), leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _checksums(state: PyTree) -> dict[str, int]:
    # The storage notices cut files but not changed bytes.
    return {
        name: zlib.crc32(np.asarray(jax.random.key_data(x) if _is_key(x) else x).tobytes())
        for name, x in _named_leaves(state)
    }


def _is_finite(leaf: Any) -> bool:
    if not jax.dtypes.issubdtype(leaf.dtype, np.inexact):
        return True
    return bool(np.isfinite(np.asarray(leaf)).all())


def _text_checksum(data: Mapping[str, Any], meta: Mapping[str, Any]) -> int:
    text = json.dumps(json.loads(json.dumps([data, dict(meta)])), sort_keys=True)
    return zlib.crc32(text.encode())


@contextlib.contextmanager
def _told(path: pathlib.Path) -> Iterator[None]:
    """Tells in one line why something cannot be written."""
    try:
        yield
    except OSError as error:
        raise files.write_error(path, error) from error
    except ValueError as error:
        code = _OS_ERROR.search(str(error))
        if code is None:
            raise
        cause = OSError(int(code[1]), os.strerror(int(code[1])))
        raise files.write_error(path, cause) from error


def _describe(tree: PyTree) -> dict[str, Any]:
    # Random keys are stored as their words.
    return {
        name: jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
        for name, leaf in _named_leaves(tree)
    }


def _encode(data_state: bytes | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(data_state, bytes):
        return {"base64": base64.b64encode(data_state).decode()}
    return {"json": dict(data_state)}


def _decode(stored: Mapping[str, Any]) -> bytes | dict[str, Any]:
    return base64.b64decode(stored["base64"]) if "base64" in stored else stored["json"]
