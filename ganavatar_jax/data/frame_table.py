"""Serves prepared frames: whole splits as tables, and endless shuffled batches for training.

Labels, codes and names of a split are in memory. Its images are too, as one array, as long as
they fit `data.cache_limit_mb`; larger ones stay encoded on disk and are decoded, in threads, when
they are asked for. Either way a seed gives the same batches.

Images stay uint8 until they are on the device: a quarter of the traffic, and the conversion is
free there. Batches come from a grain pipeline on threads; its position is a small dict
(`get_state`, `set_state`), and a resumed stream continues with the identical batches.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import grain
import numpy as np

from ganavatar_jax.core import image_sequences
from ganavatar_jax.core.arrays import Bool, Float, Int, UInt8
from ganavatar_jax.data import canonicalize, damaged_frames, data_config
from ganavatar_jax.data.builders import gan_frames, storage, stored_records

_READ_OPTIONS = grain.ReadOptions(num_threads=2, prefetch_buffer_size=8)


@dataclasses.dataclass(frozen=True)
class FrameTable:
    """All frames of a split, in the capture's order.

    Attributes:
      image: Pixels, 0..255, [f h w 3]: an array, or decoded from disk where that would be larger
        than the limit; index it by frames.
      alpha: Coverage of the head, 0..255, [f h w], held likewise; None unless asked for and stored.
      label25: Cameras.
      expression: Codes, NaN where `has_expression` is false; None for captures without codes.
      has_expression: Which frames have a code.
      frame_id: Names within the capture.
      sequence: Recordings the frames belong to.
      expression_names: What the numbers of a code mean.
      background: What lies behind the head in the images.
      filmed: 255 where something was filmed, 0 beyond the picture, [f h w], held as images are;
        None where everything was.
    """

    image: image_sequences.Images
    alpha: image_sequences.Images | None
    label25: Float[np.ndarray, "f 25"]
    expression: Float[np.ndarray, "f e"] | None
    has_expression: Bool[np.ndarray, " f"]
    frame_id: tuple[str, ...]
    sequence: tuple[str, ...]
    expression_names: tuple[str, ...]
    background: str
    filmed: image_sequences.Images | None = None


def load_split(
    dataset_dir: str | pathlib.Path,
    split: str,
    *,
    with_alpha: bool = False,
    cache_limit_mb: int = data_config.DataConfig.cache_limit_mb,
    skip_damaged: int = 0,
) -> FrameTable:
    """Reads a split: everything but its images, and these too as long as they fit the limit.

    Args:
      dataset_dir: Where `gan_frames.prepare` put the dataset.
      split: "train" or "test".
      with_alpha: Serve alpha too.
      cache_limit_mb: Images that take more than this many MB (2^20 bytes) decoded stay on disk.
      skip_damaged: How many damaged records are named, left out and counted; one more is refused.

    Returns:
      The frames.

    Raises:
      DataFormatError: there is no dataset, no such split, or too many records of it are damaged.
    """
    builder = storage.open_dataset(dataset_dir, gan_frames.GanFrames)
    metadata = storage.read_metadata(builder)
    features = gan_frames.image_features(metadata)
    records = storage.open_split(builder, split, images=features)
    served = tuple(name for name in features if with_alpha or name != "alpha")
    images: dict[str, image_sequences.Images] = {
        name: stored_records.StoredImages(records, name) for name in served
    }
    size = sum(int(np.prod(stored.shape)) for stored in images.values())
    arrays = {}
    if size <= cache_limit_mb * 2**20:
        arrays = {name: np.empty(stored.shape, np.uint8) for name, stored in images.items()}
    damaged = damaged_frames.Damaged(skip_damaged)
    codes = len(metadata["expression_names"])
    columns = _read_columns(records, arrays, codes=codes, damaged=damaged)
    images |= arrays
    if damaged:
        kept = np.setdiff1d(np.arange(len(records)), sorted(damaged))
        images = {name: image_sequences.Rows(stored, kept) for name, stored in images.items()}
        images |= {name: array[kept] for name, array in arrays.items()}
        columns = {name: _keep(column, kept) for name, column in columns.items()}
    return FrameTable(
        image=images["image"],
        alpha=images.get("alpha"),
        filmed=images.get("filmed"),
        expression_names=tuple(metadata["expression_names"]),
        background=metadata["background"],
        **columns,
    )


def load_label25(dataset_dir: str | pathlib.Path, split: str) -> Float[np.ndarray, "f 25"]:
    """Reads the cameras of a split alone.

    Args:
      dataset_dir: Where `gan_frames.prepare` put the dataset.
      split: "train" or "test".

    Returns:
      Cameras, in the capture's order.

    Raises:
      DataFormatError: there is no dataset, no such split, or a record of it is damaged.
    """
    builder = storage.open_dataset(dataset_dir, gan_frames.GanFrames)
    features = gan_frames.image_features(storage.read_metadata(builder))
    records = storage.open_split(builder, split, images=features)
    return _read_columns(records, {}, codes=0, damaged=damaged_frames.Damaged(0))["label25"]


def _keep(column: Any, rows: np.ndarray) -> Any:
    if isinstance(column, tuple):
        return tuple(column[row] for row in rows)
    return None if column is None else column[rows]


def _read_columns(
    records: stored_records.Records,
    arrays: Mapping[str, np.ndarray],
    *,
    codes: int,
    damaged: damaged_frames.Damaged,
) -> dict[str, Any]:
    """Reads all but the images, and fills the arrays of images that are to be in memory."""
    count = len(records)
    label25, has_expression = np.empty((count, 25), np.float32), np.empty(count, bool)
    expression = np.full((count, codes), np.nan, np.float32)
    frame_id, sequence = [""] * count, [""] * count

    def read(index: int) -> None:
        example = records[index]
        for name, array in arrays.items():
            array[index] = records.decode(index, example, name)
        label25[index] = example["label25"]
        has_expression[index] = bool(example["has_expression"])
        if codes and has_expression[index]:
            expression[index] = example["expression"]
        frame_id[index] = example["frame_id"].decode()
        sequence[index] = example["sequence"].decode()

    stored_records.for_each(count, lambda index: damaged.passing(index, lambda: read(index)))
    return {
        "label25": label25,
        "expression": expression if codes else None,
        "has_expression": has_expression,
        "frame_id": tuple(frame_id),
        "sequence": tuple(sequence),
    }


def read_filmed(table: FrameTable, indices: Int[np.ndarray, " b"]) -> UInt8[np.ndarray, "b h w"]:
    """Reads which pixels of some frames were filmed.

    Args:
      table: Frames that say so.
      indices: Their numbers; those of mirror images go on after the last frame.

    Returns:
      255 where something was filmed and 0 elsewhere.
    """
    assert table.filmed is not None
    filmed = table.filmed[indices % len(table.frame_id)]
    mirrored = (indices >= len(table.frame_id))[:, None, None]
    return np.where(mirrored, filmed[:, :, ::-1], filmed)


def make_batches(
    table: FrameTable,
    *,
    batch_size: int,
    seed: int,
    mirror: bool = False,
    process_index: int = 0,
    process_count: int = 1,
    skip_damaged: int = 0,
) -> grain.DatasetIterator:
    """Starts the endless stream of training batches of one process.

    Every epoch is a new permutation of all frames; with `mirror`, of all frames and their mirror
    images. Every process takes its slice of each batch of one order, so that together they see what
    one process would see, and a position means the same for any number of them. Expression codes
    are not served: no training step takes a frame's code.

    Args:
      table: The frames; images that are on disk are decoded batch by batch, some batches ahead.
      batch_size: Frames in a batch of all processes.
      seed: Fixes the order; the same in every process.
      mirror: Add mirror images, with mirrored cameras.
      process_index: Which process this is.
      process_count: How many there are.
      skip_damaged: How many frames whose image turns out damaged on disk are named and replaced by
        the frame that follows; one more is refused when its batch is due.

    Returns:
      An iterator over dicts: `image` uint8 [b h w 3], `label25` float32 [b 25], `index` int32 [b],
      the frame's position in the split, `number` int32 [b], the same but for mirror images, whose
      numbers go on after the last frame, and `filmed` uint8 [b h w] where the table has it. It has
      `get_state()`, `set_state(state)`, `close()`.

    Source: grain; mirroring as in EG3D's mirrored datasets.
    """
    count = len(table.frame_id)
    share = batch_size // process_count
    mine = slice(process_index * share, (process_index + 1) * share)
    damaged = damaged_frames.Damaged(skip_damaged)

    def load(indices: np.ndarray) -> dict[str, np.ndarray]:
        indices = indices[mine]
        frames = indices % count
        image, frames = damaged.read(table.image, frames)
        indices, label25 = frames + indices // count * count, table.label25[frames]
        mirrored = indices >= count
        if mirrored.any():
            image[mirrored] = canonicalize.mirror_image(image[mirrored])
            label25[mirrored] = canonicalize.mirror_label25(label25[mirrored])
        batch = {"image": image, "label25": label25, "index": frames.astype(np.int32)}
        batch["number"] = indices.astype(np.int32)
        return batch if table.filmed is None else batch | {"filmed": read_filmed(table, indices)}

    dataset = grain.MapDataset.range(2 * count if mirror else count).seed(seed).shuffle()
    dataset = dataset.repeat().batch(batch_size, drop_remainder=True).map(load)
    return iter(dataset.to_iter_dataset(_READ_OPTIONS))
