"""What the page does, without the page: recordings in, rows out, from one model or from two."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers.utils import cached_file

from data_scripts.errors import UserError
from m4ser.runtimes import load_pipeline
from modeling_m4ser.audio_m4ser import audio_duration, load_audio
from modeling_m4ser.recognition_m4ser import Recognizer

#: Seconds from which a recording is answered turn by turn: what Whisper hears at once.
LONG = 30.0
_SECTIONS = ("Data and protocol", "Results", "Limits")  # of a model's card


class Listener:
    """One model, or two that hear the same, and the recognizer that writes what they read.

    Args:
        models: folders or names on the Hub.
        asr: the recognizer's; without one, the words come with the recording.
        device: where all of them run.

    Raises:
        UserError: a model or the recognizer cannot be loaded.
    """

    def __init__(self, models: Sequence[str], asr: str | None = None, device: str | None = None):
        self.pipes: dict[str, Any] = {}
        try:
            for model in models:
                self.pipes[_short(model, models)] = load_pipeline(model, device=device)
            self.asr = None if asr is None else Recognizer(asr, device=device)
        except (OSError, ValueError, ImportError) as error:
            raise UserError(error) from error
        self.abouts = {name: _about(model) for name, model in zip(self.pipes, models, strict=True)}

    @property
    def uses_text(self) -> bool:
        """Whether any of the models reads what is said."""
        return any(pipe.model.config.uses_text for pipe in self.pipes.values())

    def transcribe(self, recording: str) -> str:
        """Return the words of a recording; none of one that is answered turn by turn, or without a recognizer."""
        if self.asr is None or not self.uses_text or audio_duration(recording) > LONG:
            return ""
        return self.asr([load_audio(recording)], [Path(recording).name])[0].strip()

    def recognize(self, recording: str, text: str = "", segments: str | None = None) -> dict[str, Any]:
        """Answer a recording as a whole, or turn by turn where it is long or has `segments`, a file of turns.

        Returns:
            `dict`: `recording`, its name; `is_timeline`; and `models`, each with its `name` and `rows`: those of
            `pipe.timeline`, one for a recording as a whole, which also has `labels` and perhaps `corrections`.

        Raises:
            AudioError: the recording or the segments cannot be read.
            ImportError: speech is to be found, and silero-vad is not installed.
            UserError: there are no words, and no recognizer to write them.
        """
        seconds, text = audio_duration(recording), text.strip()
        is_timeline = bool(segments) or seconds > LONG
        if self.asr is None and self.uses_text and not (text or segments):
            raise UserError("Write what is said into the transcript first: no recognizer runs here (--asr).")
        found: list[dict[str, Any]] = []
        for name, pipe in self.pipes.items():
            if is_timeline:  # the second model answers the turns of the first, words and all
                turns = found[0]["rows"] if found else segments or "silero"
                rows = pipe.timeline(recording, segments=turns, asr=self.asr, progress=True)
            else:
                text, row = self._utterance(pipe, recording, text)
                rows = [{"start": 0.0, "end": round(seconds, 3), "speaker": None, "channel": None, **row}]
            found.append({"name": name, "rows": rows})
        return {"recording": Path(recording).name, "is_timeline": is_timeline, "models": found}

    def _utterance(self, pipe: Any, recording: str, text: str) -> tuple[str, dict[str, Any]]:
        corrects = pipe.model.detector is not None or pipe.model.corrector is not None
        answer = pipe(
            {"audio": recording, "text": text or None},
            asr=self.asr,
            return_decision=True,
            return_corrections=corrects,
        )
        emotions = answer.pop("emotions")
        scores = {emotion["label"]: emotion["score"] for emotion in emotions}
        text = answer["text"] or text
        return text, {**answer, "label": emotions[0]["label"], "scores": scores, "error": None}


def _short(model: str, models: Sequence[str]) -> str:
    """Return the end of a model's name that tells it apart: not where this machine keeps it."""
    parts = [Path(each).parts for each in models]
    count = next((n for n in range(2, 9) if len({each[-n:] for each in parts}) == len(models)), 9)
    return "/".join(Path(model).parts[-count:])


def _about(model: str) -> str:
    """Return, in Markdown, what a model's card says of its data, its results and its limits."""
    card = cached_file(model, "README.md", _raise_exceptions_for_missing_entries=False)
    if card is None:
        return "This model has no card: nobody says what it was trained on, or how good it is. Rely on nothing."
    parts = re.split(r"^## (.+)$", Path(card).read_text(encoding="utf-8"), flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    return "\n\n".join(f"#### {name}\n\n{sections[name].strip()}" for name in _SECTIONS if name in sections)
