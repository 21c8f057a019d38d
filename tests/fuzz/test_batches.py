"""A batch is its members: the logits of a ragged batch are those of each clip alone, wherever a batch is answered."""

import json
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from m4ser.__main__ import main
from modeling_m4ser import OnnxPipeline, SpeechTextEmotionPipeline
from modeling_m4ser.export_m4ser import export_onnx
from tests.fuzz import strategies as some
from tests.helpers.layouts import write_wav
from tests.helpers.tiny import EQUAL_LENGTH_KINDS, SPEECH_KINDS, TEXT_KINDS, WORDS, ragged_batch, take, tiny_processor
from tests.modeling_m4ser.test_encoders import batch_model

RATE = 16000
KINDS = (*SPEECH_KINDS, *EQUAL_LENGTH_KINDS)


@cache
def model_of(kind: str, text: str):
    return batch_model(kind, text=text)


def ragged_seconds(dice: np.random.Generator, longest: float = 30.0) -> np.ndarray:
    """Lengths of 1 to 16 clips, 0.05 s and longer; the longest of a batch is as often short as long."""
    top = np.exp(dice.uniform(np.log(0.05), np.log(longest)))
    return np.exp(dice.uniform(np.log(0.05), np.log(top), 1 + int(dice.integers(16))))


def difference(kind: str, text: str, seed: int) -> float:
    """The largest difference of a logit in a random batch from what it is alone, as a share of 1 or of the logit."""
    model, dice = model_of(kind, text), np.random.default_rng(seed)
    samples = (RATE * ragged_seconds(dice)).astype(int).tolist()
    tokens = dice.integers(2, 60, len(samples)).tolist()
    batch = ragged_batch(model, tuple(samples), tuple(tokens), with_labels=False, seed=seed)
    with torch.inference_mode():
        alone = torch.cat([model(**take(batch, row)).logits for row in range(len(samples))])
        return ((model(**batch).logits - alone).abs() / alone.abs().clamp(min=1)).max().item()


@some.examples(22)
@given(kind=st.sampled_from(KINDS), text=st.sampled_from(TEXT_KINDS), seed=st.integers(0, 2**32))
def test_logits_of_a_batch_are_those_of_its_members(kind, text, seed):
    assert difference(kind, text, seed) <= 1e-5


def by_predict(pipe, rows, folder, dice):
    """The scores of rows by `m4ser predict`, a few at a time."""
    model, table, size = folder / "model", folder / "rows.jsonl", str(dice.integers(2, 9))
    pipe.save_pretrained(model)
    table.write_text("".join(json.dumps({"id": str(place), **row}) + "\n" for place, row in enumerate(rows)))
    words = ["predict", table, "--model", model, "--output_dir", folder / "out", "--batch_size", size]
    assert main([*map(str, words), "--format", "jsonl"]) == 0
    answers = map(json.loads, (folder / "out" / "predictions.jsonl").read_text().splitlines())
    return [{label: answer[f"probability_{label}"] for label in pipe.model.config.label2id} for answer in answers]


def by_server(pipe, rows, folder, dice):
    """The scores of rows that many clients send at once."""
    pytest.importorskip("uvicorn")
    import requests

    from tests.m4ser.serve.conftest import serving

    def ask(row):
        with open(row["audio"], "rb") as file:
            return requests.post(address, files={"file": file}, data={"text": row["text"]}).json()

    with serving(lambda: pipe, batch_ms=50.0) as address, ThreadPoolExecutor(8) as clients:
        return [{each["label"]: each["score"] for each in answer} for answer in clients.map(ask, rows)]


def by_graph(pipe, rows, folder, dice):
    """The scores of rows by an exported graph, a few at a time."""
    pytest.importorskip("onnxscript")
    export_onnx(pipe.model, pipe.processor, folder)
    answers = OnnxPipeline(folder, num_threads=1)(rows, batch_size=int(dice.integers(2, 9)), top_k=None)
    return [{each["label"]: each["score"] for each in answer} for answer in answers]


@pytest.mark.parametrize("kind", ["whisper", "hubert", "wavlm-group"])
@pytest.mark.parametrize("way", [by_predict, by_server, pytest.param(by_graph, marks=pytest.mark.slow)])
def test_answers_given_together_are_those_given_alone(way, kind, tmp_path):
    processor = tiny_processor(tmp_path, kind)
    pipe, dice = SpeechTextEmotionPipeline(batch_model(kind), processor=processor), np.random.default_rng(0)
    number = some.examples(12).max_examples
    said = lambda: " ".join(dice.choice(WORDS, int(dice.integers(30))))  # noqa: E731
    rows = [
        {"audio": str(write_wav(tmp_path / f"{place}.wav", seconds, seed=place)), "text": said()}
        for place, seconds in enumerate(np.exp(dice.uniform(np.log(0.05), np.log(3), number)))
    ]
    alone = [{each["label"]: each["score"] for each in pipe(row, top_k=None)} for row in rows]
    assert np.ptp([list(scores.values()) for scores in alone], axis=0).max() > 1e-3
    assert way(pipe, rows, tmp_path, dice) == [pytest.approx(scores, abs=1e-5) for scores in alone]
