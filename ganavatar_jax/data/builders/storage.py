"""Writes and opens TFDS datasets: array_record files, no TensorFlow, all or nothing.

A dataset lies in `<dataset_dir>/<name>/<version>`. It is written beside its final place and moved
there when complete, so that a run that fails or is killed leaves the former dataset or none.
"""

import io
import logging
import os
import pathlib
import shutil
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import UInt8
from ganavatar_jax.data.builders import contents, stored_records
from ganavatar_jax.runs import owner

_LOG = logging.getLogger(__name__)


class Builder(tfds.core.GeneratorBasedBuilder):
    """A TFDS builder that writes array_record files, keeps its order, and prints nothing."""

    # The task that makes the dataset, and what in its metadata says what the examples mean.
    TASK = ""
    MEANING: tuple[str, ...] = ()

    def __init__(self, *, data_dir: str):
        super().__init__(data_dir=data_dir, file_format="array_record")

    def download_and_prepare(self, **options: Any) -> None:
        """Writes the dataset.

        Args:
          **options: Those of TFDS.

        Source: TFDS.
        """
        tfds.disable_progress_bar()
        try:
            super().download_and_prepare(**options)
        finally:
            tfds.enable_progress_bar()

    def make_info(
        self, features: Mapping[str, Any], metadata: Mapping[str, Any]
    ) -> tfds.core.DatasetInfo:
        """Describes the dataset, for a builder's `_info`.

        Args:
          features: TFDS features by name.
          metadata: What to store beside the examples; anything JSON can hold.

        Returns:
          The description; examples keep the order they are written in.

        Source: TFDS.
        """
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(metadata),
        )

    def _log_download_bytes(self) -> None:
        """Leaves out TFDS's banner: nothing is downloaded."""

    def _log_download_done(self) -> None:
        """Leaves out TFDS's banner."""


def write(
    builder_class: type[Builder],
    dataset_dir: pathlib.Path,
    *,
    arguments: Mapping[str, Any],
) -> pathlib.Path:
    """Writes a dataset, replacing an older one of its name and version.

    Args:
      builder_class: What to write.
      dataset_dir: Where datasets are kept; created if needed.
      arguments: Arguments of the builder except data_dir.

    Returns:
      Folder of the finished dataset.

    Raises:
      RunError: the folder cannot be written.
    """
    prefix = f".incomplete-{builder_class.name}-"
    try:
        dataset_dir.mkdir(parents=True, exist_ok=True)
        _sweep(dataset_dir, prefix)
        mine = f"{prefix}{owner.current().token()}-"
        staging = pathlib.Path(tempfile.mkdtemp(prefix=mine, dir=dataset_dir))
        try:
            builder = builder_class(data_dir=str(staging / "new"), **arguments)
            builder.download_and_prepare()
            contents.note(builder.data_dir)
            final = dataset_folder(dataset_dir, builder_class)
            final.parent.mkdir(exist_ok=True)
            if final.exists():
                os.rename(final, staging / "old")
            os.rename(builder.data_dir, final)
        finally:
            shutil.rmtree(staging)
    except (OSError, RuntimeError) as error:
        # array_record reports a full disk as a RuntimeError.
        if isinstance(error, RuntimeError) and "write() failed" not in str(error):
            raise
        reason = str(error) if isinstance(error, OSError) else "no space left on device"
        raise errors.RunError(
            f"{dataset_dir}: the dataset cannot be written there ({reason}). Choose a folder with "
            "room and permission."
        ) from error
    return final


def _sweep(dataset_dir: pathlib.Path, prefix: str) -> None:
    """Removes what killed runs have left, and nothing that a living one is writing."""
    for leftover in dataset_dir.glob(f"{prefix}*"):
        # Names without an owner are of versions that did not note it.
        known = owner.from_token(leftover.name.removeprefix(prefix).rpartition("-")[0])
        alive = known.is_alive() if known is not None else False
        if alive is None:
            _LOG.warning(
                "%s: left, because its process cannot be seen from here; delete it if that is "
                "dead.",
                leftover,
            )
        elif not alive:
            shutil.rmtree(leftover)


def open_dataset(
    dataset_dir: str | pathlib.Path, builder: type[Builder]
) -> tfds.core.DatasetBuilder:
    """Opens a dataset that `write` finished.

    Args:
      dataset_dir: Where datasets are kept.
      builder: Class that wrote it; gives name and version.

    Returns:
      A read-only builder with splits and metadata.

    Raises:
      DataFormatError: it is not there, was written by another version, or is damaged.
    """
    folder = dataset_folder(dataset_dir, builder)
    if not is_finished(dataset_dir, builder):
        raise errors.DataFormatError(
            f"{folder}: there is no finished dataset. Make it first (--task=prepare_data for "
            "frames, --task=make_frontals for expression pairs)."
        )
    damage = contents.find_damage(folder, thorough=False)
    if damage is not None:
        raise _damaged(folder, damage, builder.TASK)
    try:
        return tfds.builder_from_directory(str(folder))
    # TFDS reads JSON through protobuf, whose errors have no common base but Exception.
    except Exception as error:
        raise _damaged(folder, _first_line(error), builder.TASK) from error


