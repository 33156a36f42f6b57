"""Data parallelism in three ways behind one interface.

A training step is written once, as a pure function of one shard:

    step(state, batch, key, *replicated, axis=None) -> (state, metrics)

`axis` is None when the arrays are whole and the compiler divides the work ("jit"), and the name
of the device axis when the step sees only its device's part ("shard_map", "pmap"). The step then
averages gradients and metrics with `pmean_if`, and keys every random draw by
`batch["sample_id"]`, the global index of the sample (`core.rng.per_sample`): so the three
backends and any number of devices give the same numbers.

The state is replicated and the batch is split along its first axis. A state that went into a
compiled step is gone (its memory is reused) unless `donate=False`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import PyTree
from ganavatar_jax.runs import together
from ganavatar_jax.training import backends

AXIS = "data"
Step = Callable[..., tuple[PyTree, PyTree]]


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where states and batches live: the devices and the way they share the work.

    Attributes:
      backend: "jit", "shard_map" or "pmap".
      mesh: The devices along the single axis "data".
    """

    backend: backends.Backend
    mesh: jax.sharding.Mesh

    @property
    def replicated(self) -> NamedSharding:
        """Every device holds the whole array."""
        return NamedSharding(self.mesh, P())

    @property
    def divided(self) -> NamedSharding:
        """The first axis is split over the devices."""
        return NamedSharding(self.mesh, P(AXIS))

    def place_state(self, state: PyTree) -> PyTree:
        """Copies a state to the devices.

        Args:
          state: Pytree of whole arrays, equal in every process; left usable.

        Returns:
          The state as the compiled steps take it; no two leaves share memory.
        """
        if self.backend == "pmap":
            return jax.tree.map(self._stack, state)
        return jax.tree.map(lambda leaf: _replicate(leaf, self.replicated, copy=True), state)

    def unplace_state(self, state: PyTree) -> PyTree:
        """Gives the state back as whole arrays, to be saved, evaluated or rendered from.

        Args:
          state: What `place_state` or a compiled step returned.

        Returns:
          Pytree of whole arrays. With "jit" and "shard_map" they are the very arrays of the
          state and end with it in the next donating step.
        """
        if self.backend == "pmap":
            return jax.tree.map(lambda leaf: leaf[0], state)
        return state

    def place_batch(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Splits this process's part of the batch over its devices.

        Args:
          batch: Name -> array with the samples of this process along the first axis. Without
            "sample_id" the samples are numbered by process and place.

        Returns:
          The batch as the compiled steps take it, with "sample_id".

        Raises:
          ConfigError: the number of samples is not a multiple of the number of devices.
        """
        if "sample_id" not in batch:
            count = len(next(iter(batch.values())))
            ids = jax.process_index() * count + np.arange(count, dtype=np.int32)
            batch = {**batch, "sample_id": ids}
        return self.place_samples(batch)

    def place_samples(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Splits further values of a batch, whose samples are numbered already.

        Args:
          values: Name -> array with the samples of this process along the first axis.

        Returns:
          The values beside those of `place_batch`.

        Raises:
          ConfigError: the number of samples is not a multiple of the number of devices.
        """
        arrays = {name: np.asarray(value) for name, value in values.items()}
        count = len(next(iter(arrays.values())))
        local_devices = len(self.mesh.local_devices)
        if count % local_devices:
            raise errors.ConfigError(
                f"a batch of {count} samples cannot be split evenly over {local_devices} devices; "
                f"make the batch size a multiple of {local_devices} or use fewer devices."
            )
        if self.backend == "pmap":
            local = NamedSharding(_local_mesh(self.mesh), P(AXIS))
            return {
                name: jax.device_put(value.reshape(local_devices, -1, *value.shape[1:]), local)
                for name, value in arrays.items()
            }
        return {
            name: jax.make_array_from_process_local_data(self.divided, value)
            for name, value in arrays.items()
        }

    def place_replicated(self, tree: PyTree) -> PyTree:
        """Puts small arguments (keys, schedules) where all devices read them.

        Args:
          tree: Pytree of arrays or Python numbers, equal in every process.

        Returns:
          The tree on the devices.
        """
        return jax.tree.map(lambda leaf: _replicate(leaf, self.replicated, copy=False), tree)

    def _stack(self, leaf: Any) -> jax.Array:
        count = len(self.mesh.local_devices)
        local = NamedSharding(_local_mesh(self.mesh), P(AXIS))
        leaf = jnp.asarray(leaf)
        return jax.device_put(jnp.copy(jnp.broadcast_to(leaf, (count, *leaf.shape))), local)


def make_layout(backend: backends.Backend, devices: Sequence[Any] | None = None) -> Layout:
    """Lays the work out over devices.

    Args:
      backend: "jit", "shard_map" or "pmap".
      devices: The jax devices; None takes all, those of other processes included.

    Returns:
      The layout.
    """
    chosen = np.array(list(devices) if devices is not None else jax.devices())
    mesh = jax.sharding.Mesh(chosen, (AXIS,), axis_types=(jax.sharding.AxisType.Auto,))
    return Layout(backend, mesh)


def make_step(per_shard_step: Step, *, layout: Layout, donate: bool = True) -> Step:
    """Compiles a step that was written for one shard, for all devices of a layout.

    Args:
      per_shard_step: Pure function (state, batch, key, *replicated, axis) -> (state, metrics).
        With an axis it must return the same state and metrics on every device: average with
        `pmean_if` before use.
      layout: The devices and the backend.
      donate: Whether the memory of the state that goes in is reused.

    Returns:
      Function (state, batch, key, *replicated) -> (state, metrics). State and batch come from
      `layout.place_state` and `layout.place_batch`; key and further arguments are plain values
      that all devices get; the metrics come back whole.

    Source: jax.jit with NamedSharding, jax.shard_map, jax.pmap.
    """
    donated = (0,) if donate else ()

    def whole(state: PyTree, batch: PyTree, shared: tuple[Any, ...]) -> tuple[PyTree, PyTree]:
        return per_shard_step(state, batch, *shared, axis=None)

    def part(state: PyTree, batch: PyTree, shared: tuple[Any, ...]) -> tuple[PyTree, PyTree]:
        return per_shard_step(state, batch, *shared, axis=AXIS)

    if layout.backend == "jit":
        compiled = jax.jit(whole, donate_argnums=donated, out_shardings=layout.replicated)
    elif layout.backend == "shard_map":
        # check_vma=True would silently sum the gradients of replicated parameters over devices.
        mapped = jax.shard_map(
            part, mesh=layout.mesh, in_specs=(P(), P(AXIS), P()), out_specs=P(), check_vma=False
        )
        compiled = jax.jit(mapped, donate_argnums=donated)
    else:

        def padded(state: PyTree, batch: PyTree, shared: tuple[Any, ...]) -> tuple[PyTree, PyTree]:
            return part(state, batch, shared[:-1])

        compiled = jax.pmap(
            padded,
            axis_name=AXIS,
            in_axes=(0, 0, None),
            out_axes=(0, None),
            devices=list(layout.mesh.devices.flat),
            donate_argnums=donated,
        )

    if not together.is_alone():
        compiled = _in_step(compiled)
    # jax.pmap takes an argument without arrays for its neighbour: there is always one more.
    padding = (np.int32(0),) if layout.backend == "pmap" else ()

    def step(state: PyTree, batch: PyTree, *shared: Any) -> tuple[PyTree, PyTree]:
        shared += padding
        return compiled(state, batch, layout.place_replicated(shared))

    return step


def _in_step(program: Callable[..., Any]) -> Callable[..., Any]:
    """Lets all processes begin a program together, whichever of them takes longest to compile it.

    A device that waits in a collective for another process gives up after a while.
    """
    known: dict[Any, Callable[..., Any]] = {}

    def run(*arguments: Any) -> Any:
        leaves, structure = jax.tree.flatten(arguments)
        kind = structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        if kind not in known:
            known[kind] = program.lower(*arguments).compile()  # type: ignore[attr-defined]
            together.meet("compiled")
        return known[kind](*arguments)

    return run


def pmean_if(tree: PyTree, axis: str | None) -> PyTree:
    """Averages floating-point arrays over the devices.

    Args:
      tree: Pytree of floating-point arrays.
      axis: Name of the device axis; None when the arrays are whole already.

    Returns:
      The mean over devices; the tree itself without an axis.

    Source: jax.lax.pmean.
    """
    return tree if axis is None else jax.lax.pmean(tree, axis)


def all_gather_if(tree: PyTree, axis: str | None) -> PyTree:
    """Joins the devices' parts along the first axis.

    Args:
      tree: Pytree of arrays, each this device's samples.
      axis: Name of the device axis; None when the arrays are whole already.

    Returns:
      The samples of all devices, on each of them; the tree itself without an axis.

    Source: jax.lax.all_gather.
    """
    return tree if axis is None else jax.lax.all_gather(tree, axis, tiled=True)


def _local_mesh(mesh: jax.sharding.Mesh) -> jax.sharding.Mesh:
    return jax.sharding.Mesh(np.array(mesh.local_devices), (AXIS,))


def _replicate(leaf: Any, sharding: NamedSharding, *, copy: bool) -> jax.Array:
    """Puts an array on all devices; what is there already stays, unless it is to be a copy."""
    if not copy and isinstance(leaf, jax.Array) and leaf.sharding == sharding:
        return leaf
    if sharding.is_fully_addressable:
        # device_put shares memory with its source even when told not to, and what is donated
        # twice, or while somebody else holds it, is lost.
        return jax.device_put(jnp.copy(leaf) if copy else leaf, sharding)
    leaf = jnp.asarray(leaf)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = np.asarray(jax.random.key_data(leaf))
        placed = jax.make_array_from_process_local_data(sharding, data)
        return jax.random.wrap_key_data(placed, impl=jax.random.key_impl(leaf))
    return jax.make_array_from_process_local_data(sharding, np.asarray(leaf))
