"""What the tests of experiments share: encoders as the command line names them, a corpus, and three splits."""

import pytest
from datasets import DatasetDict

from data_scripts.splits import speaker_folds
from tests.helpers.corpus import tiny_corpus
from tests.helpers.experiments import encoder_folders, write_manifest
from tests.helpers.pictures import blank_pictures  # noqa: F401  a fixture
from tests.helpers.tiny import EMOTIONS
from trainer.experiments.arguments import ModelArguments


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """The model of a command line, on tiny encoders in folders."""
    speech, text = map(str, encoder_folders(tmp_path_factory.mktemp("encoders")))
    return ModelArguments(speech_encoder=speech, text_encoder=text, model_options={"num_attention_heads": 4})


@pytest.fixture(scope="session")
def encoders(tiny):
    """The same encoders, as options of a command line."""
    return "--speech_encoder", tiny.speech_encoder, "--text_encoder", tiny.text_encoder


@pytest.fixture
def corpus(tmp_path):
    """A folder of 18 clips of three speakers, with their manifest."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    write_manifest(folder)
    return folder


@pytest.fixture(scope="module")
def data():
    """Three splits, and nobody sad in the test: what was measured on another split cannot pass for the test's."""
    corpus = DatasetDict(train=tiny_corpus(24))
    splits = speaker_folds(corpus, 3)[0].select(corpus)
    kept = [index for index, emotion in enumerate(splits["test"]["emotion"]) if EMOTIONS[emotion] != "sad"]
    return DatasetDict({**splits, "test": splits["test"].select(kept[1:])})  # uneven classes, so that WA is not UA