def identify(dataset_dir: str | pathlib.Path, builder: type[Builder]) -> str | None:
    """Computes what is equal for datasets that hold the same.

    Args:
      dataset_dir: Where datasets are kept.
      builder: Class that writes it.

    Returns:
      Hexadecimal SHA-256; None where there is no dataset, or it is damaged at first sight.
    """
    try:
        metadata = read_metadata(open_dataset(dataset_dir, builder))
    except errors.DataFormatError:
        return None
    folder = dataset_folder(dataset_dir, builder)
    return contents.identify(folder, metadata, keys=builder.MEANING)


def find_damage(dataset_dir: str | pathlib.Path, builder: type[Builder]) -> str | None:
    """Reads every file of a dataset and compares it with what was written.

    Args:
      dataset_dir: Where datasets are kept.
      builder: Class that writes it.

    Returns:
      What is wrong; None where nothing is.
    """
    folder = dataset_folder(dataset_dir, builder)
    try:
        missing = set(builder.MEANING) - set(read_metadata(open_dataset(dataset_dir, builder)))
    except errors.DataFormatError as error:
        return str(error)
    if missing:
        return f"{folder}: its metadata lack {', '.join(sorted(missing))}"
    damage = contents.find_damage(folder, thorough=True)
    return None if damage is None else f"{folder}: {damage}"


def _damaged(folder: pathlib.Path, damage: str, task: str) -> errors.DataFormatError:
    return errors.DataFormatError(
        f"{folder}: the dataset is damaged ({damage}). Run --task={task}, which makes it again."
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]


def is_finished(dataset_dir: str | pathlib.Path, builder: type[Builder]) -> bool:
    """Tells whether a dataset is there.

    Args:
      dataset_dir: Where datasets are kept.
      builder: Class that writes it.

    Returns:
      Whether `open_dataset` would find it.
    """
    return (dataset_folder(dataset_dir, builder) / "dataset_info.json").is_file()


def dataset_folder(dataset_dir: str | pathlib.Path, builder: type[Builder]) -> pathlib.Path:
    """Tells where a dataset lies once it is written.

    Args:
      dataset_dir: Where datasets are kept.
      builder: Class that writes it; gives name and version.

    Returns:
      `<dataset_dir>/<name>/<version>`.

    Source: TFDS.
    """
    return pathlib.Path(dataset_dir) / builder.name / str(builder.VERSION)


def open_split(
    builder: tfds.core.DatasetBuilder, split: str, *, images: tuple[str, ...]
) -> stored_records.Records:
    """Opens one split as a random-access source whose images stay encoded.

    Args:
      builder: From `open_dataset`.
      split: Name of the split.
      images: Features that hold images.

    Returns:
      Its examples, as dicts; to read one that is damaged raises a DataFormatError with its number.

    Raises:
      DataFormatError: the dataset has no such split.

    Source: TFDS data sources.
    """
    if split not in builder.info.splits:
        raise errors.DataFormatError(
            f'{builder.data_dir}: there is no split "{split}"; it has '
            f"{', '.join(sorted(builder.info.splits))}. Change data.split and prepare again."
        )
    try:
        return stored_records.Records(builder, split, images)
    except (OSError, RuntimeError, ValueError) as error:  # array_record knows RuntimeError alone
        where = f'split "{split}": {_first_line(error)}'
        raise _damaged(pathlib.Path(builder.data_dir), where, _task(builder)) from error


def _task(builder: tfds.core.DatasetBuilder) -> str:
    """The task that makes a dataset that was opened from its folder."""
    made = {cls.name: cls.TASK for cls in Builder.__subclasses__()}
    return made[builder.name]


def encode_png(image: UInt8[np.ndarray, "h w *c"]) -> io.BytesIO:
    """Encodes pixels as PNG, without loss.

    Args:
      image: Grey (no channel axis) or RGB.

    Returns:
      The file, for a TFDS image feature.
    """
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, "png", compress_level=1)
    buffer.seek(0)
    return buffer


def read_metadata(builder: tfds.core.DatasetBuilder) -> dict[str, Any]:
    """Reads what was stored beside the examples.

    Args:
      builder: From `open_dataset`.

    Returns:
      The metadata the dataset was written with.
    """
    metadata: Any = builder.info.metadata
    return dict(metadata)


def count_examples(builder: tfds.core.DatasetBuilder) -> Mapping[str, int]:
    """Counts the examples of each split.

    Args:
      builder: From `open_dataset`.

    Returns:
      Number of examples by split name.
    """
    return {name: info.num_examples for name, info in builder.info.splits.items()}
