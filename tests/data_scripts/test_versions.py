"""The versions that a result was obtained with."""

import platform
import subprocess
import sys
from importlib.metadata import version

from data_scripts.versions import collect_versions, package_version
from tests.helpers import ROOT


def test_every_library_that_decides_numbers_is_named():
    found = collect_versions()
    assert found.keys() >= {"transformers", "datasets", "accelerate", "numpy", "soundfile", "jiwer", "m4ser"}
    assert found["python"] == platform.python_version()
    assert {name: found[name] for name in ("torch", "scikit-learn")} == {
        name: version(name) for name in ("torch", "scikit-learn")
    }
    assert package_version("no-such-package-anywhere") == "not installed"


def test_none_of_them_is_imported():
    script = (
        "import sys; from data_scripts.versions import collect_versions; collect_versions();"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'datasets', 'numpy', 'sklearn')))"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0
