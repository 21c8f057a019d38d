"""The answers as HTML: read back by a parser, as a browser does."""

from xml.etree import ElementTree

import pytest

from m4ser.app.views import show_turns, show_utterance

ROW = {
    "start": 0.0,
    "end": 2.0,
    "speaker": None,
    "channel": None,
    "text": "I saw a <myth> of the station",
    "error": None,
}
ROW |= {"label": "angry", "scores": {"sad": 0.2, "angry": 0.7, "<calm>": 0.1}, "confidence": 0.7, "ood_score": None}
ROW |= {"decision": "angry", "labels": ["angry", "sad"]}


def word(start, end, replacement):
    return {"start": start, "end": end, "text": ROW["text"][start:end], "replacement": replacement, "confidence": 0.8}


def said(element):
    return " ".join("".join(element.itertext()).split())


def test_probabilities_stand_best_first_and_nothing_is_taken_for_markup():
    page = ElementTree.fromstring(show_utterance("<M>", ROW))
    assert [said(row) for row in page.iter("tr")] == ["angry70 %", "sad20 %", "<calm>10 %"]
    assert [bar.get("style")[:11] for bar in page.iterfind(".//td/i")] == ["width:70.0%", "width:20.0%", "width:10.0%"]
    assert said(page.find("h2")) == "<M>"
    assert page.find(".//mark") is None


@pytest.mark.parametrize(
    ("decision", "shown"),
    [
        ("angry", "angry70 %"),
        ("uncertain", "uncertain70 %could be angry or sad"),
        ("no_speech", "no speechwhat follows says nothing"),
    ],
)
def test_what_is_no_label_looks_different(decision, shown):
    page = ElementTree.fromstring(show_utterance("", ROW | {"decision": decision}))
    assert said(page.find("p")) == shown
    assert ("open" in page.find("p/i").get("class")) == (decision != "angry")


def test_suspected_words_are_marked_in_their_places():
    words = [word(2, 5, "see"), word(8, 14, ""), word(22, 29, "station")]
    page = ElementTree.fromstring(show_utterance("", ROW | {"corrections": words}))
    assert said(page.find("p[@class='words']")) == "I saw see a <myth> of the station"
    marks = [(said(mark[0]), mark[0].tag, [said(ins) for ins in mark.iter("ins")]) for mark in page.iter("mark")]
    assert marks == [("saw", "del", ["see"]), ("<myth>", "del", []), ("station", "u", [])]
    assert "a &lt;myth&gt; of" in show_utterance("", ROW | {"corrections": words[2:]})


def test_turns_have_places_times_and_speakers():
    failed = {"decision": None, "confidence": None, "scores": {}, "text": None, "error": "too far"}
    rows = [ROW | {"start": 61.5, "end": 66.5, "speaker": "<Ann>"}, ROW | {"start": 80, "end": 90, **failed}]
    page = ElementTree.fromstring(show_turns("", rows, 100.0))
    first, second = page.iter("li")
    assert (first.get("data-start"), first.get("data-end"), said(first.find("button"))) == ("61.5", "66.5", "1:01")
    assert [said(first.find("p")), said(second.find("p"))] == ["<Ann> I saw a <myth> of the station", "too far"]
    assert "left:61.500%;width:5.000%" in page.find("div/i").get("style")
    assert "No speech" in show_turns("", [], 100.0)
