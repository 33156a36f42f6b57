"""The presets are the defaults, and every config file resolves."""

import pathlib
import re

import ml_collections
import pytest

from ganavatar_jax.apps import command_line, experiment, experiment_config, presets
from ganavatar_jax.core import config_schema, errors
from ganavatar_jax.data import data_config
from ganavatar_jax.models import discriminator_config, generator_config
from ganavatar_jax.training import gan_config

CONFIGS = sorted((pathlib.Path(__file__).parents[2] / "configs").glob("*.py"))


def variants(path):
    """The variants that the docstring of a config file's `get_config` lists."""
    listed = re.search(r"variants: ([a-z0-9_, ]+)\.", path.read_text())
    assert listed, f"{path.name}: get_config's docstring lists no variants"
    return listed[1].split(", ")


SPECS = [f"{path}:{variant}" for path in CONFIGS for variant in variants(path)]


def test_the_full_preset_is_the_defaults_of_the_dataclasses():
    config = presets.full()
    config.data.source = "captures/me"
    resolved = experiment.resolve(config)
    assert resolved.generator == generator_config.GeneratorConfig()
    assert resolved.discriminator == discriminator_config.DiscriminatorConfig()
    assert resolved.gan == gan_config.GanConfig()
    assert resolved.data == data_config.DataConfig(source="captures/me")
    assert resolved.discriminator.mbstd_block_size == 4  # of the original's eight devices


def test_only_the_capture_must_be_named():
    needed = [
        key.path
        for key in config_schema.keys(experiment_config.ExperimentConfig)
        if key.default is config_schema.NOT_SET and not key.is_section
    ]
    assert needed == ["data.source"]


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
