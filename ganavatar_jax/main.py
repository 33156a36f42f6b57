"""Runs one task of one config in one run folder: `python -m ganavatar_jax.main --help`.

Exit codes: 0 done, 2 the user's input is wrong (one line on stderr), 130 stopped by the user (a
training that has saved its state, whatever the signal), 143 and 129 ended by SIGTERM and SIGHUP.
Anything else is a defect of ours and keeps its traceback. JAX is imported only once the command
line is understood and the run folder is known to be writable.
"""

import sys
from collections.abc import Sequence

from ganavatar_jax.apps import allocator, command_line, registry, startup
from ganavatar_jax.core import errors, files
from ganavatar_jax.runs import signals

EXIT_USER_ERROR = 2
EXIT_STOPPED = 130  # 128 + SIGINT, as shells count


def main(argv: Sequence[str]) -> int:
    """Runs what the command line asks for.

    Args:
      argv: Program name and arguments.

    Returns:
      The exit code.
    """
    try:
        asked = command_line.parse(argv)
        if isinstance(asked, str):
            print(asked, end="")
            return 0
        startup.start_logging()
        with signals.ending():
            workdir = files.check_writable(asked.workdir)
            startup.start_jax(asked.config)
            registry.load(asked.task)(asked.config, workdir)
    except errors.GanAvatarError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except signals.Ended as end:
        print(str(end), file=sys.stderr)
        return end.exit_code
    except KeyboardInterrupt as stop:
        print(str(stop) or "interrupted", file=sys.stderr)
        return EXIT_STOPPED
    return 0


def run() -> None:
    """Runs the process's own command line and exits; the console command."""
    allocator.keep_memory()
    sys.exit(main(sys.argv))


if __name__ == "__main__":
    run()
