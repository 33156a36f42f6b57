"""A file is whole or absent, and what stands in the way is named."""

import pytest

from ganavatar_jax.core import errors, files


def test_text_and_bytes_arrive_in_new_folders(tmp_path):
    files.write_atomic(tmp_path / "a" / "b.txt", "grüße")
    files.write_atomic(tmp_path / "a" / "c.bin", b"\x00\x01")
    assert (tmp_path / "a" / "b.txt").read_text(encoding="utf-8") == "grüße"
    assert (tmp_path / "a" / "c.bin").read_bytes() == b"\x00\x01"


def test_a_failing_writer_leaves_the_old_content_and_no_litter(tmp_path):
    path = tmp_path / "image.png"
    path.write_text("old")

    def fail_halfway():
        with files.atomic_path(path) as temporary:
            assert temporary.suffix == ".png"
            temporary.write_text("half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        fail_halfway()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_told_in_one_line(tmp_path):
    def write():
        with files.atomic_path(tmp_path / "image.png") as temporary:
            temporary.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(errors.RunError, match=r"image\.png: cannot be written \(No space left"):
        write()
    assert not list(tmp_path.iterdir())


def test_what_the_block_cannot_read_is_not_told_as_a_failed_write(tmp_path):
    def write():
        with files.atomic_path(tmp_path / "image.png") as temporary:
            temporary.write_bytes((tmp_path / "source.png").read_bytes())

    with pytest.raises(FileNotFoundError, match=r"source\.png"):
        write()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [ConnectionResetError(104, "reset by peer"), OSError("bad data")])
def test_other_failures_of_the_block_pass_as_they_are(tmp_path, error):
    with pytest.raises(type(error)) as caught, files.atomic_path(tmp_path / "codes.json"):
        raise error
    assert caught.value is error


def test_pictures_that_cannot_be_written_are_told_in_one_line(tmp_path):
    def write():
        with files.atomic_path(tmp_path / "image.jpg"):
            raise OSError("encoder error -2 when writing image file")  # of Pillow, on a full disk

    with pytest.raises(errors.RunError, match=r"image\.jpg: cannot be written"):
        write()


def test_two_writers_with_one_process_number_do_not_meet(tmp_path):
    # Containers that share a folder: each has its own process 1.
    with files.atomic_path(tmp_path / "a.txt") as one, files.atomic_path(tmp_path / "a.txt") as two:
        assert one != two
        one.write_text("one")
        two.write_text("two")
    assert (tmp_path / "a.txt").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_in_the_way_of_a_file_is_refused(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(errors.RunError, match="taken: cannot be written"):
        files.write_atomic(tmp_path / "taken", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_file_in_the_way_of_a_folder_is_refused(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(errors.RunError, match="taken is a file"):
        files.write_atomic(tmp_path / "taken" / "inside" / "file", "text")


def test_a_folder_without_permission_is_refused_in_one_line(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    # Root may write anywhere, so the refusal is put where the system would make it.
    monkeypatch.setattr(files.tempfile, "TemporaryFile", refuse)
    with pytest.raises(errors.RunError, match=r"cannot be written \(Permission denied\)"):
        files.check_writable(tmp_path)


def test_a_tilde_of_a_user_without_a_home_is_told(monkeypatch):
    def homeless(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(files.pathlib.Path, "expanduser", homeless)
    with pytest.raises(errors.RunError, match="~/x: ~ stands for the home folder.* set HOME"):
        files.check_writable("~/x")
