"""Recognition: Whisper on batches, the journal that survives a kill, imported hypotheses, WER, the command line."""

import io
import json
import os
import signal
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
import soundfile
import torch
from datasets import DatasetDict
from tokenizers import pre_tokenizers
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

from data_scripts.schema import build_dataset, load_prepared, save_prepared
from data_scripts.transcribe import dataset as transcribe
from data_scripts.transcribe.dataset import TranscriptionError, import_hypotheses, read_hypotheses, transcribe_dataset
from data_scripts.transcribe.faster_whisper import FasterWhisperRecognizer
from data_scripts.transcribe.whisper import RecognizerError, WhisperRecognizer, compression_ratio
from tests.helpers import ROOT, SHARED

REAL_MODEL = SHARED / "models" / "whisper-tiny.en"
RAVDESS = SHARED / "data" / "ravdess"
needs_real_model = pytest.mark.skipif(
    not (REAL_MODEL.is_dir() and RAVDESS.is_dir()), reason="needs models/whisper-tiny.en and data/ravdess in ../shared"
)
EMOTIONS = ["neutral", "happy"]
SPECIAL_TOKENS = [
    f"<|{name}|>"
    for name in (
        *("endoftext", "startoftranscript", "en", "translate", "transcribe"),
        *("startoflm", "startofprev", "nospeech", "notimestamps"),
    )
]


class EchoRecognizer:
    """Stands in for Whisper: a transcript is a checksum. Fails at batch ``fail_at``; waits ``pause`` seconds."""

    def __init__(self, *_, name="echo", seed=0, fail_at=None, pause=0.0, **__):
        self.name, self.settings = name or "echo", {"model": name or "echo", "seed": seed}
        self.spelling_mapping = {}
        self.fail_at, self.pause, self.batches = fail_at, pause, []

    def transcribe(self, batch):
        if len(self.batches) == self.fail_at:
            raise RuntimeError("the machine went down")
        self.batches.append(len(batch))
        time.sleep(self.pause)
        # The batch size goes into the text: an output that is equal was decoded in equal batches.
        return [f"checksum {zlib.crc32(clip.tobytes())} in a batch of {len(batch)}" for clip in batch]


def flac(samples):
    """FLAC bytes of a 16 kHz waveform."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, 16_000, format="FLAC")
    return buffer.getvalue()


def make_dataset(sizes=(("train", 7), ("test", 4)), broken=("test", 2)):
    """Canonical dataset of noise, ids repeated across splits, one clip of it undecodable."""
    generator = np.random.default_rng(0)
    splits = {}
    for split, size in sizes:
        rows = []
        for i in range(size):
            samples = 0.1 * generator.standard_normal(int(generator.integers(1600, 6400)))
            audio = b"not audio" if (split, i) == broken else flac(samples)
            rows.append(
                {
                    "id": f"utt{i}",
                    "audio": {"path": f"utt{i}.flac", "bytes": audio},
                    "duration": len(samples) / 16_000,
                    "speaker": "a",
                    "emotion": EMOTIONS[i % 2],
                    "transcript": f"Sentence number {i}, colour.",
                }
            )
        splits[split] = build_dataset(rows, EMOTIONS)
    return DatasetDict(splits)


@pytest.fixture(autouse=True)
def one_thread():
    """The models here are so small that threads, on a busy machine, mostly wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def dataset():
    return make_dataset()


@pytest.fixture
def prepared(tmp_path, dataset):
    """Folder of the prepared dataset."""
    save_prepared(dataset, tmp_path / "prepared")
    return tmp_path / "prepared"


@pytest.fixture(scope="module")
def tiny_whisper(tmp_path_factory):
    return make_tiny_whisper(tmp_path_factory.mktemp("tiny-whisper"), seconds=1)


@pytest.fixture(scope="module")
def tiny_ctranslate2(tmp_path_factory):
    """The same with faster-whisper's fixed window of 30 s, converted; it says letters rather than time stamps."""
    converters = pytest.importorskip("ctranslate2.converters", reason="the extra faster-whisper is not installed")
    folder = make_tiny_whisper(tmp_path_factory.mktemp("tiny-whisper-30"), seconds=30, letter_scale=2)
    converted = tmp_path_factory.mktemp("converted") / "tiny-ct2"
    converters.TransformersConverter(str(folder), copy_files=["tokenizer.json"]).convert(str(converted))
    return converted


