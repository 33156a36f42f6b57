"""A training goes on from its own checkpoints only, and nothing trained before is lost."""

import json
import os

import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.apps import completeness, earlier_training, weights
from ganavatar_jax.core import portable
from ganavatar_jax.runs import run_dir
from ganavatar_jax.training import checkpoints

STATE = {"w": jnp.zeros(3)}


@pytest.fixture
def opened(tmp_path):
    """A run with an export, metrics and a prepared dataset."""
    run = run_dir.RunDir(tmp_path)
    run.mark_done("prepare_data", {})
    export(run, 1.0)
    run.metrics.write_text('{"step": 1, "stage": "train_gan"}\n')
    return run


def export(run, value):
    path = run.folder("checkpoints", "export") / weights.GENERATOR
    portable.save_params(path, {"w": np.full(3, value, np.float32)}, {"kind": "generator"})


def checkpoint(run, facts, step=2):
    with checkpoints.Checkpoints(run.folder("checkpoints", "gan")) as saved:
        saved.save(step, STATE, data_state={}, meta={"kimg": 0.1, **facts})


def begun(dataset="a", start=None):
    consumed = {"dataset": dataset} | ({"start": start} if start else {})
    return completeness.Begun("train_gan", consumed, {})


def settle(run, now, **changed):
    info = changed.pop("info", {"kimg": 0.1})
    earlier_training.settle(now, completeness.Verdict(info, changed), run)


def below(run):
    root = run.path / "checkpoints"
    return sorted(p.relative_to(root).as_posix() for p in root.glob("**/*") if p.parent != root)


def test_checkpoints_of_the_same_dataset_are_gone_on_from(opened, caplog):
    checkpoint(opened, earlier_training.note(begun(start="s")))
    before = below(opened)
    settle(opened, begun(start="s"), length="trained to 1 of 2 kimg")
    assert below(opened) == before
    assert not caplog.records


@pytest.mark.parametrize(
    ("now", "what"),
    [(begun("b"), r"dataset \(dataset/gan_frames"), (begun(start="t"), r"start \(gan.init")],
    ids=["dataset", "start"],
)
def test_checkpoints_of_something_else_are_kept_aside_and_told(opened, caplog, now, what):
    checkpoint(opened, earlier_training.note(begun(start="s")))
    settle(opened, now)
    aside = opened.path / "checkpoints" / "before_1"
    assert (aside / "gan" / "2").is_dir()
    assert (aside / "export" / weights.GENERATOR).is_file()
    assert json.loads((aside / "metrics.jsonl").read_text())["step"] == 1
    assert (opened.path / "checkpoints" / "export" / weights.GENERATOR).is_file()  # still in use
    assert not list((opened.path / "checkpoints" / "gan").glob("*"))
    [record] = caplog.records
    message = record.getMessage()
    assert what.replace("\\", "") in message
    assert message.endswith(f"training starts anew, what was trained before is kept in {aside}.")


def test_the_next_edit_finds_another_place(opened):
    for count, dataset in enumerate(("b", "c"), start=1):
        checkpoint(opened, earlier_training.note(begun("a" * count)))
        settle(opened, begun(dataset))
        assert (opened.path / "checkpoints" / f"before_{count}" / "gan" / "2").is_dir()


def test_networks_without_checkpoints_are_kept_once(opened):
    for _ in range(2):  # interrupted before the first checkpoint, and run again
        settle(opened, begun("b"), dataset="made from another dataset")
    assert [p.name for p in (opened.path / "checkpoints").glob("before_*")] == ["before_1"]
    export(opened, 2.0)
    settle(opened, begun("c"), dataset="made from another dataset")
    assert (opened.path / "checkpoints" / "before_2" / "export" / weights.GENERATOR).is_file()


def test_networks_that_are_gone_are_exported_again(opened, caplog):
    checkpoint(opened, earlier_training.note(begun()))
    settle(opened, begun(), generator="generator.safetensors is missing or damaged")
    assert "exported again from the newest checkpoint" in caplog.text
    assert (opened.path / "checkpoints" / "gan" / "2").is_dir()


def test_a_training_without_checkpoints_to_go_on_from_says_so(opened, caplog):
    settle(opened, begun(), length="trained to 1 of 2 kimg")
    assert "there is no checkpoint to go on from; training starts anew" in caplog.text
    aside = opened.path / "checkpoints" / "before_1"
    assert (aside / "export" / weights.GENERATOR).is_file()  # the only networks are not lost
    assert (aside / "metrics.jsonl").is_file()


def test_a_first_training_is_told_nothing(opened, caplog):
    settle(opened, begun(), info=None)
    assert not caplog.records


def test_checkpoints_of_an_earlier_version_go_with_their_marker(opened, caplog):
    checkpoint(opened, {})
    settle(opened, begun(), length="trained to 1 of 2 kimg")
    assert not caplog.records
    settle(opened, begun(), dataset="made from another dataset")
    assert (opened.path / "checkpoints" / "before_1" / "gan" / "2").is_dir()


def test_checkpoints_of_an_earlier_version_are_not_older_than_the_dataset(opened, caplog):
    checkpoint(opened, {})
    settle(opened, begun(), info=None)
    assert "taken as trained with what is there" in caplog.text
    os.utime(opened.path / "checkpoints" / "gan" / "2", (1, 1))
    settle(opened, begun(), info=None)
    assert "its checkpoints are older than the dataset; training starts anew" in caplog.text


def test_a_marker_that_is_written_again_when_it_is_adopted_is_no_newer_dataset(opened, caplog):
    prepared = opened.read_marker("prepare_data")
    checkpoint(opened, {})
    later = os.stat(opened.marker_path("prepare_data")).st_mtime + 3600
    os.utime(opened.path / "checkpoints" / "gan" / "2", (later - 1800, later - 1800))
    opened.mark_done("prepare_data", prepared.info, time_utc=prepared.time_utc)
    os.utime(opened.marker_path("prepare_data"), (later, later))
    settle(opened, begun(), info=None)
    assert "taken as trained with what is there" in caplog.text
    assert (opened.path / "checkpoints" / "gan" / "2").is_dir()
