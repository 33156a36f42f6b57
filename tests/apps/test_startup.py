"""The machine is set up as the config says."""

import jax
import ml_collections
import pytest

from ganavatar_jax.apps import startup
from ganavatar_jax.core import errors


def test_the_number_of_virtual_devices_and_their_patience_replace_earlier_ones():
    patience = "--xla_cpu_collective_call_terminate_timeout_seconds"
    flags = f"--a=1 --xla_force_host_platform_device_count=8 {patience}=1 --b"
    added = f"--xla_force_host_platform_device_count=2 {patience}=1200"
    assert startup.virtual_device_flags(flags, 2) == f"--a=1 --b {added}"
    assert startup.virtual_device_flags("", 2) == added


def test_a_cache_folder_that_cannot_be_written_is_skipped_with_one_line(
    tmp_path, monkeypatch, caplog
):
    (tmp_path / "taken").write_text("")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "taken" / "xla"))
    assert startup.find_cache_folder() is None
    [record] = caplog.records
    assert record.getMessage().startswith("compiled programs are not cached: ")
    assert "taken" in record.getMessage()


def test_the_cache_folder_is_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "xla"))
    assert startup.find_cache_folder() == tmp_path / "xla"
    assert (tmp_path / "xla").is_dir()


@pytest.mark.parametrize("missing", ["devices", "compile_cache"])
def test_a_config_without_a_machine_section_is_refused(missing):
    config = ml_collections.ConfigDict({"devices": {"cpu_virtual": 0}, "compile_cache": False})
    del config[missing]
    with pytest.raises(errors.ConfigError, match=f"config.{missing}: required key is missing"):
        startup.start_jax(config)


@pytest.fixture
def precision():
    before = jax.config.jax_default_matmul_precision
    yield
    jax.config.update("jax_default_matmul_precision", before)


@pytest.mark.parametrize(
    ("devices", "expected"),
    [({}, "highest"), ({"matmul_precision": "default"}, "default")],
)
def test_networks_multiply_as_the_config_says(precision, devices, expected):
    jax.config.update("jax_default_matmul_precision", "bfloat16")
    startup.start_jax(ml_collections.ConfigDict({"devices": devices, "compile_cache": False}))
    assert jax.config.jax_default_matmul_precision == expected


def test_commands_without_a_config_multiply_in_full_precision(precision):
    jax.config.update("jax_default_matmul_precision", "bfloat16")
    startup.settle_arithmetic()
    assert jax.config.jax_default_matmul_precision == "highest"


def test_an_unknown_precision_is_refused():
    devices = {"matmul_precision": "float16"}
    config = ml_collections.ConfigDict({"devices": devices, "compile_cache": False})
    with pytest.raises(errors.ConfigError, match="matmul_precision: expected one of 'default'"):
        startup.start_jax(config)


def test_an_unknown_device_option_is_refused():
    config = ml_collections.ConfigDict({"devices": {"gpus": 2}, "compile_cache": False})
    with pytest.raises(errors.ConfigError, match=r"config\.devices\.gpus: unknown key"):
        startup.start_jax(config)


def test_one_machine_that_is_asked_for_others_says_so_in_one_line(monkeypatch):
    config = ml_collections.ConfigDict({"devices": {"distributed": True}, "compile_cache": False})
    for name in ("JAX_COORDINATOR_ADDRESS", "SLURM_JOB_ID", "OMPI_MCA_orte_hnp_uri"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(errors.ConfigError, match=r"devices.distributed: .* On one machine leave"):
        startup.start_jax(config)
