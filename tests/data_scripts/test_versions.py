"""The versions that a result was obtained with."""

import platform
from importlib.metadata import version

from data_scripts.versions import collect_versions, package_version


def test_every_library_that_decides_numbers_is_named():
    found = collect_versions()
    assert found.keys() >= {"transformers", "datasets", "accelerate", "numpy", "soundfile", "jiwer", "m4ser"}
    assert found["python"] == platform.python_version()
    assert {name: found[name] for name in ("torch", "scikit-learn")} == {
        name: version(name) for name in ("torch", "scikit-learn")
    }
    assert package_version("no-such-package-anywhere") == "not installed"
