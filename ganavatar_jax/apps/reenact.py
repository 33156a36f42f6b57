"""Task reenact: a finished avatar shows held-out frames again, its own or another avatar's.

samples/reenact/<self or name of the other run>/film.mp4 and sheet.png: the frames, the other avatar
where there is one, and this avatar; with -2, -3, ... for later ones. Another person's codes are
carried over relative to both neutral faces and ranges.
"""

import logging
import pathlib

import ml_collections
import numpy as np

from ganavatar_jax.apps import (
    avatar,
    evaluate,
    experiment,
    experiment_config,
    films_out,
    prepare_data,
    restating,
)
from ganavatar_jax.core import config as config_lib
from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import Float
from ganavatar_jax.core.readers import json_files
from ganavatar_jax.data import frame_table
from ganavatar_jax.faces import coefficients
from ganavatar_jax.runs import run_dir

_LOG = logging.getLogger(__name__)
_STILL = 1e-3  # as in Avatar.encode: less is no movement


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Shows held-out frames again.

    Args:
      config: What a file in configs/ returns.
      workdir: The run folder.

    Raises:
      RunError: a mapping has not been trained, or the source is no run folder.
      DataFormatError: no held-out frame has a code that fits.
    """
    resolved, opened = experiment.read_run(config, workdir)
    person, options = avatar.load(resolved, opened), resolved.reenact
    source = _open_source(options.source) if options.source else (resolved, opened)
    other = avatar.load(*source) if options.source else None
    names = person.names if other is None else other.names
    table = frame_table.load_split(
        prepare_data.dataset_folder(source[1]), "test", cache_limit_mb=resolved.data.cache_limit_mb
    )
    codes, have = evaluate.driving_codes(table, names, source[0])
    experiment.refuse_empty(
        int(have.sum()), what="held-out frame with a code", fix="Check data.split and the codes."
    )
    rows, codes = np.flatnonzero(have), codes[have]
    read = source[0].evaluation.codes == "estimate"
    codes = restating.restate(
        codes, other or person, source[0], read=read, label25=table.label25[rows]
    )
    own = codes if other is None else carry_over(codes, other, person, options.largest_gain)
    labels = table.label25[rows]
    if options.camera == "front":
        labels = np.tile(person.frontal_label25, (len(rows), 1))
    beside = {"frame": lambda index: np.asarray(table.image[rows[index : index + 1]])[0]}
    if other is not None:
        shown = other.encode(codes)
        beside["other avatar"] = lambda index: other.render(
            shown[index : index + 1], labels[index]
        ).image[0]
    name = source[1].path.name if other is not None else "self"
    folder = films_out.claim_folder(opened.path / "samples" / "reenact", name)
    films_out.write_film(
        folder,
        person,
        person.encode(own),
        labels,
        fps=options.fps,
        batch_size=options.batch_size,
        beside=beside,
    )
    _LOG.info("%d frames of %s: %s", len(rows), source[1].path.name, folder / "film.mp4")


def _open_source(path: str) -> tuple[experiment_config.ExperimentConfig, run_dir.RunDir]:
    """Opens another run folder by its own config."""
    folder = pathlib.Path(path)
    if not (folder / "config.json").is_file():
        raise errors.RunError(
            f"{folder}: expected the run folder of another avatar, with config.json; got none. Set "
            "reenact.source to one, or leave it empty for this avatar's own frames. A video drives "
            "an avatar with --task=drive."
        )
    stored = json_files.read_object(folder / "config.json", fix="name another run folder")
    stored = experiment_config.leave_gone_out(stored)
    return (
        config_lib.resolve(experiment_config.ExperimentConfig, stored),
        run_dir.RunDir(folder.absolute(), primary=True),
    )


def carry_over(
    codes: Float[np.ndarray, "f e"],
    other: avatar.Avatar,
    person: avatar.Avatar,
    largest_gain: float,
) -> Float[np.ndarray, "f k"]:
    """Brings one avatar's codes to another's neutral face and range.

    Args:
      codes: Codes with the other avatar's coefficients.
      other: The avatar they belong to.
      person: The avatar they shall drive.
      largest_gain: Most times a coefficient is amplified.

    Returns:
      Codes with this avatar's coefficients: neutral becomes neutral, and one spread of the other's
      pairs one spread of this one's; what the other never moves stays neutral.

    Raises:
      DataFormatError: the other avatar lacks coefficients that this one takes.
      ConfigError: nobody knows mean and spread of an avatar's pairs (imported).
    """
    missing = sorted(set(person.names) - set(other.names))
    if missing:
        raise errors.DataFormatError(
            f"reenact.source: expected an avatar with the coefficients that drive this one; "
            f"{', '.join(missing[:5])} {'is' if len(missing) == 1 else 'are'} lacking. Train both "
            "with the same mapping.coefficients."
        )
    columns = coefficients.indices(other.names, person.names)
    theirs = other.normalizer.require_statistics().std[columns]
    own = person.normalizer.require_statistics().std
    gain = np.minimum(own / np.maximum(theirs, _STILL), largest_gain)
    gain = np.where(theirs > _STILL, gain, 0.0)
    moved = codes[:, columns] - other.neutral_code[columns]
    return (person.neutral_code + moved * gain).astype(np.float32)
