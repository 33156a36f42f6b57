"""A stage is complete only for what it was made from, whichever task asks."""

import dataclasses
import json

import pytest

from ganavatar_jax.apps import command_line, completeness, experiment, stages
from ganavatar_jax.core import config as config_lib
from ganavatar_jax.core import errors, trees
from ganavatar_jax.runs import identity, run_dir

NAMES = tuple(stages.STAGES)
# Options that decide no result: how a run is computed and logged, and what a driver is.
IDLE = (
    *("devices.*", "parallel", "compile_cache", "tensorboard", "wandb", "mirror"),
    *("drive.*", "novel_view.*", "interpolate.*", "reenact.*", "export_web.*", "export_mesh.*"),
)


@pytest.fixture
def things(monkeypatch):
    """What lies in the folder: a name for each thing, changed at will; None takes it away."""
    world = {name: f"{name} 1" for name in stages.THINGS}
    table = {
        name: dataclasses.replace(thing, identify=lambda *_, name=name: world[name])
        for name, thing in stages.THINGS.items()
    }
    monkeypatch.setattr(stages, "THINGS", table)
    return world


@pytest.fixture
def config():
    loaded = command_line.load_config("configs/quickstart.py:smoke")
    loaded.frontal.latents = "prior"
    return loaded


@pytest.fixture
def opened(tmp_path, config, things):
    """A run whose stages are all complete."""
    resolved = experiment.resolve(config)
    run = run_dir.RunDir(tmp_path)
    for name in NAMES:
        begun = completeness.begin(name, resolved, run)
        completeness.finish(begun, resolved, run, {"kimg": 0.024})
    return run


def judge_all(config, opened):
    resolved = experiment.resolve(config)
    verdicts = {name: completeness.judge(name, resolved, opened) for name in NAMES}
    return {name: verdict.describe() for name, verdict in verdicts.items() if not verdict.stands}


def test_what_is_unchanged_stands(config, opened):
    assert judge_all(config, opened) == {}


@pytest.mark.parametrize(
    ("key", "value", "stale"),
    [
        ("mapping.steps", 99, ["train_mapping"]),
        ("mapping.coefficients", ("jawOpen",), ["train_mapping"]),
        ("frontal.count", 99, ["make_frontals"]),
        ("frontal.rare", 9, ["make_frontals"]),
        ("frontal.batch_size", 3, []),
        ("estimator.refine_passes", 0, ["make_frontals", "evaluate", "render"]),
        ("estimator.num_threads", 2, []),
        ("estimator.model_path", "elsewhere.task", []),
        ("evaluation.stride", 3, ["evaluate"]),
        ("evaluation.driver_statistics", "driver", ["evaluate", "render"]),
        ("evaluation.batch_size", 3, []),
        ("evaluation.inception", "inception.npz", ["evaluate"]),
        ("render.frames", 5, ["render"]),
        ("drive.camera", "orbit", []),
        ("tensorboard", False, []),
        ("data.split.test_fraction", 0.4, ["prepare_data"]),
        ("data.source", "a_copy.zip", []),
        ("data.mirror", True, ["train_gan"]),
        ("generator.z_dim", 8, ["train_gan"]),
        ("gan.batch_size", 4, ["train_gan"]),
        ("gan.total_kimg", 0.008, []),
        ("gan.total_kimg", 0.5, ["train_gan"]),
        ("gan.snapshot_kimg", 0.5, []),
        ("gan.g_lr", 1e-5, []),
        ("gan.reconstruction.adam.lr", 1e-5, []),
        ("gan.gamma", 2.0, []),
        ("gan.microbatch", 2, []),
        ("generator.render.ray_chunk", 64, []),
    ],
)
def test_an_option_makes_stale_what_depends_on_it(config, opened, key, value, stale):
    with config.unlocked(), config.ignore_type():
        config.update_from_flattened_dict({key: value})
    found = judge_all(config, opened)
    assert list(found) == stale
    for name in stale:
        word = "trained to 0.024 of 0.504 kimg" if key == "gan.total_kimg" else f"{key} (was "
        assert word in found[name]


