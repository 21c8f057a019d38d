"""The runtime without torch: features and answers are those of the processor and the pipeline."""

import subprocess
import sys

import numpy as np
import pytest

from modeling_m4ser import OnnxPipeline, SpeechTextEmotionPipeline, runtime_m4ser
from modeling_m4ser.runtime_m4ser import OnnxProcessor
from tests.helpers.exported import Session, export

pytest.importorskip("onnxruntime")
RATE = 16000
KINDS = ("hubert", "hubert-group", "whisper")
LEVELS = {"target_dbfs": -25, "trim_silence_db": 40, "max_audio_seconds": 1.5, "max_text_length": 12}


def waveform(samples, seed=0):
    return np.random.default_rng(seed).normal(scale=0.1, size=samples).astype(np.float32)


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


def test_threads_and_batches_reach_the_session(tmp_path, monkeypatch):
    export(tmp_path, "whisper", monkeypatch)
    monkeypatch.setattr(Session, "asked", [])
    rows = [{"audio": (RATE, waveform(5000)), "text": "so"}] * 5
    OnnxPipeline(tmp_path)(rows)
    OnnxPipeline(tmp_path, num_threads=3, batch_size=4)(rows)
    OnnxPipeline(tmp_path, num_threads=1, batch_size=4)(rows, batch_size=3)
    assert Session.asked == [(0, 1)] * 5 + [(3, 4), (3, 1), (1, 3), (1, 2)]


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
