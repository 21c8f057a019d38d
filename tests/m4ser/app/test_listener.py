"""Answers without the page: whole recordings, turns, two models, and what is said where something is missing."""

import pytest

from data_scripts.errors import UserError
from m4ser.app.listener import Listener


def test_a_clip_is_answered_as_the_pipeline_answers(listener, folder):
    given = {"audio": str(folder / "clip.wav"), "text": "we go home"}
    answer = listener.recognize(given["audio"], " we go home ")
    assert [model["name"].partition("/")[2] for model in answer["models"]] == ["one", "two"]
    for model in answer["models"]:
        alone = listener.pipes[model["name"]](given, return_decision=True, return_corrections=True)
        (row,) = model["rows"]
        assert row["scores"] == {each["label"]: each["score"] for each in alone.pop("emotions")}
        assert row["end"] == alone["seconds"] == 1.0
        assert row.items() >= alone.items()


def test_words_are_heard_once_for_both_models(listener, folder, monkeypatch):
    heard = []
    monkeypatch.setattr(listener.asr, "asr", lambda waveform: heard.append(len(waveform)) or "so happy")
    first, second = listener.recognize(str(folder / "clip.wav"))["models"]
    assert first["rows"][0]["text"] == second["rows"][0]["text"] == "so happy"
    assert heard == [16000]
    assert listener.transcribe(str(folder / "clip.wav")) == "so happy"
    assert listener.transcribe(str(folder / "call.wav")) == ""  # long: its turns are heard instead


def test_turns_are_the_same_for_both_models(listener, folder):
    answer = listener.recognize(str(folder / "call.wav"), "", str(folder / "turns.srt"))
    turns = [(0.5, "Ann", "we <go>"), (20.0, None, "home now")]
    for model in answer["models"]:
        assert [(row["start"], row["speaker"], row["text"]) for row in model["rows"]] == turns
    first, second = (model["rows"][0]["decision"] for model in answer["models"])
    assert first != second == "uncertain"


def test_what_is_missing_is_told(folder, tmp_path):
    card = "# Title\n## Data and protocol\nvoices\n## Training\nx\n## Limits\nno judge\n"
    (folder / "one" / "README.md").write_text(card, encoding="utf-8")
    silent = Listener([str(folder / "one"), str(folder / "two")])
    first, second = silent.abouts.values()
    assert first == "#### Data and protocol\n\nvoices\n\n#### Limits\n\nno judge"
    assert "no card" in second
    with pytest.raises(UserError, match="Write what is said"):
        silent.recognize(str(folder / "clip.wav"))
    with pytest.raises(UserError, match="nothing"):
        Listener([str(tmp_path / "nothing")])
