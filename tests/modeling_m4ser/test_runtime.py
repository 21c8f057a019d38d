"""The runtime without torch: features and answers are those of the processor and the pipeline."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from modeling_m4ser import OnnxPipeline, SpeechTextEmotionPipeline, runtime_m4ser
from modeling_m4ser.export_m4ser import export_onnx
from modeling_m4ser.runtime_m4ser import OnnxProcessor
from modeling_m4ser.sound_m4ser import SOUND_SIZE
from tests.helpers.tiny import tiny_model, tiny_processor

pytest.importorskip("onnxruntime")
RATE = 16000
KINDS = ("hubert", "hubert-group", "whisper")
LEVELS = {"target_dbfs": -25, "trim_silence_db": 40, "max_audio_seconds": 1.5, "max_text_length": 12}


def waveform(samples, seed=0):
    return np.random.default_rng(seed).normal(scale=0.1, size=samples).astype(np.float32)


def export(folder, kind, monkeypatch, **levels):
    """Write what an export writes, but a model in the place of the graph; returns it with its processor."""
    from modeling_m4ser import export_m4ser

    monkeypatch.setattr(export_m4ser, "_trace", lambda model, path: path.write_bytes(b"") or 0)
    monkeypatch.setattr(export_m4ser, "_deviation", lambda *_, **__: 0.0)
    model = tiny_model(kind, spread=True, ood_threshold=0.1, calibration_temperature=3.0, conformal_quantile=0.8)
    model.sound_domain.whitening.copy_(torch.eye(SOUND_SIZE))
    processor = tiny_processor(folder, kind, **levels)
    export_onnx(model, processor, folder)
    monkeypatch.setattr(runtime_m4ser.onnxruntime, "InferenceSession", lambda *_, **__: Session(model))
    return model, processor


class Session:
    """What runs a graph, done by the model; an encoder that would read padding must not get any."""

    def __init__(self, model):
        self.model = model

    def get_outputs(self):
        return [SimpleNamespace(name=name) for name in ("logits", "pooled")]

    def run(self, _, inputs):
        types = {"input_values": np.float32, "input_features": np.float32}
        assert all(value.dtype == types.get(name, np.int64) for name, value in inputs.items())
        lengths = {*inputs["speech_attention_mask"].sum(-1).clip(400)}
        assert len(lengths) == 1 or not getattr(self.model.m4ser.speech_encoder, "needs_equal_lengths", False)
        with torch.inference_mode():
            output = self.model(**{name: torch.from_numpy(value) for name, value in inputs.items()})
            return [each.numpy() for each in (output.logits, output.pooled)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("levels", [{}, LEVELS])
def test_features_are_the_processor_s(tmp_path, monkeypatch, kind, levels):
    _, expected = export(tmp_path, kind, monkeypatch, **levels)
    found = OnnxProcessor(tmp_path)
    for samples in (1, 399, 7000, 16001, 40000):
        inputs = {"audio": waveform(samples, samples), "sampling_rate": RATE, "names": [None]}
        for name, value in expected(**inputs).items():
            mine = found(**inputs)[name]
            assert mine.shape[-1] >= value.shape[-1]  # a graph is given what its convolutions need
            assert mine[..., : value.shape[-1]] == pytest.approx(value.numpy(), abs=1e-5)
            assert not mine[..., value.shape[-1] :].any()
    for text in ("", "I can’t BELIEVE it!", "so happy " * 9, "[NOISE] 我"):
        for name, value in expected(text=text).items():
            assert found(text=text)[name].tolist() == value.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_the_pipeline_s(tmp_path, monkeypatch, kind):
    model, processor = export(tmp_path, kind, monkeypatch)
    expected, found = SpeechTextEmotionPipeline(model, processor=processor), OnnxPipeline(tmp_path)
    rows = [
        {"audio": (RATE, waveform(size, size)), "text": "i am so happy"[: size // 900]}
        for size in (9000, 390, 9000, 5000)
    ]
    rows += [{"audio": "missing.wav", "text": "no"}, {"audio": (RATE, np.zeros(4000, np.float32)), "text": "so"}]
    options = {"return_decision": True, "return_embedding": True, "on_error": "skip", "batch_size": 4, "num_workers": 2}
    for one, other in zip(expected(rows, **options), found(rows, **options), strict=True):
        assert one.keys() == other.keys()
        for name in one.keys() - {"emotions", "embedding", "confidence", "ood_score"}:
            assert one[name] == other[name]
        for name in ("embedding", "confidence", "ood_score"):
            assert one.get(name, 0) == pytest.approx(other.get(name, 0), abs=1e-5)
    assert found(rows[0], top_k=1)[0]["label"] == expected(rows[0], top_k=1)[0]["label"]
    assert len(list(found(iter(rows[:2])))) == 2
    turns, call = [{"start": 0.0, "end": 0.4, "text": "so"}], {"array": waveform(9000), "sampling_rate": RATE}
    (one,), (other,) = expected.timeline(call, segments=turns), found.timeline(call, segments=turns)
    assert one["decision"] == other["decision"]
    assert one["scores"] == pytest.approx(other["scores"], abs=1e-5)
    with pytest.raises(ValueError, match="corrects no transcripts"):
        found(rows[0], return_corrections=True)


def test_what_is_no_exported_folder_says_so(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="write one with m4ser export"):
        OnnxPipeline(tmp_path)
    monkeypatch.setattr(runtime_m4ser, "onnxruntime", None)
    with pytest.raises(ImportError, match="onnxruntime and tokenizers"):
        OnnxPipeline(tmp_path)


def test_neither_torch_nor_transformers_is_imported(repo_root):
    """Import hooks that forbid both, and what stands on them, stay silent."""
    code = """
import sys

class Forbidden:
    def find_spec(self, name, *_):
        assert name.split(".")[0] not in ("torch", "transformers", "datasets", "pandas", "scipy"), name

for name in ("torch", "transformers"):
    sys.modules[name] = None
sys.meta_path.insert(0, Forbidden())
from modeling_m4ser import OnnxPipeline
from m4ser.predict import engines, formats, inputs, parts, predictor
import m4ser.timeline, trainer.experiments.run_folder, modeling_m4ser.timeline_m4ser
assert OnnxPipeline
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=repo_root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
