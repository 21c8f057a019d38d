"""Answers as HTML: the decision, a bar for each label, the suspected words, the turns of a timeline.

Everything that comes from a model, a recording or a person is escaped here.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import quote

from m4ser.timeline_figure import clock
from modeling_m4ser.decisions_m4ser import NO_SPEECH, UNCERTAIN
from modeling_m4ser.segments_m4ser import speaker_of
from trainer.evaluation.drawing import label_colours

Row = Mapping[str, Any]

_REASONS = {
    UNCERTAIN: "not sure enough, or unlike what the model was trained on",
    NO_SPEECH: "what follows says nothing",
}


def show_utterance(name: str, row: Row) -> str:
    """Return the answer for a whole recording: the decision, the probabilities and the words."""
    colours, decision = _colours([row]), row["decision"]
    reason = _REASONS.get(decision, "")
    if decision == UNCERTAIN and len(row["labels"]) > 1:
        reason = f"could be {' or '.join(row['labels'])}"
    share = "" if decision == NO_SPEECH else f"<b>{_percent(row['confidence'])}</b>"
    bars = "".join(
        f"<tr><th scope='row'>{escape(label)}</th><td class='bar'><i style='width:{100 * score:.1f}%;"
        f"background:{colours[label]}'></i></td><td>{_percent(score)}</td></tr>"
        for label, score in sorted(row["scores"].items(), key=lambda item: -item[1])
    )
    said = f"{_mark(decision, colours)}<strong>{escape(_said(decision))}</strong>{share}<span>{escape(reason)}</span>"
    return (
        f"<section>{_title(name)}<p class='decision'>{said}</p>"
        f"<table class='bars'><caption>Probability of each emotion</caption>{bars}</table>{_words(row)}</section>"
    )


def show_turns(name: str, rows: Sequence[Row], seconds: float) -> str:
    """Return the turns of a recording of some seconds: as a strip of colors, and as a list whose times play them."""
    colours, strip, turns = _colours(rows), "", ""
    for row in rows:
        start, end, decision = row["start"], row["end"], row["decision"]
        place = f"left:{100 * start / seconds:.3f}%;width:{100 * (end - start) / seconds:.3f}%"
        strip += f"<i data-start='{start}' {_painted(decision, colours, place)}></i>"
        sure = "" if row["confidence"] is None or decision == NO_SPEECH else _percent(row["confidence"])
        who = f"<span class='who'>{escape(speaker)}</span> " if (speaker := speaker_of(row)) else ""
        turns += (
            f"<li data-start='{start}' data-end='{end}'><button type='button'>{clock(start)}</button>"
            f"{_mark(decision, colours)}<span><b>{escape(_said(decision))}</b> {sure}</span>"
            f"<p>{who}{escape(row['text'] or row['error'] or '')}</p></li>"
        )
    if not rows:
        return f"<section>{_title(name)}<p>No speech was found.</p></section>"
    strip = f"<div class='strip' aria-hidden='true'>{strip}</div>"
    return f"<section>{_title(name)}{strip}<ol class='turns'>{turns}</ol></section>"


def show_player(path: str) -> str:
    """Return the player that the turns of a timeline follow."""
    return f"<audio class='player' controls preload='metadata' src='gradio_api/file={quote(path)}'></audio>"


def _title(name: str) -> str:
    return f"<h2>{escape(name)}</h2>" if name else ""


def _words(row: Row) -> str:
    """Return the words as they were read, those that look misheard marked, each before what may have been said."""
    text, done, shown = row["text"] or "", 0, ""
    for word in row.get("corrections", []):
        shown += escape(text[done : word["start"]])
        is_same = word["text"] == word["replacement"]
        instead = "" if is_same or not word["replacement"] else f" <ins>{escape(word['replacement'])}</ins>"
        tag = "u" if is_same else "del"
        shown += (
            f"<mark title='{_percent(word['confidence'])} sure'><{tag}>{escape(word['text'])}</{tag}>{instead}</mark>"
        )
        done = word["end"]
    if not done:
        return ""
    return (
        f"<p class='hint'>Words that look misheard, and what may have been said:</p><p class='words'>{shown}"
        f"{escape(text[done:])}</p>"
    )


def _colours(rows: Sequence[Row]) -> dict[str, str]:
    return label_colours(sorted({label for row in rows for label in row["scores"]}))


def _mark(decision: str | None, colours: Mapping[str, str]) -> str:
    return f"<i {_painted(decision, colours)}></i>"


def _painted(decision: str | None, colours: Mapping[str, str], style: str = "") -> str:
    """Return how a decision is painted: in its color, or hatched where it is no label."""
    if decision in colours:
        return f"class='mark' style='{style};background-color:{colours[decision]}'"
    return f"class='mark open' style='{style}'"


def _said(decision: str | None) -> str:
    return {NO_SPEECH: "no speech", None: "not classified"}.get(decision, decision or "")


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
