"""The answers as HTML: read back by a parser, as a browser does."""

import re
from xml.etree import ElementTree

import pytest

from m4ser.app.views import show_player, show_turns, show_utterance

ROW = {
    "start": 0.0,
    "end": 2.0,
    "speaker": None,
    "channel": None,
    "text": "I saw a <myth> of the station",
    "label": "angry",
    "scores": {"sad": 0.2, "angry": 0.7, "<calm>": 0.1},
    "confidence": 0.7,
    "decision": "angry",
    "labels": ["angry", "sad"],
    "ood_score": None,
    "error": None,
}


def word(start, end, replacement):
    return {"start": start, "end": end, "text": ROW["text"][start:end], "replacement": replacement, "confidence": 0.8}


def parsed(page):
    return ElementTree.fromstring(page)


def said(element):
    return " ".join("".join(element.itertext()).split())


def test_probabilities_stand_best_first_and_nothing_is_taken_for_markup():
    page = parsed(show_utterance("<M>", ROW))
    assert [said(row) for row in page.iter("tr")] == ["angry70 %", "sad20 %", "<calm>10 %"]
    widths = [float(re.search(r"width:([\d.]+)%", bar.get("style"))[1]) for bar in page.iterfind(".//td/i")]
    assert widths == [70, 20, 10]
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
    page = parsed(show_utterance("", ROW | {"decision": decision}))
    assert said(page.find("p")) == shown
    assert ("open" in page.find("p/i").get("class")) == (decision != "angry")


def test_suspected_words_are_marked_in_their_places():
    words = [word(2, 5, "see"), word(8, 14, ""), word(22, 29, "station")]
    page = parsed(show_utterance("", ROW | {"corrections": words}))
    (line,) = [line for line in page.iter("p") if line.get("class") == "words"]
    assert said(line) == "I saw see a <myth> of the station"
    marks = [(said(mark[0]), mark[0].tag, [said(ins) for ins in mark.iter("ins")]) for mark in line.iter("mark")]
    assert marks == [("saw", "del", ["see"]), ("<myth>", "del", []), ("station", "u", [])]


def test_turns_have_places_times_and_speakers():
    rows = [
        ROW | {"start": 61.5, "end": 66.5, "speaker": "<Ann>"},
        ROW
        | {
            "start": 80,
            "end": 90,
            "decision": None,
            "confidence": None,
            "scores": {},
            "text": None,
            "error": "too far",
        },
    ]
    page = parsed(show_turns("", rows, 100.0))
    first, second = page.iter("li")
    assert (first.get("data-start"), first.get("data-end"), said(first.find("button"))) == ("61.5", "66.5", "1:01")
    assert said(first.find("p")) == "<Ann> I saw a <myth> of the station"
    assert said(second.find("span")) == "not classified"
    assert said(second.find("p")) == "too far"
    assert "left:61.500%;width:5.000%" in page.find("div/i").get("style")
    assert "No speech" in show_turns("", [], 100.0)


def test_the_player_of_any_name_is_one_attribute():
    source = parsed(show_player("/tmp/it's <a> & b.wav").replace(" controls", "")).get("src")
    assert source == "gradio_api/file=/tmp/it%27s%20%3Ca%3E%20%26%20b.wav"
