"""Task evaluate: self-reenactment of held-out frames, beside two baselines."""

import logging
import pathlib
from collections.abc import Sequence

import ml_collections
import numpy as np

from ganavatar_jax.apps import (
    avatar,
    completeness,
    experiment,
    experiment_config,
    prepare_data,
    restating,
)
from ganavatar_jax.core import errors, image_sequences
from ganavatar_jax.data import frame_table
from ganavatar_jax.faces import coefficients, estimation, estimators
from ganavatar_jax.metrics import baselines, inception, lpips
from ganavatar_jax.reports import evaluation_report, obedience
from ganavatar_jax.runs import progress, run_dir

STAGE = "evaluate"
_LOG = logging.getLogger(__name__)
_MIN_LPIPS_SIDE = 32  # AlexNet's last pooling needs it


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Reenacts the held-out frames and writes evaluation/.

    Args:
      config: What a file in configs/ returns.
      workdir: The run folder.

    Raises:
      RunError: the mapping has not been trained.
      DataFormatError: there are no held-out frames, or they carry no codes.

    Source: GAN-Avatar (Kabadayi et al. 2024), section on evaluation.
    """
    with experiment.hold_run(config, workdir) as (resolved, opened):
        evaluate(resolved, opened)


def driving_codes(
    table: frame_table.FrameTable,
    names: tuple[str, ...],
    resolved: experiment_config.ExperimentConfig,
) -> tuple[np.ndarray, np.ndarray]:
    """Gets the codes that drive the held-out frames.

    Args:
      table: Held-out frames.
      names: Coefficients the avatar takes.
      resolved: The configuration.

    Returns:
      Codes [f e], and which of the frames have one [f].

    Raises:
      DataFormatError: the dataset holds no codes, or lacks coefficients the avatar takes.
    """
    codes, have, _ = _driving(table, names, resolved)
    return codes, have


def _driving(
    table: frame_table.FrameTable,
    names: tuple[str, ...],
    resolved: experiment_config.ExperimentConfig,
) -> tuple[np.ndarray, np.ndarray, estimation.Readings | None]:
    """Gets codes, which frames have one, and the readings that the codes are, if they are."""
    if resolved.evaluation.codes == "estimate":
        readings = _read(table.image, table.frame_id, names, resolved, title="estimate")
        have = readings.found & np.isfinite(readings.codes).all(axis=1)
        return readings.codes, have, readings
    return *_stored_codes(table, names), None


def _stored_codes(
    table: frame_table.FrameTable, names: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Takes the capture's own codes, and tells which frames have one."""
    if table.expression is None:
        raise errors.DataFormatError(
            "the held-out frames carry no expression codes; set evaluation.codes=estimate to read "
            "them off the frames, or add expressions.json to the capture."
        )
    missing = sorted(set(names) - set(table.expression_names))
    if missing:
        raise errors.DataFormatError(
            f"the capture's expression codes lack {', '.join(missing[:5])}, which drive the "
            "avatar; set evaluation.codes=estimate to read them off the frames, or name the "
            "coefficients both have in mapping.coefficients."
        )
    codes = coefficients.select(table.expression, table.expression_names, names)
    return codes, table.has_expression & np.isfinite(codes).all(axis=1)


def evaluate(resolved: experiment_config.ExperimentConfig, opened: run_dir.RunDir) -> None:
    """Reenacts, compares and writes evaluation/.

    Args:
      resolved: The configuration.
      opened: The run.

    Raises:
      RunError: the mapping has not been trained.
      DataFormatError: there are no held-out frames, or they carry no codes.
      ConfigError: a driver is to be brought to the spread of pairs that nobody knows.
      WeightError: the Inception weights cannot be used.

    Source: GAN-Avatar (Kabadayi et al. 2024), section on evaluation.
    """
    config = resolved.evaluation
    begun = completeness.begin(STAGE, resolved, opened)
    person = avatar.load(resolved, opened)
    restating.refuse_unknown(person, resolved)
    lpips_params, sets = _load_networks(resolved)
    train, test = (_load_split(resolved, opened, name) for name in ("train", "test"))
    held_out, rows = _reenact(person, test, resolved, opened)
    train_codes, own_codes = _baseline_codes(train, test, rows, person.names)
    nearest = baselines.nearest_frame(train.label25, train_codes, held_out.label25, own_codes)
    metrics = evaluation_report.write_report(
        opened.folder("evaluation"),
        held_out,
        baselines={
            "mean_image": baselines.mean_image(train.image)[None],
            "nearest_frame": image_sequences.Rows(train.image, nearest),
        },
        protocol={
            "task": "self-reenactment of held-out frames",
            "codes": config.codes,
            "driver_statistics": config.driver_statistics,
            "stride": config.stride,
            "estimator": resolved.estimator.name,
            "training_frames": len(train.frame_id),
            "held_out_frames": len(test.frame_id),
            "nearest_frame_by": "camera and code" if own_codes.shape[1] else "camera",
            "inception": config.inception,
        },
        fps=config.fps,
        lpips_params=lpips_params,
        sets=sets,
    )
    for line in obedience.describe(metrics):
        _LOG.info("%s", line)
    info = {"ours": metrics["ours"], "frames": metrics["frames"]}
    completeness.finish(begun, resolved, opened, info)


def _load_split(
    resolved: experiment_config.ExperimentConfig, opened: run_dir.RunDir, name: str
) -> frame_table.FrameTable:
    folder, limit_mb = prepare_data.dataset_folder(opened), resolved.data.cache_limit_mb
    return frame_table.load_split(folder, name, with_alpha=name == "test", cache_limit_mb=limit_mb)


