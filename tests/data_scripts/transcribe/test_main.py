"""The command `python -m data_scripts.transcribe`: killed and resumed, mistakes reported in one line."""

import json

import pytest

from data_scripts.corpora import CorpusSelection
from data_scripts.journal import Journal
from data_scripts.prepare.folder import prepare_folder
from data_scripts.schema import load_prepared
from data_scripts.transcribe import whisper
from data_scripts.transcribe.__main__ import main
from data_scripts.transcribe.dataset import HypothesesFile, fill_folder
from tests.data_scripts.transcribe.helpers import EchoRecognizer
from tests.helpers.layouts import make_ravdess, write_wav


@pytest.fixture
def made(monkeypatch):
    """The recognisers that are loaded in place of Whisper."""
    recognizers = []
    monkeypatch.setattr(
        whisper, "WhisperRecognizer", lambda *a, **k: recognizers.append(EchoRecognizer(*a, **k)) or recognizers[-1]
    )
    return recognizers


def test_it_recognises(prepared, made, capsys):
    assert main(["--prepared_dir", str(prepared), "--model", "m", "--asr_model", "echo-1", "--seed", "3"]) == 0
    assert "undecodable: test/utt2" in capsys.readouterr().out
    report = json.loads((prepared / "transcription.json").read_text())
    assert report["asr_model"] == "echo-1"
    assert list(report["undecodable"]) == ["test/utt2"]
    assert report["counts"]["test"] == {"utterances": 4, "with_hypothesis": 3, "empty_hypothesis": 0}
    assert report["word_error_rate"]["train"]["utterances"] == 7
    assert report["settings"]["seed"] == 3
    assert set(load_prepared(prepared)["train"]["asr_model"]) == {"echo-1"}
    assert not list(prepared.glob("*.tmp"))
    assert not list(prepared.glob(".*.tmp"))


def test_given_hypotheses_stay_where_only_the_missing_ones_are_wanted(prepared, tmp_path, made):
    (tmp_path / "h.csv").write_text("id,split,hypothesis\nutt1,train,as given\nutt5,train,\n")
    fill_folder(prepared, load_prepared(prepared), HypothesesFile(tmp_path / "h.csv", "mine"))
    (tmp_path / "others.csv").write_text("id,split,hypothesis\nutt1,train,another\nutt2,train,found\n")
    others = ["--hypotheses", str(tmp_path / "others.csv"), "--asr_model", "mine"]
    assert main(["--prepared_dir", str(prepared), *others, "--missing_only"]) == 0
    command = ["--prepared_dir", str(prepared), "--model", "m", "--asr_model", "echo"]
    assert main([*command, "--missing_only"]) == 0
    train = load_prepared(prepared)["train"]
    assert [name == "mine" for name in train["asr_model"]] == [number in (1, 2, 5) for number in range(7)]
    assert [train["hypothesis"][number] for number in (1, 2, 5)] == ["as given", "found", ""]
    assert sum(made[0].batches) == 10 - 3
    assert main(command) == 0
    assert set(load_prepared(prepared)["train"]["asr_model"]) == {"echo"}


def test_a_dataset_is_prepared_first(tmp_path, made, capsys):
    """The language is the corpus's where it has one: an AudioFolder has none."""
    for number, place in enumerate(("happy/1.wav", "sad/2.wav", "sad/3.wav")):
        write_wav(tmp_path / "data" / place, seed=number)
    out = ["--dataset_name", str(tmp_path / "data"), "--output_dir", str(tmp_path / "out")]
    assert main([*out, "--label_map", "happy=joy", "--model", "ignored", "--asr_model", "echo-1"]) == 0
    assert "3 utterances kept" in capsys.readouterr().out
    part = load_prepared(tmp_path / "out")["train"]
    assert part.features["emotion"].names == ["joy", "sad"]
    assert set(part["asr_model"]) == {"echo-1"}
    assert made[0].language is None


@pytest.mark.parametrize(("options", "language"), [([], "en"), (["--language", "de"], "de")])
def test_the_language_of_a_prepared_corpus(tmp_path, made, options, language):
    prepare_folder(CorpusSelection("ravdess", make_ravdess(tmp_path / "ravdess")), tmp_path / "out")
    assert main(["--prepared_dir", str(tmp_path / "out"), "--model", "ignored", "--asr_model", "e", *options]) == 0
    assert made[0].language == language


def test_it_takes_the_backend(prepared, tiny_ctranslate2):
    arguments = ["--prepared_dir", str(prepared), "--model", str(tiny_ctranslate2), "--backend", "faster-whisper"]
    assert main([*arguments, "--device", "cpu", "--max_new_tokens", "4"]) == 0
    report = json.loads((prepared / "transcription.json").read_text())
    assert report["settings"]["backend"] == "faster-whisper"
    assert list(report["undecodable"]) == ["test/utt2"]
    assert report["counts"]["train"]["with_hypothesis"] == 7


def test_it_imports(prepared, tmp_path):
    (tmp_path / "h.csv").write_text("id,hypothesis\nutt6,sentence number 6 color\n")
    arguments = ["--prepared_dir", str(prepared), "--hypotheses", str(tmp_path / "h.csv"), "--asr_model", "someone/asr"]
    assert main(arguments) == 0
    report = json.loads((prepared / "transcription.json").read_text())
    assert report["imported"] == 1
    assert report["word_error_rate"]["train"]["wer"] == 0.25
    assert load_prepared(prepared)["train"]["hypothesis"][6] == "sentence number 6 color"


def test_mistakes_end_in_one_line_and_status_2(prepared, tmp_path, capsys):
    mistakes = [
        ["--prepared_dir", str(tmp_path / "absent"), "--model", "x"],
        ["--prepared_dir", str(prepared), "--model", str(tmp_path / "absent")],
        ["--prepared_dir", str(prepared), "--hypotheses", str(tmp_path / "absent.csv"), "--asr_model", "x"],
    ]
    for arguments in mistakes:
        assert main(arguments) == 2
        lines = capsys.readouterr().err.splitlines()
        assert lines[-1].startswith("error: ")
        assert "absent" in lines[-1]
        assert not any("Traceback" in line for line in lines)
    for arguments, message in (
        (["--prepared_dir", str(prepared)], "give either --model"),
        (["--prepared_dir", str(prepared), "--hypotheses", "h.csv"], "--hypotheses needs --asr_model"),
        (["--dataset_name", "x", "--model", "m"], "give either --prepared_dir or, to prepare a dataset first"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
        assert message in capsys.readouterr().err


def test_the_same_folder_twice_at_once_is_refused(prepared, made, capsys):
    arguments = ["--prepared_dir", str(prepared), "--model", "echo"]
    assert main(arguments) == 0
    (path,) = prepared.glob(".transcribe-*.jsonl")
    before = path.read_bytes()
    with Journal(path, EchoRecognizer().settings):
        assert main(arguments) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == f"error: {prepared} is being transcribed by another process: wait until it has ended"
    assert path.read_bytes() == before


def test_a_full_disk_is_one_line(prepared, made, monkeypatch, capsys):
    def full(rows, emotions, file):
        file.write(b"half")
        raise OSError(28, "No space left on device", file.name)

    monkeypatch.setattr("data_scripts.schema.write_split", full)
    before = {path.name: path.read_bytes() for path in prepared.glob("*.parquet")}
    assert main(["--prepared_dir", str(prepared), "--model", "echo"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: the disk is full (")
    assert {path.name: path.read_bytes() for path in prepared.glob("*.parquet*")} == before
    assert not list(prepared.glob(".*.tmp"))
    assert not (prepared / "transcription.json").exists()
