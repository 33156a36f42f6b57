import dataclasses
import os
import pathlib
import shutil

import numpy as np
import pytest

from ganavatar_jax.core import errors
from ganavatar_jax.data import data_config, frame_table
from ganavatar_jax.data.builders import gan_frames, storage
from ganavatar_jax.runs import owner
from helpers import captures


def config(source, **values):
    return data_config.DataConfig(**({"source": str(source), "resolution": 16} | values))


@pytest.fixture
def source(tmp_path):
    return captures.make().write_folder(tmp_path / "capture")


def files_below(path):
    return sorted(p.relative_to(path).as_posix() for p in path.rglob("*"))


def test_frames_come_back_as_they_went_in(source, tmp_path):
    summary = gan_frames.prepare(config(source), tmp_path / "data")
    assert summary["splits"] == {"train": 4, "test": 2}
    assert summary["rebuilt"]
    table = frame_table.load_split(tmp_path / "data", "train", with_alpha=True)
    np.testing.assert_array_equal(table.image, [captures.image(i) for i in range(4)])
    np.testing.assert_array_equal(table.alpha, [captures.matte()] * 4)
    np.testing.assert_allclose(table.label25, [captures.label(i) for i in range(4)], atol=1e-6)
    np.testing.assert_allclose(table.expression, [[i / 10, 0.5, 0.25] for i in range(4)])
    assert table.has_expression.tolist() == [True] * 4
    assert table.frame_id == tuple(f"images/{i:04d}.png" for i in range(4))
    assert table.sequence == ("images",) * 4
    assert table.expression_names == captures.NAMES
    assert table.background == "white"
    test = frame_table.load_split(tmp_path / "data", "test")
    assert test.frame_id == ("images/0004.png", "images/0005.png")
    assert test.alpha is None


def test_stored_frames_are_canonical(source, tmp_path):
    made = config(source, resolution=8, background="black")
    summary = gan_frames.prepare(made, tmp_path / "data")
    assert (summary["resolution"], summary["background"]) == (8, "black")
    table = frame_table.load_split(tmp_path / "data", "train", with_alpha=True)
    assert table.image.shape == (4, 8, 8, 3)
    assert table.alpha.shape == (4, 8, 8)
    assert table.image[:, :, 6:].max() == 0


def test_a_capture_without_alpha_and_codes_is_stored_without_them(tmp_path):
    tiny = captures.make(alpha=False)
    tiny.expressions = None
    path = tiny.write_zip(tmp_path / "capture.zip")
    summary = gan_frames.prepare(config(path), tmp_path / "data")
    assert summary["expression_names"] == []
    table = frame_table.load_split(tmp_path / "data", "train", with_alpha=True)
    assert table.alpha is None
    assert table.expression is None
    assert not table.has_expression.any()


def test_a_missing_code_is_not_a_number(tmp_path):
    tiny = captures.make()
    tiny.expressions["codes"]["images/0001.png"] = None
    gan_frames.prepare(config(tiny.write_folder(tmp_path / "capture")), tmp_path / "data")
    table = frame_table.load_split(tmp_path / "data", "train")
    assert table.has_expression.tolist() == [True, False, True, True]
    assert np.isnan(table.expression[1]).all()
    assert np.isfinite(table.expression[[0, 2, 3]]).all()


def test_a_capture_with_nothing_held_out_has_only_a_training_split(source, tmp_path):
    made = config(source, split=data_config.SplitConfig(policy="none"))
    assert gan_frames.prepare(made, tmp_path / "data")["splits"] == {"train": 6}
    with pytest.raises(errors.DataFormatError, match='no split "test"; it has train'):
        frame_table.load_split(tmp_path / "data", "test")


def test_preparing_again_writes_nothing(source, tmp_path):
    first = gan_frames.prepare(config(source), tmp_path / "data")
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "data").rglob("*")}
    calls = []
    again = gan_frames.prepare(
        config(source), tmp_path / "data", progress=lambda *counts: calls.append(counts)
    )
    assert calls == []
    assert times == {p: p.stat().st_mtime_ns for p in (tmp_path / "data").rglob("*")}
    assert again == first | {"rebuilt": False}


def test_options_that_only_affect_serving_do_not_rebuild(source, tmp_path):
    gan_frames.prepare(config(source), tmp_path / "data")
    other = config(source, mirror=True, cache_limit_mb=1)
    assert not gan_frames.prepare(other, tmp_path / "data")["rebuilt"]


