"""How many images a device handles at once: as many as a bound on memory allows.

Counted by tracing, before anything is compiled: what the forward pass of a loss leaves for the
backward pass is nearly all that grows with the images. A compiler fuses operations, and takes space
to work in: an estimate, which leaves room on a device of twice the bound.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import PyTree
from ganavatar_jax.training import gan_step, phase_config, step_inputs
from ganavatar_jax.training.state import GanState

GIB = 2.0**30
# Below this many pixels of final images no network here comes near the bound; counting takes
# seconds, which small trainings do not have.
_SMALL_PIXELS = 8 * 512 * 512


def count_bytes(value: Any) -> int:
    """Counts the size of an abstract array; random keys count as their words.

    Args:
      value: Anything with shape and dtype.

    Returns:
      Bytes.
    """
    size = int(np.prod(value.shape, dtype=np.int64))
    return size * (8 if jnp.issubdtype(value.dtype, jax.dtypes.prng_key) else value.dtype.itemsize)


def list_residuals(
    phase: gan_step.PhaseRow, current: PyTree, part: PyTree, step: step_inputs.Step
) -> list[jax.ShapeDtypeStruct]:
    """Lists what the backward pass of a phase's loss needs, each array once, inputs left out.

    Args:
      phase: The phase.
      current: Abstract state.
      part: Abstract part of the batch that is handled at once.
      step: Key, schedule and options.

    Returns:
      The arrays' shapes.
    """
    found: list[jax.ShapeDtypeStruct] = []

    def forward(current: GanState, part: Any) -> None:
        def loss(params: Any) -> Any:
            return phase.loss(phase.trained.put(current, params), part, step)

        _, backward, _ = jax.vjp(loss, phase.trained.get(current), has_aux=True)
        given = {id(leaf) for leaf in jax.tree.leaves((current, part))}
        kept = {id(leaf): leaf for leaf in jax.tree.leaves(backward) if id(leaf) not in given}
        found.extend(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in kept.values())

    jax.eval_shape(forward, current, part)
    return found


def make_batch(side: int, count: int, *, filmed: bool = False) -> dict[str, jax.ShapeDtypeStruct]:
    """Describes the batch of a phase.

    Args:
      side: Side of the images, pixels.
      count: Images.
      filmed: Whether images reach beyond what was filmed.

    Returns:
      Abstract arrays by name; see gan_step's docstring.
    """
    batch = {
        "image_u8": jax.ShapeDtypeStruct((count, side, side, 3), jnp.uint8),
        "sample_id": jax.ShapeDtypeStruct((count,), jnp.int32),
        **{
            label: jax.ShapeDtypeStruct((count, 25), jnp.float32)
            for label in ("label25", "gen_label25", "swap_label25")
        },
    }
    if filmed:
        shows = jax.ShapeDtypeStruct((count, side, side), jnp.uint8)
        batch |= {"filmed": shows, "gen_filmed": shows}
    return batch


def settle_microbatch(
    options: phase_config.StepOptions,
    current: PyTree,
    schedule: Mapping[str, Any],
    *,
    devices: int,
) -> tuple[phase_config.StepOptions, str]:
    """Decides how many samples a device handles at once, where the user does not say.

    Args:
      options: Options of the run.
      current: Abstract state.
      schedule: The numbers that change over a run, of any iteration.
      devices: All devices of the run.

    Returns:
      The options with gan.microbatch set where not all samples of a device fit gan.memory_gib, and
      a line that says what was decided.
    """
    gan, share = options.gan, options.gan.batch_size // devices
    if 0 < gan.microbatch < share:
        return options, f"{gan.microbatch} of a device's {share} images at once (gan.microbatch)"
    pixels = share * options.g.img_resolution**2
    if gan.microbatch or not gan.memory_gib or pixels <= _SMALL_PIXELS:
        return options, f"all {share} images of a device at once"
    sizes = list(_sizes(options, devices))
    resolution, perceptual = options.g.neural_resolution, step_inputs.load_lpips(gan)
    program = step_inputs.Program("g_main", options, resolution, lpips_params=perceptual)
    step = step_inputs.Step(jax.random.key(0), jax.tree.map(jnp.asarray, dict(schedule)), program)
    part = make_batch(options.g.img_resolution, sizes[-1])
    found = [
        list_residuals(gan_step.PHASES[name], current, part, step) for name in _phases(options)
    ]
    each = max(sum(map(count_bytes, residuals)) for residuals in found) / sizes[-1] / GIB
    size = next((size for size in sizes if size * each <= gan.memory_gib), sizes[-1])
    told = f"{each * size:.1f} GiB kept, gan.memory_gib={gan.memory_gib:g}"
    if size == share:
        return options, f"all {share} images of a device at once ({told})"
    cut = dataclasses.replace(options, gan=dataclasses.replace(gan, microbatch=size))
    return cut, f"{size} of a device's {share} images at once ({told})"


def _phases(options: phase_config.StepOptions) -> list[phase_config.Phase]:
    """Lists the phases that keep the most, of those that run."""
    gan = options.gan
    alone = gan.reconstruct and gan.reconstruction.is_alone(gan.iterations - 1)
    first: list[phase_config.Phase] = ["recon"] if gan.reconstruct else []
    return first if alone else [*first, "g_main"]


def _sizes(options: phase_config.StepOptions, devices: int) -> Iterator[int]:
    """Yields the microbatches that change nothing but rounding, the largest first."""
    share = options.gan.batch_size // devices
    for size in range(share, 0, -1):
        if share % size:
            continue
        try:
            gan = dataclasses.replace(options.gan, microbatch=size)
            dataclasses.replace(options, gan=gan).check_devices(devices, "jit")
        except (ValueError, errors.ConfigError):
            continue
        yield size
