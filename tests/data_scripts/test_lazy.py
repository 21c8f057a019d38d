"""Public names of a package that are imported when first asked for."""

import subprocess
import sys

import pytest

import data_scripts
from data_scripts.lazy import lazy_exports
from tests.helpers import ROOT


def test_every_public_name_can_be_had():
    for name in data_scripts.__all__:
        assert callable(getattr(data_scripts, name))
        assert name in dir(data_scripts)


def test_an_unknown_name_is_an_attribute_error(tmp_path):
    file = tmp_path / "__init__.py"
    file.write_text("from typing import Any\nfrom data_scripts.versions import collect_versions as collect_versions\n")
    public, get, names = lazy_exports("data_scripts", str(file))
    with pytest.raises(AttributeError, match="module 'data_scripts' has no attribute 'collect'"):
        get("collect")
    assert public == ["collect_versions"]
    assert "collect_versions" in names()
    assert not hasattr(data_scripts, "no_such_name")


@pytest.mark.parametrize("module", ["", ".corpora", ".errors", ".versions"])
def test_importing_imports_nothing_heavy(module):
    heavy = ("torch", "transformers", "datasets", "sklearn")
    script = f"import sys, data_scripts{module}; sys.exit(any(name in sys.modules for name in {heavy}))"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0


@pytest.mark.parametrize(("command", "option"), [("prepare", "--push_to_hub"), ("transcribe", "--hypotheses")])
def test_help_needs_nothing_heavy(command, option):
    script = (
        f"import runpy, sys\nsys.argv = ['{command}', '--help']\n"
        f"try: runpy.run_module('data_scripts.{command}', run_name='__main__')\n"
        "finally: print(sorted({'torch', 'transformers', 'datasets', 'pyarrow', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    assert option in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
