"""Recognizers: what may be one, batches that equal single clips, recordings longer than the window, mistakes."""

import json
import shutil
import string
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCTC,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    WhisperForConditionalGeneration,
    pipeline,
)

from modeling_m4ser.audio_m4ser import load_audio
from modeling_m4ser.recognition_m4ser import Recognizer, _FasterWhisper, load_recognizer
from tests.data_scripts.transcribe.helpers import RAVDESS, REAL_MODEL, make_tiny_whisper, needs_real_model, noises
from tests.helpers.tiny import speech_config

RATE = 16000
TEXT = "I can’t believe it"
# Within the window of one second and longer.
LENGTHS = (8000, 24000, 3000)


def ctc(folder, kind):
    """A recognizer with random weights that reads any length."""
    symbols = ("<pad>", "<s>", "</s>", "<unk>", "|", *string.ascii_lowercase)
    vocabulary = folder / "vocab.json"
    vocabulary.write_text(json.dumps({symbol: place for place, symbol in enumerate(symbols)}))
    config = speech_config(kind, vocab_size=len(symbols), pad_token_id=0)
    return pipeline(
        "automatic-speech-recognition",
        model=AutoModelForCTC.from_config(config).eval(),
        tokenizer=Wav2Vec2CTCTokenizer(vocabulary),
        feature_extractor=Wav2Vec2FeatureExtractor(),
    )


def check_batches(recognizer, clips):
    """Compare texts in batches with those of single clips, and return them."""
    alone = [recognizer([clip])[0] for clip in clips]
    assert len(set(alone)) > 1, "a deaf recognizer"
    assert recognizer(clips, batch_size=2) == alone
    assert recognizer(clips[::-1]) == alone[::-1]
    assert recognizer([]) == []
    return alone


def test_whisper_hears_what_is_longer_than_its_window(whisper):
    asr, clips = pipeline("automatic-speech-recognition", whisper), noises(*LENGTHS)
    greedy = pipeline("automatic-speech-recognition", whisper, generate_kwargs={"num_beams": 1})
    texts = [check_batches(Recognizer(each), clips) for each in (whisper, greedy, asr)]
    # A model that is given by name writes as the texts of training are written; a pipeline has its own beams.
    assert texts[0] == texts[1] != texts[2]
    del asr.model.generation_config.no_timestamps_token_id  # as some that were fine-tuned lack it
    assert len(Recognizer(asr)(clips)) == 3
    parts = pipeline("automatic-speech-recognition", whisper, chunk_length_s=0.5, ignore_warning=True)
    assert len(Recognizer(parts)(clips)) == 3


@pytest.mark.parametrize("kind", ["wav2vec2", "wav2vec2-group"])
def test_models_of_another_kind(tmp_path, kind):
    check_batches(Recognizer(ctc(tmp_path, kind)), noises(8000, 11000, 31 * RATE))


def test_only_what_is_too_long_is_heard_in_parts(tmp_path):
    recognizer = Recognizer(ctc(tmp_path, "wav2vec2"))
    found = [recognizer._options(np.zeros(round(seconds * RATE))) for seconds in (29.9, 30.1)]
    assert found == [None, {"chunk_length_s": 30}]


def test_threads_that_name_a_model_at_the_same_time_load_it_once(monkeypatch):
    begun, loaded = threading.Semaphore(0), {}

    def load(*_):
        begun.release()
        time.sleep(0.05)
        return str

    monkeypatch.setattr("modeling_m4ser.recognition_m4ser._load_pipeline", load)
    with ThreadPoolExecutor(4) as threads:
        found = [*threads.map(lambda _: load_recognizer("name", loaded, RATE), range(4))]
    assert len({*map(id, found)}) == 1
    assert begun.acquire(blocking=False)
    assert not begun.acquire(blocking=False)


def test_clips_that_are_heard_together_keep_their_words_apart(monkeypatch):
    """Of segments that begin where their clip does, and of a recognizer of English alone."""
    monkeypatch.setattr(_FasterWhisper, "__init__", lambda *_: None)
    recognizer, asked = Recognizer("faster-whisper:tiny"), []

    def transcribe(_, clip_timestamps, **options):
        asked.append(options)
        return [SimpleNamespace(start=place["start"], text=f"{place['end']:g}") for place in clip_timestamps], None

    recognizer.asr.batched = SimpleNamespace(transcribe=transcribe)
    recognizer.asr.rate, recognizer.asr.seconds, recognizer.asr._language = RATE, 30, "en"
    assert recognizer([np.zeros(RATE), np.zeros(3 * RATE), np.zeros(2 * RATE)]) == ["6", "3", "5"]
    assert asked == [{"batch_size": 16, "multilingual": False, "language": "en"}]


def test_faster_whisper(tiny_ctranslate2):
    recognizer = Recognizer(f"faster-whisper:{tiny_ctranslate2}", device="cpu")
    assert recognizer.asr._language == "en", "it knows no other"
    recognizer.asr.model.max_length = 12  # the model has no more places
    check_batches(recognizer, [*noises(16000, 9000, 12345), *noises(31 * RATE)])


