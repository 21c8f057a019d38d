"""Torch is kept out where an exported folder runs; commands say where there is none."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile

from data_scripts.errors import UserError
from m4ser.__main__ import main
from m4ser.runtimes import load_config, load_pipeline
from tests.helpers.exported import Session, export
from tests.helpers.tiny import tiny_pretrained


def test_torch_is_kept_out(repo_root):
    code = """
import sys
from m4ser.runtimes import keep_torch_out
keep_torch_out("torch")
assert "torch" not in sys.modules
keep_torch_out("onnx")
import modeling_m4ser
assert sys.modules["torch"] is None and sys.modules["transformers"] is None
assert not hasattr(modeling_m4ser, "M4SERConfig")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=repo_root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("verb", ["predict", "timeline"])
def test_a_folder_that_was_not_exported_is_an_error(tmp_path, capsys, verb):
    pytest.importorskip("onnxruntime")
    (tmp_path / "a.wav").write_bytes(b"")
    options = ["--model", str(tmp_path), "--runtime", "onnx", "--output_dir", str(tmp_path / "out")]
    assert main([verb, str(tmp_path / "a.wav"), *options]) == 2
    assert "write one with m4ser export" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["predict", "timeline"])
def test_the_runtime_and_the_batch_size_reach_the_session(tmp_path, monkeypatch, verb):
    pytest.importorskip("onnxruntime")
    (folder := tmp_path / "onnx").mkdir()
    export(folder, "whisper", monkeypatch)
    monkeypatch.setattr(Session, "asked", [])
    soundfile.write(tmp_path / "a.wav", 0.1 * np.random.default_rng(0).normal(size=32000), 16000)
    (tmp_path / "rows.csv").write_text("file,text\n" + "a.wav,we go\n" * 5, encoding="utf-8")
    turns = "".join(f"{0.3 * turn}\t{0.3 * turn + 0.3}\twe go\n" for turn in range(5))
    (tmp_path / "turns.txt").write_text(turns, encoding="utf-8")
    given = {"predict": ["rows.csv"], "timeline": ["a.wav", "--segments", "turns.txt"]}[verb]
    monkeypatch.chdir(tmp_path)
    assert main([verb, *given, "--model", "onnx", "--runtime", "onnx", "--batch_size", "2", "--output_dir", "out"]) == 0
    assert [size for _, size in Session.asked] == [2, 2, 1]


def test_an_exported_model_corrects_nothing(tmp_path, capsys):
    (tmp_path / "a.wav").write_bytes(b"")
    (tmp_path / "config.json").write_text('{"id2label": {"0": "a"}, "modalities": "speech"}')
    options = ["--model", str(tmp_path), "--runtime", "onnx", "--corrections", "--output_dir", str(tmp_path / "out")]
    assert main(["predict", str(tmp_path / "a.wav"), *options]) == 2
    assert "corrects no transcripts" in capsys.readouterr().err


def test_a_model_runs_where_it_is_wanted(tmp_path):
    tiny_pretrained(tmp_path, "whisper")
    assert load_pipeline(str(tmp_path), device="meta").device.type == "meta"


def test_a_folder_near_a_model_names_it(tmp_path, monkeypatch):
    model, checkpoint = tmp_path / "mine" / "fold_1" / "seed42", tmp_path / "mine" / "fold_1" / "checkpoint-1"
    tiny_pretrained(model, "whisper")
    tiny_pretrained(checkpoint, "whisper")
    monkeypatch.chdir(tmp_path)
    assert load_config("mine/fold_1/seed42")["modalities"] == "speech_text"
    for wrong, message in (
        ("mine", "mine is no model; it holds 1: --model mine/fold_1/seed42"),
        ("mine/fold_1/seed43", "no model: there is no such folder (did you mean mine/fold_1/seed42?)"),
        ("./mime", "./mime is no model: there is no such folder (did you mean mine?)"),
        (str(model / "no"), "is no model: there is no such folder"),
    ):
        with pytest.raises(UserError) as told:
            load_config(wrong)
        assert message in str(told.value)
