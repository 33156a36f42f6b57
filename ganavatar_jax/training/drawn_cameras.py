"""Which cameras of the dataset the generated images of an iteration get."""

import numpy as np

from ganavatar_jax.core.arrays import Int


def generator_labels(
    labels: np.ndarray, *, seed: int, iteration: int, phase: str, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draws the cameras of generated images from the dataset, with replacement.

    Args:
      labels: All training cameras, [f 25].
      seed: Seed of the run.
      iteration: 0-based iteration.
      phase: Phase name; every phase draws its own.
      batch_size: Images of the whole batch.

    Returns:
      The cameras [b 25], and the same rolled by one over the whole batch.

    Source: EG3D reference behaviour.
    """
    chosen = labels[
        choose_frames(
            len(labels), seed=seed, iteration=iteration, phase=phase, batch_size=batch_size
        )
    ]
    return chosen, np.roll(chosen, 1, axis=0)


def choose_frames(
    count: int, *, seed: int, iteration: int, phase: str, batch_size: int
) -> Int[np.ndarray, " b"]:
    """Draws the frames whose cameras generated images get.

    Args:
      count: Frames of the dataset, mirror images among them.
      seed: Seed of the run.
      iteration: 0-based iteration.
      phase: Phase name; every phase draws its own.
      batch_size: Images of the whole batch.

    Returns:
      Their numbers, with replacement.

    Source: EG3D reference behaviour.
    """
    order = ("g_main", "g_reg", "d_main", "d_reg", "recon", "unseen").index(phase)
    generator = np.random.default_rng((seed, iteration, order))
    return generator.integers(count, size=batch_size)
