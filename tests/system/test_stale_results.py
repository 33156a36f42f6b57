"""What a run folder holds never stands for something else, and nothing that was made is lost."""

import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
from PIL import Image, ImageOps

from ganavatar_jax import main
from ganavatar_jax.apps import avatar
from ganavatar_jax.core import errors, portable
from ganavatar_jax.data.builders import gan_frames
from ganavatar_jax.runs import lock
from helpers import compiled, smoke

pytestmark = [pytest.mark.system, pytest.mark.slow]

LATER = ("make_frontals", "train_mapping", "evaluate", "render")
LONGER = "--config.gan.total_kimg=0.032"
EXPORT = ("checkpoints", "export")


@pytest.fixture
def call(repo_root, caplog, capsys):
    """Runs the command; returns its exit code and all it said."""

    def run(folder, *options):
        caplog.clear()
        capsys.readouterr()
        with compiled.quickly():
            code = main.main(smoke.command(repo_root, folder, *options))
        out, err = capsys.readouterr()
        logged = "\n".join(record.getMessage() for record in caplog.records)
        return code, f"{out}\n{err}\n{logged}"

    return run


@pytest.fixture
def folder(smoke_run, tmp_path):
    """A copy of the finished run."""
    return pathlib.Path(shutil.copytree(smoke_run, tmp_path / "run"))


def consumed(folder, stage):
    marker = json.loads((folder / "stages" / f"{stage}.json").read_text())
    return marker["identity"]["consumed"]


def generator(folder):
    return portable.identify(folder.joinpath(*EXPORT, "generator.safetensors"), thorough=True)


def steps(folder):
    return sorted(int(path.name) for path in folder.glob("[0-9]*"))


def write_edited_actor(path):
    """Writes the shipped capture with its first picture inverted."""
    source = gan_frames.source_path("package:actor")
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        names = sorted(old.namelist())
        first = next(name for name in names if name.startswith("images/"))
        for name in names:
            content = old.read(name)
            if name == first:
                inverted = io.BytesIO()
                with Image.open(io.BytesIO(content)) as picture:
                    ImageOps.invert(picture.convert("RGB")).save(inverted, picture.format)
                content = inverted.getvalue()
            new.writestr(name, content)


def test_a_run_that_is_extended_interrupted_and_edited_never_mixes_what_it_made(
    folder, call, monkeypatch, tmp_path
):
    first = generator(folder)

    # Trained further, and interrupted before anything was made from the new generator.
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(avatar, "load_generator", interrupt)
        code, said = call(folder, LONGER)
    assert code == 130
    assert "restored step 3" in said  # it went on, not anew
    assert generator(folder) != first
    code, said = call(folder, LONGER, "--task=evaluate")
    assert code == 2
    assert '"make_frontals", which no longer stands: made from another generator' in said
    with pytest.raises(errors.RunError, match="the mapping belongs to another generator"):
        avatar.Avatar.load(folder)

    code, said = call(folder, LONGER)
    assert code == 0
    for stage in LATER:
        assert f"{stage}: made from another generator" in said
        assert consumed(folder, stage)["generator"] == generator(folder)
    avatar.Avatar.load(folder)

    # The exported networks are lost: made again without training, and nothing after them.
    folder.joinpath(*EXPORT, "generator.safetensors").unlink()
    rows = (folder / "metrics.jsonl").read_text()
    code, said = call(folder, LONGER)
    assert code == 0
    assert "the networks are exported again from the newest checkpoint" in said
    assert all(f"{stage}: complete" in said for stage in LATER)
    assert (folder / "metrics.jsonl").read_text() == rows

    # Only what depends on an option is made anew because of it.
    code, said = call(folder, LONGER, "--config.evaluation.stride=2")
    assert code == 0
    assert "evaluate: made with other options: evaluation.stride (was 1, now 2)" in said
    assert all(f"{stage}: complete" in said for stage in ("train_gan", *LATER) if stage != LATER[2])

    # The capture is edited: all is made anew, and the old training is kept aside.
    trained, checkpoints = generator(folder), steps(folder / "checkpoints" / "gan")
    write_edited_actor(tmp_path / "actor.zip")
    monkeypatch.setattr(gan_frames, "source_path", lambda _: tmp_path / "actor.zip")
    code, said = call(folder, LONGER, "--config.evaluation.stride=2")
    assert code == 0
    assert "the capture or its options changed; it is prepared anew" in said
    assert "its checkpoints are of another dataset" in said
    assert "restored step" not in said
    aside = folder / "checkpoints" / "before_1"
    assert steps(aside / "gan") == checkpoints
    assert portable.identify(aside / "export" / "generator.safetensors", thorough=True) == trained
    assert all(consumed(folder, stage)["generator"] == generator(folder) for stage in LATER)
    assert not any(f"{stage}: complete" in said for stage in ("train_gan", *LATER))


def test_a_training_that_diverges_keeps_its_checkpoints_and_goes_on_with_a_lower_rate(folder, call):
    before = steps(folder / "checkpoints" / "gan")
    longer = ("--task=train_gan", "--config.gan.total_kimg=0.04", "--config.gan.log_iterations=10")
    code, said = call(folder, *longer, "--config.gan.reconstruction.adam.lr=1e38")
    assert code == 2
    assert f"the training diverged by step {before[-1] + 1}" in said
    assert f"checkpoint {before[-1]} is the last good one" in said
    assert steps(folder / "checkpoints" / "gan") == before
    code, said = call(folder, *longer)
    assert code == 0
    assert f"restored step {before[-1]}" in said
    variables, _ = portable.load_params(folder.joinpath(*EXPORT, "generator.safetensors"))
    assert all(np.isfinite(leaf).all() for leaf in _leaves(variables))


def _leaves(tree):
    for value in tree.values():
        yield from _leaves(value) if isinstance(value, dict) else [value]


HOLD = """
import sys
from ganavatar_jax.runs import lock
with lock.hold(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_while_one_command_works_all_others_are_refused_but_those_that_only_read(
    folder, call, repo_root
):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        env=os.environ | {"PYTHONPATH": str(repo_root)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
        for task in ("all", "prepare_data", "train_gan", *LATER):
            code, said = call(folder, f"--task={task}")
            assert code == 2
            assert f"another process works in this run folder (process {holder.pid} on" in said
        avatar.Avatar.load(folder)
        assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
        driven = ("--task=drive", "--config.drive.source=package:actor")
        assert call(folder, *driven, "--config.drive.end_s=0.1")[0] == 0
    assert (folder / "samples" / "drive" / "actor_sample" / "driven.mp4").is_file()


def test_of_two_commands_at_once_one_works_and_the_other_is_told(call, repo_root, tmp_path):
    folder = tmp_path / "run"
    arguments = smoke.command(repo_root, folder, "--task=prepare_data")[1:]
    with subprocess.Popen(
        [sys.executable, "-m", "ganavatar_jax.main", *arguments],
        env=os.environ | {"PYTHONPATH": str(repo_root)},
        stderr=subprocess.PIPE,
        text=True,
    ) as first:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if (folder / lock.NAME).is_file() and (folder / lock.NAME).read_text():
                break
            time.sleep(0.01)
        code, said = call(folder, "--task=prepare_data")
        assert code == 2
        assert f"another process works in this run folder (process {first.pid} on" in said
        _, err = first.communicate(timeout=240)
        assert first.returncode == 0, err
    assert call(folder, "--task=prepare_data")[0] == 0
