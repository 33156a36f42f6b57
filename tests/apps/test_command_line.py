"""Finding config files."""

import pytest

from ganavatar_jax.apps import command_line
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
