"""Two commands never work in one run folder, and a killed one does not keep it."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys

import pytest

from ganavatar_jax.core import errors
from ganavatar_jax.runs import lock, owner

HOLDER = """
import sys, time
from ganavatar_jax.runs import lock
with lock.hold(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path, repo_root):
    """Another process that holds the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(repo_root)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def write(tmp_path, **changes):
    known = dataclasses.replace(owner.current(), **changes)
    (tmp_path / lock.NAME).write_text(json.dumps(dataclasses.asdict(known)))
    return known


def test_a_second_process_is_refused_with_the_name_of_the_first(tmp_path, holder):
    here = owner.current()
    with pytest.raises(errors.RunError) as caught, lock.hold(tmp_path):
        pass
    message = str(caught.value)
    assert "another process works in this run folder" in message
    assert f"process {holder.pid} on {here.host} since 20" in message
    assert "\n" not in message


def test_the_folder_is_free_again_when_the_first_has_ended(tmp_path, holder):
    holder.communicate("")
    assert (tmp_path / lock.NAME).read_text() == ""
    with lock.hold(tmp_path):
        assert json.loads((tmp_path / lock.NAME).read_text())["pid"] == os.getpid()


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert json.loads((tmp_path / lock.NAME).read_text())["pid"] == holder.pid
    with lock.hold(tmp_path):
        assert json.loads((tmp_path / lock.NAME).read_text())["pid"] == os.getpid()


def test_a_process_number_that_is_used_again_does_not_block(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "fcntl", None)  # as where the system has no locks
    write(tmp_path, start="1")
    with lock.hold(tmp_path):
        pass


def test_without_locks_of_the_system_a_living_process_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "fcntl", None)
    write(tmp_path)
    with pytest.raises(errors.RunError, match=f"process {os.getpid()} on"), lock.hold(tmp_path):
        pass


def test_a_lock_of_another_machine_is_refused_with_what_to_delete(tmp_path):
    write(tmp_path, host="node7", boot="0123456789ab", pid=12)
    with pytest.raises(errors.RunError) as caught, lock.hold(tmp_path):
        pass
    assert "process 12 on node7 since" in str(caught.value)
    assert str(caught.value).endswith(f"if it is dead, delete {tmp_path / lock.NAME}.")


def test_a_lock_from_before_the_machine_started_is_taken_over(tmp_path):
    if not owner.current().boot:
        pytest.skip("this system does not tell its starts apart")
    write(tmp_path, boot="0123456789ab")
    with lock.hold(tmp_path):
        pass


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": "x"}', "[" * 4000, "\x00"])
def test_a_damaged_lock_that_nobody_holds_is_taken_over(tmp_path, content):
    (tmp_path / lock.NAME).write_text(content)
    with lock.hold(tmp_path):
        pass


def test_a_task_that_calls_another_one_waits_for_nobody(tmp_path):
    with lock.hold(tmp_path), lock.hold(tmp_path):
        pass
    with lock.hold(tmp_path):
        pass


def test_a_failing_task_frees_the_folder(tmp_path, repo_root):
    with pytest.raises(KeyboardInterrupt), lock.hold(tmp_path):
        raise KeyboardInterrupt
    subprocess.run(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(repo_root)},
        stdin=subprocess.DEVNULL,
        check=True,
    )


def test_an_owner_comes_back_from_a_file_name():
    here = owner.current()
    back = owner.from_token(here.token())
    assert back is not None
    assert dataclasses.replace(back, since=here.since) == here
    assert re.fullmatch(r"[\w.~-]+", here.token())
    assert owner.from_token("abc123_") is None


def test_a_dead_process_is_told_from_a_living_one_and_from_one_out_of_sight():
    here = owner.current()
    assert here.is_alive()
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert dataclasses.replace(here, pid=child.pid).is_alive() is False
    assert dataclasses.replace(here, space="1").is_alive() is None
    assert dataclasses.replace(here, host="node7", boot="0123456789ab").is_alive() is None
