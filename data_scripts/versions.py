"""The versions that a result was obtained with."""

import platform
from importlib.metadata import PackageNotFoundError, version

_NUMBER_DECIDING_PACKAGES = (
    "torch",
    "transformers",
    "datasets",
    "accelerate",
    "numpy",
    "soundfile",
    "jiwer",
    "scikit-learn",
    "m4ser",
)


def collect_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that decide numbers, importing none of them.

    Returns:
        Names to version strings, `python` first. A package that is not installed (as M4SER itself, run from its source
        folder) has `"not installed"`.
    """
    versions = {"python": platform.python_version()}
    for name in _NUMBER_DECIDING_PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions
