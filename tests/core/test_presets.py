"""The presets hold every key of the configuration, and every config file resolves."""

import dataclasses
import pathlib
import re
import typing

import ml_collections
import pytest

from ganavatar_jax.apps import command_line, experiment, experiment_config
from ganavatar_jax.core import errors, presets

# The dataclass takes the whole batch, as one device of the original did; the preset is a whole run.
DELIBERATE = ["config.discriminator.mbstd_block_size: 4, default 0"]
CONFIGS = sorted((pathlib.Path(__file__).parents[2] / "configs").glob("*.py"))


def variants(path):
    """The variants that the docstring of a config file's `get_config` lists."""
    listed = re.search(r"variants: ([a-z0-9_, ]+)\.", path.read_text())
    assert listed, f"{path.name}: get_config's docstring lists no variants"
    return listed[1].split(", ")


SPECS = [f"{path}:{variant}" for path in CONFIGS for variant in variants(path)]


def section_of(cls, name):
    """The dataclass of a section, or None for a plain value."""
    hint = typing.get_type_hints(cls)[name]
    return hint if dataclasses.is_dataclass(hint) else None


def differences(config, cls, default=None, path="config"):
    """Lists keys that only one side has and values that differ from the default, if there is one.

    `default` is what the parent makes this section when nothing is said.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}
    found = [f"{path}.{name}: only in the preset" for name in config if name not in fields]
    for name, field in fields.items():
        expected = getattr(default, name, field.default)
        if expected is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
            expected = field.default_factory()
        if name not in config:
            found.append(f"{path}.{name}: not in the preset")
        elif section := section_of(cls, name):
            known = None if expected is dataclasses.MISSING else expected
            found += differences(config[name], section, known, f"{path}.{name}")
        elif expected is not dataclasses.MISSING and config[name] != expected:
            found.append(f"{path}.{name}: {config[name]!r}, default {expected!r}")
    return found


def test_the_full_preset_has_every_key_at_its_default():
    assert differences(presets.full(), experiment_config.ExperimentConfig) == DELIBERATE


def test_a_missing_a_foreign_and_a_changed_key_are_each_noticed():
    config = presets.full()
    with config.unlocked():
        del config.generator.render["box_warp"]
        config.data.split.stride = 3
        config.gan.g_lr = 0.1
    found = differences(config, experiment_config.ExperimentConfig)
    assert [line for line in found if line not in DELIBERATE] == [
        "config.data.split.stride: only in the preset",
        "config.generator.render.box_warp: not in the preset",
        "config.gan.g_lr: 0.1, default 0.0025",
    ]


def test_presets_are_made_anew_each_time():
    first, second = presets.full(), presets.full()
    first.gan.density.weight = 7.0
    assert second.gan.density.weight != 7.0


@pytest.mark.parametrize("shrink", [presets.small, presets.smoke])
def test_smaller_presets_resolve_and_keep_the_keys(shrink):
    config = shrink(presets.full())
    assert keys(config) == keys(presets.full())
    config.data.source = "captures/me"
    experiment.resolve(config)


def keys(config):
    return {
        name: keys(value) if isinstance(value, ml_collections.ConfigDict) else None
        for name, value in config.items()
    }


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.rpartition("/")[2])
def test_every_variant_of_every_config_file_resolves(spec):
    config = command_line.load_config(spec)
    if spec.endswith((":full", ":small")) and "quickstart" not in spec:
        with pytest.raises(errors.ConfigError, match="data.source is not set; name the person's"):
            experiment.resolve(config)  # the user's own
        config.data.source = "captures/me"
    resolved = experiment.resolve(config)
    assert keys(config) == keys(presets.full())
    if spec.endswith(":smoke"):
        assert resolved.data.source == "package:actor"  # needs no files of the user's
        assert resolved.gan.iterations <= 4
    if spec.endswith(":full") and "quickstart" not in spec:
        paper = (512, 128, 32, 5.0, "fixed", "auto")
        assert paper == (
            resolved.generator.img_resolution,
            resolved.generator.neural_resolution,
            resolved.gan.batch_size,
            resolved.gan.gamma,
            resolved.generator.render.plane_axes,
            resolved.generator.render.ray_start,
        )


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_config_files_have_a_smoke_variant_and_refuse_unknown_ones(path):
    assert {"full", "smoke"} <= set(variants(path))
    with pytest.raises(errors.ConfigError, match="variants of this config: .*got 'huge'"):
        command_line.load_config(f"{path}:huge")
