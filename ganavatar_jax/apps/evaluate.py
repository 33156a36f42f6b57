"""Task evaluate: self-reenactment of held-out frames, beside two baselines."""

import logging
import pathlib

import ml_collections
import numpy as np

from ganavatar_jax.apps import avatar, completeness, experiment, experiment_config, prepare_data
from ganavatar_jax.core import errors, image_sequences
from ganavatar_jax.core.arrays import Float
from ganavatar_jax.data import frame_table
from ganavatar_jax.faces import coefficients, estimation, estimators
from ganavatar_jax.metrics import baselines, inception, lpips
from ganavatar_jax.reports import evaluation_report
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
    if resolved.evaluation.codes == "estimate":
        estimator = estimators.make_estimator(resolved.estimator)
        readings = estimation.estimate_many(estimator, table.image, frames=list(table.frame_id))
        codes = coefficients.select(readings.codes, estimator.names, names)
        return codes, readings.found & np.isfinite(codes).all(axis=1)
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


def driver_statistics(
    codes: Float[np.ndarray, "f e"], config: experiment_config.EvaluationConfig
) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns the statistics of a driver that `Avatar.encode` takes.

    Args:
      codes: All codes of the driver, of frames that have one; not only those that are shown.
      config: Whose statistics, and the gain.

    Returns:
      Mean, and spread for one spread of the avatar's own codes; None leaves codes as they are.
    """
    if config.driver_statistics == "pairs":
        return None
    return codes.mean(axis=0), codes.std(axis=0) / config.driver_gain


def refuse_unknown_statistics(
    person: avatar.Avatar, config: experiment_config.EvaluationConfig
) -> None:
    """Insists that a driver can be brought to the avatar's spread, where that is asked for.

    Args:
      person: The avatar.
      config: Whose statistics codes are normalised with.

    Raises:
      ConfigError: nobody knows where the codes of the avatar's pairs lay.
    """
    if config.driver_statistics == "driver":
        person.normalizer.require_statistics()


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
    refuse_unknown_statistics(person, config)
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
            "driver_gain": config.driver_gain,
            "stride": config.stride,
            "estimator": resolved.estimator.name,
            "training_frames": len(train.frame_id),
            "nearest_frame_by": "camera and code" if own_codes.shape[1] else "camera",
            "inception": config.inception,
        },
        fps=config.fps,
        lpips_params=lpips_params,
        sets=sets,
    )
    for line in evaluation_report.describe_codes(metrics):
        _LOG.info("%s", line)
    info = {"ours": metrics["ours"], "frames": metrics["frames"]}
    completeness.finish(begun, resolved, opened, info)


def _load_split(
    resolved: experiment_config.ExperimentConfig, opened: run_dir.RunDir, name: str
) -> frame_table.FrameTable:
    folder, limit_mb = prepare_data.dataset_folder(opened), resolved.data.cache_limit_mb
    return frame_table.load_split(folder, name, cache_limit_mb=limit_mb)


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
    all_codes, have = driving_codes(test, person.names, resolved)
    rows = np.flatnonzero(have)[:: config.stride]
    experiment.refuse_empty(
        len(rows), what="held-out frame with a code", fix="Check data.split and the codes."
    )
    codes, label25 = all_codes[rows], test.label25[rows]
    w = person.encode(codes, statistics=driver_statistics(all_codes[have], config))
    ours = _render(person, w, label25, resolved, opened)
    frame_ids = tuple(test.frame_id[row] for row in rows)
    return evaluation_report.HeldOut(
        truth_u8=image_sequences.Rows(test.image, rows),
        ours_u8=ours,
        frame_ids=frame_ids,
        label25=label25,
        codes_driving=codes,
        codes_read_back=_read_back(ours, frame_ids, person.names, resolved),
        code_names=person.names,
        filmed=None if test.filmed is None else image_sequences.Rows(test.filmed, rows),
    ), rows


def _read_back(
    ours: np.ndarray,
    frame_ids: tuple[str, ...],
    names: tuple[str, ...],
    resolved: experiment_config.ExperimentConfig,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Reads codes off the renders; None where an estimator does not look at them."""
    if resolved.estimator.name == "precomputed":
        _LOG.warning(
            'estimator "precomputed" would look up the codes of the held-out frames, not those of '
            "their renders: code_correlation and code_amplitude are left out"
        )
        return None
    estimator = estimators.make_estimator(resolved.estimator)
    with progress.Progress(len(ours), unit="frame", title="read back", every_s=10) as bar:
        readings = estimation.estimate_many(
            estimator,
            ours,
            frames=list(frame_ids),
            progress=lambda done, skipped: bar.update(
                done - bar.done, metrics={"skipped": skipped}
            ),
        )
    return coefficients.select(readings.codes, estimator.names, names), readings.found


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