def test_the_same_capture_in_another_place_does_not_rebuild(tmp_path):
    first = captures.make().write_zip(tmp_path / "first.zip")
    second = captures.make().write_zip(tmp_path / "second.zip")
    gan_frames.prepare(config(first), tmp_path / "data")
    assert not gan_frames.prepare(config(second), tmp_path / "data")["rebuilt"]


@pytest.mark.parametrize(
    "change",
    [
        {"resolution": 8},
        {"background": "black"},
        {"resample": "box"},
        {"split": data_config.SplitConfig(max_train_frames=3)},
    ],
)
def test_another_config_rebuilds(change, source, tmp_path):
    first = gan_frames.prepare(config(source), tmp_path / "data")
    second = gan_frames.prepare(config(source, **change), tmp_path / "data")
    assert second["rebuilt"]
    assert second["fingerprint"] != first["fingerprint"]
    assert list((tmp_path / "data").iterdir()) == [tmp_path / "data" / "gan_frames"]


def test_another_source_rebuilds(tmp_path):
    path = captures.make().write_zip(tmp_path / "capture.zip")
    gan_frames.prepare(config(path), tmp_path / "data")
    tiny = captures.make()
    tiny.files["images/0000.png"] = captures.encode(captures.image(9))
    tiny.write_zip(path)
    assert gan_frames.prepare(config(path), tmp_path / "data")["rebuilt"]
    table = frame_table.load_split(tmp_path / "data", "train")
    np.testing.assert_array_equal(table.image[0], captures.image(9))


def test_progress_counts_every_frame(source, tmp_path):
    calls = []
    gan_frames.prepare(
        config(source), tmp_path / "data", progress=lambda *counts: calls.append(counts)
    )
    assert calls == [(done, 6) for done in range(1, 7)]


def test_preparing_prints_nothing(source, tmp_path, capfd):
    gan_frames.prepare(config(source), tmp_path / "data")
    assert capfd.readouterr() == ("", "")


def damage(path):
    tiny = captures.make()
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    tiny.files["images/0003.png"] = captures.encode(noise, "jpeg")[:-60]
    shutil.rmtree(path)
    return tiny.write_folder(path)


def test_a_failure_leaves_nothing_behind(source, tmp_path):
    with pytest.raises(errors.DataFormatError, match="images/0003.png: the image is damaged"):
        gan_frames.prepare(config(damage(source)), tmp_path / "data")
    assert files_below(tmp_path / "data") == []
    with pytest.raises(errors.DataFormatError, match=r"no finished dataset.*--task=prepare_data"):
        frame_table.load_split(tmp_path / "data", "train")


def test_a_failure_leaves_the_former_dataset(source, tmp_path):
    gan_frames.prepare(config(source), tmp_path / "data")
    before = files_below(tmp_path / "data")
    with pytest.raises(errors.DataFormatError, match="images/0003.png: the image is damaged"):
        gan_frames.prepare(config(damage(source)), tmp_path / "data")
    assert files_below(tmp_path / "data") == before
    assert len(frame_table.load_split(tmp_path / "data", "train").frame_id) == 4


