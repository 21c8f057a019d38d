"""Decoder steps are those of the longest row of each batch, whatever order the transcripts come in."""

import pytest
import torch

from tests.helpers.tiny import tiny_model, tiny_processor
from trainer.evaluation.decoding_cost import compare_decoding

TEXTS = ["i am so happy now", "you", "we go", "can you believe it", "", "not"]


@pytest.fixture
def processor(tmp_path):
    return tiny_processor(tmp_path, "whisper")


def always(model, label, token):
    """Detection says `label` everywhere, and the decoder writes `token` for ever."""
    for layer, index in ((model.detector, label), (model.corrector.output, token)):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
        layer.bias.data[index] = 5.0


@pytest.mark.parametrize("token", [3, 50], ids=["ends at once", "never ends"])
def test_steps(processor, token):
    model = tiny_model("whisper")
    always(model, 2, token)
    found = compare_decoding(model, processor, TEXTS, batch_size=2, max_new_tokens=4)
    sizes = sorted(len(processor.encode_transcript(text)) for text in TEXTS)
    assert (found["utterances"], found["places"]) == (6, sum(sizes))
    steps, written = (1, 0) if token == 3 else (4, 4)
    assert found["parallel"]["steps"] == 3 * steps
    # Every piece becomes `written` tokens; each batch of two goes on to the end of its longer one.
    assert found["rewriting"]["steps"] == sum(1 + written * size for size in sizes[1::2])
    assert found["fewer_steps"] == found["rewriting"]["steps"] / found["parallel"]["steps"]
    parallel, rewriting = found["parallel"]["seconds"], found["rewriting"]["seconds"]  # rounded to milliseconds
    assert rewriting == pytest.approx(found["faster"] * parallel, abs=6e-4 * (1 + found["faster"]))


def test_at_the_limits(processor):
    """A text has no more pieces than the encoder reads, there may be no place to decode, and both heads are needed."""
    model = tiny_model("whisper")
    always(model, 0, 50)
    found = compare_decoding(model, processor, TEXTS)
    assert found["parallel"]["steps"] == found["places"] == 0
    assert found["fewer_steps"] is found["faster"] is None
    always(model, 2, 50)
    processor.max_text_length = 5
    found = compare_decoding(model, processor, ["we go"], max_new_tokens=4)
    assert found["rewriting"]["steps"] == 5 < 1 + 4 * found["places"]
    with pytest.raises(ValueError, match="needs error detection and error correction"):
        compare_decoding(tiny_model("whisper", use_error_detection=False), processor, TEXTS)