def make_tiny_whisper(folder, seconds, letter_scale=1):
    """An English-only Whisper with random weights, a byte vocabulary and a window of so many seconds."""
    vocabulary = {symbol: i for i, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = WhisperTokenizer(vocab=vocabulary, merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIAL_TOKENS[1:]})
    tokenizer.add_tokens([f"<|{0.02 * i:.2f}|>" for i in range(1501)])
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    special = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), ids["<|endoftext|>"])
    special["decoder_start_token_id"] = ids["<|startoftranscript|>"]
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        d_model=64,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_layers=1,
        decoder_layers=1,
        max_source_positions=50 * seconds,
        max_target_positions=40,
        suppress_tokens=None,
        begin_suppress_tokens=None,
        **special,
    )
    model = WhisperForConditionalGeneration(config)
    model.model.decoder.embed_tokens.weight.data[: len(vocabulary)] *= letter_scale
    model.generation_config = GenerationConfig(
        no_timestamps_token_id=ids["<|notimestamps|>"],
        prev_sot_token_id=ids["<|startofprev|>"],
        is_multilingual=False,
        return_timestamps=False,
        max_length=40,
        **special,
    )
    model.save_pretrained(folder)
    WhisperProcessor(WhisperFeatureExtractor(chunk_length=seconds), tokenizer).save_pretrained(folder)
    return folder


def noises(*lengths):
    """Reproducible noise of these lengths in samples."""
    generator = np.random.default_rng(1)
    return [(0.1 * generator.standard_normal(length)).astype(np.float32) for length in lengths]


def test_whisper_does_not_depend_on_the_batch_nor_on_the_global_seed(tiny_whisper):
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


def test_whisper_takes_empty_silent_short_and_long_clips(tiny_whisper):
    recognizer = WhisperRecognizer(tiny_whisper, device="cpu", max_new_tokens=6)
    clips = [np.zeros(0, np.float32), np.zeros(16_000, np.float32), *noises(160, 40_000)]
    texts = recognizer.transcribe(clips)
    assert texts[:2] == ["", ""] and all(isinstance(text, str) for text in texts)
    assert recognizer.transcribe(clips[::-1]) == texts[::-1]
    assert recognizer.transcribe([]) == []
    with pytest.raises(ValueError, match="mono"):
        recognizer.transcribe([np.zeros((2, 100), np.float32)])


def test_token_cap_is_lowered_to_what_the_decoder_holds(tiny_whisper):
    recognizer = WhisperRecognizer(tiny_whisper, device="cpu")
    assert recognizer.max_new_tokens == 36
    assert len(recognizer.transcribe(noises(8000))[0].encode()) <= 36
    assert recognizer.settings["model"] == tiny_whisper.name


def test_loop_is_refused():
    assert compression_ratio("") == 0.0
    assert compression_ratio("I don't know. " * 20) > 2.4 > compression_ratio("The quick brown fox jumps over the dog.")


def test_recognizer_errors(tiny_whisper, tmp_path):
    with pytest.raises(RecognizerError, match="no folder .*absent"):
        WhisperRecognizer(str(tmp_path / "absent"))
    with pytest.raises(RecognizerError, match="English-only"):
        WhisperRecognizer(tiny_whisper, device="cpu", language="de")
    with pytest.raises(RecognizerError, match="max_new_tokens"):
        WhisperRecognizer(tiny_whisper, device="cpu", max_new_tokens=0)
    with pytest.raises(RecognizerError, match="nowhere"):
        WhisperRecognizer(tiny_whisper, device="nowhere")


