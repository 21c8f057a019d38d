"""The command: its verbs, its help, and that it answers before anything heavy is imported."""

import importlib
import subprocess
import sys

import pytest

from m4ser.__main__ import VERBS, main


def test_help_names_every_verb_and_what_it_does(capsys):
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {verb} " in shown and what in shown for verb, (_, what) in VERBS.items())


def test_a_misspelt_verb_names_the_nearest(capsys):
    assert main(["evn"]) == 2
    assert capsys.readouterr().err == "error: m4ser has no verb 'evn' (did you mean env?); see m4ser --help\n"


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_needs_no_torch(verb):
    code = f"import sys; from m4ser.__main__ import main; main([{verb!r}, '--help'])"
    code = f"import atexit, sys; atexit.register(lambda: print('torch' in sys.modules)); {code}"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert f"m4ser {verb}" in shown
    assert shown.endswith("False\n")


def test_verbs_are_modules_with_a_main():
    assert all(callable(importlib.import_module(module).main) for module, _ in VERBS.values())