@pytest.mark.parametrize(
    ("thing", "stale"),
    [
        ("dataset", ["prepare_data", "train_gan", "make_frontals", "evaluate", "render"]),
        ("generator", ["train_gan", "make_frontals", "train_mapping", "evaluate", "render"]),
        ("pairs", ["make_frontals", "train_mapping"]),
        ("mapping", ["train_mapping", "evaluate", "render"]),
        ("estimator", ["make_frontals", "evaluate", "render"]),
        ("encoder", ["train_gan"]),
        ("evaluation", ["evaluate"]),
        ("renders", ["render"]),
    ],
)
def test_a_thing_makes_stale_what_took_it_and_what_made_it(config, opened, things, thing, stale):
    things[thing] = "another"
    found = judge_all(config, opened)
    assert list(found) == stale
    assert all(stages.THINGS[thing].where in words for words in found.values())
    things[thing] = None
    assert list(judge_all(config, opened)) == ([] if stages.THINGS[thing].outside else stale)


def test_what_a_stage_takes_follows_the_options(config, things, tmp_path):
    with config.ignore_type():
        config.evaluation.inception = "inception.npz"
    config.frontal.latents, config.evaluation.codes = "encoder", "estimate"
    resolved, run = experiment.resolve(config), run_dir.RunDir(tmp_path)
    for name in NAMES:
        completeness.finish(completeness.begin(name, resolved, run), resolved, run, {"kimg": 1})
    things["encoder"] = "another"
    assert "make_frontals" in judge_all(config, run)
    things["inception"] = "another"
    assert "made from another Inception network" in judge_all(config, run)["evaluate"]
    things["estimator"] = "another"
    assert "render" in judge_all(config, run)


def test_every_option_is_known_to_a_stage_or_decides_nothing():
    for variant in ("quickstart.py:smoke", "monocular.py:full"):
        config = command_line.load_config(f"configs/{variant}")
        config.data.source = "somewhere"
        values = config_lib.to_dict(experiment.resolve(config))
        known = {key for name in NAMES for key in stages.options_of(name, values)}
        idle = (*IDLE, *(key for stage in stages.STAGES.values() for key in stage.without))
        for key, _ in trees.flatten_names(values):
            assert key in known or identity.matches(key, idle), key


def test_an_option_that_may_change_makes_anew_what_depends_on_it(config):
    """Or nothing depends on it: else an old result would stand for new options."""
    values = config_lib.to_dict(experiment.resolve(config))
    for name in ("prepare_data", "train_gan"):  # options of these cannot change later on
        for key in stages.options_of(name, values):
            assert not identity.matches(key, experiment.CHANGEABLE), key


@pytest.mark.parametrize(
    ("task", "thing", "earlier"),
    [
        ("evaluate", "generator", "train_gan"),
        ("evaluate", "pairs", "make_frontals"),
        ("train_mapping", "dataset", "prepare_data"),
        ("render", "mapping", "train_mapping"),
    ],
)
def test_a_task_refuses_earlier_stages_that_no_longer_stand(
    config, opened, things, task, thing, earlier
):
    things[thing] = "another"
    with pytest.raises(errors.RunError) as caught:
        completeness.begin(task, experiment.resolve(config), opened)
    message = str(caught.value)
    assert f'the stage "{earlier}", which no longer stands' in message
    assert f"run --task={earlier} and the stages after it" in message
    assert "\n" not in message


def test_a_task_names_all_that_is_missing(config, tmp_path, things):
    resolved, run = experiment.resolve(config), run_dir.RunDir(tmp_path)
    with pytest.raises(errors.RunError, match="--task=prepare_data, --task=train_gan, --task=mak"):
        completeness.begin("evaluate", resolved, run)
    with pytest.raises(errors.RunError, match="run --task=prepare_data with the same"):
        completeness.begin("train_gan", resolved, run)


def test_a_longer_training_is_asked_for_before_what_builds_on_it(config, opened):
    config.gan.total_kimg = 0.5
    with pytest.raises(errors.RunError, match=r"trained to 0\.024 of 0\.504 kimg; run --task=trai"):
        completeness.begin("make_frontals", experiment.resolve(config), opened)