def _render(
    person: avatar.Avatar,
    w: np.ndarray,
    label25: np.ndarray,
    resolved: experiment_config.ExperimentConfig,
    opened: run_dir.RunDir,
) -> np.ndarray:
    """Renders all frames into memory or, beyond the limit of a split's images, onto the disk."""
    batch_size = resolved.evaluation.batch_size
    size = 3 * person.g_config.img_resolution**2 * len(w)
    if size <= resolved.data.cache_limit_mb * 2**20:
        return person.render(w, label25, batch_size=batch_size).image
    batches = person.stream(w, label25, batch_size=batch_size)
    return image_sequences.stack_on_disk(opened.folder("evaluation"), batches)


def _load_networks(
    resolved: experiment_config.ExperimentConfig,
) -> tuple[dict[lpips.NetName, lpips.LpipsParams], evaluation_report.SetNetworks]:
    """Loads what measures images, before anything is rendered."""
    config = resolved.evaluation
    nets: tuple[lpips.NetName, ...] = ("alex", "vgg") if config.lpips_vgg else ("alex",)
    if resolved.data.resolution < _MIN_LPIPS_SIDE:
        nets = ()
    params: dict[lpips.NetName, lpips.LpipsParams] = {net: lpips.load_params(net) for net in nets}
    return params, evaluation_report.SetNetworks(
        alexnet=params.get("alex") if config.frechet else None,
        inception_v3=inception.load_params(config.inception) if config.inception else None,
    )


def _reenact(
    person: avatar.Avatar,
    test: frame_table.FrameTable,
    resolved: experiment_config.ExperimentConfig,
    opened: run_dir.RunDir,
) -> tuple[evaluation_report.HeldOut, np.ndarray]:
    """Drives the avatar with the codes of held-out frames; also says which frames those are."""
    config = resolved.evaluation
    all_codes, have, driven = _driving(test, person.names, resolved)
    rows = np.flatnonzero(have)[:: config.stride]
    experiment.refuse_empty(
        len(rows), what="held-out frame with a code", fix="Check data.split and the codes."
    )
    codes, label25 = all_codes[rows], test.label25[rows]
    restated = restating.restate(
        codes,
        person,
        resolved,
        read=driven is not None,
        label25=label25,
        of_driver=all_codes[have],
    )
    w = person.encode(restated)
    ours = _render(person, w, label25, resolved, opened)
    return evaluation_report.HeldOut(
        truth_u8=image_sequences.Rows(test.image, rows),
        ours_u8=ours,
        frame_ids=tuple(test.frame_id[row] for row in rows),
        label25=label25,
        codes=_read_back(ours, test, rows, person.names, resolved, driven=driven),
        alpha=None if test.alpha is None else image_sequences.Rows(test.alpha, rows),
        filmed=None if test.filmed is None else image_sequences.Rows(test.filmed, rows),
    ), rows


def _read_back(
    ours: np.ndarray,
    test: frame_table.FrameTable,
    rows: np.ndarray,
    names: tuple[str, ...],
    resolved: experiment_config.ExperimentConfig,
    *,
    driven: estimation.Readings | None,
) -> obedience.Codes | None:
    """Reads renders and, unless they drove, the frames; None where no estimator looks at them."""
    if resolved.estimator.name == "precomputed":
        _LOG.warning(
            'estimator "precomputed" would look up the codes of the held-out frames, not those of '
            "their renders: nothing is said of how codes are obeyed"
        )
        return None
    frame_ids = tuple(test.frame_id[row] for row in rows)
    if driven is None:
        truth = image_sequences.Rows(test.image, rows)
        of_frames = _read(truth, frame_ids, names, resolved, title="read frames")
    else:
        of_frames = estimation.Readings(*(values[rows] for values in driven))
    stored = None
    if test.expression is not None and set(names) <= set(test.expression_names):
        stored = coefficients.select(test.expression, test.expression_names, names)[rows]
    of_renders = _read(ours, frame_ids, names, resolved, title="read back")
    return obedience.Codes(names, of_frames, of_renders, stored)


def _read(
    images_u8: image_sequences.Images,
    frame_ids: Sequence[str],
    names: tuple[str, ...],
    resolved: experiment_config.ExperimentConfig,
    *,
    title: str,
) -> estimation.Readings:
    """Reads the coefficients the avatar takes off images."""
    estimator = estimators.make_estimator(resolved.estimator)
    with progress.Progress(len(images_u8), unit="frame", title=title, every_s=10) as bar:
        readings = estimation.estimate_many(
            estimator,
            images_u8,
            frames=list(frame_ids),
            progress=lambda done, skipped: bar.update(
                done - bar.done, metrics={"skipped": skipped}
            ),
        )
    return readings._replace(codes=coefficients.select(readings.codes, estimator.names, names))


def _baseline_codes(
    train: frame_table.FrameTable,
    test: frame_table.FrameTable,
    rows: np.ndarray,
    names: tuple[str, ...],
) -> tuple[np.ndarray, np.ndarray]:
    """Stored codes of training and held-out frames; none where only cameras can be compared.

    Both sides come from the capture: readings of one beside stored codes of the other would be
    far apart for equal faces.
    """
    tables = []
    for table, chosen in ((train, np.arange(len(train.frame_id))), (test, rows)):
        codes = np.full((len(chosen), 1), np.nan, np.float32)
        if table.expression is not None and set(names) <= set(table.expression_names):
            selected = coefficients.select(table.expression, table.expression_names, names)
            codes = selected[chosen]
        tables.append(codes)
    if not all(np.isfinite(codes).all() for codes in tables):
        tables = [np.zeros((len(codes), 0), np.float32) for codes in tables]
    return tables[0], tables[1]
