"""Whisper through transformers: a transcript depends on the clip alone, and mistakes are reported."""

import numpy as np
import pytest
import soundfile
import torch
from transformers import WhisperForConditionalGeneration, WhisperProcessor
from transformers.generation import GenerateEncoderDecoderOutput

from data_scripts.transcribe import whisper
from data_scripts.transcribe.whisper import RecognizerError, WhisperRecognizer, compression_ratio
from tests.data_scripts.transcribe.helpers import RAVDESS, REAL_MODEL, SPECIAL_TOKENS, needs_real_model, noises


def test_it_does_not_depend_on_the_batch_nor_on_the_global_seed(tiny_whisper):
    """Random weights make every clip improbable: all of them go through the temperatures."""
    recognizer = WhisperRecognizer(tiny_whisper, device="cpu", max_new_tokens=8)
    clips = noises(16_000, 800, 9_000)
    torch.manual_seed(1)
    together = recognizer.transcribe(clips)
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    alone = [recognizer.transcribe([clip])[0] for clip in clips]
    assert together == alone
    assert torch.equal(torch.random.get_rng_state(), state)  # the caller's generator is left as it was
    other_seed = WhisperRecognizer(tiny_whisper, device="cpu", max_new_tokens=8, seed=1)
    assert other_seed.transcribe(clips) != together
    assert other_seed.settings != recognizer.settings, "a run that was stopped would go on with another seed"


def test_what_is_sampled_is_of_all_tokens_by_a_seed_of_the_clip(tiny_whisper, monkeypatch):
    def seeds(*clips, **options):
        recognizer, found = WhisperRecognizer(tiny_whisper, device="cpu", **options), []
        monkeypatch.setattr(
            recognizer.model, "generate", lambda top_k, **_: found.append((top_k, torch.initial_seed())) or [[0]]
        )
        for clip in clips:
            recognizer._decode_alone(clip)
        assert {top_k for top_k, _ in found} == {0}
        return [seed for _, seed in found]

    one, other = noises(800, 900)
    assert len({*seeds(one, other, one), *seeds(one, seed=1)}) == 3


def test_it_takes_empty_silent_short_and_long_clips(tiny_whisper):
    recognizer = WhisperRecognizer(tiny_whisper, device="cpu", max_new_tokens=6)
    clips = [np.zeros(0, np.float32), np.zeros(16_000, np.float32), *noises(160, 40_000)]
    texts = recognizer.transcribe(clips)
    assert texts[:2] == ["", ""]
    assert all(isinstance(text, str) for text in texts)
    assert recognizer.transcribe(clips[::-1]) == texts[::-1]
    assert recognizer.transcribe([]) == []


def test_token_cap_is_lowered_to_what_the_decoder_holds(tiny_whisper):
    recognizer = WhisperRecognizer(tiny_whisper, device="cpu")
    assert recognizer.max_new_tokens == 36
    assert len(recognizer.transcribe(noises(8000))[0].encode()) <= 36
    assert recognizer.settings["model"] == tiny_whisper.name


def test_a_text_is_as_probable_as_its_own_tokens(tiny_whisper, monkeypatch):
    """Two texts in one batch: what pads the shorter one is not counted, its end is."""
    recognizer = WhisperRecognizer(tiny_whisper, device="cpu")
    end = recognizer.model.generation_config.eos_token_id
    letters = [recognizer.processor.tokenizer.convert_tokens_to_ids(letter) for letter in "abcd"]
    tokens = torch.tensor([[letters[0], end, end, end], letters])
    logits = torch.full((2, 4, recognizer.model.config.vocab_size), -1.0)
    for row, column, value in ((0, 0, 6), (0, 1, 6), (0, 2, -30), (0, 3, -30), (1, 0, 12), (1, 1, 12), (1, 2, -1)):
        logits[row, column, tokens[row, column]] = value
    output = GenerateEncoderDecoderOutput(sequences=tokens, logits=tuple(logits.unbind(1)))
    monkeypatch.setattr(recognizer.model, "generate", lambda **_: output)
    logprobs = logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
    for threshold, accepted in ((-10.0, ["a", "abcd"]), (logprobs[0, :2].mean() - 0.01, ["a", None])):
        monkeypatch.setattr(whisper, "LOGPROB_THRESHOLD", float(threshold))
        assert recognizer._decode_greedily(noises(800, 800)) == accepted
    monkeypatch.setattr(whisper, "LOGPROB_THRESHOLD", float(logprobs[0, :2].mean() + 0.01))
    assert recognizer._decode_greedily(noises(800, 800)) == [None, None]


def test_loop_is_refused():
    assert compression_ratio("") == 0.0
    assert compression_ratio("I don't know. " * 20) > 2.4 > compression_ratio("The quick brown fox jumps over the dog.")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "/absent"}, r"no folder .*absent"),
        ({"language": "de"}, "English-only"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"device": "nowhere"}, "nowhere"),
    ],
)
def test_recognizer_errors(tiny_whisper, options, message):
    with pytest.raises(RecognizerError, match=message):
        WhisperRecognizer(**{"model": str(tiny_whisper), "device": "cpu", **options})


def test_english_changes_nothing_for_an_english_only_model(tiny_whisper):
    """The same settings, so that a transcription begun without it goes on."""
    recognizers = [WhisperRecognizer(tiny_whisper, device="cpu", language=name) for name in (None, "en", "English")]
    assert [recognizer.settings for recognizer in recognizers] == [recognizers[0].settings] * 3
    assert recognizers[1].settings["language"] is None


def test_language_of_a_multilingual_model(tiny_whisper, tmp_path):
    model = WhisperForConditionalGeneration.from_pretrained(tiny_whisper)
    processor = WhisperProcessor.from_pretrained(tiny_whisper)
    ids = {token: processor.tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    config = model.generation_config
    config.is_multilingual, config.lang_to_id = True, {"<|en|>": ids["<|en|>"]}
    config.task_to_id = {"transcribe": ids["<|transcribe|>"], "translate": ids["<|translate|>"]}
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    recognizer = WhisperRecognizer(tmp_path, device="cpu", language="English", max_new_tokens=4)
    assert recognizer.settings["language"] == "English"
    given = recognizer.transcribe(noises(8000))
    assert WhisperRecognizer(tmp_path, device="cpu", max_new_tokens=4).transcribe(noises(8000)) == given  # detected
    with pytest.raises(RecognizerError, match="unknown to Whisper"):
        WhisperRecognizer(tmp_path, device="cpu", language="klingon")


@pytest.mark.slow
@needs_real_model
def test_real_whisper_recognises_real_people():
    files = sorted((RAVDESS / "Actor_01").glob("*.flac"))[:3]
    clips = [soundfile.read(file, dtype="float32")[0] for file in files]
    texts = WhisperRecognizer(str(REAL_MODEL), device="cpu").transcribe([*clips, np.zeros(16_000, np.float32)])
    assert texts == ["Kids are talking by the door."] * 2 + ["Dogs are sitting by the door.", ""]
