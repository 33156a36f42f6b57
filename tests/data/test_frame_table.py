import dataclasses
import itertools
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from ganavatar_jax.core import errors
from ganavatar_jax.data import canonicalize, data_config, frame_table, records
from ganavatar_jax.data.builders import gan_frames, storage, stored_records
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

    def take(count, *, cache_limit_mb=4096, **options):
        table = frame_table.load_split(dataset_dir, "train", cache_limit_mb=cache_limit_mb)
        batches = frame_table.make_batches(table, **({"batch_size": 4, "seed": 0} | options))
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
        np.testing.assert_array_equal(batch["number"], batch["index"])  # no mirror images
        for image, label25, index, _ in zip(*batch.values(), strict=True):
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
def test_processes_take_slices_of_the_batches_that_one_would_see(process_count, mirror, take):
    alone = take(6, batch_size=10, mirror=mirror)
    share = 10 // process_count
    for index in range(process_count):
        mine = take(
            6, batch_size=10, mirror=mirror, process_index=index, process_count=process_count
        )
        rows = slice(index * share, (index + 1) * share)
        assert_equal_batches(mine, [{k: v[rows] for k, v in batch.items()} for batch in alone])


@pytest.mark.parametrize("limits_mb", [(4096, 4096), (0, 0), (4096, 0), (0, 4096)], ids=str)
@pytest.mark.parametrize("mirror", [False, True])
def test_a_resumed_stream_continues_with_the_same_batches(dataset_dir, limits_mb, mirror):
    """Wherever the images were before, and are now: in memory or on disk."""

    def start(limit_mb):
        table = frame_table.load_split(dataset_dir, "train", cache_limit_mb=limit_mb)
        return frame_table.make_batches(table, batch_size=5, seed=1, mirror=mirror)

    before, after = limits_mb
    straight = start(before)
    expected = list(itertools.islice(straight, 11))
    broken = start(before)
    first = list(itertools.islice(broken, 4))
    state = broken.get_state()
    resumed = start(after)
    resumed.set_state(state)
    rest = list(itertools.islice(resumed, 7))
    broken.set_state(state)  # going back works as well
    again = list(itertools.islice(broken, 7))
    for batches in (straight, broken, resumed):
        batches.close()
    assert_equal_batches(first + rest, expected)
    assert_equal_batches(again, rest)


@pytest.mark.parametrize("mirror", [False, True])
def test_frames_in_memory_and_on_disk_give_the_same_stream(mirror, take):
    assert_equal_batches(take(6, mirror=mirror, cache_limit_mb=0), take(6, mirror=mirror))


def test_tables_in_memory_and_on_disk_hold_the_same(dataset_dir):
    kept, stored = (
        frame_table.load_split(dataset_dir, "train", with_alpha=True, cache_limit_mb=limit_mb)
        for limit_mb in (4096, 0)
    )
    for field in dataclasses.fields(frame_table.FrameTable):
        left, right = getattr(kept, field.name), getattr(stored, field.name)
        if field.name in ("image", "alpha"):
            assert isinstance(left, np.ndarray)
            assert isinstance(right, stored_records.StoredImages)
            assert right.shape == left.shape
            for key in (3, -1, slice(None), slice(1, 9, 3), [5, 5, 0], np.arange(FRAMES) > 7):
                np.testing.assert_array_equal(right[key], left[key])
            np.testing.assert_array_equal(list(right), left)
        elif isinstance(left, np.ndarray):
            assert left.dtype == right.dtype
            np.testing.assert_array_equal(left, right)
        else:
            assert left == right


def test_images_are_kept_up_to_the_limit_and_alpha_counts(tmp_path):
    side = 256  # 192 KB an image, 64 KB its alpha
    tiny = captures.make(frames=9, side=side)
    tiny.meta["split"] = None
    split = data_config.SplitConfig(policy="none")
    source = str(tiny.write_folder(tmp_path / "capture"))
    made = data_config.DataConfig(source=source, resolution=side, split=split)
    gan_frames.prepare(made, tmp_path / "data")

    def is_kept(**options):
        table = frame_table.load_split(tmp_path / "data", "train", **options)
        return isinstance(table.image, np.ndarray)

    assert is_kept(cache_limit_mb=3, with_alpha=True)
    assert not is_kept(cache_limit_mb=2, with_alpha=True)
    assert is_kept(cache_limit_mb=2)
    assert not is_kept(cache_limit_mb=1)


