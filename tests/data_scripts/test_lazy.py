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


def test_an_unknown_name_is_an_attribute_error():
    public, get, names = lazy_exports("data_scripts", {"data_scripts.versions": ["collect_versions"]})
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
