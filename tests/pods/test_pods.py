"""One process and several give the same numbers, and end together, through the command line.

Two processes on one machine stand for the machines of a pod: they share a folder and no memory.
"""

import json
import shutil
import signal
import time

import numpy as np
import pytest

from ganavatar_jax.core import portable, trees
from helpers import pods as pods_lib

pytestmark = pytest.mark.pods

STAGES = ("prepare_data", "train_gan", "make_frontals", "train_mapping", "evaluate", "render")
NETWORKS = ("generator", "discriminator", "encoder")
TRAIN = "--task=train_gan"
# Moments that begin at zero make steps of full length of gradients however small: two iterations
# are what can be compared to the last digits.
SHORT = "--config.gan.total_kimg=0.016"
LONG = ("--config.gan.total_kimg=80", "--config.gan.snapshot_kimg=80")


def networks(workdir):
    found = {}
    for name in NETWORKS:
        path = workdir / "checkpoints" / "export" / f"{name}.safetensors"
        variables, _ = portable.load_params(path)
        found |= {f"{name}.{leaf}": value for leaf, value in trees.flatten_names(variables)}
    return found


def rows(workdir):
    path = workdir / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def apart(workdir, other):
    """How far the networks of two runs are from each other, in units of the largest weight."""
    ours, theirs = networks(workdir), networks(other)
    assert ours.keys() == theirs.keys()
    return max(
        float(np.abs(ours[n] - theirs[n]).max() / max(1.0, np.abs(theirs[n]).max())) for n in ours
    )


@pytest.fixture(scope="module")
def alone(pods, tmp_path_factory):
    """The whole method in one process on four devices."""
    workdir = tmp_path_factory.mktemp("alone") / "run"
    pods.run(pods.arguments(workdir, SHORT, devices=4))
    return workdir


def copy_dataset(alone, workdir):
    """A run folder in which the data are prepared."""
    for name in ("dataset", "stages", "samples/data"):
        shutil.copytree(alone / name, workdir / name)
    for name in ("config.json", "report.html"):
        shutil.copy2(alone / name, workdir / name)
    for stage in STAGES[1:]:
        (workdir / "stages" / f"{stage}.json").unlink()
    return workdir


def test_the_whole_method_by_the_launcher_gives_what_one_process_gives(pods, alone, tmp_path):
    arguments = pods.arguments(tmp_path / "run", SHORT, devices=2)
    pods.run(["--processes=2", "--", *arguments], module="ganavatar_jax.launch")
    for stage in STAGES:
        assert (tmp_path / "run" / "stages" / f"{stage}.json").is_file()
    assert apart(tmp_path / "run", alone) <= 1e-6
    ours, theirs = (
        json.loads((folder / "evaluation" / "metrics.json").read_text())["ours"]["psnr"]
        for folder in (tmp_path / "run", alone)
    )
    assert ours == pytest.approx(theirs, abs=1e-2)
    for ours, theirs in zip(rows(tmp_path / "run"), rows(alone), strict=True):
        assert (ours["stage"], ours["step"]) == (theirs["stage"], theirs["step"])


@pytest.mark.parametrize(("backend", "devices"), [("jit", 4), ("shard_map", 2), ("shard_map", 4)])
def test_two_processes_train_what_one_trains(pods, alone, tmp_path, backend, devices):
    workdir = copy_dataset(alone, tmp_path / "run")
    options = (TRAIN, SHORT, f"--config.parallel={backend}")
    pods.run(pods.arguments(workdir, *options, devices=devices), processes=2)
    assert apart(workdir, alone) <= 1e-6
    # What two have saved, one goes on with, on any number of devices; and the other way round.
    longer = (TRAIN, "--config.gan.total_kimg=0.024", f"--config.parallel={backend}")
    ends = {}
    for name, processes, count in (("two", 2, devices), ("one", 1, 1), ("eight", 1, 8)):
        if backend == "jit" or name != "eight":
            end = tmp_path / name
            shutil.copytree(workdir, end)
            pods.run(pods.arguments(end, *longer, devices=count), processes=processes)
            ends[name] = end
    for end in ends.values():
        assert [row["step"] for row in rows(end)] == [1, 2, 3]
        assert apart(end, ends["two"]) <= 1e-5


