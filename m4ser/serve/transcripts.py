"""Rows of a timeline in the shapes of OpenAI's transcriptions, the emotion beside the words."""

from collections.abc import Sequence
from typing import Any

from modeling_m4ser.segments_m4ser import write_segments

#: What OpenAI's segments have that is not measured here.
_UNKNOWN = {"seek": 0, "tokens": [], "temperature": 0.0}
_UNKNOWN |= dict.fromkeys(("avg_logprob", "compression_ratio", "no_speech_prob"))
_SHOWN = ("start", "end", "scores", "confidence", "decision", "ood_score", "speaker", "channel", "error")


def write_transcript(rows: Sequence[dict[str, Any]], seconds: float, form: str) -> str | dict[str, Any]:
    """Return the text or dictionary of a `response_format`, of a recording of so many seconds."""
    text = " ".join(row["text"].strip() for row in rows if row["text"])
    if form == "text":
        return text + "\n"
    if form in ("srt", "vtt"):
        return write_segments(rows, form)
    if form == "json":
        return {"text": text}
    segments = [
        {"id": number, "text": (row["text"] or "").strip(), "emotion": row["label"]}
        | {name: row[name] for name in _SHOWN}
        | _UNKNOWN
        for number, row in enumerate(rows)
    ]
    return {"task": "transcribe", "language": None, "duration": round(seconds, 3), "text": text, "segments": segments}