def test_what_a_stage_took_is_what_was_there_when_it_began(config, opened, things):
    resolved = experiment.resolve(config)
    begun = completeness.begin("make_frontals", resolved, opened)
    things["estimator"] = "exchanged meanwhile"
    completeness.finish(begun, resolved, opened, {})
    assert list(judge_all(config, opened)) == ["make_frontals", "evaluate", "render"]


def strip(opened, name, time_utc):
    """Makes a marker one of an earlier version."""
    path = opened.marker_path(name)
    marker = json.loads(path.read_text())
    marker.pop("identity", None)
    path.write_text(json.dumps(marker | {"time_utc": time_utc}))


@pytest.fixture
def old(opened):
    """A folder of an earlier version: no marker notes what its stage was made from."""
    for hour, name in enumerate(NAMES):
        strip(opened, name, f"2026-01-01T{hour:02d}:00:00+00:00")
    return opened


def adopt_all(config, opened):
    for name in NAMES:
        completeness.adopt(name, experiment.resolve(config), opened)


def test_a_folder_of_an_earlier_version_is_taken_as_it_is_and_told(config, old, caplog):
    before = {name: old.read_marker(name) for name in NAMES}
    assert judge_all(config, old) == {}
    adopt_all(config, old)
    assert [record.args[0] for record in caplog.records] == list(NAMES)
    for name in NAMES:
        marker = old.read_marker(name)
        assert marker.identity is not None
        assert (marker.info, marker.time_utc) == (before[name].info, before[name].time_utc)
    caplog.clear()
    adopt_all(config, old)
    assert not caplog.records


def test_in_a_folder_of_an_earlier_version_later_results_are_older_than_what_they_take(
    config, old, things
):
    strip(old, "train_gan", "2026-02-01T00:00:00+00:00")  # trained further, then interrupted
    assert list(judge_all(config, old)) == ["make_frontals", "train_mapping", "evaluate", "render"]
    adopt_all(config, old)
    assert old.read_marker("train_gan").identity is not None
    assert old.read_marker("make_frontals").identity is None


def test_in_a_folder_of_an_earlier_version_options_that_were_changed_later_count(config, old):
    (old.path / "config_changes.jsonl").write_text(
        'half a line\n{"time_utc": "2026-01-01T01:00:00+00:00", "changes": {"frontal.count": [9, 12'
        ']}}\n{"time_utc": "2026-03-01T00:00:00+00:00", "changes": {"mapping.lr": [0.5, 0.0001], '
        '"mapping.new_key": ["(absent)", 3]}}\n'
    )
    found = judge_all(config, old)
    assert list(found) == ["train_mapping"]
    assert "mapping.lr (was 0.5, now 0.0001)" in found["train_mapping"]


def test_in_a_folder_of_an_earlier_version_options_that_did_not_exist_are_not_known(config, old):
    """Pairs were rendered by the fixed camera before there was another: asked for, they stand."""
    (old.path / "config_changes.jsonl").write_text(
        '{"time_utc": "2026-03-01T00:00:00+00:00", "changes": '
        '{"frontal.camera": ["(absent)", "capture"]}}\n'
    )
    adopt_all(config, old)
    assert "frontal.camera" not in old.read_marker("make_frontals").identity.options
    config.frontal.camera = "fixed"
    assert judge_all(config, old) == {}


def test_how_networks_multiply_makes_anew_what_they_gave(config, opened):
    config.devices.matmul_precision = "default"
    assert list(judge_all(config, opened)) == [
        "make_frontals",
        "train_mapping",
        "evaluate",
        "render",
    ]


def test_in_a_folder_of_an_earlier_version_missing_results_are_made_again(config, old, things):
    things["mapping"] = None
    assert "train_mapping" in judge_all(config, old)


def test_options_of_another_version_of_the_program_change_nothing(config, opened):
    path = opened.marker_path("train_mapping")
    marker = json.loads(path.read_text())
    marker["identity"]["options"]["mapping.gone"] = 1
    del marker["identity"]["options"]["mapping.steps"]
    path.write_text(json.dumps(marker))
    assert judge_all(config, opened) == {}
