"""`m4ser bench`: the benchmark's scores of a model are ours."""

import io
import json

import numpy as np
import pandas as pd
import pytest
import soundfile
from transformers import pipeline

from m4ser.__main__ import main
from tests.helpers.tiny import tiny_pretrained
from trainer.evaluation.metrics import emotion_metrics

core = pytest.importorskip("oruk_bench.core")


def flac(seed):
    """A short clip as FLAC."""
    file = io.BytesIO()
    soundfile.write(file, np.random.default_rng(seed).normal(size=3200) * 0.1, 16000, format="FLAC")
    return file.getvalue()


@pytest.fixture
def shards(tmp_path):
    """Two shards of 14 clips, two of each class."""
    rows = [
        {"audio_flac": flac(number), "label": number % 7, "language": None if number % 3 else "de", "source_id": "made"}
        for number in range(14)
    ]
    folder = tmp_path / "shards"
    folder.mkdir()
    for name, part in (("a", rows[:9]), ("b", rows[9:])):
        pd.DataFrame(part).to_parquet(folder / f"{name}.parquet")
    return folder


def test_its_scores_are_ours(shards, tmp_path, capsys):
    names = ["angry", "happy", "sad", "fear", "disgust", "surprised", "neutral", "other"]
    speech = {"modalities": "speech", "fusion": "concat", "use_modality_specific": False}
    speech |= {"use_modality_invariant": False, "use_error_detection": False, "use_error_correction": False}
    ids = {"id2label": dict(enumerate(names)), "label2id": {name: number for number, name in enumerate(names)}}
    model = tiny_pretrained(tmp_path / "model", "whisper", use_adversarial=False, **speech, **ids)
    assert main(["bench", str(model), str(shards), "--output", str(tmp_path / "scores.json")]) == 0
    scores = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert json.loads(capsys.readouterr().out) == scores

    rows = pd.concat(pd.read_parquet(path) for path in sorted(shards.iterdir()))
    classify = pipeline("audio-classification", model=str(model), trust_remote_code=True)
    answers = classify([{"audio_flac": clip} for clip in rows["audio_flac"]])
    best = [next(names.index(each["label"]) for each in answer if each["label"] != "other") for answer in answers]
    ours = emotion_metrics(best, rows["label"].to_numpy(), core.LABELS)
    assert scores["accuracy"] == ours["wa"]
    assert scores["weighted_f1"] == ours["weighted_f1"]
    assert scores["macro_f1"] == ours["macro_f1"]
    assert {name: of["f1"] for name, of in scores["per_class"].items()} == {
        name: ours[f"f1_{name}"] for name in core.LABELS
    }


def test_a_model_of_transcripts_needs_a_recognizer(shards, tmp_path, capsys):
    model = str(tiny_pretrained(tmp_path / "model", "whisper"))
    assert main(["bench", model, str(shards)]) == 2
    assert "name a recognizer by --asr" in capsys.readouterr().err
    assert main(["bench", model, str(tmp_path)]) == 2
    assert "holds no Parquet files with audio_flac, label" in capsys.readouterr().err
