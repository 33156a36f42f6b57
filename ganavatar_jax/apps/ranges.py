"""Tells of driven frames how far they lie outside of what the avatar has seen.

An avatar does not extrapolate: faces unlike those of its pairs are guesses, and may be torn.
"""

import json
import logging
import pathlib

import numpy as np

from ganavatar_jax.apps import avatar, prepare_data
from ganavatar_jax.core import errors, files
from ganavatar_jax.core.arrays import Float
from ganavatar_jax.data.builders import expression_pairs
from ganavatar_jax.faces import code_range, coefficients
from ganavatar_jax.runs import run_dir

_LOG = logging.getLogger(__name__)
_NOTE = "range.json"
_TOLD = 0.05  # Part of the frames outside from which on it is told.


def load(person: avatar.Avatar, opened: run_dir.RunDir) -> code_range.CodeRange | None:
    """Learns the range of an avatar from the pairs it was mapped with.

    Args:
      person: The avatar.
      opened: Its run.

    Returns:
      The range; None where the run has no pairs, or too few.
    """
    try:
        pairs = expression_pairs.load_pairs(prepare_data.dataset_folder(opened), "train")
        codes = coefficients.select(pairs["code"], pairs["names"], person.names)
        return code_range.fit(np.asarray(person.normalizer.apply(codes)))
    except (errors.DataFormatError, ValueError) as error:
        _LOG.info("how far frames lie outside of what was seen is not told: %s", error)
        return None


def hold(
    person: avatar.Avatar,
    opened: run_dir.RunDir,
    codes: Float[np.ndarray, "f e"],
    *,
    folder: pathlib.Path,
    clamp: bool,
) -> Float[np.ndarray, "f e"]:
    """Scores the codes of a film, notes the scores beside it, and brings codes back if asked to.

    Args:
      person: The avatar.
      opened: Its run.
      codes: One code a frame, in the avatar's units.
      folder: Where range.json is written.
      clamp: Whether codes outside are brought back to what was seen.

    Returns:
      The codes to drive with.
    """
    known = load(person, opened)
    if known is None:
        return codes
    normalized = np.asarray(person.normalizer.apply(codes))
    scores = known.score(normalized)
    outside = float(np.mean(scores > 1.0))
    note = {
        "meaning": "distance to the codes that the avatar has seen; up to 1 is inside",
        "frames_outside": outside,
        "clamped": clamp,
        "scores": np.round(scores, 3).tolist(),
    }
    files.write_atomic(folder / _NOTE, json.dumps(note) + "\n")
    if outside > _TOLD:
        _LOG.warning(
            "%.0f %% of the frames ask for faces unlike those the avatar has seen (the worst %.1f "
            "times as far as usual)%s; see %s",
            100.0 * outside,
            scores.max(),
            ", and are brought back" if clamp else "; --config.drive.clamp=True brings them back",
            folder / _NOTE,
        )
    if not clamp:
        return codes
    normalizer = person.normalizer
    back = known.clamp(normalized) - normalized  # zero inside: these codes stay as they are
    return (codes + back @ normalizer.backward).astype(np.float32)
