"""Serves prepared frames: whole splits as arrays, and endless shuffled batches for training.

Images stay uint8 until they are on the device: a quarter of the traffic, and the conversion is
free there. Batches come from a grain pipeline on threads; its position is a small dict
(`get_state`, `set_state`), and a resumed stream continues with the identical batches.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import grain
import numpy as np

from ganavatar_jax.core.arrays import Bool, Float, Int, UInt8
from ganavatar_jax.data import canonicalize
from ganavatar_jax.data.builders import gan_frames, storage

_READ_OPTIONS = grain.ReadOptions(num_threads=2, prefetch_buffer_size=8)


@dataclasses.dataclass(frozen=True)
class FrameTable:
    """All frames of a split in memory, in the capture's order.

    Attributes:
      image: Pixels, 0..255.
      alpha: Coverage of the head, 0..255; None unless asked for and stored.
      label25: Cameras.
      expression: Codes, NaN where `has_expression` is false; None for captures without codes.
      has_expression: Which frames have a code.
      frame_id: Names within the capture.
      sequence: Recordings the frames belong to.
      expression_names: What the numbers of a code mean.
      background: What lies behind the head in the images.
    """

    image: UInt8[np.ndarray, "f h w 3"]
    alpha: UInt8[np.ndarray, "f h w"] | None
    label25: Float[np.ndarray, "f 25"]
    expression: Float[np.ndarray, "f e"] | None
    has_expression: Bool[np.ndarray, " f"]
    frame_id: tuple[str, ...]
    sequence: tuple[str, ...]
    expression_names: tuple[str, ...]
    background: str


def load_split(
    dataset_dir: str | pathlib.Path, split: str, *, with_alpha: bool = False
) -> FrameTable:
    """Decodes a whole split into memory.

    Args:
      dataset_dir: Where `gan_frames.prepare` put the dataset.
      split: "train" or "test".
      with_alpha: Decode alpha too.

    Returns:
      The frames.

    Raises:
      DataFormatError: there is no dataset, or no such split.

    Source: ours.
    """
    builder = storage.open_dataset(dataset_dir, gan_frames.GanFrames)
    metadata = storage.read_metadata(builder)
    source = storage.open_split(builder, split, images=_image_features(metadata))
    examples = [source[index] for index in range(len(source))]
    has_expression = np.array([bool(e["has_expression"]) for e in examples])
    expression = None
    if metadata["expression_names"]:
        expression = np.stack([e["expression"] for e in examples]).astype(np.float32)
        expression[~has_expression] = np.nan
    alpha = None
    if with_alpha and metadata["has_alpha"]:
        alpha = np.stack([storage.decode_png(e["alpha"]) for e in examples])
    return FrameTable(
        image=np.stack([storage.decode_png(e["image"]) for e in examples]),
        alpha=alpha,
        label25=np.stack([e["label25"] for e in examples]).astype(np.float32),
        expression=expression,
        has_expression=has_expression,
        frame_id=tuple(e["frame_id"].decode() for e in examples),
        sequence=tuple(e["sequence"].decode() for e in examples),
        expression_names=tuple(metadata["expression_names"]),
        background=metadata["background"],
    )


def load_label25(dataset_dir: str | pathlib.Path, split: str) -> Float[np.ndarray, "f 25"]:
    """Loads the cameras of a split, without its images.

    Args:
      dataset_dir: Where `gan_frames.prepare` put the dataset.
      split: "train" or "test".

    Returns:
      Cameras, in the capture's order.

    Raises:
      DataFormatError: there is no dataset, or no such split.

    Source: ours.
    """
    builder = storage.open_dataset(dataset_dir, gan_frames.GanFrames)
    images = _image_features(storage.read_metadata(builder))
    source = storage.open_split(builder, split, images=images)
    return np.stack([source[index]["label25"] for index in range(len(source))]).astype(np.float32)


def make_batches(
    source: str | pathlib.Path | FrameTable,
    *,
    batch_size: int,
    seed: int,
    mirror: bool = False,
    process_index: int = 0,
    process_count: int = 1,
    cache_limit_mb: int = 4096,
) -> grain.DatasetIterator:
    """Starts the endless stream of training batches of one process.

    Every epoch is a new permutation of all frames; with `mirror`, of all frames and their mirror
    images. The frames are dealt out to the processes in turn, so that together they see what one
    process would see.

    Args:
      source: Where `gan_frames.prepare` put the dataset, or a table that is already loaded.
      batch_size: Frames in a batch of this process.
      seed: Fixes the order; the same in every process.
      mirror: Add mirror images, with mirrored cameras.
      process_index: Which process this is.
      process_count: How many there are.
      cache_limit_mb: A dataset whose decoded training images take more than this many MB is
        decoded while training.

    Returns:
      An iterator over dicts: `image` uint8 [b h w 3], `label25` float32 [b 25], `index` int32 [b],
      the frame's position in the split. It has `get_state()`, `set_state(state)`, `close()`.

    Raises:
      DataFormatError: there is no dataset.

    Source: grain; mirroring as in EG3D's mirrored datasets.
    """
    count, gather = _open_frames(source, cache_limit_mb=cache_limit_mb)

    def load(indices: np.ndarray) -> dict[str, np.ndarray]:
        image, label25 = gather(indices % count)
        mirrored = indices >= count
        if mirrored.any():
            image[mirrored] = canonicalize.mirror_image(image[mirrored])
            label25[mirrored] = canonicalize.mirror_label25(label25[mirrored])
        return {"image": image, "label25": label25, "index": (indices % count).astype(np.int32)}

    dataset = grain.MapDataset.range(2 * count if mirror else count).seed(seed).shuffle()
    dataset = dataset.repeat()[process_index::process_count]
    dataset = dataset.batch(batch_size, drop_remainder=True).map(load)
    return iter(dataset.to_iter_dataset(_READ_OPTIONS))


_Gather = Callable[[Int[np.ndarray, " b"]], tuple[np.ndarray, np.ndarray]]


def _open_frames(
    source: str | pathlib.Path | FrameTable, *, cache_limit_mb: int
) -> tuple[int, _Gather]:
    if not isinstance(source, FrameTable):
        builder = storage.open_dataset(source, gan_frames.GanFrames)
        count = storage.count_examples(builder)["train"]
        metadata = storage.read_metadata(builder)
        decoded_mb = 3 * metadata["resolution"] ** 2 * count / 2**20
        if decoded_mb > cache_limit_mb:
            images = _image_features(metadata)
            return count, _decoding_gather(storage.open_split(builder, "train", images=images))
        source = load_split(source, "train")
    table = source

    def gather(indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return table.image[indices], table.label25[indices]

    return len(table.frame_id), gather


def _decoding_gather(stored: Any) -> _Gather:
    def gather(indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        examples = [stored[int(index)] for index in indices]
        image = np.stack([storage.decode_png(example["image"]) for example in examples])
        return image, np.stack([example["label25"] for example in examples])

    return gather


def _image_features(metadata: Any) -> tuple[str, ...]:
    return ("image", "alpha") if metadata["has_alpha"] else ("image",)
