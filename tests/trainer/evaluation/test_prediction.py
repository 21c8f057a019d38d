"""The one loop that runs a model over rows."""

import numpy as np
import pytest
from datasets import ClassLabel

from modeling_m4ser import load_audio
from tests.helpers.corpus import tiny_corpus, tiny_trainer
from tests.helpers.tiny import EMOTIONS, tiny_model, tiny_processor
from trainer.evaluation.prediction import answer_with, logits_of, predict, rows_read, with_probabilities


def test_each_row_gets_what_the_model_answers_to_it_alone(tmp_path, monkeypatch):
    data = tiny_corpus(7)
    # Classes in another order than the model's, and one that it does not have.
    names = ["bored", *reversed(EMOTIONS)]
    renamed = [names.index(EMOTIONS[label]) for label in data["emotion"]]
    data = data.remove_columns("emotion").add_column("emotion", [0, *renamed[1:]], feature=ClassLabel(names=names))
    model, processor = tiny_model("whisper", spread=True), tiny_processor(tmp_path, "whisper")
    batches, process = [], type(processor).__call__
    monkeypatch.setattr(
        type(processor), "__call__", lambda *args, **kw: batches.append(kw["names"]) or process(*args, **kw)
    )
    table = predict(model, processor, data, batch_size=3)
    monkeypatch.undo()
    longest = [data["id"][index] for index in sorted(range(7), key=lambda index: -data["duration"][index])]
    assert batches == [longest[:3], longest[3:6], longest[6:]]
    assert table["id"].tolist() == data["id"][:]
    assert table["text"].tolist() == data["hypothesis"][:]
    assert table["emotion"].tolist()[:1] == ["bored"]
    for index, row in enumerate(data):
        batch = processor(audio=load_audio(row["audio"]), text=row["hypothesis"], sampling_rate=16000)
        logits = model(**batch).logits[0].detach().numpy()
        np.testing.assert_allclose(logits_of(table)[index], logits, atol=1e-5)
        assert table["predicted"][index] == EMOTIONS[logits.argmax()]
    scores = with_probabilities(table, EMOTIONS, 2.0)
    assert list(scores) == ["id", "speaker", "emotion", "predicted", "text", *(f"probability_{n}" for n in EMOTIONS)]
    expected = np.exp(logits_of(table) / 2)
    assert scores.iloc[:, 5:].to_numpy() == pytest.approx(expected / expected.sum(-1, keepdims=True))


def test_a_trainer_goes_on_as_it_was(tmp_path):
    trainer = tiny_trainer(tmp_path, tiny_model("whisper"))
    collator = trainer.data_collator
    table = answer_with(trainer, tiny_corpus(5))
    assert trainer.data_collator is collator
    assert list(table["id"]) == tiny_corpus(5)["id"][:]


def test_rows_are_told_by_their_ids_in_any_order():
    assert rows_read(["a", "b"]) == rows_read(["b", "a"]) != rows_read(["a", "c"])
    assert rows_read(["a", None])["utterances"] == 2
