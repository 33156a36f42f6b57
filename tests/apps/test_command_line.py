"""Finding config files, and what overrides make of them."""

import pytest

from ganavatar_jax.apps import command_line, experiment
from ganavatar_jax.core import errors


def test_shipped_configs_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = command_line.load_config("configs/quickstart.py:smoke")
    assert config.data.source == "package:actor"


def test_a_file_of_the_working_folder_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "quickstart.py").write_text(
        "import ml_collections\ndef get_config(): return ml_collections.ConfigDict({'own': 1})\n"
    )
    assert command_line.load_config("configs/quickstart.py").own == 1


def test_other_folders_are_not_searched(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(errors.ConfigError, match="no such config file"):
        command_line.load_config("elsewhere/quickstart.py")


def test_small_is_what_the_quickstart_is_already(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(errors.ConfigError, match=r"full, smoke; got 'small'.*small already"):
        command_line.load_config("configs/quickstart.py:small")


@pytest.mark.parametrize("config", ["monocular.py:full", "monocular.py:small"])
@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [("2.25", "3.2", (2.25, 3.2)), ("2", "3", (2.0, 3.0)), ("auto", "auto", ("auto", "auto"))],
)
def test_a_number_or_a_word_may_be_given(repo_root, config, start, end, expected):
    asked = command_line.parse(
        [
            "main",
            f"--config={repo_root}/configs/{config}",
            "--workdir=run",
            "--config.data.source=2024",  # a folder may be called like a number
            f"--config.generator.render.ray_start={start}",
            f"--config.generator.render.ray_end={end}",
        ]
    )
    resolved = experiment.resolve(asked.config)
    assert (resolved.generator.render.ray_start, resolved.generator.render.ray_end) == expected
    assert resolved.data.source == "2024"


def test_another_word_is_refused(repo_root):
    asked = command_line.parse(
        [
            "main",
            f"--config={repo_root}/configs/quickstart.py",
            "--workdir=run",
            "--config.generator.render.ray_start=near",
        ]
    )
    with pytest.raises(errors.ConfigError, match="ray_start: expected float or 'auto'; got 'near'"):
        experiment.resolve(asked.config)


@pytest.mark.parametrize(
    "line", ["from ganavatar_jax.core import presets", "import ganavatar_jax.core.presets"]
)
def test_a_config_file_of_before_is_told_where_presets_are(tmp_path, line):
    (tmp_path / "mine.py").write_text(f"{line}\n")
    with pytest.raises(errors.ConfigError, match="from ganavatar_jax.apps import presets"):
        command_line.load_config(str(tmp_path / "mine.py"))


@pytest.mark.parametrize("name", ["--workdir", "--config.data.source"])
def test_names_that_are_no_utf8_are_refused_in_one_line(repo_root, name):
    given = {"--workdir": "run", "--config.data.source": "me", name: "caf\udce9"}
    options = [f"{key}={value}" for key, value in given.items()]
    with pytest.raises(errors.ConfigError, match=rf"{name}: expected a name in UTF-8; got .*udce9"):
        command_line.parse(["main", f"--config={repo_root}/configs/monocular.py", *options])
