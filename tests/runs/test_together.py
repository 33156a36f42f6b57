"""Processes meet, tell each other, agree where to stop, and end when one of them does."""

import os
import signal
import subprocess
import sys
import time

import pytest

# What JAX does in a run is done through a file here: everybody gets what the first one says.
START = """
import os, pathlib, signal, sys, threading, time
from ganavatar_jax.runs import progress, signals, together
index, count = int(sys.argv[1]), int(sys.argv[2])
board = pathlib.Path(sys.argv[3])

def share(data):
    if index == 0:
        board.with_suffix(".new").write_bytes(data)
        board.with_suffix(".new").rename(board)
    while not board.exists():
        time.sleep(0.01)
    return board.read_bytes()

together.join(index, count, share)
print("ready", flush=True)
"""


@pytest.fixture
def start(repo_root, tmp_path):
    started = []

    def run(program, count=2):
        started.extend(
            subprocess.Popen(
                [sys.executable, "-c", START + program, str(i), str(count), str(tmp_path / "b")],
                env=os.environ | {"PYTHONPATH": str(repo_root)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for i in range(count)
        )
        for process in started:
            assert process.stdout.readline() == "ready\n"
        return started

    yield run
    for process in started:
        process.kill()
        process.communicate()


def finish(processes):
    said = [process.communicate(timeout=60) for process in processes]
    return [process.returncode for process in processes], said


def test_all_get_what_the_first_one_tells_and_wait_for_each_other(start):
    processes = start(
        """
time.sleep(0.3 * index)
begun = time.monotonic()
print(together.is_first(), together.tell({"step": 7 + index}))
together.meet("end")
together.leave(0)
""",
        count=3,
    )
    codes, said = finish(processes)
    assert codes == [0, 0, 0]
    assert [out for out, _ in said] == [
        f"{first} {{'step': 7}}\n" for first in (True, False, False)
    ]
    assert [err for _, err in said] == ["", "", ""]


LOOP = """
with signals.ending(), progress.StopRequest() as stop:
    for done in range(1, 2000):
        time.sleep(0.002 + 0.004 * index)
        if done % 5 == 0:
            together.meet("step")  # as a collective: nobody is far ahead
        if together.stop_after(done, requested=stop.requested):
            break
print(done, stop.number)
together.meet("end")
together.leave(0)
"""


@pytest.mark.parametrize("asked", [0, 1])
def test_all_stop_after_the_same_iteration_whoever_was_asked(start, asked):
    processes = start(LOOP, count=3)
    time.sleep(0.5)
    processes[asked].send_signal(signal.SIGTERM)
    codes, said = finish(processes)
    assert codes == [0, 0, 0]
    [stopped] = {out for out, _ in said}
    done, number = stopped.split()
    assert 1 < int(done) < 1999
    assert int(number) == signal.SIGTERM
    assert all("SIGTERM: stopping after this step" in err for _, err in said)


def test_a_signal_that_reaches_all_aborts_none(start):
    processes = start(LOOP)
    time.sleep(0.5)
    for process in processes:
        process.send_signal(signal.SIGTERM)
    codes, said = finish(processes)
    assert codes == [0, 0]
    assert len({out for out, _ in said}) == 1


@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_dies_ends_the_others_with_a_line(start, victim):
    processes = start("time.sleep(60)", count=3)
    processes[victim].kill()
    sent = time.monotonic()
    codes, said = finish(processes)
    assert time.monotonic() - sent < 20
    others = {0, 1, 2} - {victim}
    assert [codes[i] for i in sorted(others)] == [75, 75]
    for i in others:
        [line] = said[i][1].splitlines()
        assert line.startswith(f"process {victim} (number {processes[victim].pid} on ")
        assert "has died: all processes end" in line


def test_a_process_that_fails_takes_the_others_along_with_its_code_and_words(start):
    processes = start("""
if index == 1:
    print("error: no eye", file=sys.stderr)
    together.leave(2, "error: no eye")
together.meet("later")
""")
    codes, said = finish(processes)
    assert codes == [2, 2]
    assert said[0][1].startswith("process 1 (number ")
    assert "ended (error: no eye): this one, too" in said[0][1]


def test_a_signal_ends_all_where_nothing_is_to_be_saved(start):
    processes = start("""
try:
    with signals.ending():
        together.meet("later") if index else time.sleep(60)
except signals.Ended as end:
    print(end, file=sys.stderr)
    together.leave(end.exit_code, str(end))
""")
    time.sleep(0.3)
    processes[1].send_signal(signal.SIGTERM)
    codes, said = finish(processes)
    assert codes == [143, 143]
    assert all(err.startswith("ended by SIGTERM; what complete stages") for _, err in said)
