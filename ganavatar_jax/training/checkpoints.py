"""Checkpoints of a training stage: state, position of the data pipeline, and what made them.

Copied at once and written by orbax in the background; a step counts only once it is complete, so a
kill at any moment leaves the last complete step. Checksums and files are made in one thread of
their own. Weights for use elsewhere go into the portable format instead (`core.portable`). The
position of the data pipeline must be the same in every process: the first process writes, all
others read what it has chosen.
"""

import concurrent.futures
import contextlib
import dataclasses
import logging
import os
import pathlib
import re
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from ganavatar_jax.core import errors, files, portable
from ganavatar_jax.core.arrays import PyTree
from ganavatar_jax.runs import together
from ganavatar_jax.training import checkpoint_contents as contents
from ganavatar_jax.training import faults

_LOG = logging.getLogger(__name__)
DIVERGED_ADVICE = f"{faults.RATE_ADVICE}."
_FORMAT = "ganavatar_jax.checkpoint/1"
_LAST_WORDS_S = 20.0  # for a save in progress, where the process has to end
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


class Damaged(errors.RunError):
    """A checkpoint cannot be read: cut, changed, or not one of this program."""


class Checkpoints:
    """The checkpoints of one stage; use it as a context manager, or the last save may be lost.

    Attributes:
      path: The folder, absolute.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        keep: int = 2,
        keep_period: int | None = None,
        saved: Callable[[], None] | None = None,
    ) -> None:
        """Opens the folder and removes what an interrupted save has left.

        Args:
          folder: Where the steps are; made if missing.
          keep: Number of newest steps to keep.
          keep_period: Steps divisible by this are kept forever; None keeps only the newest.
          saved: Called in a thread after each step that is complete.

        Raises:
          RunError: the folder cannot be made or holds something else.

        Source: orbax.checkpoint.CheckpointManager.
        """
        self.path = files.make_folder(pathlib.Path(folder).absolute())
        self._saved = saved
        self._primary = together.is_first()
        try:
            self._manager = _open(
                self.path, keep=keep, keep_period=keep_period, primary=self._primary
            )
        except OSError as error:
            raise files.write_error(self.path, error) from error
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._pending: tuple[int, concurrent.futures.Future[None]] | None = None
        together.before_end(self._finish_quietly)

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
        self._refuse_not_finite(step, state)
        self.wait()
        if not self._primary or step in self._manager.all_steps():
            return
        copied = contents.copy_to_host(state)
        arguments = (step, copied, contents.encode(data_state), dict(meta))
        self._pending = step, self._thread.submit(self._write, *arguments)

    def latest_meta(self) -> dict[str, Any] | None:
        """Reads the facts that were saved with the newest complete step that can be read.

        Returns:
          The facts; None if there is no complete step.

        Raises:
          RunError: all steps are damaged or were made by another program.
        """
        self.wait()

        def read(step: int) -> dict[str, Any]:
            arguments = ocp.args.Composite(meta=ocp.args.JsonRestore())
            stored: Any = self._manager.restore(step, args=arguments)
            return dict(stored.meta["meta"])

        return self._newest(read)

    def restore_latest(
        self, abstract_state: PyTree, *, sharding: jax.sharding.Sharding | None = None
    ) -> Restored | None:
        """Loads the newest complete step; where it is damaged, the one before, with a warning.

        Damaged steps are moved out of the way, into a folder beside this one.

        Args:
          abstract_state: Pytree with the shapes and dtypes to expect, e.g. of `jax.eval_shape`.
          sharding: Where the arrays go; None puts them on this process's first device.

        Returns:
          The checkpoint; None if there is no complete step.

        Raises:
          WeightError: the checkpoint is of a differently shaped state.
          RunError: all steps are damaged or were made by another program.

        Source: orbax.checkpoint.CheckpointManager.
        """
        self.wait()
        sharding = sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        targets = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            abstract_state,
        )

        def read(step: int) -> Restored:
            items = self._restore(step, targets)
            data = contents.decode(items.data)
            return Restored(step, items.state, data, dict(items.meta["meta"]))

        restored = None
        if self._primary:
            restored = self._newest(read, move=True)
        step = together.tell(None if restored is None else restored.step)
        if step is not None and restored is None:
            self._manager.reload()
            with self._readable(step):
                restored = read(step)
        if restored is not None:
            _LOG.info("restored step %d of %s", restored.step, self.path)
        return restored

    def wait(self) -> None:
        """Waits until what was saved is complete on disk.

        Raises:
          RunError: the save failed.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            with _told(self.path / str(pending[0])):
                pending[1].result()

    def close(self) -> None:
        """Waits for the save in progress and ends the background work.

        Raises:
          RunError: the save failed.
        """
        try:
            self.wait()
        finally:
            self._thread.shutdown()
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

    def _write(self, step: int, state: PyTree, data: dict[str, Any], meta: dict[str, Any]) -> None:
        """Computes checksums and writes a step; runs in a thread."""
        facts = {"format": _FORMAT, "crc32": contents.checksums(state), "meta": meta}
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            data=ocp.args.JsonSave(data),
            meta=ocp.args.JsonSave({**facts, "text_crc32": contents.text_checksum(data, meta)}),
        )
        self._manager.save(step, args=items, force=True)
        if self._saved is not None:
            self._saved()

    def _finish_quietly(self) -> None:
        """Lets a save in progress end before the process does."""
        if self._pending is not None:
            concurrent.futures.wait([self._pending[1]], timeout=_LAST_WORDS_S)

    def _newest(self, read: Callable[[int], Any], *, move: bool = False) -> Any:
        """Reads the newest step that can be read; None if there is no step at all."""
        damaged: list[tuple[int, Damaged]] = []
        for step in reversed(self.steps()):
            try:
                with self._readable(step):
                    found = read(step)
            except Damaged as error:
                damaged.append((step, error))
                continue
            for bad, error in damaged:
                self._pass_over(bad, error, taken=step, move=move)
            return found
        if damaged:
            raise damaged[0][1]
        return None

    def _pass_over(self, step: int, error: Damaged, *, taken: int, move: bool) -> None:
        """Tells of a damaged step, and moves it out of the way of the one that replaces it."""
        if not move:
            return  # told when the state is restored
        aside = self.path.with_name(f"{self.path.name}_damaged_{step}")
        number = 1
        while aside.exists():
            number += 1
            aside = self.path.with_name(f"{self.path.name}_damaged_{step}_{number}")
        try:
            (self.path / str(step)).rename(aside)
        except OSError as failed:
            raise files.write_error(aside, failed) from failed
        self._manager.reload()
        _LOG.warning(
            "%s; checkpoint %d is taken instead, the damaged one is kept in %s.",
            str(error).partition(";")[0],
            taken,
            aside,
        )

    @contextlib.contextmanager
    def _readable(self, step: int) -> Iterator[None]:
        """Tells in one line what reading a damaged step raises."""
        try:
            yield
        except errors.GanAvatarError:
            raise
        except Exception as error:  # orbax raises bare Exception when array data is cut
            lacks = f"it lacks {error}" if isinstance(error, KeyError) else str(error).strip()
            reason = (lacks or type(error).__name__).splitlines()[0][:160].replace(";", ",")
            raise Damaged(
                f"{self.path / str(step)}: damaged, or not a checkpoint of this program "
                f"({reason}); move this folder away to start anew."
            ) from error

    def _refuse_not_finite(self, step: int, state: PyTree) -> None:
        """A state that has diverged must not push out the checkpoints that have not."""
        bad = contents.find_not_finite(state)
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
            contents.describe(targets),
            contents.describe(stored.tree),
            what=f"checkpoint {self.path / str(step)}",
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
        sums = contents.checksums(items.state)
        if damaged := [name for name in sums if sums[name] != items.meta["crc32"][name]]:
            raise ValueError(f"the bytes of {damaged[0]} have changed")
        # Checkpoints of earlier versions have no checksum of the texts.
        texts = items.meta.get("text_crc32")
        if texts is not None and texts != contents.text_checksum(items.data, items.meta["meta"]):
            raise ValueError("the data position or the facts beside the state have changed")
        return items


def _open(
    path: pathlib.Path, *, keep: int, keep_period: int | None, primary: bool
) -> ocp.CheckpointManager:
    """Opens a folder for this process alone, whatever others there are."""
    policies: list[Any] = [preservation_policy.LatestN(keep)]
    if keep_period is not None:
        policies.append(preservation_policy.EveryNSteps(keep_period))
    me = jax.process_index()
    options = ocp.CheckpointManagerOptions(
        preservation_policy=preservation_policy.AnyPreservationPolicy(policies),
        cleanup_tmp_directories=primary,
        create=False,
        enable_async_checkpointing=False,  # a thread of ours makes the checksums, too
        multiprocessing_options=ocp.options.MultiprocessingOptions(
            primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process_{me}"
        ),
    )
    return ocp.CheckpointManager(
        path,
        options=options,
        # Named here, so that the metadata can be read before anything is restored.
        item_handlers={
            "state": ocp.StandardCheckpointHandler(),
            "data": ocp.JsonCheckpointHandler(),
            "meta": ocp.JsonCheckpointHandler(),
        },
    )


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
