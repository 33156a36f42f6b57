"""Runs one task of one config in one run folder: `python -m ganavatar_jax.main --help`.

Exit codes: 0 done, 2 the user's input is wrong (one line on stderr), 130, 143 and 129 stopped by
SIGINT (Ctrl-C), SIGTERM and SIGHUP (a training has saved its state by then), 75 another process of
the run died. Anything else is a defect of ours and keeps its traceback. JAX is imported only once
the command line is understood and the run folder is known to be writable.
"""

import sys
import traceback
from collections.abc import Sequence

from ganavatar_jax.apps import allocator, command_line, registry, startup
from ganavatar_jax.core import errors, files
from ganavatar_jax.runs import signals, together

EXIT_DEFECT = 1
EXIT_USER_ERROR = 2
EXIT_STOPPED = 130  # 128 + SIGINT, as shells count


def main(argv: Sequence[str]) -> int:
    """Runs what the command line asks for.

    Args:
      argv: Program name and arguments.

    Returns:
      The exit code.
    """
    code, line = 0, ""
    try:
        _run(argv)
    except errors.GanAvatarError as error:
        code, line = EXIT_USER_ERROR, f"error: {error}"
    except KeyboardInterrupt as stop:  # signals.Ended and progress.Stopped among them
        code, line = getattr(stop, "exit_code", EXIT_STOPPED), str(stop) or "interrupted"
    except Exception as defect:
        if together.is_alone():
            raise
        traceback.print_exc()
        together.leave(EXIT_DEFECT, type(defect).__name__)
    if line:
        print(line, file=sys.stderr)
    together.leave(code, line)
    return code


def _run(argv: Sequence[str]) -> None:
    """Does what the command line asks for, in this process's part of the run."""
    asked = command_line.parse(argv)
    if isinstance(asked, str):
        print(asked, end="")
        return
    if asked.task in registry.READING:
        registry.load(asked.task)(asked.config, files.expand_user(asked.workdir).absolute())
        return
    startup.start_logging()
    with signals.ending():
        workdir = files.check_writable(asked.workdir)
        startup.start_jax(asked.config)
        # What a single process can do, the first of several does while the others wait.
        if together.is_first() or asked.task in registry.SHARED:
            registry.load(asked.task)(asked.config, workdir)
        together.meet("end")


def run() -> None:
    """Runs the process's own command line and exits; the console command."""
    allocator.keep_memory()
    sys.exit(main(sys.argv))


if __name__ == "__main__":
    run()