def test_language_of_a_multilingual_model(tiny_whisper, tmp_path):
    model = WhisperForConditionalGeneration.from_pretrained(tiny_whisper)
    processor = WhisperProcessor.from_pretrained(tiny_whisper)
    ids = {token: processor.tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    config = model.generation_config
    config.is_multilingual, config.lang_to_id = True, {"<|en|>": ids["<|en|>"]}
    config.task_to_id = {"transcribe": ids["<|transcribe|>"], "translate": ids["<|translate|>"]}
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    given = WhisperRecognizer(tmp_path, device="cpu", language="English", max_new_tokens=4).transcribe(noises(8000))
    assert WhisperRecognizer(tmp_path, device="cpu", max_new_tokens=4).transcribe(noises(8000)) == given  # detected
    with pytest.raises(RecognizerError, match="unknown to Whisper"):
        WhisperRecognizer(tmp_path, device="cpu", language="klingon")


@needs_real_model
def test_real_whisper_hears_real_people():
    files = sorted((RAVDESS / "Actor_01").glob("*.flac"))[:3]
    clips = [soundfile.read(file, dtype="float32")[0] for file in files]
    texts = WhisperRecognizer(str(REAL_MODEL), device="cpu").transcribe([*clips, np.zeros(16_000, np.float32)])
    assert texts == ["Kids are talking by the door."] * 2 + ["Dogs are sitting by the door.", ""]


def test_faster_whisper_depends_on_the_clip_alone(tiny_ctranslate2):
    recognizer = FasterWhisperRecognizer(tiny_ctranslate2, device="cpu", max_new_tokens=8)
    clips = [*noises(16_000, 800, 9_000), np.zeros(0, np.float32), np.zeros(16_000, np.float32)]
    texts = recognizer.transcribe(clips)
    assert texts[3:] == ["", ""] and all(texts[:3])
    assert recognizer.transcribe(clips[::-1]) == texts[::-1]
    assert recognizer.settings["model"] == recognizer.name == "tiny-ct2"
    with pytest.raises(ValueError, match="mono"):
        recognizer.transcribe([np.zeros((2, 100), np.float32)])


def test_faster_whisper_errors(tiny_ctranslate2, tiny_whisper, tmp_path, monkeypatch):
    with pytest.raises(RecognizerError, match="no folder .*absent"):
        FasterWhisperRecognizer(str(tmp_path / "absent"))
    with pytest.raises(RecognizerError, match="ct2-transformers-converter"):
        FasterWhisperRecognizer(str(tiny_whisper))
    with pytest.raises(RecognizerError, match="English-only"):
        FasterWhisperRecognizer(str(tiny_ctranslate2), device="cpu", language="german")
    with pytest.raises(RecognizerError, match="max_new_tokens"):
        FasterWhisperRecognizer(str(tiny_ctranslate2), max_new_tokens=0)
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(RecognizerError, match=r"pip install 'm4ser\[faster-whisper\]'"):
        FasterWhisperRecognizer(str(tiny_ctranslate2))


@needs_real_model
def test_faster_whisper_hears_what_transformers_hears(tmp_path):
    converters = pytest.importorskip("ctranslate2.converters", reason="the extra faster-whisper is not installed")
    converter = converters.TransformersConverter(str(REAL_MODEL), copy_files=["tokenizer.json"])
    converter.convert(str(tmp_path / "converted"))
    clips = [soundfile.read(file, dtype="float32")[0] for file in sorted((RAVDESS / "Actor_01").glob("*.flac"))[:3]]
    texts = FasterWhisperRecognizer(str(tmp_path / "converted"), device="cpu", language="en").transcribe(clips)
    assert texts == ["Kids are talking by the door."] * 2 + ["Dogs are sitting by the door."]


def test_command_line_takes_the_backend(prepared, tiny_ctranslate2):
    arguments = ["--dataset", str(prepared), "--model", str(tiny_ctranslate2), "--backend", "faster-whisper"]
    assert transcribe.main([*arguments, "--device", "cpu", "--max_new_tokens", "4"]) == 0
    report = json.loads((prepared / "transcription.json").read_text())
    assert report["settings"]["backend"] == "faster-whisper" and list(report["undecodable"]) == ["test/utt2"]
    assert report["counts"]["train"]["with_hypothesis"] == 7


def test_dataset_is_filled_and_undecodable_audio_is_listed(dataset, tmp_path):
    recognizer = EchoRecognizer()
    filled = transcribe_dataset(dataset, recognizer, tmp_path / "journal.jsonl", batch_size=3)
    assert (
        filled["train"].features == dataset["train"].features
        and filled["train"].column_names == dataset["train"].column_names
    )
    assert filled["train"]["id"][:] == dataset["train"]["id"][:]
    assert all(text.startswith("checksum") for text in filled["train"]["hypothesis"])
    assert set(filled["train"]["asr_model"]) == {"echo"}
    assert [text is None for text in filled["test"]["hypothesis"]] == [False, False, True, False]
    assert filled["test"]["asr_model"][2] is None
    entries = transcribe.Journal(tmp_path / "journal.jsonl", recognizer.settings).entries
    assert [(key[0], key[1]) for key, entry in entries.items() if entry["error"]] == [("test", "utt2")]


def test_interrupted_run_resumes_to_the_same_output(dataset, tmp_path):
    undisturbed = transcribe_dataset(dataset, EchoRecognizer(), tmp_path / "a.jsonl", batch_size=2)
    for fail_at in (2, 1):
        with pytest.raises(RuntimeError):
            transcribe_dataset(dataset, EchoRecognizer(fail_at=fail_at), tmp_path / "b.jsonl", batch_size=2)
    with open(tmp_path / "b.jsonl", "ab") as journal:
        journal.write(b'{"utterances": [{"split": "train", "id": "ut')  # torn by the crash
    last = EchoRecognizer()
    resumed = transcribe_dataset(dataset, last, tmp_path / "b.jsonl", batch_size=2)
    assert sum(last.batches) == 10 - 3 * 2  # ten decodable clips, three batches of two done before
    for split in undisturbed:
        assert resumed[split].to_dict() == undisturbed[split].to_dict()
    again = EchoRecognizer()
    assert transcribe_dataset(dataset, again, tmp_path / "b.jsonl", batch_size=2)["train"][:] == undisturbed["train"][:]
    assert again.batches == []


def test_repaired_audio_is_recognised_on_the_next_run(dataset, tmp_path):
    transcribe_dataset(dataset, EchoRecognizer(), tmp_path / "journal.jsonl")
    again = EchoRecognizer()
    filled = transcribe_dataset(make_dataset(broken=None), again, tmp_path / "journal.jsonl")
    assert again.batches == [1] and None not in filled["test"]["hypothesis"][:]


def test_journal_of_another_recogniser_is_refused(dataset, tmp_path):
    transcribe_dataset(dataset, EchoRecognizer(), tmp_path / "journal.jsonl")
    with pytest.raises(TranscriptionError, match="other settings"):
        transcribe_dataset(dataset, EchoRecognizer(seed=1), tmp_path / "journal.jsonl")


def test_bad_arguments(dataset, tmp_path):
    with pytest.raises(TranscriptionError, match="batch_size"):
        transcribe_dataset(dataset, EchoRecognizer(), tmp_path / "journal.jsonl", batch_size=0)
    twice = DatasetDict({"train": dataset["train"].select([0, 1, 1])})
    with pytest.raises(TranscriptionError, match="'utt1'"):
        transcribe_dataset(twice, EchoRecognizer(), tmp_path / "journal.jsonl")


def test_killed_process_resumes_to_the_same_output(prepared, tmp_path):
    """SIGKILL at three points of the command line; the Parquet files end as an undisturbed run leaves them."""
    script = (
        "import sys; from data_scripts.transcribe import dataset as transcribe;"
        "from tests.data_scripts.transcribe.test_transcribe import EchoRecognizer;"
        "transcribe.BACKENDS['transformers'] = lambda *a, **k: EchoRecognizer(pause=0.2);"
        f"sys.exit(transcribe.main(['--dataset', {str(prepared)!r}, '--model', 'echo', '--batch_size', '2']))"
    )
    undisturbed = transcribe_dataset(load_prepared(prepared), EchoRecognizer(), tmp_path / "a.jsonl", batch_size=2)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def start():
        return subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, env=environment, stderr=subprocess.PIPE)

    def journal_lines():
        return sum(file.read_bytes().count(b"\n") for file in prepared.glob(".transcribe-*.jsonl"))

    for lines in (2, 3, 5):
        process, deadline = start(), time.monotonic() + 120
        while journal_lines() < lines and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert lines <= journal_lines() < 7
        assert load_prepared(prepared)["train"]["hypothesis"][0] is None  # nothing is half written
    process = start()
    assert process.wait(timeout=120) == 0, process.stderr.read().decode()
    for split, part in load_prepared(prepared).items():
        assert part.to_dict() == undisturbed[split].to_dict()