@pytest.fixture
def training(pods, alone, tmp_path):
    """Two processes in the middle of a training that would go on for hours."""
    workdir = copy_dataset(alone, tmp_path / "run")
    started = pods.start(pods.arguments(workdir, TRAIN, *LONG, devices=2), processes=2)
    deadline = time.monotonic() + pods_lib.LIMIT_S
    while len(rows(workdir)) < 4 and time.monotonic() < deadline:
        assert [p.poll() for p in started] == [None, None]
        time.sleep(0.2)
    return workdir, started


@pytest.mark.parametrize("victim", [0, 1])
def test_one_killed_the_other_ends_with_one_line_that_names_it(training, victim):
    _, started = training
    started[victim].kill()
    sent = time.monotonic()
    said = pods_lib.finish(started, 60)
    assert time.monotonic() - sent < 60
    other = said[1 - victim].splitlines()
    assert started[1 - victim].returncode == 75
    assert other[-1].startswith(f"process {victim} (number {started[victim].pid} on ")
    assert "has died: all processes end; what was saved is whole" in other[-1]
    assert not [line for line in other if "stack" in line or "Traceback" in line]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("asked", [0, 1])
def test_one_asked_both_save_the_same_step_and_leave(training, asked, number):
    if (asked, number) not in ((0, signal.SIGINT), (1, signal.SIGTERM), (1, signal.SIGHUP)):
        pytest.skip("the others stand for it")
    workdir, started = training
    started[asked].send_signal(number)
    said = pods_lib.finish(started, pods_lib.LIMIT_S)
    assert [process.returncode for process in started] == [128 + number] * 2
    [step] = [int(path.name) for path in (workdir / "checkpoints" / "gan").iterdir()]
    assert rows(workdir)[-1]["step"] == step
    for text in said:
        assert text.splitlines()[-1].startswith(f"stopped at {step * 0.008:.6g} kimg; checkpoint")


def test_what_cannot_work_is_refused_in_one_line_before_anything_is_made(pods, tmp_path):
    arguments = pods.arguments(tmp_path / "run", "--config.parallel=pmap", devices=1)
    started = pods.start(arguments, processes=2)
    said = pods_lib.finish(started, 200)
    assert [process.returncode for process in started] == [2, 2]
    for text in said:
        [line] = [line for line in text.splitlines() if line.startswith("error: ")]
        assert "parallel=pmap works in one process" in line
        assert "Traceback" not in text
    assert not [path for path in (tmp_path / "run").iterdir() if path.name != "run.lock"]


def test_folders_that_are_not_one_are_noticed_at_the_start(pods, tmp_path):
    port = pods_lib.free_port()
    started = []
    for index in range(2):
        options = [
            f"--config.devices.coordinator=127.0.0.1:{port}",
            "--config.devices.processes=2",
            f"--config.devices.process={index}",
        ]
        arguments = pods.arguments(tmp_path / f"run{index}", *options, devices=1)
        started += pods.start(arguments)
    said = pods_lib.finish(started, 200)
    assert [process.returncode for process in started] == [2, 2]
    assert "the processes of this run do not share this folder" in said[1]
    assert "Traceback" not in "".join(said)
    assert not (tmp_path / "run0" / "dataset").exists()


def test_a_run_that_finds_no_others_says_so_in_one_line(pods, tmp_path):
    arguments = pods.arguments(tmp_path / "run", "--config.devices.distributed=true", devices=1)
    [process] = pods.start(arguments)
    [said] = pods_lib.finish([process], 100)
    assert process.returncode == 2
    [line] = said.splitlines()
    assert "devices.distributed: expected a pod or a cluster" in line
    assert "devices.coordinator, devices.processes and devices.process" in line
