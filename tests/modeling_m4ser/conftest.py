"""Fixtures of the tests of the model: recognizers."""

import pytest

from tests.data_scripts.transcribe.conftest import tiny_ctranslate2  # noqa: F401  a fixture
from tests.data_scripts.transcribe.helpers import make_tiny_whisper


@pytest.fixture(scope="session")
def whisper(tmp_path_factory):
    """A recognizer with random weights and a window of one second; it says letters rather than time stamps."""
    return str(make_tiny_whisper(tmp_path_factory.mktemp("whisper"), seconds=1, letter_scale=2, positions=12))
