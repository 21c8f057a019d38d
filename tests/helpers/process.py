"""Running the example scripts as a user does."""

import runpy
import sys

import pytest

from tests.helpers import ROOT

_ON_THE_CPU = ("--use_cpu", "--disable_tqdm", "true")


def call_example(script: str, *arguments) -> None:
    """Run a script of `examples/` that trains nothing in this process; what it raises is raised."""
    names = runpy.run_path(str(ROOT / "examples" / script))
    names["main"](names["parse_arguments"](list(map(str, arguments))))


def run_example_here(script: str, *arguments, status: int = 0) -> None:
    """Run a script of `examples/` in this process, which has loaded the libraries already."""
    path = str(ROOT / "examples" / script)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [path, *_ON_THE_CPU, *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(path, run_name="__main__")
    assert (end.value.code or 0) == status
