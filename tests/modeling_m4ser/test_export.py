"""The exported graph gives what the model gives, at any batch size and length, and says where it does not."""

import json

import numpy as np
import pytest
import torch

from modeling_m4ser import export_m4ser
from modeling_m4ser.export_m4ser import TOLERANCE, export_onnx
from tests.helpers.tiny import tiny_model, tiny_processor

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytestmark = pytest.mark.slow  # torch takes its time to trace even a tiny model

# Encoders that see a padded batch at once, one that must not, and mel frames; models of one input.
MODELS = {
    "hubert-group": {"ood_threshold": 1.5},
    "wavlm": {},
    "wav2vec2": {"modalities": "speech", "fusion": "concat"},
    "whisper": {"text_alignment": "attention"},
}


@pytest.mark.parametrize("kind", MODELS)
def test_graph_gives_what_the_model_gives(tmp_path, kind):
    single = {"use_modality_specific": False, "use_modality_invariant": False, "use_adversarial": False}
    single |= {"use_error_detection": False, "use_error_correction": False}
    model = tiny_model(kind, spread=True, **MODELS[kind], **(single if "modalities" in MODELS[kind] else {}))
    told = export_onnx(model, tiny_processor(tmp_path, kind), tmp_path, int8=True)
    assert told["deviation"] <= TOLERANCE < told["int8_deviation"] < 0.2
    # Seven bits: the sum of two products of eight does not fit into the 16 bits of processors without VNNI.
    stored = map(onnx.numpy_helper.to_array, onnx.load(tmp_path / "model.onnx").graph.initializer)
    assert {np.abs(each).max() for each in stored if each.dtype == np.int8 and each.ndim == 2} == {64}
    assert told == json.loads((tmp_path / "export.json").read_text())
    assert told["equal_lengths"] == (kind == "hubert-group")
    assert model.detector is None
    assert (tmp_path / "mel_filters.npy").is_file() == (kind == "whisper")
    assert (tmp_path / "domain.npz").is_file() == (kind == "hubert-group")


@pytest.mark.parametrize("kind", ["hubert", "wav2vec2-group", "wavlm-group", "data2vec-audio"])
def test_other_encoders_give_what_the_model_gives(tmp_path, kind):
    told = export_onnx(tiny_model(kind, spread=True), tiny_processor(tmp_path, kind), tmp_path)
    assert told["deviation"] <= TOLERANCE
    assert told["equal_lengths"] == (kind != "hubert")


def test_digital_silence_after_a_voice(tmp_path, monkeypatch):
    """Layer norms enlarge there what a group norm leaves of the mean."""
    seconds = torch.arange(80000) / 16000
    voice = sum(torch.sin(2 * torch.pi * 150 * k * seconds) / k for k in range(1, 20))
    voice *= seconds * (seconds < 2)
    voice = (voice - voice.mean()) / voice.std()
    noise = export_m4ser._random_inputs

    def voiced(model, batch, samples, tokens):
        return noise(model, batch, samples, tokens) | {"input_values": voice[:samples].expand(batch, -1)}

    monkeypatch.setattr(export_m4ser, "_random_inputs", voiced)
    monkeypatch.setattr(export_m4ser, "_CHECKED", ((1, 80000, 7),))
    model, processor = tiny_model("hubert-group", spread=True), tiny_processor(tmp_path, "hubert-group")
    assert export_onnx(model, processor, tmp_path)["deviation"] <= TOLERANCE


def test_what_cannot_be_exported_says_why(tmp_path, monkeypatch):
    model, processor = tiny_model("whisper"), tiny_processor(tmp_path, "whisper")
    monkeypatch.setattr(export_m4ser, "_trace", lambda model, path: 20)
    monkeypatch.setattr(export_m4ser, "_deviation", lambda *_, **__: float("nan"))
    with pytest.raises(ValueError, match=r"gives results nan from the model's: do not use it"):
        export_onnx(model, processor, tmp_path)
    monkeypatch.setattr(export_m4ser, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'm4ser\[onnx\]'"):
        export_onnx(model, processor, tmp_path)
