"""The dataset of the mapping stage: generated frontal faces with their latents and codes.

A pair is an image the generator made from `w` and the expression `code` that an estimator read
from it. Pairs are held as a dict of stacked arrays, in memory and from end to end:

    image       uint8 [n h w 3]
    w           float32 [n w_dim]
    code        float32 [n e]
    confidence  float32 [n], how sure the estimator was, 0..1
    seed        int64 [n], what the latent was drawn with

Source: GAN-Avatar (Kabadayi et al. 2024), section on the mapping network.
"""

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from ganavatar_jax.data.builders import storage, stored_records

Pairs = Mapping[str, np.ndarray]

_FIELDS = {
    "image": (np.uint8, 4),
    "w": (np.float32, 2),
    "code": (np.float32, 2),
    "confidence": (np.float32, 1),
    "seed": (np.int64, 1),
}


class ExpressionPairs(storage.Builder):
    """Pairs of a frontal image's latent and expression code."""

    TASK = "make_frontals"
    MEANING = ("names", "metadata")
    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, pairs: Mapping[str, Pairs], metadata: Mapping[str, Any], data_dir: str):
        self._pairs = pairs
        self._stored_metadata = dict(metadata)
        super().__init__(data_dir=data_dir)

    def _info(self) -> tfds.core.DatasetInfo:
        train = self._pairs["train"]
        image_shape = train["image"].shape[1:]
        features = {
            "image": tfds.features.Image(shape=image_shape, encoding_format="png"),
            "w": tfds.features.Tensor(shape=train["w"].shape[1:], dtype=np.float32),
            "code": tfds.features.Tensor(shape=train["code"].shape[1:], dtype=np.float32),
            "confidence": tfds.features.Scalar(dtype=np.float32),
            "seed": tfds.features.Scalar(dtype=np.int64),
        }
        return self.make_info(features, self._stored_metadata)

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict]]]:
        del dl_manager
        return {name: self._generate_examples(name) for name in self._pairs}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        pairs = self._pairs[split]
        for index in range(len(pairs["seed"])):
            example = {name: pairs[name][index] for name in _FIELDS}
            yield index, {**example, "image": storage.encode_png(example["image"])}


def write_pairs(
    dataset_dir: str | pathlib.Path,
    pairs_train: Pairs,
    pairs_validation: Pairs,
    *,
    names: Sequence[str],
    metadata: Mapping[str, Any],
) -> pathlib.Path:
    """Stores the pairs, replacing those that are there.

    Args:
      dataset_dir: Where datasets are kept.
      pairs_train: Arrays as in the module text; at least one pair.
      pairs_validation: The same for pairs that training never sees.
      names: What the numbers of a code mean.
      metadata: Anything JSON can hold, e.g. the generator's and the estimator's identity.

    Returns:
      Folder of the dataset.

    Raises:
      ValueError: an array is missing, or of another dtype, rank or length than the others ask for.
      RunError: the folder cannot be written.
    """
    splits = {"train": pairs_train, "validation": pairs_validation}
    for split, pairs in splits.items():
        _check_pairs(pairs, split, expression_length=len(names))
    for name in ("image", "w"):
        shapes = [pairs[name].shape[1:] for pairs in splits.values()]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"{name} must have one shape in both splits; got {shapes[0]} and {shapes[1]}."
            )
    stored = {"names": list(names), "metadata": dict(metadata)}
    arguments = {"pairs": splits, "metadata": stored}
    return storage.write(ExpressionPairs, pathlib.Path(dataset_dir), arguments=arguments)


def load_pairs(dataset_dir: str | pathlib.Path, split: str) -> dict[str, Any]:
    """Loads a split of the pairs into memory.

    Args:
      dataset_dir: Where `write_pairs` put them.
      split: "train" or "validation".

    Returns:
      The arrays of the module text, in the order they were written, and `names` (a tuple) and
      `metadata` (a dict) as they were given.

    Raises:
      DataFormatError: there are no pairs, or no such split.
    """
    builder = storage.open_dataset(dataset_dir, ExpressionPairs)
    source = storage.open_split(builder, split, images=("image",))
    shapes = {name: np.shape(value) for name, value in source[0].items()}
    shapes["image"] = source.image_shape("image")
    pairs = {
        name: np.empty((len(source), *shapes[name]), dtype) for name, (dtype, _) in _FIELDS.items()
    }

    def read(index: int) -> None:
        example = source[index]
        for name in _FIELDS:
            value = source.decode(index, example) if name == "image" else example[name]
            pairs[name][index] = value

    stored_records.for_each(len(source), read)
    stored = storage.read_metadata(builder)
    return {
        **pairs,
        "names": tuple(stored["names"]),
        "metadata": stored["metadata"],
    }


def _check_pairs(pairs: Pairs, split: str, *, expression_length: int) -> None:
    """Refuses pairs that the dataset would store and a training could not read."""
    for name, (dtype, rank) in _FIELDS.items():
        if name not in pairs:
            raise ValueError(f"{split} pairs lack {name}; they have {', '.join(sorted(pairs))}.")
        array = pairs[name]
        if array.dtype != dtype or array.ndim != rank:
            raise ValueError(
                f"{split} pairs: {name} must be {np.dtype(dtype)} of rank {rank}; got "
                f"{array.dtype} {array.shape}."
            )
    lengths = {name: len(pairs[name]) for name in _FIELDS}
    if len(set(lengths.values())) != 1 or lengths["seed"] < 1:
        raise ValueError(f"{split} pairs must hold one entry or more of each kind; got {lengths}.")
    if pairs["code"].shape[1] != expression_length:
        raise ValueError(
            f"{split} pairs: a code must have one number for each of {expression_length} names; "
            f"got {pairs['code'].shape[1]}."
        )
