"""What every test with random inputs asks."""

import pytest

from modeling_m4ser import SpeechTextEmotionPipeline
from tests.helpers.tiny import speech_config, tiny_model, tiny_processor


@pytest.fixture(scope="session")
def pipe(tmp_path_factory):
    """The pipeline of a tiny model."""
    model = tiny_model(spread=True, speech_config=speech_config("hubert", conv_dim=[4] * 7))
    return SpeechTextEmotionPipeline(model=model, processor=tiny_processor(tmp_path_factory.mktemp("text")))
