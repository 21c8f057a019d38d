"""What a user can correct, and how a command ends: one line that says what is wrong, or a traceback for a bug.

This module imports nothing heavy, so that every other one and every command can import it first.
"""

import os
import sys
from collections.abc import Callable

from data_scripts.files import explain


class UserError(ValueError):
    """Something the user can correct; the message names it and says what to do."""


class CorpusError(UserError):
    """A corpus, a table or a prepared folder cannot be used; the message names it and says what to do."""


def user_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions that a user can correct; everything else is a bug.

    `AudioError` cannot derive from `UserError`: the model's folder is self-contained.
    """
    from modeling_m4ser.audio_m4ser import AudioError  # imports torch

    return UserError, AudioError, OSError


def run_command(main: Callable[[], int | None]) -> int:
    """Run a command; what the user can correct ends it with one line on stderr instead of a traceback.

    Under `accelerate launch` that line says that what the launcher prints below it is the launcher's own traceback. A
    reader that closes the output early, such as `| head`, ends the command quietly.

    Returns:
        The exit status: that of `main`, or 2 after an `error: …` line.
    """
    try:
        return main() or 0
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more at its end
        return 1
    except user_errors() as error:
        message = explain(error) if isinstance(error, OSError) else " ".join(str(error).split())
        if "ACCELERATE_MIXED_PRECISION" in os.environ:
            message += " (The traceback below is of accelerate launch, which prints it for any status but 0.)"
        print(f"error: {message}", file=sys.stderr, flush=True)
        return 2
