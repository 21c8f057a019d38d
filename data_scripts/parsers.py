"""The parser of every command: `~/…` is a place in the home folder wherever it stands."""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

_VALUE = re.compile(r"(--\w+=)?(~.*)", re.DOTALL)


class CommandParser(argparse.ArgumentParser):
    """An `ArgumentParser` that expands `~`: shells leave `--data_dir=~/x` as it is, and files have no shell."""

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse the words with `~` and `~user` at the beginning of their values expanded."""
        words = sys.argv[1:] if args is None else args
        return super().parse_known_args([_expand(word) for word in words], namespace)


def _expand(word: str) -> str:
    match = _VALUE.fullmatch(word)
    return word if match is None else (match[1] or "") + os.path.expanduser(match[2])
