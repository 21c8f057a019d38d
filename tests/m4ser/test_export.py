"""`m4ser export` writes into a new folder, prints what was written, and puts errors in one line."""

import pytest

from m4ser.__main__ import main
from modeling_m4ser import export_m4ser
from tests.helpers.tiny import tiny_pretrained

pytest.importorskip("onnxscript")


def test_export_says_what_it_wrote_and_checked(tmp_path, monkeypatch, capsys):
    model, folder = tiny_pretrained(tmp_path / "model", "whisper"), tmp_path / "onnx"
    monkeypatch.setattr(export_m4ser, "_trace", lambda model, path: path.write_bytes(b"0" * 250_000) and 20)
    monkeypatch.setattr(export_m4ser, "_deviation", lambda *_, **__: 3e-5)
    quantized = []
    monkeypatch.setattr(export_m4ser, "_quantize", quantized.append)
    assert main(["export", str(model), "--output_dir", str(folder), "--int8"]) == 0
    told = capsys.readouterr().out
    assert "model.onnx: opset 20, 0.2 MB\n" in told
    assert "within 3.0e-05 of torch, 0.000 of a probability in eight bits" in told
    assert {"config.json", "processor_config.json", "tokenizer.json"} <= {file.name for file in folder.iterdir()}
    floats = tmp_path / "floats"
    assert main(["export", str(model), "--output_dir", str(floats)]) == 0
    assert "of torch\n" in capsys.readouterr().out
    assert quantized == [folder / "model.onnx"]
    assert main(["export", str(model), "--output_dir", str(folder)]) == 2
    assert f"error: {folder} is not empty" in capsys.readouterr().err


def test_what_is_no_model_is_an_error(tmp_path, capsys):
    assert main(["export", str(tmp_path), "--output_dir", str(tmp_path / "onnx")]) == 2
    assert capsys.readouterr().err.startswith("error: ")
