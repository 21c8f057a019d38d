"""What a user can correct, and how a command ends: one line that says what is wrong, or a traceback for a bug.

This module imports nothing heavy, so that every other one and every command can import it first.
"""

import io
import os
import sys
from collections.abc import Callable, Iterable

from data_scripts.files import explain
from data_scripts.spellings import did_you_mean


class UserError(ValueError):
    """Something the user can correct; the message, one line, names it and says what to do."""

    def __init__(self, message: object):
        super().__init__(" ".join(map(str.strip, str(message).splitlines())))  # names may hold line breaks


class CorpusError(UserError):
    """A corpus, a table or a prepared folder cannot be used; the message names it and says what to do."""


def check_known(owner: object, kind: str, wanted: Iterable[str], known: Iterable[str]) -> None:
    """Raise `CorpusError` where something is wanted that its owner does not have."""
    there = list(dict.fromkeys(known))
    if unknown := [name for name in wanted if name not in there]:
        names = ", ".join(f"{name}{did_you_mean(name, there)}" for name in unknown)
        raise CorpusError(f"{owner} has no {kind} {names}; it has {', '.join(there) or 'none'}")


def run_command(main: Callable[[], int | None]) -> int:
    """Run a command and return its exit status; what the user can correct is one line on stderr, and status 2.

    That is a `UserError`, an `AudioError` (which cannot derive from it: the model's folder is self-contained), an
    `OSError` (a full disk, a missing permission), or too little memory. A reader that closes the output early, such as
    `| head`, ends the command quietly. Letters that the console does not have are written as their codes.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return main() or 0
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more at its end
        return 1
    except Exception as error:
        from modeling_m4ser.audio_m4ser import AudioError  # imports torch

        if not isinstance(error, (UserError, AudioError, OSError, MemoryError)):
            raise
        message = explain(error) if isinstance(error, OSError) else str(error)
        if isinstance(error, MemoryError):
            message = f"there is too little memory for an input that is read whole ({message or 'no more is known'})"
        if "ACCELERATE_MIXED_PRECISION" in os.environ:
            message += " (The traceback below is of accelerate launch, which prints it for any status but 0.)"
        print(f"error: {message}", file=sys.stderr, flush=True)
        return 2