def test_a_limit_below_nothing_is_refused():
    with pytest.raises(ValueError, match=r"cache_limit_mb must not be negative; got -1\. 0 keeps"):
        data_config.DataConfig(source="x", resolution=16, cache_limit_mb=-1)


def test_mirrored_batches_bring_no_codes_so_that_none_can_be_wrong(take, dataset_dir):
    table = frame_table.load_split(dataset_dir, "train")
    assert table.expression_names == captures.NAMES  # two of which have sides
    for batch in take(6, mirror=True):
        assert set(batch) == {"image", "label25", "index", "number"}
    # What is fitted to codes (`face_fit="codes"`) sees the frames as they are.
    np.testing.assert_array_equal(table.image, [captures.image(i) for i in range(FRAMES)])
    np.testing.assert_allclose(table.expression[:, 0], np.arange(FRAMES) / 10, atol=1e-6)


def test_mirrored_epochs_hold_every_frame_both_ways(take):
    kinds = {}
    for batch in take(2 * FRAMES // 4, mirror=True):
        for image, label25, index, number in zip(*batch.values(), strict=True):
            plain = captures.image(int(index))
            label = np.array(captures.label(int(index)), np.float32)
            mirrored = np.array_equal(image, plain[:, ::-1])
            assert number == index + mirrored * FRAMES
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


# --- damage ---


def damaged(dataset_dir, folder, change):
    """Copies the dataset and changes the bytes of its records."""
    shutil.copytree(dataset_dir, folder)
    [path] = (folder / "gan_frames" / "1.0.0").glob("*-train.array_record-*")
    path.write_bytes(change(bytearray(path.read_bytes())))
    return folder


def spoil(data):
    """Changes a byte of the first record, which begins at 64 and is longer than 200."""
    data[200] ^= 0xFF
    return data


def halve(data):
    return data[: len(data) // 2]


@pytest.mark.parametrize("limit_mb", [4096, 0])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            spoil,
            r'1\.0\.0: record 0 of split "train" is damaged \(.*hash mismatch.*\)\. Run',
        ),
        (halve, r'1\.0\.0: record \d+ .*split "train" is damaged \(.+\)\. Run'),
        (
            lambda data: b"",
            r'1\.0\.0: record \d+ of split "train" is damaged \(.+\)\. Run',
        ),
    ],
    ids=["bytes changed", "cut short", "empty"],
)
def test_a_damaged_record_is_named_in_one_line(limit_mb, change, message, dataset_dir, tmp_path):
    folder = damaged(dataset_dir, tmp_path / "data", change)
    # Without the sizes of its files, as a dataset of an earlier version.
    (folder / "gan_frames" / "1.0.0" / "contents.json").unlink()
    with pytest.raises(errors.DataFormatError, match=message) as caught:
        frame_table.load_split(folder, "train", cache_limit_mb=limit_mb)
    assert "\n" not in str(caught.value)


def test_damage_that_comes_while_training_is_named_too(dataset_dir, tmp_path):
    folder = damaged(dataset_dir, tmp_path / "data", lambda data: data)
    table = frame_table.load_split(folder, "train", cache_limit_mb=0)
    [path] = (folder / "gan_frames" / "1.0.0").glob("*-train.array_record-*")
    path.write_bytes(spoil(bytearray(path.read_bytes())))
    batches = frame_table.make_batches(table, batch_size=4, seed=0)
    with pytest.raises(errors.DataFormatError, match='record 0 of split "train" is damaged'):
        list(itertools.islice(batches, 3))
    batches.close()


@pytest.mark.parametrize("limit_mb", [4096, 0])
def test_damaged_frames_are_named_and_left_out_up_to_a_limit(
    limit_mb, dataset_dir, tmp_path, caplog
):
    folder = damaged(dataset_dir, tmp_path / "data", spoil)
    whole = frame_table.load_split(dataset_dir, "train", cache_limit_mb=limit_mb)
    table = frame_table.load_split(folder, "train", cache_limit_mb=limit_mb, skip_damaged=1)
    assert 'record 0 of split "train" is damaged' in caplog.text
    assert "It is left out (1 of at most 1, data.skip_damaged)." in caplog.text
    assert table.frame_id == whole.frame_id[1:]
    np.testing.assert_array_equal(table.image[:], whole.image[1:])
    np.testing.assert_array_equal(table.label25, whole.label25[1:])
    with pytest.raises(errors.DataFormatError, match="record 0"):
        frame_table.load_split(folder, "train", cache_limit_mb=limit_mb)


