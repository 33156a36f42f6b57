"""A run folder says what was run, refuses a different config, and remembers complete stages."""

import json

import pytest

from ganavatar_jax.core import errors
from ganavatar_jax.runs import identity, run_dir

CONFIG = {"train": {"total_kimg": 10, "lr": 0.002}, "channels": (1, 2), "name": "demo"}


def test_a_new_run_describes_itself(tmp_path):
    run = run_dir.open_run(tmp_path / "new" / "run", CONFIG)
    assert json.loads((run.path / "config.json").read_text())["channels"] == [1, 2]
    environment = (run.path / "environment.txt").read_text()
    for name in ("python: ", "jax: ", "devices: 8 x cpu", "cpus: ", "system: "):
        assert name in environment
    commit = (run.path / "commit.txt").read_text().strip()
    assert commit.startswith("unknown") or len(commit.removesuffix("-dirty")) == 40


def test_reopening_with_the_same_config_changes_nothing(tmp_path):
    run = run_dir.open_run(tmp_path, CONFIG)
    before = {path.name: path.read_bytes() for path in run.path.iterdir()}
    run_dir.open_run(tmp_path, CONFIG)
    assert {path.name: path.read_bytes() for path in run.path.iterdir()} == before


def test_until_a_stage_is_complete_the_config_may_be_mended(tmp_path):
    run_dir.open_run(tmp_path, CONFIG)
    run = run_dir.open_run(tmp_path, {**CONFIG, "name": "mended"})
    assert json.loads((tmp_path / "config.json").read_text())["name"] == "mended"
    assert "mended" in (tmp_path / "config_changes.jsonl").read_text()
    run.mark_done("prepare_data", {})
    with pytest.raises(errors.RunError, match="name"):
        run_dir.open_run(tmp_path, CONFIG)


def test_stages_that_renew_themselves_bind_nothing_until_training_writes(tmp_path):
    options = {"renewed": ("prepare_data",)}
    run_dir.open_run(tmp_path, CONFIG, **options).mark_done("prepare_data", {})
    run = run_dir.open_run(tmp_path, {**CONFIG, "name": "mended"}, **options)
    assert json.loads((tmp_path / "config.json").read_text())["name"] == "mended"
    run.metrics.write_text("{}\n")
    with pytest.raises(errors.RunError, match="name"):
        run_dir.open_run(tmp_path, CONFIG, **options)
    run.metrics.unlink()
    run.mark_done("train_gan", {})
    with pytest.raises(errors.RunError, match="name"):
        run_dir.open_run(tmp_path, CONFIG, **options)


def test_a_run_that_failed_in_its_first_step_may_be_mended(tmp_path):
    options = {"mendable": ("train.*",)}
    run = run_dir.open_run(tmp_path, CONFIG, **options)
    run.mark_done("prepare_data", {})
    run.metrics.write_text("")  # made before the first step, which found no memory
    run.folder("checkpoints", "gan")
    assert not run.has_begun
    smaller = {**CONFIG, "train": {"total_kimg": 10, "lr": 0.1}}
    run_dir.open_run(tmp_path, smaller, **options)
    with pytest.raises(errors.RunError, match="name"):  # the dataset may depend on it
        run_dir.open_run(tmp_path, {**smaller, "name": "mended"}, **options)


@pytest.mark.parametrize("trace", ["row", "checkpoint", "unreadable"])
def test_a_checkpoint_or_a_row_of_metrics_is_a_begun_training(tmp_path, trace):
    run = run_dir.open_run(tmp_path, CONFIG)
    if trace == "checkpoint":
        (run.folder("checkpoints", "gan") / "12").mkdir()
    else:
        run.metrics.write_bytes(b"{}\n" if trace == "row" else b"\xff\xfe")
    assert run.has_begun
    changed = {**CONFIG, "train": {"total_kimg": 10, "lr": 0.1}}
    for options in ({"mendable": ("train.*",)}, {"renewed": ("prepare_data",)}):
        with pytest.raises(errors.RunError, match="train.lr"):
            run_dir.open_run(tmp_path, changed, **options)


def test_a_marker_keeps_what_its_stage_was_made_from(tmp_path):
    run = run_dir.open_run(tmp_path, CONFIG)
    known = identity.Identity({"dataset": "1"}, {"a.b": (1, 2)}, {"generator": None})
    run.mark_done("train_gan", {"kimg": 1}, identity=known, time_utc="2026-01-01T00:00:00+00:00")
    marker = run.read_marker("train_gan")
    assert marker.identity == identity.Identity(
        {"dataset": "1"}, {"a.b": [1, 2]}, {"generator": None}
    )
    assert (marker.info, marker.time_utc) == ({"kimg": 1}, "2026-01-01T00:00:00+00:00")
    path = run.marker_path("train_gan")
    for damaged in (None, [], {"consumed": {}}, {"consumed": 1, "options": {}, "made": {}}):
        path.write_text(json.dumps({"info": {}, "identity": damaged}))
        assert run.read_marker("train_gan").identity is None


