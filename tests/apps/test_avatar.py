"""A run folder gives its avatar only where the parts belong together, and damage is told."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from ganavatar_jax.apps import avatar, command_line, experiment, stages, weights
from ganavatar_jax.core import config as config_lib
from ganavatar_jax.core import errors, portable
from ganavatar_jax.faces import normalization
from ganavatar_jax.models import expression_mapping
from ganavatar_jax.runs import identity, lock, run_dir
from ganavatar_jax.training import mapping_config
from helpers import compiled, tiny_gan

NAMES = ("jawOpen", "eyeBlinkLeft")


@pytest.fixture(scope="module")
def values():
    """The config of a run with the smallest networks."""
    config = config_lib.to_dict(
        experiment.resolve(command_line.load_config("configs/quickstart.py:smoke"))
    )
    config["data"]["resolution"] = tiny_gan.SIDE
    config["generator"] = config_lib.to_dict(tiny_gan.GENERATOR)
    config["discriminator"] = config_lib.to_dict(tiny_gan.DISCRIMINATOR)
    return config


def save_generator(run, g):
    weights.save_networks(
        run.folder("checkpoints", "export"),
        g,
        None,
        g_config=tiny_gan.GENERATOR,
        d_config=tiny_gan.DISCRIMINATOR,
        provenance={},
    )
    return portable.identify(stages.export_path(run, weights.GENERATOR), thorough=True)


def save_mapping(run, **changes):
    config = mapping_config.MappingConfig()
    with compiled.quickly():
        params = expression_mapping.init(
            jax.random.key(0), config.network, code_dim=2, w_dim=tiny_gan.GENERATOR.w_dim
        )
    codes = np.random.default_rng(0).uniform(size=(9, 2)).astype(np.float32)
    metadata = {
        "kind": avatar.MAPPING_KIND,
        "mapping": dataclasses.asdict(config),
        "normalizer": normalization.fit(codes, NAMES).to_dict(),
        "frontal_label25": [0.0] * 25,
    } | changes
    portable.save_params(
        stages.export_path(run, weights.MAPPING),
        {
            "params": jax.tree.map(np.asarray, params),
            "buffers": {"mean_w": np.zeros(tiny_gan.GENERATOR.w_dim, np.float32)},
        },
        {key: value for key, value in metadata.items() if value != "(none)"},
    )


@pytest.fixture
def run(tmp_path, values):
    (tmp_path / "config.json").write_text(json.dumps(values))
    opened = run_dir.RunDir(tmp_path)
    generator = save_generator(opened, tiny_gan.make_state().g)
    save_mapping(opened)
    opened.mark_done("train_gan", {"kimg": 1}, time_utc="2026-01-01T00:00:00+00:00")
    known = identity.Identity(
        {"generator": generator, "pairs": None},
        stages.options_of("train_mapping", values),
        {},
    )
    opened.mark_done("train_mapping", {}, identity=known)
    return opened


def test_an_avatar_loads_while_another_command_works_in_its_folder(run):
    with lock.hold(run.path):
        before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
        assert avatar.Avatar.load(run.path).names == NAMES
        assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*")} == before


def other_generator():
    return jax.tree.map(lambda x: x + 1.0, tiny_gan.make_state().g)


def test_a_mapping_of_another_generator_is_refused(run):
    save_generator(run, other_generator())
    with pytest.raises(errors.RunError) as caught:
        avatar.Avatar.load(run.path)
    message = str(caught.value)
    assert "the mapping belongs to another generator" in message
    assert "--task=train_mapping" in message
    assert "\n" not in message


def test_in_a_folder_of_an_earlier_version_the_times_tell_it(run):
    marker = run.marker_path("train_mapping")
    content = json.loads(marker.read_text())
    del content["identity"]
    marker.write_text(json.dumps(content))
    assert avatar.Avatar.load(run.path).names == NAMES
    run.mark_done("train_gan", {"kimg": 2}, time_utc="2999-01-01T00:00:00+00:00")
    with pytest.raises(errors.RunError, match="belongs to another generator"):
        avatar.Avatar.load(run.path)


def test_a_mapping_of_other_options_is_told(run, values, caplog):
    changed = values | {"mapping": values["mapping"] | {"steps": 12345}}
    (run.path / "config.json").write_text(json.dumps(changed))
    avatar.Avatar.load(run.path)
    assert "the mapping was made with other options: mapping.steps" in caplog.text


@pytest.mark.parametrize("text", ["{", "[]", '{"a": ' + "[" * 900 + "]" * 900 + "}"])
def test_a_damaged_config_is_refused_in_one_line(run, text):
    (run.path / "config.json").write_text(text)
    with pytest.raises(errors.RunError, match=r"config\.json.*restore it") as caught:
        avatar.Avatar.load(run.path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "header",
    [
        {"normalizer": None},
        {"normalizer": [1, 2]},
        {"normalizer": {"names": 3, "mean": 1, "forward": 1, "backward": 1}},
        {"normalizer": {"names": ["a"], "mean": ["x"], "forward": [[1]], "backward": [[1]]}},
        {"normalizer": {"names": ["a"], "mean": [[1, 2], [3]], "forward": [], "backward": []}},
        {"normalizer": "(none)"},
        {"mapping": None},
        {"mapping": {"steps": "many"}},
        {"mapping": "(none)"},
        {"frontal_label25": [1.0]},
        {"frontal_label25": "front"},
        {"frontal_label25": "(none)"},
    ],
)
@pytest.mark.attack
def test_a_malformed_header_is_refused_in_one_line(run, header):
    save_mapping(run, **header)
    with pytest.raises(errors.WeightError, match="expected the header of a mapping") as caught:
        avatar.Avatar.load(run.path)
    assert "\n" not in str(caught.value)


def test_a_folder_without_an_avatar_says_what_to_run(tmp_path, values):
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(errors.RunError, match="--task=train_mapping"):
        avatar.Avatar.load(tmp_path)
