"""The command `python -m data_scripts.transcribe`: killed and resumed, mistakes reported in one line."""

import json

import pytest

from data_scripts.corpora import CorpusSelection
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
    assert report["counts"]["test"] == {"utterances": 4, "with_hypothesis": 3, "empty_hypothesis": 0}
    assert report["word_error_rate"]["train"]["utterances"] == 7
    assert report["settings"]["seed"] == 3
    assert set(load_prepared(prepared)["train"]["asr_model"]) == {"echo-1"}


def test_given_hypotheses_stay_where_only_the_missing_ones_are_wanted(prepared, tmp_path, made):
    (tmp_path / "h.csv").write_text("id,split,hypothesis\nutt1,train,as given\nutt5,train,\n")
    fill_folder(prepared, load_prepared(prepared), HypothesesFile(tmp_path / "h.csv", "mine"))
    (tmp_path / "others.csv").write_text("id,split,hypothesis\nutt1,train,another\nutt2,train,found\n")
    others = ["--hypotheses", str(tmp_path / "others.csv"), "--asr_model", "mine"]
    assert main(["--prepared_dir", str(prepared), *others, "--missing_only"]) == 0
    report = json.loads((prepared / "transcription.json").read_text())
    assert (report["source"], report["asr_model"], report["imported"]) == ("others.csv", "mine", 1)
    assert report["word_error_rate"]["train"]["utterances"] == 3
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


def test_mistakes_end_in_one_line_and_status_2(prepared, tmp_path, capsys):
    folder, absent = str(prepared), str(tmp_path / "absent")
    for arguments in (
        ["--prepared_dir", absent, "--model", "x"],
        ["--prepared_dir", folder, "--model", absent],
        ["--prepared_dir", folder, "--hypotheses", absent, "--asr_model", "x"],
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert error.splitlines()[-1].startswith("error: ")
        assert "absent" in error.splitlines()[-1]
        assert "Traceback" not in error
    for arguments, message in (
        (["--prepared_dir", str(prepared)], "give either --model"),
        (["--prepared_dir", str(prepared), "--hypotheses", "h.csv"], "--hypotheses needs --asr_model"),
        (["--dataset_name", "x", "--model", "m"], "give either --prepared_dir or, to prepare a dataset first"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
        assert message in capsys.readouterr().err


def test_no_second_process_recognises_until_all_is_saved(prepared, made, monkeypatch, capsys):
    arguments = ["--prepared_dir", str(prepared), "--model", "echo"]

    def save(dataset, folder):
        (path,) = prepared.glob(".transcribe-*.jsonl")
        before = path.read_bytes()
        assert main(arguments) == 2
        assert path.read_bytes() == before
        raise OSError(28, "No space left on device", str(folder))

    monkeypatch.setattr("data_scripts.transcribe.dataset.save_prepared", save)
    assert main(arguments) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert errors[0] == f"error: {prepared} is being transcribed by another process: wait until it has ended"
    assert errors[1].startswith("error: the disk is full (")
    assert not (prepared / "transcription.json").exists()