def texts(*pairs):
    """One-split dataset of (transcript, hypothesis) pairs."""
    rows = [{"id": str(i), "emotion": "happy", "transcript": t, "hypothesis": h} for i, (t, h) in enumerate(pairs)]
    return DatasetDict({"train": build_dataset(rows, EMOTIONS)})


def test_word_error_rate_normalises_and_skips_what_has_no_reference():
    pairs = texts(
        ("I can't go, Mr. Brown!", "i can not go mister brown"), ("The cat sat down.", "the cat sad"), (None, "x")
    )
    assert transcribe.word_error_rates(pairs)["train"] == {"wer": 0.2, "with_error": 0.5, "utterances": 2, "words": 10}
    british = texts(("the colour", "the color"))
    assert transcribe.word_error_rates(british)["train"]["wer"] == 0.5
    assert transcribe.word_error_rates(british, {"colour": "color"})["train"]["wer"] == 0.0
    assert transcribe.word_error_rates(texts(("[laughter]", "ha"), ("hm", None)))["train"]["wer"] is None


def test_hypotheses_are_imported_from_csv_and_jsonl(dataset, tmp_path):
    table = tmp_path / "h.csv"
    table.write_text("id,split,hypothesis\nutt0,train,NA\nutt0,test,\nghost,train,boo\n", encoding="utf-8-sig")
    filled, report = import_hypotheses(dataset, read_hypotheses(table), "someone/asr")
    assert filled["train"]["hypothesis"][:2] == ["NA", None] and filled["test"]["hypothesis"][0] == ""
    assert filled["train"]["asr_model"][:2] == ["someone/asr", None]
    assert report["imported"] == 2 and report["not_in_dataset"] == ["ghost"] and len(report["without_hypothesis"]) == 9
    lines = tmp_path / "h.jsonl"
    lines.write_text('{"id": "utt6", "hypothesis": "only in train"}\n', encoding="utf-8")
    assert import_hypotheses(dataset, read_hypotheses(lines), "x")[0]["train"]["hypothesis"][6] == "only in train"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"name,hypothesis\nx,y\n", "lacks 'id'"),
        ("a.csv", b"id,hypothesis\nutt1\n", "row 1"),
        ("a.csv", b"id,hypothesis\nutt1,a\nutt1,b\n", "appears twice"),
        ("a.csv", "id,hypothesis\nutt1,café\n".encode("cp1252"), "not UTF-8"),
        ("a.csv", b"id,hypothesis\nghost,a\n", "none of the 1 ids"),
        ("a.csv", b"id,hypothesis\nutt1,a\n", "add a 'split' column"),
        ("a.jsonl", b'{"id": "utt1"', "cannot read"),
        ("absent.csv", None, "cannot read"),
    ],
)
def test_bad_hypotheses_are_refused(dataset, tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(TranscriptionError, match=message):
        import_hypotheses(dataset, read_hypotheses(tmp_path / name), "x")


def test_command_line_recognises(prepared, monkeypatch, capsys):
    monkeypatch.setitem(transcribe.BACKENDS, "transformers", EchoRecognizer)
    assert transcribe.main(["--dataset", str(prepared), "--model", "ignored", "--asr_model", "echo-1"]) == 0
    assert "undecodable: test/utt2" in capsys.readouterr().out
    report = json.loads((prepared / "transcription.json").read_text())
    assert report["asr_model"] == "echo-1" and list(report["undecodable"]) == ["test/utt2"]
    assert report["counts"]["test"] == {"utterances": 4, "with_hypothesis": 3, "empty_hypothesis": 0}
    assert report["word_error_rate"]["train"]["utterances"] == 7 and report["settings"]["seed"] == 0
    assert set(load_prepared(prepared)["train"]["asr_model"]) == {"echo-1"}
    assert not list(prepared.glob("*.tmp")) and not list(prepared.glob(".*.tmp"))


def test_command_line_imports(prepared, tmp_path):
    (tmp_path / "h.csv").write_text("id,hypothesis\nutt6,sentence number 6 color\n")
    arguments = ["--dataset", str(prepared), "--hypotheses", str(tmp_path / "h.csv"), "--asr_model", "someone/asr"]
    assert transcribe.main(arguments) == 0
    report = json.loads((prepared / "transcription.json").read_text())
    assert report["imported"] == 1 and report["word_error_rate"]["train"]["wer"] == 0.25
    assert load_prepared(prepared)["train"]["hypothesis"][6] == "sentence number 6 color"


def test_command_line_mistakes_end_in_one_line_and_status_2(prepared, tmp_path, capsys):
    mistakes = [
        ["--dataset", str(tmp_path / "absent"), "--model", "x"],
        ["--dataset", str(prepared), "--model", str(tmp_path / "absent")],
        ["--dataset", str(prepared), "--hypotheses", str(tmp_path / "absent.csv"), "--asr_model", "x"],
    ]
    for arguments in mistakes:
        assert transcribe.main(arguments) == 2
        lines = capsys.readouterr().err.splitlines()
        assert lines[-1].startswith("transcribe: ") and "absent" in lines[-1]
        assert not any("Traceback" in line for line in lines)
    for arguments in (["--dataset", str(prepared)], ["--dataset", str(prepared), "--hypotheses", "h.csv"]):
        with pytest.raises(SystemExit) as exit_status:
            transcribe.main(arguments)
        assert exit_status.value.code == 2
