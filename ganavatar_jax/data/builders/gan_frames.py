"""The dataset the GAN trains on: canonical frames at training resolution, as a TFDS dataset.

`prepare` reads a capture, cuts it into train and test, canonicalizes every frame and stores it
losslessly in the capture's order. The metadata says what was done and to which source, so that
preparing again costs nothing until one of the two changes.
"""

import contextlib
import dataclasses
import hashlib
import importlib.resources
import json
import logging
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from ganavatar_jax.core import errors, files
from ganavatar_jax.data import (
    canonicalize,
    cropping,
    data_config,
    head_alignment,
    head_landmarks,
    records,
    splits,
)
from ganavatar_jax.data.builders import storage
from ganavatar_jax.data.formats import reader_table

_LOG = logging.getLogger(__name__)

# Called with the number of finished frames and of all frames.
Progress = Callable[[int, int], None]

_PACKAGE_SOURCES = {"package:actor": "actor_sample.zip"}
# Fields of DataConfig that change how frames are served, not what is stored.
_SERVING_FIELDS = ("mirror", "cache_limit_mb", "skip_damaged", "source")


class GanFrames(storage.Builder):
    """Canonical frames: image, alpha, what of it was filmed, camera, expression, names."""

    TASK = "prepare_data"
    MEANING = ("expression_names", "resolution", "background", "has_alpha")
    VERSION = tfds.core.Version("1.0.0")

    def __init__(
        self,
        *,
        frames: Mapping[str, list[records.FrameReference]],
        canonical: Callable[[records.FrameReference], records.Frame],
        metadata: Mapping[str, Any],
        data_dir: str,
    ):
        self._frames = frames
        self._canonical = canonical
        self._stored_metadata = dict(metadata)
        super().__init__(data_dir=data_dir)

    def _info(self) -> tfds.core.DatasetInfo:
        """Declares the features of this capture: mattes, masks and codes where it has some."""
        side = self._stored_metadata["resolution"]
        features = {
            "image": tfds.features.Image(shape=(side, side, 3), encoding_format="png"),
            "label25": tfds.features.Tensor(shape=(25,), dtype=np.float32),
            "has_expression": tfds.features.Scalar(dtype=np.bool_),
            "frame_id": tfds.features.Text(),
            "sequence": tfds.features.Text(),
        }
        for name in image_features(self._stored_metadata)[1:]:
            features[name] = tfds.features.Image(shape=(side, side, 1), encoding_format="png")
        if self._stored_metadata["expression_names"]:
            length = len(self._stored_metadata["expression_names"])
            features["expression"] = tfds.features.Tensor(shape=(length,), dtype=np.float32)
        return self.make_info(features, self._stored_metadata)

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict]]]:
        del dl_manager
        return {name: self._generate_examples(name) for name, f in self._frames.items() if f}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yields frames as they are stored; a frame without a code gets zeros and says so."""
        length = len(self._stored_metadata["expression_names"])
        for index, reference in enumerate(self._frames[split]):
            frame = self._canonical(reference)
            example = {
                "image": storage.encode_png(frame.image),
                "label25": frame.label25,
                "has_expression": frame.expression is not None,
                "frame_id": frame.frame_id,
                "sequence": frame.sequence,
            }
            if frame.alpha is not None:
                example["alpha"] = storage.encode_png(frame.alpha)
            if self._stored_metadata.get("has_filmed"):
                everything = np.full(frame.image.shape[:2], 255, np.uint8)
                filmed = everything if frame.filmed is None else frame.filmed
                example["filmed"] = storage.encode_png(filmed)
            if length:
                code = frame.expression
                example["expression"] = np.zeros(length, np.float32) if code is None else code
            yield index, example


def image_features(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """Lists the features of a dataset that hold images.

    Args:
      metadata: What is stored beside its examples.

    Returns:
      "image", and "alpha" and "filmed" where the dataset has them.
    """
    return ("image", *(n for n in ("alpha", "filmed") if metadata.get(f"has_{n}")))


def prepare(
    config: data_config.DataConfig,
    dataset_dir: str | pathlib.Path,
    *,
    progress: Progress | None = None,
    find_landmarks: head_landmarks.FindLandmarks | None = None,
    box_side: float = 1.0,
) -> dict[str, Any]:
    """Makes the dataset of a capture, unless an equal one is already there.

    Args:
      config: Source and canonical form.
      dataset_dir: Where datasets are kept; an older dataset of another capture or config there is
        replaced.
      progress: Told after every frame how many are done and how many there are.
      find_landmarks: Face detector, for alignments that look at faces.
      box_side: Edge of the generator's cube, world units; only compared with.

    Returns:
      The stored metadata (`alignment`, what was done to cameras; `expression_names`,
      `resolution`, `background` behind the head, `has_alpha`, `has_filmed` where images reach
      beyond what was filmed, `source`, `source_digest`, `fingerprint`, `config`), `splits` with
      the number of frames of each, `folder`, `identity`, which is equal for datasets that hold the
      same, and `rebuilt`, whether anything was written.

    Raises:
      DataFormatError: the capture breaks its layout or cannot be given the wanted form.
      RunError: the folder cannot be written.
    """
    dataset_dir = pathlib.Path(dataset_dir)
    with open_source(config) as capture:
        for note in capture.notes:
            _LOG.info("%s: %s", config.source, note)
        metadata = _metadata(capture, config)
        stored = _stored_fingerprint(dataset_dir)
        rebuilt = stored != metadata["fingerprint"]
        if rebuilt and stored is not None:
            _LOG.info("%s: the capture or its options changed; it is prepared anew.", config.source)
        if not rebuilt and (damage := storage.find_damage(dataset_dir, GanFrames)) is not None:
            _LOG.warning("%s; it is made again.", damage)
            rebuilt = True
        if rebuilt:
            canonicalize.resolve_background(capture, config)
            aligned, report = head_alignment.align_capture(
                capture, config, find_landmarks=find_landmarks, box_side=box_side
            )
            metadata["alignment"] = _finite(dataclasses.asdict(report))
            cropped = cropping.square(aligned, config)
            _refuse_small(cropped, config)
            if any(frame.read_filmed is not None for frame in cropped.frames):
                metadata["has_filmed"] = True  # Else absent: such datasets are as they always were.
            _build(cropped, config, dataset_dir, metadata=metadata, progress=progress)
    builder = storage.open_dataset(dataset_dir, GanFrames)
    return {
        **storage.read_metadata(builder),
        "splits": storage.count_examples(builder),
        "folder": str(storage.dataset_folder(dataset_dir, GanFrames)),
        "identity": storage.identify(dataset_dir, GanFrames),
        "rebuilt": rebuilt,
    }


def open_source(
    config: data_config.DataConfig,
) -> contextlib.AbstractContextManager[records.Capture]:
    """Opens the capture a config names.

    Args:
      config: Source and format.

    Returns:
      A context manager that yields the capture; its frames are as stored, not canonical.

    Raises:
      DataFormatError: there is no such source, or it breaks its layout.
    """
    reader = reader_table.READERS[config.format]
    return reader(source_path(config.source), options=config.reader)


def source_path(source: str) -> pathlib.Path:
    """Finds the file or folder of a source.

    Args:
      source: A path, or "package:<name>" for data that is installed with the package.

    Returns:
      Its path.

    Raises:
      DataFormatError: the package has no data of that name.
    """
    if not source.startswith("package:"):
        return files.expand_user(source)
    if source not in _PACKAGE_SOURCES:
        raise errors.DataFormatError(
            f'"{source}" is not shipped with the package; it has '
            f"{', '.join(_PACKAGE_SOURCES)}. Use one of these or a path."
        )
    assets = importlib.resources.files("ganavatar_jax") / "assets"
    return pathlib.Path(str(assets / _PACKAGE_SOURCES[source]))


def _build(
    capture: records.Capture,
    config: data_config.DataConfig,
    dataset_dir: pathlib.Path,
    *,
    metadata: Mapping[str, Any],
    progress: Progress | None,
) -> None:
    """Makes frames one at a time for the builder: a capture never lies in memory."""
    train, test = splits.split_frames(capture, config.split)
    total = len(train) + len(test)
    background = canonicalize.resolve_background(capture, config)
    finished = 0

    def canonical(reference: records.FrameReference) -> records.Frame:
        nonlocal finished
        frame = canonicalize.canonicalize_frame(
            reference.load(), config=config, background=background
        )
        finished += 1
        if progress is not None:
            progress(finished, total)
        return frame

    frames = {"train": train, "test": test}
    arguments = {"frames": frames, "canonical": canonical, "metadata": metadata}
    storage.write(GanFrames, dataset_dir, arguments=arguments)


def _refuse_small(capture: records.Capture, config: data_config.DataConfig) -> None:
    if capture.resolution < config.resolution:
        raise errors.DataFormatError(
            f"{capture.name}: its images measure {capture.resolution} pixels, less than "
            f"data.resolution={config.resolution}. Lower data.resolution or use larger images."
        )


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: residuals that do not exist become null."""
    return {k: None if isinstance(v, float) and v != v else v for k, v in values.items()}


