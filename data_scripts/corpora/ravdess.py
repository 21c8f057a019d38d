"""RAVDESS speech: `Actor_NN/03-01-EE-II-SS-RR-AA.wav` (or .flac), where the name says everything.

Its seven numbers are modality (03 audio only), vocal channel (01 speech), emotion, intensity, statement, repetition,
actor (odd male, even female). Two sentences are spoken in all emotions, so the words carry none of it. Livingstone &
Russo 2018, PLoS ONE 13(5): e0196391; CC BY-NC-SA 4.0.
"""

import re
from pathlib import Path

from data_scripts.corpora.base import CorpusRecord, ScannedCorpus
from data_scripts.corpora.folders import APPLE_DOUBLE, walk
from data_scripts.corpora.options import CorpusSelection
from data_scripts.corpora.report import PreparationReport

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
STATEMENTS = ("Kids are talking by the door.", "Dogs are sitting by the door.")
RAVDESS_LAYOUT = "Actor_NN/03-01-EE-II-SS-RR-AA.wav or .flac"

# The order in which twins of a recording are preferred: the corpus itself ships WAV.
_AUDIO_SUFFIXES = (".wav", ".flac")
_OTHER_MEDIA_SUFFIXES = (".mp3", ".ogg", ".m4a", ".mp4", ".aac", ".aiff")
_RECORDING_NAME = re.compile(r"(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)")


def voice(speaker: str) -> str:
    """Return "male" or "female" for a RAVDESS speaker such as "01"."""
    return "male" if int(speaker) % 2 else "female"


def scan(selection: CorpusSelection, report: PreparationReport) -> ScannedCorpus:
    """Find the recordings below `data_dir`; what is not one goes into `report`, by its path."""
    data_dir = selection.place
    media = [path for path in walk(data_dir) if path.suffix.lower() in (*_AUDIO_SUFFIXES, *_OTHER_MEDIA_SUFFIXES)]
    # The shallowest copy first: a popular mirror of the corpus contains it twice, the second time one folder deeper.
    media.sort(key=lambda path: (len(path.parts), path.stem, path.suffix.lower() != _AUDIO_SUFFIXES[0], path))
    rows, taken = [], set()
    for path in media:
        item = path.relative_to(data_dir).as_posix()
        if reason := _unusable(path) or ("second copy of a recording" if path.stem in taken else None):
            report.drop(item, reason)
            continue
        taken.add(path.stem)
        row = _row(path)
        if re.fullmatch(r"Actor_\d\d", path.parent.name) and path.parent.name != f"Actor_{row['speaker']}":
            report.repair(item, "in another actor's folder: the speaker is taken from the file name")
        rows.append(row)
    return ScannedCorpus(sorted(rows, key=lambda row: row["id"]), search_hint=RAVDESS_LAYOUT)


def _unusable(path: Path) -> str | None:
    """Why a media file is no recording of RAVDESS speech; None where it is one."""
    if path.name.startswith("._"):
        return APPLE_DOUBLE
    if not path.is_file():
        return "not a file"
    name = _RECORDING_NAME.fullmatch(path.stem)
    if path.suffix.lower() not in _AUDIO_SUFFIXES or name is None:
        return "not named as a RAVDESS recording"
    modality, channel, emotion, _, statement, _, _ = map(int, name.groups())
    if modality != 3:
        return "not an audio-only recording (modality 01 or 02)"
    if channel != 1:
        return "song, not speech (vocal channel 02)"
    if not 1 <= emotion <= len(EMOTIONS) or not 1 <= statement <= len(STATEMENTS):
        return "not named as a RAVDESS recording"
    return None


def _row(path: Path) -> dict:
    """The row of a recording, all of it from the file's name."""
    _, _, emotion, _, statement, _, actor = path.stem.split("-")
    return {
        "split": "train",
        "id": path.stem,
        "path": str(path.resolve()),
        "emotion": EMOTIONS[int(emotion) - 1],
        "speaker": actor,
        "transcript": STATEMENTS[int(statement) - 1],
    }


RECORD = CorpusRecord(
    name="ravdess",
    title="RAVDESS speech",
    license="cc-by-nc-sa-4.0",
    about="Livingstone & Russo 2018, PLoS ONE 13(5): e0196391. CC BY-NC-SA 4.0.",
    scan=scan,
    language="en",
    emotions=EMOTIONS,
    sex_of=voice,
)
