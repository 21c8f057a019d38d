"""The command `python -m data_scripts.prepare`: files written, table printed, mistakes told in one line."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_scripts.prepare import main
from data_scripts.report import PreparationReport
from data_scripts.schema import load_prepared

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def corpus(tmp_path):
    """A RAVDESS of one actor, four recordings of which one is broken."""
    folder = tmp_path / "ravdess" / "Actor_01"
    folder.mkdir(parents=True)
    for emotion in ("03", "04", "05"):
        soundfile.write(folder / f"03-01-{emotion}-01-01-01-01.wav", np.zeros(1600), 16000)
    (folder / "03-01-05-01-01-02-01.wav").write_bytes(b"broken")
    return tmp_path / "ravdess"


def test_it_writes_everything(corpus, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--data_dir", str(corpus), "--output_dir", str(out), "--emotions", "happy", "angry"]
    assert main(["ravdess", *options]) == 0
    printed = capsys.readouterr().out
    assert "ravdess: 2 utterances kept" in printed and "1  emotion not selected" in printed and str(out) in printed
    assert sorted(os.listdir(out)) == ["report.json", "train.parquet"]
    train = load_prepared(out)["train"]
    assert train.features["emotion"].names == ["happy", "angry"] and list(train["emotion"]) == [0, 1]
    report = PreparationReport.from_json((out / "report.json").read_text(encoding="utf-8"))
    assert report.kept == 2 and len(report.dropped) == 2


@pytest.mark.parametrize(
    ("corpus_name", "extra", "message"),
    [
        ("ravdess", ["--emotions", "bored"], "RAVDESS has no emotion bored"),
        ("ravdess", ["--data_dir", "nowhere"], "nowhere does not exist"),
        ("ravdess", ["--num_workers", "0"], "num_workers must be at least 1"),
        ("manifest", [], "looked for a manifest"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(corpus, tmp_path, capsys, corpus_name, extra, message):
    options = ["--data_dir", str(corpus), "--output_dir", str(tmp_path / "out"), *extra]
    assert main([corpus_name, *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error
    assert not (tmp_path / "out").exists()


def test_output_that_cannot_be_a_folder(corpus, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["ravdess", "--data_dir", str(corpus), "--output_dir", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")


def test_as_a_command(corpus, tmp_path):
    """Run as a user does, from the repository root: the table on stdout, the progress bar on stderr."""
    command = [sys.executable, "-m", "data_scripts.prepare", "ravdess", "--output_dir", str(tmp_path / "out")]
    good = subprocess.run([*command, "--data_dir", str(corpus)], cwd=ROOT, capture_output=True, text=True)
    assert good.returncode == 0 and good.stdout.startswith("ravdess: 3 utterances kept"), good.stderr
    assert "reading audio: 100%" in good.stderr and (tmp_path / "out" / "train.parquet").is_file()
    bad = subprocess.run([*command, "--data_dir", str(tmp_path / "no")], cwd=ROOT, capture_output=True, text=True)
    assert bad.returncode == 2 and bad.stdout == "" and "Traceback" not in bad.stderr
    assert bad.stderr.startswith("error: ") and bad.stderr.count("\n") == 1
