import itertools

import numpy as np
import pytest

from ganavatar_jax.data import canonicalize, data_config, frame_table
from ganavatar_jax.data.builders import gan_frames
from helpers import captures

FRAMES = 12


@pytest.fixture(scope="module")
def dataset_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    tiny = captures.make(frames=FRAMES)
    tiny.meta["split"] = None
    source = tiny.write_folder(folder / "capture")
    split = data_config.SplitConfig(policy="none")
    made = data_config.DataConfig(source=str(source), resolution=16, split=split)
    gan_frames.prepare(made, folder / "data")
    return folder / "data"


@pytest.fixture
def take(dataset_dir):
    """Takes the first batches of a stream and closes it."""
    opened = []

    def take(count, *, source=None, **options):
        source = dataset_dir if source is None else source
        batches = frame_table.make_batches(source, **({"batch_size": 4, "seed": 0} | options))
        opened.append(batches)
        return list(itertools.islice(batches, count))

    yield take
    for batches in opened:
        batches.close()


def order(batches):
    return np.concatenate([batch["index"] for batch in batches]).tolist()


def assert_equal_batches(one, other):
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        assert left.keys() == right.keys()
        for name in left:
            np.testing.assert_array_equal(left[name], right[name])


def test_batches_hold_frames_with_their_own_cameras(take):
    for batch in take(6):
        assert (batch["image"].dtype, batch["image"].shape) == (np.uint8, (4, 16, 16, 3))
        assert (batch["label25"].dtype, batch["label25"].shape) == (np.float32, (4, 25))
        assert (batch["index"].dtype, batch["index"].shape) == (np.int32, (4,))
        for image, label25, index in zip(*batch.values(), strict=True):
            np.testing.assert_array_equal(image, captures.image(int(index)))
            np.testing.assert_allclose(label25, captures.label(int(index)), atol=1e-6)


def test_every_epoch_is_a_new_permutation_of_all_frames(take):
    epochs = np.reshape(order(take(9)), (3, FRAMES)).tolist()
    for epoch in epochs:
        assert sorted(epoch) == list(range(FRAMES))
    assert epochs[0] != epochs[1]
    assert epochs[1] != epochs[2]


def test_the_seed_fixes_the_order(take):
    assert order(take(6, seed=3)) == order(take(6, seed=3))
    assert order(take(6, seed=3)) != order(take(6, seed=4))


def test_batches_run_over_the_end_of_an_epoch(take):
    # 5 does not divide 12, and no frame may be lost between epochs.
    seen = order(take(12, batch_size=5))
    counts = np.bincount(seen, minlength=FRAMES)
    assert counts.tolist() == [5] * FRAMES


def test_a_batch_may_exceed_the_number_of_frames(take):
    (batch,) = take(1, batch_size=2 * FRAMES)
    assert np.bincount(batch["index"]).tolist() == [2] * FRAMES


@pytest.mark.parametrize("process_count", [2, 5])  # 5 does not divide the 12 frames
@pytest.mark.parametrize("mirror", [False, True])
def test_processes_together_see_what_one_would_see(process_count, mirror, take):
    alone = take(process_count * 6, batch_size=1, mirror=mirror)
    for index in range(process_count):
        share = take(
            6, batch_size=1, mirror=mirror, process_index=index, process_count=process_count
        )
        assert_equal_batches(share, alone[index::process_count])


@pytest.mark.parametrize("cache_limit_mb", [4096, 0])
@pytest.mark.parametrize("mirror", [False, True])
def test_a_resumed_stream_continues_with_the_same_batches(dataset_dir, cache_limit_mb, mirror):
    def start():
        return frame_table.make_batches(
            dataset_dir, batch_size=5, seed=1, mirror=mirror, cache_limit_mb=cache_limit_mb
        )

    straight = start()
    expected = list(itertools.islice(straight, 11))
    broken = start()
    first = list(itertools.islice(broken, 4))
    state = broken.get_state()
    resumed = start()
    resumed.set_state(state)
    rest = list(itertools.islice(resumed, 7))
    broken.set_state(state)  # going back works as well
    again = list(itertools.islice(broken, 7))
    for batches in (straight, broken, resumed):
        batches.close()
    assert_equal_batches(first + rest, expected)
    assert_equal_batches(again, rest)


@pytest.mark.parametrize("mirror", [False, True])
def test_frames_in_memory_and_on_disk_give_the_same_stream(mirror, take, dataset_dir):
    from_disk = take(6, mirror=mirror, cache_limit_mb=0)
    assert_equal_batches(from_disk, take(6, mirror=mirror))
    table = frame_table.load_split(dataset_dir, "train")
    assert_equal_batches(from_disk, take(6, mirror=mirror, source=table))


def test_mirrored_epochs_hold_every_frame_both_ways(take):
    kinds = {}
    for batch in take(2 * FRAMES // 4, mirror=True):
        for image, label25, index in zip(*batch.values(), strict=True):
            plain = captures.image(int(index))
            label = np.array(captures.label(int(index)), np.float32)
            mirrored = np.array_equal(image, plain[:, ::-1])
            expected = canonicalize.mirror_label25(label) if mirrored else label
            np.testing.assert_array_equal(image, plain[:, ::-1] if mirrored else plain)
            np.testing.assert_allclose(label25, expected, atol=1e-6)
            kinds.setdefault(int(index), []).append(mirrored)
    assert {index: sorted(kind) for index, kind in kinds.items()} == {
        index: [False, True] for index in range(FRAMES)
    }


def test_changing_a_batch_does_not_change_the_table(dataset_dir):
    table = frame_table.load_split(dataset_dir, "train")
    kept = table.image.copy()
    batches = frame_table.make_batches(table, batch_size=4, seed=0, mirror=True)
    for batch in itertools.islice(batches, 6):
        batch["image"][:] = 0
        batch["label25"][:] = 0
    batches.close()
    np.testing.assert_array_equal(table.image, kept)
