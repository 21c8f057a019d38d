"""The parser of every command: `~/…` is a place in the home folder wherever it stands."""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from data_scripts.spellings import did_you_mean

_VALUE = re.compile(r"(--\w+=)?(~.*)", re.DOTALL)


class CommandParser(argparse.ArgumentParser):
    """An `ArgumentParser` that expands `~`: shells leave `--data_dir=~/x` as it is, and files have no shell."""

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse the words with `~` and `~user` at the beginning of their values expanded."""
        self._words = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args([_expand(word) for word in self._words], namespace)

    def error(self, message: str) -> NoReturn:
        """Name the nearest option of a misspelled one, which is the cause where a required one is missing too."""
        known = [name for name in self._option_string_actions if name.startswith("--")]
        used = [word.partition("=")[0] for word in self._words if re.match(r"--\w", word)]
        if self._subparsers is None and (
            wrong := [name for name in used if not any(each.startswith(name) for each in known)]
        ):
            message = f"there is no option {', '.join(name + did_you_mean(name, known) for name in wrong)}"
        super().error(message)


def _expand(word: str) -> str:
    match = _VALUE.fullmatch(word)
    return word if match is None else (match[1] or "") + os.path.expanduser(match[2])
