"""The one callable of every engine: its answers are those of the pipeline, its failures have reasons."""

import dataclasses
import shutil

import pytest
from safetensors.torch import load_file, save_file
from transformers import pipeline

from data_scripts.errors import UserError
from m4ser.predict.inputs import Inputs
from m4ser.predict.parts import table_schema
from m4ser.predict.predictor import Predictor, Settings, describe
from modeling_m4ser import PIPELINE_TASK, SpeechTextEmotionPipeline
from tests.data_scripts.transcribe.helpers import make_tiny_whisper
from tests.helpers.tiny import EMOTIONS


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory):
    """The folder of a tiny Whisper."""
    folder = tmp_path_factory.mktemp("recognizer")
    make_tiny_whisper(folder, seconds=3, positions=8)
    return str(folder)


def test_answers_are_those_of_single_calls_and_failures_have_reasons(model, table):
    inputs = Inputs([str(table)])
    settings = Settings(str(model), batch_size=4, corrections=True, embeddings=True)
    answers = Predictor(settings)([inputs[place] for place in range(len(inputs))])
    single = pipeline(PIPELINE_TASK, model=str(model), pipeline_class=SpeechTextEmotionPipeline, return_embedding=True)
    assert [answer["ok"] for answer in answers] == [True, False] * 8
    for row, answer in zip(inputs, answers, strict=True):
        known = {*table_schema(EMOTIONS, corrections=True, embeddings=True).names}
        assert {*answer} <= known
        assert (answer["id"], answer["file"], answer["asr_model"]) == (row["id"], row["file"], None)
        if answer["ok"]:
            expected = single(row["utterance"])
            scores = {each["label"]: each["score"] for each in expected["emotions"]}
            assert {name: answer[f"probability_{name}"] for name in EMOTIONS} == pytest.approx(scores, abs=1e-5)
            assert answer["embedding"] == pytest.approx(expected["embedding"], abs=1e-5)
            assert (answer["label"], answer["text"]) == (expected["emotions"][0]["label"], row["utterance"]["text"])
            assert 0.2 <= answer["seconds"] < 0.8
        else:
            assert answer["error_type"] == "AudioError"
            assert row["file"] in answer["error"]


def test_the_recognizer_is_named_where_it_wrote_the_text(model, table, recognizer):
    table.write_text("file,hypothesis,asr_model\n0.wav,,\n1.wav,we go,other\n2.wav,we go,\n", encoding="utf-8")
    answers = Predictor(Settings(str(model), recognizer))(list(Inputs([str(table)])))
    assert [answer["asr_model"] for answer in answers] == [recognizer, "other", None]
    assert answers[0]["text"] is not None


def test_what_decides_an_answer_is_described(model, recognizer, tmp_path):
    settings = Settings(str(model), recognizer)
    described = describe(settings)
    shutil.copytree(model, tmp_path / "moved")
    same = dataclasses.replace(settings, model=str(tmp_path / "moved"), batch_size=3, num_workers=1, device="cpu")
    assert describe(same) == described
    assert list(described["model"]["id2label"].values()) == list(EMOTIONS)
    for change in ({"channel": 0}, {"corrections": True}, {"embeddings": True}, {"asr": None}):
        assert describe(dataclasses.replace(settings, **change)) != described
    weights = tmp_path / "moved" / "model.safetensors"
    tensors = load_file(weights)
    next(iter(tensors.values())).add_(1)
    save_file(tensors, weights, {"format": "pt"})
    changed = describe(same)
    assert changed["files"]["model.safetensors"] != described["files"]["model.safetensors"]
    assert changed["model"] == described["model"]


def test_what_is_no_model_and_words_that_nobody_wrote_are_errors(model, recognizer, tmp_path):
    with pytest.raises(UserError, match="is no M4SER model, but a whisper"):
        describe(Settings(recognizer))
    for wrong in (str(tmp_path), "no/where", "no/where/here"):
        with pytest.raises(UserError, match=f"{wrong} is no model: "):
            describe(Settings(wrong))
    for wrong in ("no/where", "no/where/here"):
        with pytest.raises(UserError, match=f"{wrong} is no folder, and no name on the Hub: "):
            describe(Settings(str(model), wrong))
    with pytest.raises(UserError, match=r"reads words too: .*--asr"):
        describe(Settings(str(model)), has_text=False)
