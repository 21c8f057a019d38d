"""Fixtures of the tests of transcribing."""

import pytest

from data_scripts.schema import save_prepared
from tests.data_scripts.transcribe.helpers import make_dataset, make_tiny_whisper


@pytest.fixture
def dataset():
    return make_dataset()


@pytest.fixture
def prepared(tmp_path, dataset):
    """Folder of the prepared dataset."""
    save_prepared(dataset, tmp_path / "prepared")
    return tmp_path / "prepared"


@pytest.fixture(scope="session")
def tiny_whisper(tmp_path_factory):
    return make_tiny_whisper(tmp_path_factory.mktemp("tiny-whisper"), seconds=1)


@pytest.fixture(scope="session")
def tiny_ctranslate2(tmp_path_factory):
    """The same with faster-whisper's fixed window of 30 s, converted; it says letters rather than time stamps."""
    converters = pytest.importorskip("ctranslate2.converters", reason="the extra faster-whisper is not installed")
    folder = make_tiny_whisper(tmp_path_factory.mktemp("tiny-whisper-30"), seconds=30, letter_scale=2)
    converted = tmp_path_factory.mktemp("converted") / "tiny-ct2"
    converters.TransformersConverter(str(folder), copy_files=["tokenizer.json"]).convert(str(converted))
    return converted
