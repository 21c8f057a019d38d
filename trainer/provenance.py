"""The versions a result was obtained with."""

import platform
from importlib.metadata import PackageNotFoundError, version


def collect_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide a training run's numbers.

    Returns:
        Names to version strings: `python`, `torch`, `transformers`, `datasets`, `accelerate`, `m4ser`. A package that
        runs from its source folder without being installed is given as `"not installed"`.
    """
    versions = {"python": platform.python_version()}
    for name in ("torch", "transformers", "datasets", "accelerate", "m4ser"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions
