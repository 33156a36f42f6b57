"""Metrics lines are whole, unique for each step of a stage, and hold only finite numbers."""

import json
import sys
import types

import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.core import errors
from ganavatar_jax.runs import metric_writer


def write(path, stage, steps, *, resumed_step=None, **options):
    with metric_writer.MetricWriter(
        path, stage=stage, resumed_step=resumed_step, **options
    ) as writer:
        for step in steps:
            writer.write(step, kimg=step / 10, metrics={"loss": jnp.float32(step)})


def steps_of(path, stage):
    return [line["step"] for line in metric_writer.read_metrics(path, stage=stage)]


def test_each_line_is_one_json_object_with_step_kimg_and_stage(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, "gan", [10])
    [line] = path.read_text().splitlines()
    assert json.loads(line) == {"step": 10, "kimg": 1.0, "stage": "gan", "loss": 10.0}


def test_resuming_drops_only_the_later_lines_of_the_same_stage(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, "gan", [10, 20, 30])
    write(path, "mapping", [40])
    write(path, "gan", [30, 40], resumed_step=20)
    assert steps_of(path, "gan") == [10, 20, 30, 40]
    assert steps_of(path, "mapping") == [40]


def test_starting_a_stage_anew_drops_its_lines(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, "gan", [0, 10])
    write(path, "mapping", [5])
    write(path, "gan", [0])
    assert steps_of(path, "gan") == [0]
    assert steps_of(path, "mapping") == [5]


def test_half_a_line_left_by_a_kill_is_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, "gan", [10])
    with path.open("a") as file:
        file.write('{"step": 20, "kimg": 2.0, "sta')
    assert steps_of(path, "gan") == [10]
    write(path, "gan", [20], resumed_step=10)
    assert steps_of(path, "gan") == [10, 20]


@pytest.mark.parametrize("garbage", ["not json", "[1, 2]", '{"loss": 1}'])
def test_garbage_within_the_file_is_refused_with_its_line(tmp_path, garbage):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{garbage}\n{{"step": 1, "kimg": 0.1, "stage": "gan"}}\n')
    with pytest.raises(errors.RunError, match="line 1: expected an object"):
        write(path, "gan", [])


def test_values_that_are_not_finite_become_null(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with metric_writer.MetricWriter(path, stage="gan", resumed_step=None) as writer:
        writer.write(1, kimg=0.1, metrics={"a": float("nan"), "b": np.float32("inf"), "c": 1})
    [line] = metric_writer.read_metrics(path)
    assert (line["a"], line["b"], line["c"]) == (None, None, 1.0)


def test_reserved_names_are_a_defect(tmp_path):
    with metric_writer.MetricWriter(
        tmp_path / "metrics.jsonl", stage="gan", resumed_step=None
    ) as writer:
        with pytest.raises(ValueError, match="stage"):
            writer.write(1, kimg=0.1, metrics={"stage": 1.0})


def test_tensorboard_gets_the_same_numbers(tmp_path):
    folder = tmp_path / "tensorboard"
    write(tmp_path / "metrics.jsonl", "gan", [1, 2], tensorboard_dir=folder)
    [events] = folder.iterdir()
    assert b"loss" in events.read_bytes()


def test_without_tensorboard_the_lines_are_written_and_it_is_said_once(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    path = tmp_path / "metrics.jsonl"
    write(path, "gan", [1, 2], tensorboard_dir=tmp_path / "tensorboard")
    assert steps_of(path, "gan") == [1, 2]
    assert [r.message for r in caplog.records if "tensorboardX" in r.message] == [
        "tensorboardX is not installed: metrics go to metrics.jsonl only "
        "(pip install tensorboardX adds TensorBoard files)."
    ]


def test_other_processes_of_a_run_write_nothing(tmp_path):
    write(tmp_path / "metrics.jsonl", "gan", [1], primary=False)
    assert list(tmp_path.iterdir()) == []


def test_a_diverged_run_is_stopped_with_the_names(tmp_path):
    metric_writer.check_finite({"loss": 1.0}, step=3, stage="gan")
    with pytest.raises(errors.RunError, match=r"gan: .* by step 3: loss_g=nan, grad=inf;"):
        metric_writer.check_finite(
            {"loss_g": jnp.float32("nan"), "ok": 1.0, "grad": float("inf")}, step=3, stage="gan"
        )


def test_a_metrics_file_that_is_a_folder_is_refused(tmp_path):
    with pytest.raises(errors.RunError, match="cannot be read"):
        metric_writer.MetricWriter(tmp_path, stage="gan", resumed_step=None)


# Weights & Biases.


class _Run:
    """Takes down what wandb's run would be told."""

    def __init__(self):
        self.logged, self.metrics, self.finished = [], [], False

    def define_metric(self, name, *, step_metric):
        self.metrics.append((name, step_metric))

    def log(self, values):
        self.logged.append(values)

    def finish(self):
        self.finished = True


def test_numbers_go_to_weights_and_biases_where_asked_for(tmp_path, monkeypatch):
    started, run = [], _Run()
    module = types.ModuleType("wandb")
    module.init = lambda **options: started.append(options) or run
    monkeypatch.setitem(sys.modules, "wandb", module)
    path = tmp_path / "run" / "metrics.jsonl"
    path.parent.mkdir()
    for step in (1, 2):
        with metric_writer.MetricWriter(
            path, stage="train_gan", resumed_step=step - 1, wandb="heads"
        ) as writer:
            writer.write(step, kimg=0.5, metrics={"loss/g": 0.25})
    assert [(options["project"], options["name"]) for options in started] == [("heads", "run")] * 2
    assert started[0]["id"] == started[1]["id"]  # one run, resumed
    assert run.metrics[0] == ("train_gan/*", "train_gan/step")
    assert run.logged[1] == {"train_gan/step": 2, "train_gan/kimg": 0.5, "train_gan/loss/g": 0.25}
    assert run.finished


def test_weights_and_biases_that_is_not_installed_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(errors.MissingDependencyError, match="pip install"):
        metric_writer.MetricWriter(
            tmp_path / "metrics.jsonl", stage="train_gan", resumed_step=None, wandb="heads"
        )