def test_a_whisper_hears_the_language_behind_its_name(whisper, tmp_path, tiny_ctranslate2):
    with pytest.raises(ValueError, match=r"whisper\S*' knows en alone, not 'de': choose another recognizer"):
        Recognizer(f"{whisper}:de")
    with pytest.raises(ValueError, match="knows en alone, not 'de'"):
        Recognizer(f"faster-whisper:{tiny_ctranslate2}:de")
    shutil.copytree(whisper, tmp_path / "german")
    settings = tmp_path / "german" / "generation_config.json"
    fields, clips = json.loads(settings.read_text()), noises(*LENGTHS)
    # The letter a stands for the token of German: what is heard after another prompt is another text.
    fields |= {"task_to_id": {"transcribe": 70, "translate": 71}}
    settings.write_text(json.dumps(fields | {"is_multilingual": True, "lang_to_id": {"<|en|>": 3, "<|de|>": 64}}))
    heard = {}
    for code in ("de", "en"):
        recognizer, asked = Recognizer(f"{tmp_path / 'german'}:{code}"), []
        generate = recognizer.asr.model.generate  # greedily: what is drawn by random weights would be the same
        recognizer.asr.model.generate = lambda asked=asked, generate=generate, **options: (
            asked.append(options) or generate(**options | {"temperature": 0.0})
        )
        heard[code] = recognizer(clips)
        assert [(each["language"], each["num_beams"], "temperature" in each) for each in asked] == [
            (code, 1, True),
            (code, 1, False),
        ]
    assert heard["de"] != heard["en"]
    assert Recognizer(f"{whisper}:en")(clips) == Recognizer(whisper)(clips)
    with pytest.raises(ValueError, match="knows de, en, not 'fr'"):
        Recognizer(f"{tmp_path / 'german'}:fr")


def test_what_repeats_itself_is_heard_again_alone(tmp_path, caplog):
    """The decoder's output is the same at each place: one letter is the likeliest, others can be drawn."""
    folder = make_tiny_whisper(tmp_path, seconds=1)
    model = WhisperForConditionalGeneration.from_pretrained(folder)
    norm = model.model.decoder.layer_norm
    norm.weight.data.zero_()
    norm.bias.data.copy_(model.model.decoder.embed_tokens.weight[64:80].mean(0) * 2000)
    model.save_pretrained(folder)
    recognizer, (short, long, _) = Recognizer(str(folder)), noises(*LENGTHS)
    assert len(set(recognizer.asr({"raw": short, "sampling_rate": RATE})["text"])) == 1
    asked, hear = [], recognizer._hear

    def noted(clips, *rest, **options):
        asked.append((len(clips), options.get("generate_kwargs", {}).get("temperature", (None,))[0]))
        return hear(clips, *rest, **options)

    recognizer._hear = noted
    torch.manual_seed(1)
    texts = recognizer([short, -short, long])
    assert asked == [(1, 0.0), (2, None), (1, 0.2), (1, 0.2)]
    torch.manual_seed(2)
    assert texts == [recognizer([clip])[0] for clip in (short, -short, long)]
    assert len({*texts}) == 3, "each is drawn by a seed of its own"
    assert "generation flags" not in caplog.text


def test_faster_whisper_is_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(ImportError, match=r"asr='faster-whisper:tiny'.*pip install faster-whisper"):
        Recognizer("faster-whisper:tiny")


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (None, "asr gave NoneType for "),
        ([TEXT], "asr gave list"),
        ({"text": None, "segments": []}, r"asr gave dict with the keys \['segments', 'text'\]"),
    ],
)
def test_a_recognizer_that_gives_no_text_is_told_so(answer, problem):
    with pytest.raises(ValueError, match=rf"{problem}.*a\.wav: it must return the text, or a dictionary with it under"):
        Recognizer(lambda _: answer)([np.zeros(8)], ["a.wav"])


def test_what_a_recognizer_may_give(caplog):
    for answer in (TEXT, np.str_(TEXT), {"text": TEXT, "language": "en"}):
        assert Recognizer(lambda _, answer=answer: answer)([np.zeros(8)]) == [TEXT]
    for _ in range(2):
        assert Recognizer(lambda _: "")([np.zeros(8)], ["a.wav"]) == [""]
    (record,) = caplog.records
    assert record.getMessage().startswith("asr heard no words in a.wav")
    with pytest.raises(ValueError, match="asr must be a model name, an ASR pipeline or a function, not int"):
        Recognizer(7)


@pytest.mark.slow
@needs_real_model
def test_whisper_hears_the_last_words_of_a_recording():
    """Kids are talking, then half a minute of silence, then dogs are sitting."""
    kids, dogs = (load_audio(next(RAVDESS.glob(f"*/03-01-01-01-0{sentence}-01-*.flac"))) for sentence in (1, 2))
    clip = np.concatenate([kids, np.zeros(29 * RATE, np.float32), dogs])
    texts = [text.lower() for text in Recognizer(str(REAL_MODEL))([kids, clip, dogs])]
    assert 0 <= texts[1].find("kids") < texts[1].find("dogs"), texts
    assert [name in text for name, text in zip(("kids", "dogs"), texts[::2], strict=True)] == [True, True]
