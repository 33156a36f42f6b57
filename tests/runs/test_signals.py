"""A signal is answered at once, even where the main thread is in compiled code."""

import os
import pty
import signal
import subprocess
import sys
import time

import pytest

from ganavatar_jax.runs import signals

# Stands for a compilation: seconds of compiled code that lets other threads run.
BUSY = """
import hashlib, logging, sys
from ganavatar_jax.runs import progress, signals
logging.basicConfig(format="%(message)s")

def compile_for(seconds):
    print("busy", flush=True)
    hashlib.pbkdf2_hmac("sha512", b"", b"", int(seconds * RATE))

def calibrate():
    import time
    start = time.monotonic()
    hashlib.pbkdf2_hmac("sha512", b"", b"", 100_000)
    return 100_000 / (time.monotonic() - start)

RATE = calibrate()
"""


@pytest.fixture
def start(repo_root):
    started = []

    def run(program, **options):
        process = subprocess.Popen(
            [sys.executable, "-c", BUSY + program],
            env=os.environ | {"PYTHONPATH": str(repo_root)},
            **({"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options),
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def test_a_stop_during_a_compilation_is_answered_at_once(start):
    process = start("""
with progress.StopRequest() as stop:
    compile_for(6)
    print(stop.requested, flush=True)
""")
    assert process.stdout.readline() == "busy\n"
    time.sleep(0.3)  # until it is
    sent = time.monotonic()
    process.send_signal(signal.SIGTERM)
    line = process.stderr.readline()
    assert time.monotonic() - sent < 3.0
    assert line.startswith(
        "SIGTERM: stopping after this step with a checkpoint, and if it is being"
    )
    assert process.poll() is None
    assert process.stdout.readline() == "True\n"
    assert process.wait() == 0


def test_a_second_stop_during_a_compilation_is_not_forgotten(start):
    process = start("""
try:
    with progress.StopRequest():
        compile_for(4)
except KeyboardInterrupt as stop:
    print(stop)
""")
    assert process.stdout.readline() == "busy\n"
    for _ in range(2):
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
    assert process.stdout.readline().startswith("aborted")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_work_ends_at_once_and_tidies_up(number):
    before = signal.getsignal(number)
    tidied = []

    def work():
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        finally:
            tidied.append(True)

    with pytest.raises(signals.Ended, match=f"ended by {number.name}") as caught, signals.ending():
        work()
    assert caught.value.exit_code == 128 + number
    assert tidied == [True]
    assert signal.getsignal(number) == before


def test_other_work_that_does_not_return_is_ended_all_the_same(start):
    process = start("""
with signals.ending():
    compile_for(20)
""")
    assert process.stdout.readline() == "busy\n"
    time.sleep(0.3)  # until it is
    sent = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=10)
    assert time.monotonic() - sent < 8.0
    assert process.returncode == 128 + signal.SIGTERM
    assert said.startswith("ended by SIGTERM")
    assert len(said.splitlines()) == 1


def test_a_training_in_a_terminal_that_is_closed_saves_and_leaves(start, tmp_path):
    """The terminal is gone: whatever is printed to it fails."""
    ours, theirs = pty.openpty()
    process = start(
        """
import time
out = open("{out}", "w")
bar = progress.Progress(1000, unit="it", title="t", every_s=0)
with progress.StopRequest() as stop, bar:
    print("ready", file=out, flush=True)
    for step in range(1000):
        bar.update(1)
        time.sleep(0.01)
        if stop.requested:
            print("saved", file=out, flush=True)
            break
print("left", flush=True)
print("over", file=out, flush=True)
""".replace("{out}", str(tmp_path / "out")),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    out = tmp_path / "out"
    while not out.exists() or "ready" not in out.read_text():
        time.sleep(0.05)
    os.close(ours)
    process.send_signal(signal.SIGHUP)
    assert process.wait(20) == 0
    assert out.read_text().split() == ["ready", "saved", "over"]


def test_handlers_of_libraries_do_not_stay(start):
    process = start("""
import faulthandler, signal
try:
    with signals.ending():
        faulthandler.register(signal.SIGTERM, all_threads=False)  # prints a stack, in C
        signals.take_back()
        compile_for(3)
except signals.Ended as end:
    print(end, file=sys.stderr)
    sys.exit(end.exit_code)
""")
    assert process.stdout.readline() == "busy\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGTERM
    assert said.startswith("ended by SIGTERM")
    assert len(said.splitlines()) == 1
