import numpy as np
import pytest

from ganavatar_jax.core import errors
from ganavatar_jax.data.builders import expression_pairs

NAMES = ("jawOpen", "eyeBlinkLeft", "eyeBlinkRight")
METADATA = {"generator": "abc", "truncation": 0.7, "camera": [1.0, 2.0]}


def make_pairs(count, *, seed=0):
    generator = np.random.default_rng(seed)
    return {
        "image": generator.integers(0, 256, (count, 16, 16, 3)).astype(np.uint8),
        "w": generator.normal(size=(count, 8)).astype(np.float32),
        "code": generator.random((count, 3)).astype(np.float32),
        "confidence": generator.random(count).astype(np.float32),
        "seed": 2**40 + np.arange(count)[::-1],
    }


def write(folder, train, validation, names=NAMES):
    return expression_pairs.write_pairs(folder, train, validation, names=names, metadata=METADATA)


def test_pairs_come_back_bit_by_bit_and_in_order(tmp_path):
    written = {"train": make_pairs(12), "validation": make_pairs(3, seed=1)}
    write(tmp_path, written["train"], written["validation"])
    for split, pairs in written.items():
        loaded = expression_pairs.load_pairs(tmp_path, split)
        for name, array in pairs.items():
            assert loaded[name].dtype == array.dtype
            np.testing.assert_array_equal(loaded[name], array)
        assert loaded["names"] == NAMES
        assert loaded["metadata"] == METADATA


def test_loaded_pairs_can_be_written_again(tmp_path):
    write(tmp_path / "a", make_pairs(4), make_pairs(2))
    loaded = expression_pairs.load_pairs(tmp_path / "a", "train")
    write(tmp_path / "b", loaded, loaded, names=loaded["names"])
    again = expression_pairs.load_pairs(tmp_path / "b", "validation")
    np.testing.assert_array_equal(again["w"], loaded["w"])


def test_new_pairs_replace_the_old(tmp_path):
    write(tmp_path, make_pairs(4), make_pairs(2))
    write(tmp_path, make_pairs(3, seed=7), make_pairs(1))
    loaded = expression_pairs.load_pairs(tmp_path, "train")
    np.testing.assert_array_equal(loaded["w"], make_pairs(3, seed=7)["w"])
    assert [path.name for path in tmp_path.iterdir()] == ["expression_pairs"]


def test_missing_pairs_say_how_to_make_them(tmp_path):
    with pytest.raises(errors.DataFormatError, match=r"no finished dataset.*--task=make_frontals"):
        expression_pairs.load_pairs(tmp_path, "train")


def test_an_unknown_split_is_refused(tmp_path):
    write(tmp_path, make_pairs(2), make_pairs(1))
    with pytest.raises(errors.DataFormatError, match='no split "test"; it has train, validation'):
        expression_pairs.load_pairs(tmp_path, "test")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("w", None, "train pairs lack w; they have"),
        ("w", np.zeros((4, 2, 8), np.float32), r"w must be float32 of rank 2; got float32 \(4, 2"),
        ("w", np.zeros((4, 8)), "w must be float32 of rank 2; got float64"),
        ("image", np.zeros((4, 16, 16, 3), np.float32), "image must be uint8"),
        ("confidence", np.zeros(3, np.float32), "one entry or more of each kind.*'confidence': 3"),
        ("code", np.zeros((4, 2), np.float32), "each of 3 names; got 2"),
        ("w", np.zeros((4, 7), np.float32), r"w must have one shape.*\(7,\) and \(8,\)"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(name, value, message, tmp_path):
    pairs = make_pairs(4)
    if value is None:
        del pairs[name]
    else:
        pairs[name] = value
    with pytest.raises(ValueError, match=message):
        write(tmp_path, pairs, make_pairs(2))
    assert list(tmp_path.iterdir()) == []


def test_an_empty_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match="validation pairs must hold one entry or more"):
        write(tmp_path, make_pairs(2), make_pairs(0))
