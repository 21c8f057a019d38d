"""Studies are tested with what the tests of experiments share."""

import pytest
import torch

from tests.docs.workspace import make_pairs
from tests.helpers.corpus import tiny_corpus
from tests.helpers.pictures import blank_pictures, drawn  # noqa: F401  fixtures
from tests.helpers.tiny import tiny_config, tiny_model, tiny_processor
from tests.trainer.experiments.conftest import data, encoders, tiny  # noqa: F401  fixtures
from trainer import M4SERDataCollator


@pytest.fixture(scope="session")
def pairs_table(tmp_path_factory):
    """A table of 60 pairs of texts from three sources, which no test may change."""
    path = tmp_path_factory.mktemp("pairs") / "pairs.csv"
    make_pairs(path)
    return path


def answer(model, collator, row):
    """What a model gives for one row."""
    with torch.no_grad():
        return model(**{name: part for name, part in collator([row]).items() if "label" not in name})


@pytest.fixture(scope="session")
def setting(tmp_path_factory):
    """A model, twelve rows, and their collator."""
    processor = tiny_processor(tmp_path_factory.mktemp("processor"), "whisper")
    collator = M4SERDataCollator(processor, tiny_config("whisper"), with_auxiliary_labels=False)
    return tiny_model("whisper", spread=True), tiny_corpus(12).to_list(), collator