def test_a_frame_damaged_while_training_is_replaced_by_the_next_in_every_batch(
    dataset_dir, tmp_path, caplog
):
    folder = damaged(dataset_dir, tmp_path / "data", lambda data: data)
    sound = frame_table.load_split(dataset_dir, "train")
    table = frame_table.load_split(folder, "train", cache_limit_mb=0)
    [path] = (folder / "gan_frames" / "1.0.0").glob("*-train.array_record-*")
    path.write_bytes(spoil(bytearray(path.read_bytes())))
    options = {"batch_size": 4, "seed": 0, "mirror": True}
    batches = frame_table.make_batches(table, **options, skip_damaged=1)
    expected = frame_table.make_batches(sound, **options)
    for found, batch in itertools.islice(zip(batches, expected, strict=True), 9):
        hit = batch["index"] == 0
        assert (found["index"] == np.where(hit, 1, batch["index"])).all()
        np.testing.assert_array_equal(found["image"][~hit], batch["image"][~hit])
        np.testing.assert_array_equal(found["label25"][~hit], batch["label25"][~hit])
    assert caplog.text.count("It is left out (1 of at most 1") == 1
    batches.close()
    expected.close()


def test_an_image_that_is_none_or_of_another_size_is_named_with_its_frame(dataset_dir):
    builder = storage.open_dataset(dataset_dir, gan_frames.GanFrames)
    split = storage.open_split(builder, "train", images=("image", "alpha"))
    example = dict(split[5])
    for image in (
        b"no picture",
        example["image"][:-40],
        captures.encode(captures.image(0, side=8)),
    ):
        with pytest.raises(errors.DataFormatError, match=r"record 5 \(images/0005\.png\) of split"):
            split.decode(5, example | {"image": image})


# --- memory ---

MANY, SIDE = 3000, 128  # 141 MB decoded
MEASURE = """
import json, pathlib, resource, sys
from ganavatar_jax.data import frame_table
from ganavatar_jax.metrics import baselines

def peak_mb():
    status = pathlib.Path("/proc/self/status")  # what a process's parent held does not count there
    if not status.is_file():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 2**10

def work(limit_mb):
    table = frame_table.load_split(sys.argv[1], "train", cache_limit_mb=limit_mb)
    batches = frame_table.make_batches(table, batch_size=32, seed=0, mirror=True)
    seen = {int(i) for _ in range(200) for i in next(batches)["index"]}
    assert len(seen) > 0.8 * len(table.frame_id)
    baselines.mean_image(table.image)
    batches.close()

start = peak_mb()
work(4)
on_disk = peak_mb()
work(4096)
print(json.dumps({"on_disk": on_disk - start, "in_memory": peak_mb() - start}))
"""


@pytest.mark.slow
def test_a_capture_larger_than_the_limit_is_served_in_bounded_memory(tmp_path):
    def reference(index):
        image = np.full((SIDE, SIDE, 3), index % 251, np.uint8)
        label25 = np.array(captures.LABEL, np.float32)
        return records.FrameReference(
            label25, None, f"{index}.png", "", None, (SIDE, SIDE), lambda: (image, None)
        )

    frames = {"train": [reference(index) for index in range(MANY)]}
    metadata = {"expression_names": [], "resolution": SIDE, "has_alpha": False}
    arguments = {
        "frames": frames,
        "canonical": lambda frame: frame.load(),
        "metadata": {**metadata, "background": "white"},
    }
    storage.write(gan_frames.GanFrames, tmp_path, arguments=arguments)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)], capture_output=True, text=True, check=True
    )
    grown_mb = json.loads(done.stdout.splitlines()[-1])
    whole_mb = MANY * SIDE**2 * 3 / 2**20
    assert grown_mb["on_disk"] < 0.5 * whole_mb  # batches that are prefetched, readers, threads
    # One array, not a list and its copy.
    assert 0.9 * whole_mb < grown_mb["in_memory"] < 1.5 * whole_mb
