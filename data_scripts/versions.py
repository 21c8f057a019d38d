"""The versions that a result was obtained with."""

import platform
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("torch", "transformers", "datasets", "accelerate", "numpy", "soundfile", "jiwer", "scikit-learn", "m4ser")


def package_version(name: str) -> str:
    """Return a package's version without importing it; "not installed", as M4SER itself run from its source folder."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def collect_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that decide numbers, `python` first."""
    return {"python": platform.python_version(), **{name: package_version(name) for name in _PACKAGES}}
