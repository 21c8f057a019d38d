"""The versions that a result was obtained with."""

import platform
import subprocess
import sys
from importlib.metadata import version

from data_scripts import versions
from data_scripts.versions import collect_versions
from tests.helpers import ROOT


def test_every_library_that_decides_numbers_is_named():
    found = collect_versions()
    assert list(found) == [
        "python",
        *("torch", "transformers", "datasets", "accelerate", "numpy", "soundfile", "jiwer", "scikit-learn", "m4ser"),
    ]
    assert found["python"] == platform.python_version()
    assert found["torch"] == version("torch")
    assert found["scikit-learn"] == version("scikit-learn")


def test_what_is_not_installed_is_said(monkeypatch):
    monkeypatch.setattr(versions, "_NUMBER_DECIDING_PACKAGES", ("no-such-package-anywhere",))
    assert collect_versions()["no-such-package-anywhere"] == "not installed"


def test_none_of_them_is_imported():
    script = (
        "import sys; from data_scripts.versions import collect_versions; collect_versions();"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'datasets', 'numpy', 'sklearn')))"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0
