"""A run folder is copied to object storage so that any moment of the copy is a whole run."""

import fsspec
import pytest

from ganavatar_jax.core import errors
from ganavatar_jax.runs import mirror


@pytest.fixture
def folder(tmp_path):
    run = tmp_path / "run"
    for name, content in {
        "config.json": "{}",
        "metrics.jsonl": "1\n",
        "run.lock": "here",
        "checkpoints/gan/1/state/a": "first",
        "checkpoints/gan/2.orbax-checkpoint-tmp/a": "half",
        "checkpoints/.x.tmp": "half",
        "samples/gan/picture.png": "again",
    }.items():
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(content)
    return run


@pytest.fixture(params=["memory", "local"])
def url(request, tmp_path):
    if request.param == "local":
        return f"local://{tmp_path / 'store'}"
    fsspec.filesystem("memory").store.clear()
    return "memory://bucket/run"


def content(folder):
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_run_comes_back_on_another_machine_as_it_was_copied_last(folder, url, tmp_path):
    copy = mirror.Mirror(url, folder)
    assert copy.pull() == 0
    assert copy.push()
    (folder / "metrics.jsonl").write_text("1\n2\n")
    (folder / "checkpoints/gan/1/state/a").unlink()
    later = folder / "checkpoints/gan/3/state/a"
    later.parent.mkdir(parents=True)
    later.write_text("later")
    assert copy.push()
    other = tmp_path / "other"
    other.mkdir()
    assert mirror.Mirror(url, other).pull() == 3
    assert content(other) == {
        "config.json": "{}",
        "metrics.jsonl": "1\n2\n",
        "checkpoints/gan/3/state/a": "later",
    }
    (other / "metrics.jsonl").write_text("own")
    assert mirror.Mirror(url, other).pull() == 0  # a folder in use is the truth
    assert (other / "metrics.jsonl").read_text() == "own"


def test_a_copy_that_was_cut_off_names_only_what_is_there(
    folder, url, monkeypatch, caplog, tmp_path
):
    copy = mirror.Mirror(url, folder)
    assert copy.push()
    (folder / "checkpoints/gan/1/state/a").unlink()
    (folder / "checkpoints/gan/1/state/b").write_text("new")
    with monkeypatch.context() as patch:
        patch.setattr(copy._store, "pipe_file", lambda *_: (_ for _ in ()).throw(OSError("gone")))
        assert not copy.push()
    assert "not copied to" in caplog.text
    assert "(gone); it is tried again" in caplog.text
    other = tmp_path / "other"
    other.mkdir()
    mirror.Mirror(url, other).pull()
    assert (other / "checkpoints/gan/1/state/a").read_text() == "first"
    assert copy.push()
    assert not copy._store.exists(copy._where("checkpoints/gan/1/state/a"))


@pytest.mark.parametrize("index", ["{", '{"files": 3}', '{"files": {"../../away": 1}}'])
def test_a_damaged_copy_is_refused_in_one_line(index, url, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    copy = mirror.Mirror(url, empty)
    copy._store.makedirs(copy._root, exist_ok=True)
    copy._store.pipe_file(copy._where(mirror.INDEX), index.encode())
    with pytest.raises(errors.RunError, match="the copy of the run cannot be read") as caught:
        copy.pull()
    assert "\n" not in str(caught.value)
    assert list(empty.iterdir()) == []


def test_a_place_nobody_knows_is_refused_in_one_line(tmp_path):
    with pytest.raises(errors.ConfigError, match="nowhere://x cannot be used"):
        mirror.Mirror("nowhere://x", tmp_path)
