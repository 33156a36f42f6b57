"""The launcher starts processes that find each other, and passes signals and exit codes on."""

import os
import signal
import subprocess
import sys
import time

import pytest

PROGRAM = """
import sys
from ganavatar_jax import launch
real = launch.subprocess.Popen
launch.subprocess.Popen = lambda command, **options: real(
    [sys.executable, "-c", CHILD, *command[3:]], **options
)
sys.exit(launch.main(sys.argv[1:]))
"""


@pytest.fixture
def start(repo_root):
    started = []

    def run(child, *arguments):
        program = f"CHILD = {child!r}\n{PROGRAM}"
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", program, *arguments],
                env=os.environ | {"PYTHONPATH": str(repo_root)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()


def test_each_process_gets_the_command_and_its_place(start):
    child = (
        "import os, sys; print(*(os.environ['JAX_' + n] for n in "
        "('COORDINATOR_ADDRESS', 'NUM_PROCESSES', 'PROCESS_ID')), *sys.argv[1:])"
    )
    out, err = start(child, "--processes=2", "--port=7777", "--", "--task=all").communicate()
    assert err == ""
    assert sorted(out.splitlines()) == [f"127.0.0.1:7777 2 {i} --task=all" for i in (0, 1)]


def test_a_signal_reaches_all_and_the_first_exit_code_counts(start):
    child = (
        "import signal, sys, time; "
        "signal.signal(15, lambda *_: sys.exit(143)); print('up', flush=True); time.sleep(60)"
    )
    process = start(child, "--processes=2", "--", "x")
    assert [process.stdout.readline() for _ in range(2)] == ["up\n"] * 2
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    assert process.wait(30) == 143
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("arguments", [["--processes=2"], ["--processes=0", "--", "x"]])
def test_a_mistake_is_told(start, arguments):
    process = start("", *arguments)
    _, err = process.communicate()
    assert process.returncode == 2
    assert "--processes must be 1 or more, and a command must follow --" in err
