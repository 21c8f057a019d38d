"""`m4ser train`: a model of RAVDESS in one command."""

import json
import shlex
import sys

from huggingface_hub import ModelCard

from m4ser.__main__ import main
from tests.helpers.experiments import tiny_options
from tests.helpers.layouts import write_bytes, write_wav, zip_ravdess


def test_the_preset_makes_a_model_of_the_released_zip(tmp_path, monkeypatch, capsys):
    heard = ["id,hypothesis"]
    for actor in range(1, 7):
        for emotion in (1, 3, 4, 5, 8):
            name = f"03-01-{emotion:02d}-01-01-01-{actor:02d}"
            write_wav(tmp_path / "RAVDESS" / f"Actor_{actor:02d}" / f"{name}.wav", seed=10 * actor + emotion)
            heard.append(f"{name},kids are talking")
    archive = zip_ravdess(tmp_path / "RAVDESS", tmp_path / "Audio_Speech_Actors_01-24.zip")
    write_bytes(tmp_path / "heard.csv", "\n".join(heard).encode())  # instead of the preset's recognizer
    options = [*tiny_options(tmp_path), "--hypotheses", tmp_path / "heard.csv", "--folds", 1, "--max_steps", 1]
    words = ["train", "--preset", "ravdess4", "--data_dir", archive, *options, "--use_cpu", "--disable_tqdm", "true"]
    monkeypatch.setattr(sys, "argv", ["m4ser", *map(str, words)])
    assert main() == 0
    run = tmp_path / "out" / "fold1" / "seed42"
    results = json.loads((run / "results.json").read_text())
    assert results["emotions"] == ["neutral", "happy", "sad", "angry"]
    assert results["command"].startswith("m4ser train --corpus ravdess")
    assert "balance_classes" in results["arguments"]["training"]
    assert ModelCard.load(run / "README.md").data.license == "cc-by-nc-sa-4.0"
    use = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("Use the model: "))
    wanted = f"m4ser predict RECORDINGS --model {run} --output_dir predictions --asr openai/whisper-tiny.en"
    assert shlex.split(use)[3:] == shlex.split(wanted)


def test_a_mistake_ends_in_one_line(tmp_path, capsys):
    assert main(["train", "--output_dir", str(tmp_path), "--data_dr", "x"]) == 2
    assert capsys.readouterr().err.startswith("error: There is no argument --data_dr: did you mean --data_dir?")
