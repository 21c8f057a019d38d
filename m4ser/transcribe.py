"""`m4ser transcribe`: what `python -m data_scripts.transcribe` does."""

from collections.abc import Sequence

from data_scripts.transcribe import __main__ as command


def main(arguments: Sequence[str]) -> int:
    """Transcribe a prepared folder; see `data_scripts.transcribe.__main__`."""
    return command.main(arguments, "m4ser transcribe")
