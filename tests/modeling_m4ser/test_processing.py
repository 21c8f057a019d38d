"""The processor: one text rule, one utterance at a time, padding, limits, clear errors, saving."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, WhisperFeatureExtractor

from modeling_m4ser import M4SERProcessor, normalize_rms, trim_silence
from tests.helpers.tiny import tiny_model, tiny_processor

RATE = 16000
KINDS = ("hubert", "hubert-group", "whisper")


def waveform(samples, seed=0):
    return np.random.default_rng(seed).normal(size=samples).astype(np.float32)


@pytest.fixture(scope="module", params=KINDS)
def processor(request, tmp_path_factory):
    """A processor for each kind of feature extractor."""
    return tiny_processor(tmp_path_factory.mktemp("tokenizer"), request.param)


# Batches


def test_names_shapes_and_masks(processor):
    batch = processor(audio=waveform(4000), text="I can’t believe it", sampling_rate=RATE)
    assert list(batch) == processor.model_input_names
    speech, *others = batch.values()
    assert speech.shape == ((1, 16, 25) if processor.speech_input_name == "input_features" else (1, 4000))
    assert batch["speech_attention_mask"].shape == (1, speech.shape[-1])
    pieces = processor.tokenizer.convert_ids_to_tokens(batch["input_ids"][0])
    assert pieces == ["[CLS]", "i", "can", "'", "t", "believe", "it", "[SEP]"]
    assert all(value.all() for name, value in batch.items() if "mask" in name)
    assert (speech.dtype, {value.dtype for value in others}) == (torch.float32, {torch.int64})


def test_batch_is_its_members_padded(processor):
    audio = [waveform(4000), waveform(1700, 1) * 0.01, waveform(6404, 2) + 3]
    text = ["so happy", "", "I can't believe it"]
    together = processor(audio=audio, text=text, sampling_rate=RATE)
    rows = [processor(audio=a, text=t, sampling_rate=RATE) for a, t in zip(audio, text, strict=True)]
    for row, alone in enumerate(rows):
        for name, value in alone.items():
            size = value.shape[-1]
            assert torch.equal(together[name][row : row + 1, ..., :size], value), name
            pad = processor.tokenizer.pad_token_id if name == "input_ids" else 0
            assert (together[name][row, ..., size:] == pad).all(), name
    assert together["text_attention_mask"].sum(-1).tolist() == [4, 2, 8]
    joined = processor.pad(rows)
    assert joined.keys() == together.keys()
    assert all(torch.equal(joined[name], together[name]) for name in joined)


def test_kinds_of_audio_are_the_same(processor):
    audio = waveform(3000)
    expected = processor(audio=audio, sampling_rate=RATE)
    for other in (torch.from_numpy(audio), audio.tolist(), [audio], [audio.tolist()], audio.astype(np.float64)):
        batch = processor(audio=other, sampling_rate=RATE)
        torch.testing.assert_close(batch[processor.speech_input_name], expected[processor.speech_input_name])


@pytest.mark.parametrize("audio", [*map(waveform, (1, 160, 399, 480)), np.zeros(2000)])
def test_very_short_audio_and_silence(processor, audio):
    batch = processor(audio=audio, sampling_rate=RATE)
    assert list(batch) == processor.model_input_names[:2]
    assert batch[processor.speech_input_name].isfinite().all()
    assert batch[processor.speech_input_name].shape[-1] >= 1


@pytest.mark.parametrize(("n_fft", "hop_length"), [(400, 160), (512, 100), (200, 320), (1024, 160)])
@pytest.mark.parametrize("samples", [1, 250, 700])
def test_audio_shorter_than_whisper_s_window_is_padded_to_it(tmp_path, n_fft, hop_length, samples):
    extractor = WhisperFeatureExtractor(feature_size=16, n_fft=n_fft, hop_length=hop_length)
    processor = M4SERProcessor(extractor, tiny_processor(tmp_path).tokenizer)
    audio = waveform(samples)
    features = processor(audio=audio, sampling_rate=RATE)["input_features"]
    shortest = max(n_fft, hop_length)
    assert features.shape[-1] == max(samples, shortest) // hop_length >= 1
    assert features.isfinite().all()
    padded = np.pad(audio, (0, max(0, shortest - samples)))
    assert torch.equal(features, processor(audio=padded, sampling_rate=RATE)["input_features"])


def test_whisper_model_takes_thirty_seconds(tmp_path):
    features = tiny_processor(tmp_path, "whisper")(audio=waveform(31 * RATE), text="so", sampling_rate=RATE)
    assert features["input_features"].shape[-1] == 3000
    with torch.no_grad():
        assert tiny_model("whisper")(**features).frame_mask.sum() == 1500


# Limits


def test_limits_of_the_constructor(tmp_path, caplog):
    processor = tiny_processor(tmp_path, max_audio_seconds=0.375, max_text_length=6)
    audio, text = [waveform(9000), waveform(6000, 1)], ["i " * 9, "i " * 4]
    for _ in range(2):
        batch = processor(audio=audio, text=text, sampling_rate=RATE, names=["long.wav", "short.wav"])
    assert batch["input_values"].shape == (2, 6000)
    assert batch["input_ids"].shape == (2, 6)
    assert batch["text_attention_mask"].all()
    alone = processor(audio=waveform(9000)[:6000], sampling_rate=RATE)
    assert torch.equal(batch["input_values"][:1], alone["input_values"])
    processor(audio=waveform(9000), sampling_rate=RATE)
    first, second, third = (record.getMessage() for record in caplog.records)
    assert first == "long.wav lasts 0.6 s, longer than max_audio_seconds=0.375: its last 0.2 s are not read."
    assert second.startswith("The transcript 'i i i i i i i i i'… is longer than max_text_length=6 word pieces")
    assert third.startswith("An audio clip lasts 0.6 s")


def test_default_text_limit_is_at_most_512(tmp_path):
    processor = tiny_processor(tmp_path)
    processor.tokenizer.model_max_length = int(1e30)
    assert M4SERProcessor(processor.feature_extractor, processor.tokenizer).max_text_length == 512


# Errors


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "`audio`, `text` or both"),
        ({"audio": waveform(900)}, "sampling_rate=.*16000"),
        ({"audio": waveform(900), "sampling_rate": 8000}, "8000 Hz.*16000 Hz"),
        ({"audio": [waveform(900)] * 2, "text": ["so"], "sampling_rate": RATE}, "2 audio clips but 1 texts"),
        ({"audio": waveform(900), "names": ["a", "b"], "sampling_rate": RATE}, "1 audio clips but 2 names"),
        ({"audio": [waveform((2, 900))], "sampling_rate": RATE}, r"one-dimensional.*\(2, 900\)"),
        ({"audio": np.zeros((1, 2, 900)), "sampling_rate": RATE}, "one-dimensional"),
        ({"audio": np.zeros(0), "sampling_rate": RATE}, "not empty"),
        ({"audio": [], "text": [], "sampling_rate": RATE}, "empty list"),
        ({"text": ["so", None]}, "must be a string, not NoneType"),
        ({"text": b"so"}, "must be a string, not bytes"),
        ({"text": "so", "truncation": True, "padding": True}, "padding, truncation"),
    ],
)
def test_errors(processor, inputs, message):
    with pytest.raises((ValueError, TypeError), match=message):
        processor(**inputs)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"target_dbfs": 25}, "target_dbfs must be 0 or less"), ({"trim_silence_db": -40}, "must be positive")],
)
def test_impossible_levels_are_refused(processor, options, message):
    with pytest.raises(ValueError, match=message):
        M4SERProcessor(processor.feature_extractor, processor.tokenizer, **options)


# Silence


def test_trimming_silence_cuts_both_ends_and_keeps_pauses(processor):
    speech = np.concatenate([waveform(4000), np.zeros(3200, np.float32), waveform(4000, seed=1)])
    padded = np.concatenate([1e-4 * waveform(16000), speech, np.zeros(8000, np.float32)])
    trimmed = trim_silence(padded, RATE, 40)
    assert np.array_equal(trimmed, padded[16000 - 1600 : 16000 + len(speech) + 1600])
    # The limit is for what is left, not for the silence.
    options = {"trim_silence_db": 40, "max_audio_seconds": len(trimmed) / RATE}
    trimming = M4SERProcessor(processor.feature_extractor, processor.tokenizer, **options)
    batch, expected = trimming(audio=padded, sampling_rate=RATE), processor(audio=trimmed, sampling_rate=RATE)
    assert all(torch.equal(batch[name], expected[name]) for name in expected)


@pytest.mark.parametrize(("quieter_db", "kept"), [(30, True), (39, True), (41, False), (50, False)])
def test_the_threshold_is_in_decibels_under_the_loudest_part(quieter_db, kept):
    """40 dB are a hundredth of the amplitude."""
    loud = waveform(16000)
    quiet = 10 ** (-quieter_db / 20) * waveform(16000)
    trimmed = trim_silence(np.concatenate([quiet, loud]).astype(np.float32), RATE, 40)
    assert len(trimmed) == (32000 if kept else 16000 + 1600)


@pytest.mark.parametrize("audio", [np.zeros(16000, np.float32), waveform(100), np.zeros(0, np.float32)])
def test_what_has_no_loudest_part_stays(audio):
    assert np.array_equal(trim_silence(audio, RATE, 40), audio)
    assert audio.any() or np.array_equal(normalize_rms(audio, -25), audio)


def test_a_set_level_hides_how_loud_a_recording_was(processor):
    leveling = M4SERProcessor(processor.feature_extractor, processor.tokenizer, trim_silence_db=40, target_dbfs=-25)
    speech = np.concatenate([np.zeros(16000, np.float32), waveform(9000)])
    loud, quiet = (leveling(audio=gain * speech, sampling_rate=RATE) for gain in (1.0, 1e-3))
    name = leveling.speech_input_name
    torch.testing.assert_close(loud[name], quiet[name], rtol=1e-4, atol=1e-4)
    trimmed = normalize_rms(trim_silence(speech, RATE, 40), -25)
    assert 10 * np.log10(np.mean(trimmed.astype(np.float64) ** 2)) == pytest.approx(-25, abs=1e-3)
    assert trimmed.dtype == np.float32
    assert torch.equal(loud[name], processor(audio=trimmed, sampling_rate=RATE)[name])


# Saving


def test_save_and_load_with_the_rule(tmp_path, processor):
    options = {"lowercase": False, "keep_punctuation": True, "max_audio_seconds": 0.5, "max_text_length": 9}
    options |= {"trim_silence_db": 35.0, "target_dbfs": -20.0}
    custom = M4SERProcessor(processor.feature_extractor, processor.tokenizer, **options)
    custom.save_pretrained(tmp_path)
    inputs = {"audio": waveform(9000), "text": "So, I can’t believe it (laughs)!", "sampling_rate": RATE}
    expected = custom(**inputs)
    for loaded in (M4SERProcessor.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)):
        assert isinstance(loaded, M4SERProcessor)
        assert {name: getattr(loaded, name) for name in options} == options
        assert loaded.normalize_text("So, I can’t") == "So, I can't"
        batch = loaded(**inputs)
        assert batch.keys() == expected.keys()
        assert all(torch.equal(batch[name], expected[name]) for name in batch)
    assert not torch.equal(expected["input_ids"], processor(**inputs)["input_ids"])


def test_encode_transcript_gives_what_the_model_reads_between_the_special_tokens(tmp_path):
    processor = tiny_processor(tmp_path, "whisper", max_text_length=7)
    for text, decoded in (("I can’t, believe!", "i can't believe"), ("", ""), ("i am so happy now go home [ha]", None)):
        (ids,) = processor(text=text)["input_ids"].tolist()
        assert processor.encode_transcript(text) == ids[1:-1]
        assert processor.decode_transcript(ids) == (decoded if decoded is not None else "i am so happy now")


def test_threads_share_a_processor(processor):
    """A tokenizer that truncates has the limit as a state, which every thread would change for all."""
    texts = ["so sad " * 200, "i am so happy", "can you believe " * 50]

    def read(text):
        return processor(text=text)["input_ids"].tolist(), processor.encode_transcript(text)

    alone = [read(text) for text in texts]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(16) as threads:
            together = list(threads.map(read, texts * 60))
    finally:
        sys.setswitchinterval(interval)
    assert together == alone * 60
