import numpy as np
import pytest

from ganavatar_jax.core import config as core_config
from ganavatar_jax.core import errors
from ganavatar_jax.data import data_config, records, splits


def capture(count=20, *, assigned=False, sequences=("s",)):
    def side(index):
        return ("test" if index % 5 == 0 else "train") if assigned else None

    frames = tuple(
        records.FrameReference(
            label25=np.zeros(25, np.float32),
            expression=None,
            frame_id=f"{index:03d}",
            sequence=sequences[index * len(sequences) // count],
            split=side(index),
            size=(1, 1),
            read_pixels=lambda: (np.zeros((1, 1, 3), np.uint8), None),
        )
        for index in range(count)
    )
    return records.Capture("c.zip", frames, (), 16, "white", False, "0")


def ids(frames):
    return [int(frame.frame_id) for frame in frames]


def split(source, **options):
    train, test = splits.split_frames(source, data_config.SplitConfig(**options))
    return ids(train), ids(test)


def test_auto_follows_the_capture_where_it_says():
    train, test = split(capture(assigned=True))
    assert test == [0, 5, 10, 15]
    assert train == [index for index in range(20) if index % 5]


def test_auto_holds_out_the_end_elsewhere():
    assert split(capture()) == (list(range(18)), [18, 19])


@pytest.mark.parametrize(
    ("options", "first_test"),
    [
        ({"policy": "trailing_frames", "test_frames": 7}, 13),
        ({"policy": "trailing_fraction", "test_fraction": 0.25}, 15),
    ],
)
def test_trailing_frames_are_held_out(options, first_test):
    assert split(capture(assigned=True), **options) == (
        list(range(first_test)),
        list(range(first_test, 20)),
    )


def test_blocks_are_held_out_over_the_recording_with_a_guard():
    options = {"policy": "blocks", "test_fraction": 0.1, "test_blocks": 2, "guard_frames": 3}
    train, test = split(capture(100), **options)
    assert test == [*range(45, 50), *range(95, 100)]
    assert train == [*range(42), *range(53, 92)]
    # What meta.json holds out is neither trained on nor a block.
    train, test = split(capture(100, assigned=True), **options)
    assert not {index for index in train + test if index % 5 == 0}
    assert len(test) == 8


def test_whole_sequences_are_held_out():
    source = capture(sequences=("a", "b", "c", "d"))
    train, test = split(source, policy="sequences", test_sequences=("b", "d"))
    assert test == [5, 6, 7, 8, 9, 15, 16, 17, 18, 19]
    assert train == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]


def test_none_trains_on_everything():
    assert split(capture(assigned=True), policy="none") == (list(range(20)), [])


def test_thinned_frames_are_evenly_spaced_and_reach_both_ends():
    train, test = split(
        capture(100), policy="trailing_frames", test_frames=50, max_train_frames=8,
        max_test_frames=3,
    )  # fmt: skip
    assert train == [0, 7, 14, 21, 28, 35, 42, 49]
    assert test == [50, 74, 99]


def test_a_stride_thins_only_what_trains():
    assert split(capture(), train_stride=6) == ([0, 6, 12], [18, 19])


def test_a_limit_above_the_number_of_frames_keeps_all():
    assert split(capture(), max_train_frames=1000) == split(capture())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": "meta"}, r'"meta" needs "split" in meta.json.*Use "trailing_frames"'),
        ({"policy": "trailing_frames", "test_frames": 20}, "leaves no training frames of 20"),
        ({"policy": "trailing_frames"}, "leaves no training frames of 20"),
        ({"test_fraction": 0.001}, "leaves no held-out frames of 20"),
        ({"policy": "sequences", "test_sequences": ("s",)}, "leaves no training frames"),
        ({"policy": "sequences", "test_sequences": ("x",)}, r'names "x".*It has: s\.'),
    ],
)
def test_an_impossible_split_is_refused(options, message):
    with pytest.raises(errors.DataFormatError, match=message) as error:
        split(capture(), **options)
    assert str(error.value).startswith("c.zip: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"resolution": 100}, "config: resolution must be a power of two.*got 100"),
        ({"resolution": 4}, "at least 8 pixels; got 4"),
        ({"source": ""}, 'got ""'),
        ({"split": {"test_frames": 0}}, "config.split: .*at least 1; got 0"),
        ({"split": {"train_stride": 0}}, "at least 1; got 350 and 0"),
        ({"split": {"test_fraction": 1.0}}, "between 0 and 1; got 1.0"),
        ({"split": {"max_test_frames": -1}}, "must not be negative"),
        ({"split": {"policy": "sequences"}}, "needs split.test_sequences"),
        ({"split": {"policy": "random"}}, r"config.split.policy: expected one of 'auto'"),
        ({"background": "green"}, "config.background: expected one of 'white'"),
        ({"format": "zip"}, "config.format: expected one of 'eg3d'"),
    ],
)
def test_config_values_that_cannot_work_are_refused_by_their_key(values, message):
    with pytest.raises(errors.ConfigError, match=message):
        core_config.resolve(data_config.DataConfig, {"source": "a", "resolution": 64} | values)


def test_a_config_resolves_from_plain_values():
    made = core_config.resolve(
        data_config.DataConfig,
        {"source": "a", "resolution": 64, "split": {"test_sequences": ["x"]}},
    )
    assert made.split.test_sequences == ("x",)
    assert made.background == "keep"
