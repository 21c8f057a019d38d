"""Answers without the page: whole recordings, turns, two models, and what is said where something is missing."""

import pytest

from data_scripts.errors import UserError
from m4ser.app.listener import Listener

KEYS = {"start", "end", "speaker", "channel", "text", "label", "scores", "confidence", "decision", "ood_score", "error"}


def test_a_clip_is_answered_as_the_pipeline_answers(listener, folder):
    clip = str(folder / "clip.wav")
    answer = listener.recognize(clip, " we go home ")
    assert (answer["recording"], answer["is_timeline"]) == ("clip.wav", False)
    assert [model["name"].partition("/")[2] for model in answer["models"]] == ["one", "two"]
    for model in answer["models"]:
        (row,) = model["rows"]
        given = {"audio": clip, "text": "we go home"}
        alone = listener.pipes[model["name"]](given, return_decision=True, return_corrections=True)
        assert {*row} > KEYS
        assert row["scores"] == {each["label"]: each["score"] for each in alone.pop("emotions")}
        assert {name: row[name] for name in alone if name != "seconds"} == {
            k: alone[k] for k in alone if k != "seconds"
        }
        assert row["end"] == 1.0


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
    first, second = (model["rows"] for model in answer["models"])
    assert answer["is_timeline"]
    assert [(row["start"], row["speaker"], row["text"]) for row in first] == [
        (0.5, "Ann", "we <go>"),
        (20.0, None, "home now"),
    ]
    assert [(row["end"], row["text"]) for row in first] == [(row["end"], row["text"]) for row in second]
    assert first[0]["decision"] == first[0]["label"]
    assert second[0]["decision"] == "uncertain"


def test_what_is_missing_is_told(folder, tmp_path):
    silent = Listener([str(folder / "one")])
    with pytest.raises(UserError, match="Write what is said"):
        silent.recognize(str(folder / "clip.wav"))
    with pytest.raises(UserError):
        Listener([str(tmp_path / "nothing")])
    assert all("no card" in about for about in silent.abouts.values())


def test_the_card_says_what_a_model_is_for(folder, listener, monkeypatch):
    card = "---\nlicense: mit\n---\n# Title\n## Data and protocol\nvoices\n## Training\nx\n## Limits\nno judge\n"
    (folder / "one" / "README.md").write_text(card, encoding="utf-8")
    monkeypatch.setattr("m4ser.app.listener.pipeline", lambda *_, **__: None)
    again = Listener([str(folder / "one"), str(folder / "two"), f"{folder}/../{folder.name}/one"])
    about = next(iter(again.abouts.values()))
    assert about == "#### Data and protocol\n\nvoices\n\n#### Limits\n\nno judge"
    assert len(again.pipes) == 3
    (folder / "one" / "README.md").unlink()
