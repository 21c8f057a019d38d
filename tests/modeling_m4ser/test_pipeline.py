"""The pipeline: every kind of input, batches, labels, corrections, recognition, and errors that say what to do."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import soxr
import torch
from datasets import Audio, Dataset, IterableDataset
from transformers import AutoModelForAudioClassification, pipeline
from transformers.pipelines.pt_utils import KeyDataset

from modeling_m4ser import PIPELINE_TASK, M4SERForEmotionClassification, SpeechTextEmotionPipeline, answering_m4ser
from modeling_m4ser.domain_m4ser import SoundDomain
from modeling_m4ser.sound_m4ser import SOUND_SIZE, describe_sound
from tests.helpers.tiny import EMOTIONS, tiny_pretrained, tiny_processor
from tests.modeling_m4ser.test_audio import RATE, pcm, tone
from trainer.experiments.ablations import ABLATIONS

TEXT = "I can’t believe it"


def voice(seconds, pitch=220.0):
    """A tone with two harmonics that swells and fades."""
    wave = sum(tone(seconds, hertz=k * pitch) / k for k in (1, 2, 3))
    return (0.4 * wave * np.hanning(len(wave))).astype(np.float32)


def scores(answer):
    return {item["label"]: item["score"] for item in answer}


def assert_same(ours, theirs, tolerance=1e-5):
    assert scores(ours).keys() == scores(theirs).keys()
    for label, score in scores(theirs).items():
        assert scores(ours)[label] == pytest.approx(score, abs=tolerance)


def load(folder, **kwargs):
    """The pipeline of a folder with this process's code; test_hub.py runs the folder's own."""
    return pipeline(PIPELINE_TASK, model=str(folder), pipeline_class=SpeechTextEmotionPipeline, **kwargs)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_pretrained(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def pipe(folder):
    return load(folder)


@pytest.fixture(scope="module")
def wav(tmp_path_factory):
    """A mono 16 kHz file and its samples."""
    path = tmp_path_factory.mktemp("audio") / "a.wav"
    path.write_bytes(pcm(voice(0.5), RATE))
    return path


@pytest.fixture(scope="module")
def expected(folder, wav):
    """Probabilities of the file and TEXT, without the pipeline."""
    model = M4SERForEmotionClassification.from_pretrained(folder)
    processor = tiny_processor(folder)
    with torch.no_grad():
        logits = model(**processor(audio=voice(0.5), text=TEXT, sampling_rate=RATE)).logits[0]
    probabilities = torch.exp(logits) / torch.exp(logits).sum()
    return [{"label": EMOTIONS[index], "score": float(score)} for index, score in enumerate(probabilities)]


def test_class_and_order(pipe, wav, expected):
    assert type(pipe) is SpeechTextEmotionPipeline
    assert pipe.task == PIPELINE_TASK
    answer = pipe({"audio": str(wav), "text": TEXT})
    assert_same(answer, expected)
    values = [item["score"] for item in answer]
    assert values == sorted(values, reverse=True)
    assert sum(values) == pytest.approx(1, abs=1e-5)
    assert len(set(values)) == len(EMOTIONS), "a model that cannot tell anything apart"


def test_the_calibration_temperature_is_for_the_probabilities_alone(folder, wav, expected, tmp_path):
    model, processor = M4SERForEmotionClassification.from_pretrained(folder), tiny_processor(folder)
    inputs = processor(audio=voice(0.5), text=TEXT, sampling_rate=RATE)
    before = model(**inputs).logits
    model.config.calibration_temperature = 0.25
    torch.testing.assert_close(model(**inputs).logits, before, rtol=0, atol=0)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    sharper = {label: score**4 for label, score in scores(expected).items()}
    total = sum(sharper.values())
    answer = load(tmp_path)({"audio": str(wav), "text": TEXT})
    assert_same(answer, [{"label": label, "score": score / total} for label, score in sharper.items()])


def test_the_audio_is_read_at_its_rate(pipe, wav, expected):
    """test_audio.py has every kind of audio, test_rows.py every way of writing a row."""
    resampled = {"array": soxr.resample(voice(0.5), RATE, 44100), "sampling_rate": 44100}
    for audio, tolerance in ((wav, 1e-5), (wav.read_bytes(), 1e-5), (resampled, 0.02)):
        assert_same(pipe({"audio": audio, "text": TEXT}), expected, tolerance)
        assert_same(pipe((audio, TEXT)), expected, tolerance)
    other = pipe({"audio": {"array": voice(0.5, 900.0), "sampling_rate": RATE}, "text": TEXT})
    assert max(abs(scores(other)[label] - scores(expected)[label]) for label in EMOTIONS) > 1e-3, "deaf model"


def test_a_channel_can_be_chosen(pipe, folder, expected, tmp_path):
    """By the input, the call or the constructor, in this order."""
    path = tmp_path / "two speakers.wav"
    path.write_bytes(pcm(np.stack([voice(0.5, 900.0), voice(0.5)], axis=1), RATE))
    second = load(folder, channel=1)
    for answer in (
        pipe({"audio": str(path), "text": TEXT, "channel": 1}, channel=0),
        pipe([(str(path), TEXT)] * 2, channel=1, batch_size=2)[1],
        second({"audio": str(path), "text": TEXT, "channel": None}),
    ):
        assert_same(answer, expected)
    assert_same(second((str(path), TEXT), channel=None), pipe((str(path), TEXT)))
    with pytest.raises(ValueError, match=r"speakers\.wav: channel must be a whole number, counted from 0, got 'left'"):
        pipe({"audio": str(path), "text": TEXT, "channel": "left"})


def test_what_is_cut_or_silent_is_warned_of_once(folder, tmp_path, caplog):
    processor = tiny_processor(tmp_path, max_audio_seconds=0.25, max_text_length=5)
    model = AutoModelForAudioClassification.from_pretrained(folder)
    short = SpeechTextEmotionPipeline(model=model, processor=processor)
    long, off = tmp_path / "long.wav", tmp_path / "off.wav"
    long.write_bytes(pcm(voice(0.5), RATE))
    off.write_bytes(pcm(np.zeros(800), RATE))
    caplog.clear()
    for size in (1, 2):
        answers = short([(str(long), "so"), (str(off), "so happy so sad")], batch_size=size)
        assert_same(answers[0], short(({"array": voice(0.5)[:4000], "sampling_rate": RATE}, "so")))
    starts = (f"{long} lasts 0.5 s", f"{off} holds no sound", "The transcript 'so ")
    for record, start in zip(caplog.records, starts, strict=True):
        assert record.getMessage().startswith(start)


def test_the_pipeline_of_another_task_names_ours(folder, wav):
    model = AutoModelForAudioClassification.from_pretrained(folder)
    extractor = tiny_processor(folder).feature_extractor
    for masked, problem in ((True, "Masks are speech_attention_mask"), (False, "needs `input_ids`")):
        extractor.return_attention_mask = masked
        other = pipeline("audio-classification", model=model, feature_extractor=extractor)
        with pytest.raises(ValueError, match=rf"{problem}.*use pipeline\('{PIPELINE_TASK}'"):
            other(voice(0.5))


def test_the_transcript_is_normalized_and_read(pipe, wav, expected):
    assert_same(pipe((str(wav), "i CAN'T  believe it.")), expected)
    changed = pipe((str(wav), "so sad"))
    assert max(abs(scores(changed)[label] - scores(expected)[label]) for label in EMOTIONS) > 1e-3
    assert all(np.isfinite(list(scores(pipe((str(wav), ""))).values())))


def test_collections_and_batches(pipe, wav):
    arrays = [voice(0.4, 150), voice(0.1, 300), voice(0.31), voice(0.02)]
    clips = [*({"array": array, "sampling_rate": RATE} for array in arrays), str(wav)]
    texts = ["so happy", TEXT, "", "we go home now you are not sad", "no"]
    pairs = list(zip(clips, texts, strict=True))
    alone = [pipe(pair) for pair in pairs]
    assert pipe([]) == []
    for batch_size in (1, 3, 8):
        together = pipe(pairs, batch_size=batch_size)
        streamed = list(pipe((pair for pair in pairs), batch_size=batch_size))
        assert len(together) == len(streamed) == 5
        for one, other, third in zip(alone, together, streamed, strict=True):
            assert_same(other, one)
            assert_same(third, one)
    assert [item["label"] for item in pipe(pairs, batch_size=2, num_workers=1)[4]] == [e["label"] for e in alone[4]]


def test_tables_are_answered_by_lists_and_data_sets_by_rows(pipe, wav, expected):
    """test_rows.py has every kind of collection."""
    texts = [TEXT, None, "so sad"]
    frame = pd.DataFrame({"file": [str(wav)] * 3, "sentence": texts, "emotion": [0, 1, 2]})
    audio = [{"path": None, "bytes": wav.read_bytes()}, *[{"path": str(wav), "bytes": None}] * 2]
    data = Dataset.from_dict({"audio": audio, "sentence": texts}).cast_column("audio", Audio())
    for given in (frame, pa.Table.from_pandas(frame), frame.to_dict("list"), data, data.to_iterable_dataset()):
        for batch_size in (1, 2):
            answers = pipe(given, batch_size=batch_size, asr=lambda _: "so")
            assert isinstance(answers, list) or isinstance(given, (Dataset, IterableDataset))
            for answer, text in zip(answers, [TEXT, "so", "so sad"], strict=True):
                assert_same(answer, pipe((str(wav), text)))
    for row in (frame.iloc[0], data.cast_column("audio", Audio(decode=False))[0]):
        assert_same(pipe(row), expected)
    assert pipe(frame[:0]) == pipe(()) == []


def test_top_k(pipe, wav, expected, folder):
    best = sorted(expected, key=lambda item: -item["score"])
    assert [item["label"] for item in pipe((wav, TEXT), top_k=2)] == [item["label"] for item in best[:2]]
    assert len(pipe((wav, TEXT), top_k=99)) == 4
    assert [len(answer) for answer in pipe([(wav, TEXT)] * 2, top_k=1, batch_size=2)] == [1, 1]
    three = load(folder, top_k=3)
    assert [len(three((wav, TEXT))), len(three((wav, TEXT), top_k=None))] == [3, 4]
    assert len(pipe((wav, TEXT), top_k=np.int64(2))) == 2
    for top_k in (0, True, 1.5, "2"):
        with pytest.raises(ValueError, match="top_k must be a whole number of at least 1, not"):
            pipe((wav, TEXT), top_k=top_k)


def test_asr_writes_a_missing_transcript(pipe, wav, expected):
    heard = []

    def asr(waveform):
        heard.append(waveform)
        return TEXT

    assert_same(pipe(str(wav), asr=asr), expected)
    assert_same(
        pipe([wav.read_bytes(), {"raw": voice(0.5), "sampling_rate": RATE}], asr=asr, batch_size=2)[1], expected
    )
    assert len(heard) == 3
    np.testing.assert_allclose(heard[0], voice(0.5), atol=1e-6)
    assert_same(pipe((str(wav), "so sad"), asr=asr), pipe((str(wav), "so sad")))
    assert len(heard) == 3, "a transcript that is there is not recognized again"
    with pytest.raises(ValueError, match="asr"):
        pipe(str(wav), asr=7)


def test_asr_is_batched_and_answers_as_single_calls_do(pipe, whisper):
    """A recognizer with random weights says something else of every clip."""
    inputs = [{"array": voice(0.1 + 0.2 * k, 150 + 90 * k), "sampling_rate": RATE} for k in range(9)]
    inputs[4] = {"audio": inputs[4], "text": TEXT}
    alone = [pipe(clip, asr=whisper, return_embedding=True) for clip in inputs]
    assert len({answer["text"] for answer in alone}) > 2, "a deaf recognizer"
    for options in ({"batch_size": 4}, {"batch_size": 1, "num_workers": 2}, {"batch_size": 16, "num_workers": 2}):
        together = pipe(inputs, asr=whisper, return_embedding=True, **options)
        for one, other in zip(alone, together, strict=True):
            assert one["text"] == other["text"]
            assert_same(other["emotions"], one["emotions"])
            np.testing.assert_allclose(other["embedding"], one["embedding"], atol=1e-5)


def test_an_error_is_answered_in_its_place(pipe, wav, tmp_path):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no audio")

    def asr(waveform):
        if len(waveform) > RATE:
            raise RuntimeError("too much to hear")
        return TEXT

    long = {"array": voice(1.2), "sampling_rate": RATE}
    inputs = [str(wav), str(broken), (str(wav), "so"), long, "absent.wav", (str(wav), 3), str(wav)]
    errors = {1: ("AudioError", "broken.wav"), 3: ("RuntimeError", "too much"), 4: ("AudioError", "absent.wav")}
    errors[5] = "ValueError", "must be a string"
    for options in ({}, {"batch_size": 3}, {"batch_size": 16, "num_workers": 2}):
        answers = pipe(inputs, asr=asr, on_error="skip", **options)
        assert list(pipe((item for item in inputs), asr=asr, on_error="skip", **options)) == answers
        for place, answer in enumerate(answers):
            if place in errors:
                name, message = errors[place]
                assert answer.keys() == {"error", "error_type"}
                assert (answer["error_type"], message in answer["error"]) == (name, True)
            else:
                assert_same(answer, pipe(inputs[place], asr=asr))
        with pytest.raises(ValueError, match=r"broken\.wav"):
            pipe(inputs, asr=asr, **options)
    assert pipe(str(broken), asr=asr, on_error="skip")["error_type"] == "AudioError"
    with pytest.raises(ValueError, match="on_error"):
        pipe(str(wav), on_error="ignore")


def test_sounds_are_described_at_the_rate_of_the_training_data(pipe, monkeypatch):
    heard = []
    monkeypatch.setattr(pipe.model.config, "ood_threshold", 1.0)
    monkeypatch.setattr(answering_m4ser, "describe_sound", lambda samples: heard.append(len(samples)))
    pipe.preprocess({"audio": {"array": voice(0.5), "sampling_rate": 3 * RATE}, "text": TEXT})
    assert heard == [round(len(voice(0.5)) / 3)]


def test_a_recording_of_hours_is_refused_and_its_parts_are_not(pipe, wav, monkeypatch):
    monkeypatch.setattr(answering_m4ser, "LONGEST", 0.1)
    answer = pipe((str(wav), TEXT), on_error="skip")
    assert answer["error_type"] == "TooLongError"
    assert "wav lasts longer than 0.1 s: name a part of it (start, end)" in answer["error"]
    assert "label" in pipe({"audio": str(wav), "text": TEXT, "start": 0.0, "end": 0.05})[0]


def test_a_failing_batch_is_run_one_by_one(pipe, wav):
    """What runs out of memory together may fit alone."""
    inputs = [(str(wav), TEXT), (str(wav), "so"), (str(wav), "so sad")]
    forward = pipe.model.forward

    def small(*args, **kwargs):
        if len(kwargs["input_ids"]) > 1 or kwargs["input_ids"].shape[-1] == 3:
            raise RuntimeError("out of memory")
        return forward(*args, **kwargs)

    with mock.patch.object(pipe.model, "forward", small):
        answers = pipe(inputs, batch_size=3, on_error="skip")
    assert [isinstance(answer, list) for answer in answers] == [True, False, True]
    assert_same(answers[2], pipe(inputs[2]))


def test_return_embedding_and_decision(pipe, wav, tmp_path):
    silence = tmp_path / "silence.wav"
    silence.write_bytes(pcm(np.full(44100, 0.25), 44100))  # a constant, which resampling would give ripples
    inputs = [(str(wav), TEXT), (str(silence), "so"), {"audio": str(wav), "text": "so", "start": 0.1, "end": 0.35}]
    plain = pipe(inputs)
    for batch_size in (1, 2):
        answers = pipe(inputs, return_embedding=True, return_decision=True, batch_size=batch_size)
        for answer, other, seconds in zip(answers, plain, (0.5, 1.0, 0.25), strict=True):
            assert_same(answer["emotions"], other)
            assert (answer["embedding"].shape, answer["embedding"].dtype) == ((24,), np.float32)
            assert answer["labels"] == [other[0]["label"]]
            assert answer["confidence"] == pytest.approx(answer["emotions"][0]["score"])
            assert (answer["seconds"], answer["ood_score"]) == (seconds, None)
        assert [answer["decision"] for answer in answers] == [plain[0][0]["label"], "no_speech", plain[2][0]["label"]]
    one = pipe(inputs[0], return_embedding=True)
    assert one.keys() == {"emotions", "text", "embedding"}
    features = pipe.processor(audio=voice(0.5), text=TEXT, sampling_rate=RATE)
    pooled = pipe.model(**features).pooled[0].detach()
    np.testing.assert_allclose(one["embedding"], pooled, atol=1e-4)


def test_the_distance_from_the_training_data_is_a_reason_to_be_uncertain(tmp_path, wav):
    pipe = load(tiny_pretrained(tmp_path / "model"))
    pipe.model.sound_domain = SoundDomain()
    pipe.model.sound_domain.whitening.copy_(torch.eye(SOUND_SIZE))
    clips = [voice(0.5), voice(0.5) * np.linspace(0, 1, 8000, dtype=np.float32)]
    inputs = [({"array": clip, "sampling_rate": RATE}, text) for clip in clips for text in (TEXT, "so")]
    distances = [np.sqrt(np.mean(describe_sound(clip) ** 2)) for clip in clips]
    pipe.model.config.ood_threshold = float(np.mean(distances))
    for batch_size in (1, 2):
        answers = pipe(inputs, batch_size=batch_size, return_decision=True)
        assert [answer["ood_score"] for answer in answers] == pytest.approx(np.repeat(distances, 2), rel=1e-4)
        for answer in answers:
            is_near = answer["ood_score"] <= np.mean(distances)
            assert answer["decision"] == (answer["labels"][0] if is_near else "uncertain")
    pipe.model.config.ood_threshold = 0.0
    assert pipe(inputs[0], return_decision=True)["decision"] == "uncertain"


def test_a_stream_is_read_one_window_ahead(pipe, wav):
    """Of one input without batches and threads, so that what is live is answered at once."""
    for options, ahead in (({}, 1), ({"batch_size": 2}, 16), ({"batch_size": 2, "num_workers": 2}, 32)):
        read = []
        answers = pipe(((read.append(place), (str(wav), TEXT))[1] for place in range(50)), **options)
        next(answers)
        assert len(read) == ahead
        answers.close()


def test_torch_data_sets(pipe, wav, expected):
    rows = [{"file": str(wav)}, {"file": "absent.wav"}]
    answers = list(pipe(KeyDataset(rows, "file"), asr=lambda _: TEXT, on_error="skip", num_workers=1))
    assert_same(answers[0], expected)
    assert answers[1]["error_type"] == "AudioError"


def test_threads_share_a_pipeline(pipe, whisper, wav):
    """Transcripts longer than the model takes, corrections and recognition, which all change states of tokenizers."""
    inputs = [
        {"audio": {"array": voice(0.1 + 0.05 * k, 150 + 30 * k), "sampling_rate": RATE}, "text": text}
        for k, text in enumerate([TEXT, None, "so sad " * 400, "you are not happy"] * 4)
    ]
    alone = [pipe(clip, asr=whisper, return_corrections=True) for clip in inputs]
    with ThreadPoolExecutor(16) as threads:
        together = list(threads.map(lambda clip: pipe(clip, asr=whisper, return_corrections=True), inputs))
    for one, other in zip(alone, together, strict=True):
        assert one == other


def test_a_pipeline_is_pickled(tmp_path, whisper, wav):
    """But for HuBERT and its like: torch does not pickle their convolutions."""
    pipe = load(tiny_pretrained(tmp_path / "model", "whisper"), asr=whisper, top_k=2)
    sent = pickle.loads(pickle.dumps(pipe))
    assert sent(str(wav)) == pipe(str(wav))


def test_bad_inputs(pipe, wav):
    cases = [
        ({"audio": voice(0.1), "text": TEXT}, "sampling rate"),
        (("nowhere.wav", TEXT), "nowhere.wav"),
        ({"text": TEXT}, "needs audio"),
        (str(wav), r"No transcript.*asr="),
        ((str(wav), None), r"No transcript.*asr="),
    ]
    for inputs, message in cases:
        with pytest.raises(ValueError, match=message):
            pipe(inputs)
    with pytest.raises(TypeError, match="beam_size"):
        pipe((str(wav), TEXT), beam_size=3)


@pytest.mark.parametrize(("label", "edit"), enumerate(("keep", "delete", "change")))
def test_return_corrections(pipe, wav, label, edit):
    """test_words.py has what becomes of the words."""
    inputs = [(str(wav), "I can’t, believe it"), (str(wav), "so"), (str(wav), "")]
    torch.nn.init.zeros_(pipe.model.detector.weight)
    pipe.model.detector.bias.data = torch.eye(3)[label] * 5.0
    plain, one = pipe(inputs), pipe(inputs[0], return_corrections=True)
    for batch_size in (1, 3):
        answers = pipe(inputs, return_corrections=True, batch_size=batch_size)
        for answer, other, (_, text) in zip(answers, plain, inputs, strict=True):
            assert_same(answer["emotions"], other)
            assert answer["text"] == text
            assert answer.keys() == {"emotions", "text", "corrections", "corrected_text"}
        first, empty = answers[0], answers[2]
        assert (empty["corrections"], empty["corrected_text"]) == ([], "")
        assert first["corrected_text"] == one["corrected_text"]
        # A batch rounds the confidences otherwise.
        assert [w["replacement"] for w in one["corrections"]] == [w["replacement"] for w in first["corrections"]]
        words = [(word["start"], word["end"], word["replacement"]) for word in first["corrections"]]
        if edit == "change":
            assert any(replacement for *_, replacement in words)
            assert all(0 < word["confidence"] < 1 for word in first["corrections"])
        else:
            assert words == ([] if edit == "keep" else [(0, 19, "")])
            assert first["corrected_text"] == (inputs[0][1] if edit == "keep" else "")
    pipe.model.config.correction_threshold = 1.0
    assert pipe(inputs[0], return_corrections=True)["corrections"] == []
    pipe.model.config.correction_threshold = 0.0


@pytest.mark.parametrize(("name", "inputs"), [("only speech", "audio"), ("only text", "text")])
def test_models_of_one_modality(tmp_path, wav, name, inputs):
    pipe = load(tiny_pretrained(tmp_path / "model", **ABLATIONS[name]))
    row = {"audio": str(wav), "text": TEXT}
    both = pipe(row)
    assert len(both) == 4
    assert_same(pipe({inputs: row[inputs]}), both)
    if inputs == "audio":
        assert_same(pipe([str(wav)] * 2, batch_size=2)[1], both)
        with pytest.raises(ValueError, match="no error detection or correction"):
            pipe(str(wav), return_corrections=True)
    del row[inputs]
    with pytest.raises(ValueError, match="needs audio" if inputs == "audio" else "No transcript was given"):
        pipe(row)