def test_reading_a_run_writes_nothing_and_refuses_another_config(tmp_path):
    run_dir.open_run(tmp_path, CONFIG)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    longer = {**CONFIG, "train": {"total_kimg": 20, "lr": 0.002}}
    assert run_dir.read_run(tmp_path, longer, changeable=("train.total_*",)).path == tmp_path
    with pytest.raises(errors.RunError, match="train.total_kimg"):
        run_dir.read_run(tmp_path, longer)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_reopening_with_another_config_names_the_keys(tmp_path):
    run_dir.open_run(tmp_path, CONFIG).mark_done("prepare_data", {})
    other = {"train": {"total_kimg": 10, "lr": 0.1}, "channels": (1, 2), "extra": True}
    with pytest.raises(errors.RunError) as caught:
        run_dir.open_run(tmp_path, other)
    message = str(caught.value)
    assert "train.lr (was 0.002, now 0.1)" in message
    assert "extra (was '(absent)', now True)" in message
    assert "name (was 'demo', now '(absent)')" in message
    assert "new --workdir" in message
    assert "\n" not in message
    assert json.loads((tmp_path / "config.json").read_text())["train"]["lr"] == 0.002


def test_changeable_keys_may_change_and_the_change_is_noted(tmp_path):
    run_dir.open_run(tmp_path, CONFIG)
    longer = {**CONFIG, "train": {"total_kimg": 20, "lr": 0.002}}
    run_dir.open_run(tmp_path, longer, changeable=("train.total_*",))
    assert json.loads((tmp_path / "config.json").read_text())["train"]["total_kimg"] == 20
    [line] = (tmp_path / "config_changes.jsonl").read_text().splitlines()
    assert json.loads(line)["changes"] == {"train.total_kimg": [10, 20]}


def test_a_stage_is_done_once_marked_and_keeps_its_info(tmp_path):
    run = run_dir.open_run(tmp_path, CONFIG)
    assert run.stage_done("train_gan") is None
    with pytest.raises(errors.RunError, match="run --task=train_gan with the same --workdir"):
        run.require_stage("train_gan", task="train_gan")
    run.mark_done("train_gan", {"kimg": 10.0})
    assert run_dir.open_run(tmp_path, CONFIG).require_stage("train_gan", task="train_gan") == {
        "kimg": 10.0
    }


@pytest.mark.parametrize("content", ["", "{", "[]", '{"stage": "x"}', "\x00"])
def test_a_damaged_marker_is_refused_in_one_line(tmp_path, content):
    run = run_dir.open_run(tmp_path, CONFIG)
    run.mark_done("dataset", {})
    (tmp_path / "stages" / "dataset.json").write_text(content)
    with pytest.raises(errors.RunError, match=r"dataset\.json.*delete it") as caught:
        run.stage_done("dataset")
    assert "\n" not in str(caught.value)


def test_a_damaged_config_is_refused(tmp_path):
    run_dir.open_run(tmp_path, CONFIG)
    (tmp_path / "config.json").write_text('{"train": ')
    with pytest.raises(errors.RunError, match=r"config\.json: expected JSON"):
        run_dir.open_run(tmp_path, CONFIG)


def test_folders_are_made_on_demand_and_unknown_ones_are_a_defect(tmp_path):
    run = run_dir.open_run(tmp_path, CONFIG)
    assert run.folder("checkpoints", "gan").is_dir()
    with pytest.raises(ValueError, match="misc"):
        run.folder("misc")
    with pytest.raises(ValueError, match="stage names"):
        run.mark_done("../escape", {})


@pytest.mark.parametrize("inside", ["", "deeper/still"])
def test_a_file_in_the_way_is_named(tmp_path, inside):
    (tmp_path / "taken").write_text("")
    with pytest.raises(errors.RunError, match=r"taken is a file; choose another folder"):
        run_dir.open_run(tmp_path / "taken" / inside, CONFIG)


def test_other_processes_of_a_run_write_nothing(tmp_path):
    run = run_dir.RunDir(tmp_path, primary=False)
    run.mark_done("train_gan", {})
    assert list(tmp_path.iterdir()) == []