def _file_digests(config: data_config.AlignConfig) -> list[str]:
    paths = [pathlib.Path(p) for p in (config.source_file, config.target_file) if p]
    return [hashlib.sha256(p.read_bytes()).hexdigest() for p in paths if p.is_file()]


def _metadata(capture: records.Capture, config: data_config.DataConfig) -> dict[str, Any]:
    """Describes the dataset; its fingerprint tells whether another call would make the same."""
    stored = canonicalize.resolve_background(capture, config)
    kept = {k: v for k, v in dataclasses.asdict(config).items() if k not in _SERVING_FIELDS}
    if not config.reader.flame_joints:
        del kept["reader"]["flame_joints"]  # Datasets from before have no such option.
    identity = {"config": kept, "digest": capture.digest, "version": str(GanFrames.VERSION)}
    identity["files"] = _file_digests(config.align)
    fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return {
        "expression_names": list(capture.expression_names),
        "resolution": config.resolution,
        "background": stored if config.background == "keep" else config.background,
        "has_alpha": capture.has_alpha,
        "source": config.source,
        "source_digest": capture.digest,
        "fingerprint": fingerprint,
        "config": kept,
    }


def _stored_fingerprint(dataset_dir: pathlib.Path) -> str | None:
    """What the stored dataset was made from; None where there is none, or no readable one."""
    if not storage.is_finished(dataset_dir, GanFrames):
        return None
    try:
        metadata = storage.read_metadata(storage.open_dataset(dataset_dir, GanFrames))
    except errors.DataFormatError as error:
        _LOG.warning("%s", error)
        return None
    return metadata.get("fingerprint")
