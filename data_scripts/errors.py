"""What a user can mend, and how a command ends: one line that says what is wrong, or a traceback for a bug.

This module imports nothing heavy, so that every other one and every command can import it first.
"""

import sys
from collections.abc import Callable

from data_scripts.files import explain


class UserError(ValueError):
    """Something the user can mend; the message names it and says what to do."""


class CorpusError(UserError):
    """A corpus, a table or a prepared folder cannot be used; the message names it and says what to do."""


def user_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions that a user can mend; everything else is a bug.

    Returns:
        `UserError`, `modeling_m4ser.audio_m4ser.AudioError` (which cannot derive from it: the model's folder is
        self-contained), and `OSError` (a full disk, a missing permission).
    """
    from modeling_m4ser.audio_m4ser import AudioError  # imports torch

    return UserError, AudioError, OSError


def run_command(main: Callable[[], int | None]) -> int:
    """Run a command; what the user can mend ends it with one line on stderr instead of a traceback.

    Args:
        main: does the work of the command; what it returns is the exit status, None counting as 0.

    Returns:
        The exit status: that of `main`, or 2 after an `error: …` line.
    """
    try:
        return main() or 0
    except user_errors() as error:
        message = explain(error) if isinstance(error, OSError) else " ".join(str(error).split())
        print(f"error: {message}", file=sys.stderr)
        return 2
