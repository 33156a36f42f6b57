"""How every script here starts: JAX must compute right, and a user's error is one line."""

import sys
from collections.abc import Callable

from ganavatar_jax.apps import startup
from ganavatar_jax.core import errors


def run(main: Callable[[], None]) -> None:
    """Runs a script's main function; exit code 2 after a one-line error."""
    try:
        startup.settle_arithmetic()
        main()
    except errors.GanAvatarError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
