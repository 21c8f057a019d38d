"""`m4ser prepare`: what `python -m data_scripts.prepare` does."""

from collections.abc import Sequence

from data_scripts.prepare import __main__ as command


def main(arguments: Sequence[str]) -> int:
    """Prepare a corpus; see `data_scripts.prepare.__main__`."""
    return command.main(arguments, "m4ser prepare")
