"""The status of a run folder, read without touching it."""

import json
import os

import pytest

from ganavatar_jax import main
from ganavatar_jax.apps import status
from ganavatar_jax.core import errors
from ganavatar_jax.runs import identity, lock, run_dir


@pytest.fixture
def folder(tmp_path):
    run = tmp_path / "run"
    (run / "checkpoints" / "gan" / "200").mkdir(parents=True)
    (run / "checkpoints" / "gan_damaged_300").mkdir()
    (run / "config.json").write_text(json.dumps({"gan": {"total_kimg": 10.0}}))
    opened = run_dir.RunDir(run)
    made = identity.Identity({}, {}, {"dataset": "abc"})
    info = {"splits": {"train": 24, "test": 6}, "source": "package:actor"}
    opened.mark_done("prepare_data", info, identity=made, time_utc="2026-11-29T10:00:00+00:00")
    row = {"step": 250, "kimg": 2.0, "stage": "train_gan", "loss/g": 0.5, "time/s_per_kimg": 30.0}
    opened.metrics.write_text(json.dumps(row) + "\n")
    os.utime(opened.metrics, (1000.0, 1000.0))
    return run


def test_the_status_says_how_far_a_run_is_and_who_works_in_it(folder):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with lock.hold(folder):
        lines = status.describe(folder, now=1065.0)
    text = "\n".join(lines)
    assert f"at work: process {os.getpid()} on " in text
    assert "prepare_data: complete 2026-11-29T10:00:00+00:00 (24 train, 6 test frames; of" in text
    assert (
        "train_gan: 2 of 10 kimg (step 250), 30 s/kimg, about 0:04:00 left, loss/g 0.5, last line "
        "0:01:05 ago"
    ) in text
    assert "evaluate: not begun" in text
    assert "checkpoints: steps 200; the newest is" in text
    assert "kept aside: gan_damaged_300" in text
    assert "disk: 0.0 MB" in text
    assert "at work: nobody" in "\n".join(status.describe(folder))
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    after.pop(folder / lock.NAME)  # of this test
    assert after == before


def test_the_status_needs_no_config_and_makes_no_folder(folder, tmp_path, capsys):
    assert main.main(["main", "--task=status", f"--workdir={folder}"]) == 0
    assert "train_gan: 2 of 10 kimg" in capsys.readouterr().out
    assert main.main(["main", "--task=status", f"--workdir={tmp_path / 'none'}"]) == 2
    assert "there is no run folder" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_damaged_metrics_file_is_told_in_one_line(folder):
    (folder / "metrics.jsonl").write_text("{\n{}\n")
    with pytest.raises(errors.RunError, match="metrics.jsonl: line 1"):
        status.describe(folder)