def test_an_interruption_leaves_nothing_behind(source, tmp_path):
    def interrupt(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gan_frames.prepare(config(source), tmp_path / "data", progress=interrupt)
    assert files_below(tmp_path / "data") == []


def test_what_a_killed_run_left_is_swept_up(source, tmp_path):
    leftover = tmp_path / "data" / ".incomplete-gan_frames-abc"
    other = tmp_path / "data" / ".incomplete-expression_pairs-abc"
    for folder in (leftover, other):
        folder.mkdir(parents=True)
        (folder / "part").write_text("x")
    gan_frames.prepare(config(source), tmp_path / "data")
    assert not leftover.exists()
    assert other.exists()  # another dataset may be under way


def test_what_a_living_run_is_writing_is_left(source, tmp_path):
    here = owner.current()
    mine = tmp_path / "data" / f".incomplete-gan_frames-{here.token()}-abc"
    dead = dataclasses.replace(here, start="1").token()
    killed = tmp_path / "data" / f".incomplete-gan_frames-{dead}-abc"
    for folder in (mine, killed):
        folder.mkdir(parents=True)
    gan_frames.prepare(config(source), tmp_path / "data")
    assert mine.exists()
    assert not killed.exists()


def test_what_a_run_out_of_sight_may_be_writing_is_left_and_named(source, tmp_path, caplog):
    elsewhere = dataclasses.replace(owner.current(), host="node7", boot="0123456789ab").token()
    folder = tmp_path / "data" / f".incomplete-gan_frames-{elsewhere}-abc"
    folder.mkdir(parents=True)
    gan_frames.prepare(config(source), tmp_path / "data")
    assert folder.exists()
    assert "delete it if that is dead" in caplog.text


RECORDS = "gan_frames-train.array_record-00000-of-00001"


def flip(path):
    content = bytearray(path.read_bytes())
    content[200] ^= 0xFF  # in the first chunk of records, behind the file's own header
    path.write_bytes(content)


DAMAGES = {
    "changed": lambda folder: flip(folder / RECORDS),
    "cut": lambda folder: (folder / RECORDS).write_bytes((folder / RECORDS).read_bytes()[:70000]),
    "empty": lambda folder: (folder / RECORDS).write_bytes(b""),
    "gone": lambda folder: (folder / RECORDS).unlink(),
    "info": lambda folder: (folder / "dataset_info.json").write_text("{"),
    "features": lambda folder: (folder / "features.json").write_text("{"),
    "metadata": lambda folder: (folder / "metadata.json").unlink(),
    "contents": lambda folder: (folder / "contents.json").write_text("{"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_dataset_is_told_and_made_again(damage, source, tmp_path, caplog):
    first = gan_frames.prepare(config(source), tmp_path / "data")
    damage(pathlib.Path(first["folder"]))
    with pytest.raises(errors.DataFormatError, match="is damaged.*--task=prepare_data") as caught:
        frame_table.load_split(tmp_path / "data", "train")
    assert "\n" not in str(caught.value)
    again = gan_frames.prepare(config(source), tmp_path / "data")
    assert again["rebuilt"]
    assert caplog.records
    assert len(frame_table.load_split(tmp_path / "data", "train").frame_id) == 4
    assert again["identity"] == first["identity"]


@pytest.mark.parametrize("noted", [True, False], ids=["noted", "of an earlier version"])
def test_a_damaged_record_is_named(noted, source, tmp_path):
    folder = pathlib.Path(gan_frames.prepare(config(source), tmp_path / "data")["folder"])
    if not noted:
        (folder / "contents.json").unlink()
    flip(folder / RECORDS)
    with pytest.raises(errors.DataFormatError, match=r'record 0 of split "train"'):
        frame_table.load_split(tmp_path / "data", "train")


def test_a_capture_whose_files_are_newer_gives_the_same_dataset(source, tmp_path):
    first = gan_frames.prepare(config(source), tmp_path / "data")
    os.utime(source / "images" / "0000.png", ns=(1, 1))
    again = gan_frames.prepare(config(source), tmp_path / "data")
    assert again["rebuilt"]
    assert again["identity"] == first["identity"]
    changed = captures.make()
    changed.files["images/0000.png"] = captures.encode(255 - captures.image(0))
    shutil.rmtree(source)
    changed.write_folder(source)
    edited = gan_frames.prepare(config(source), tmp_path / "data")
    assert edited["identity"] != first["identity"]


def test_images_are_never_enlarged(source, tmp_path):
    with pytest.raises(
        errors.DataFormatError, match=r"measure 16 pixels, less than data.resolution=32\. Lower"
    ):
        gan_frames.prepare(config(source, resolution=32), tmp_path / "data")


def test_a_place_that_cannot_be_written_is_named(source, tmp_path):
    (tmp_path / "data").write_text("a file, not a folder")
    with pytest.raises(errors.RunError, match="data: the dataset cannot be written there"):
        gan_frames.prepare(config(source), tmp_path / "data")


def test_an_unknown_package_source_is_refused():
    with pytest.raises(errors.DataFormatError, match="it has package:actor"):
        gan_frames.source_path("package:nobody")


def test_a_home_folder_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert gan_frames.source_path("~/capture") == tmp_path / "capture"


def test_the_dataset_is_an_ordinary_tfds_dataset(source, tmp_path):
    gan_frames.prepare(config(source), tmp_path / "data")
    builder = storage.open_dataset(tmp_path / "data", gan_frames.GanFrames)
    example = builder.as_data_source("test")[0]
    np.testing.assert_array_equal(example["image"], captures.image(4))
    assert example["frame_id"] == b"images/0004.png"
    assert set(dataclasses.asdict(config(source))) - set(builder.info.metadata["config"]) == {
        "source",
        "mirror",
        "cache_limit_mb",
        "skip_damaged",
    }
