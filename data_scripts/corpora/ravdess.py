"""RAVDESS speech: `Actor_NN/03-01-EE-II-SS-RR-AA.wav` (or .flac), where the name says everything; or its zip.

Its seven numbers are modality (03 audio only), vocal channel (01 speech), emotion, intensity, statement, repetition,
actor (odd male, even female). Two sentences are spoken in all emotions, so the words carry none of it. Livingstone &
Russo 2018, PLoS ONE 13(5): e0196391; CC BY-NC-SA 4.0.
"""

import re
import zipfile
import zlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from data_scripts.corpora.base import CorpusRecord, ScannedCorpus
from data_scripts.corpora.folders import APPLE_DOUBLE, walk
from data_scripts.corpora.options import CorpusSelection
from data_scripts.corpora.report import PreparationReport
from data_scripts.errors import CorpusError

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
STATEMENTS = ("Kids are talking by the door.", "Dogs are sitting by the door.")
RELEASED_ZIP = "Audio_Speech_Actors_01-24.zip"
RAVDESS_LAYOUT = f"Actor_NN/03-01-EE-II-SS-RR-AA.wav or .flac, in a folder or in {RELEASED_ZIP}"

# The order in which twins of a recording are preferred: the corpus itself ships WAV.
_AUDIO_SUFFIXES = (".wav", ".flac")
_OTHER_MEDIA_SUFFIXES = (".mp3", ".ogg", ".m4a", ".mp4", ".aac", ".aiff")
_RECORDING_NAME = re.compile(r"(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)")


def voice(speaker: str) -> str:
    """Return "male" or "female" for a RAVDESS speaker such as "01"."""
    return "male" if int(speaker) % 2 else "female"


def scan(selection: CorpusSelection, report: PreparationReport) -> ScannedCorpus:
    """Find the recordings below `data_dir`, or in it if it is a zip; what is none goes into `report`, by its path."""
    place = selection.place
    # A zip is read as it is: nothing is unpacked, so that no name in it leads anywhere.
    audio_of = _open_zip(place) if place.is_file() else {path: {"path": str(path.resolve())} for path in walk(place)}
    media = [path for path in audio_of if path.suffix.lower() in (*_AUDIO_SUFFIXES, *_OTHER_MEDIA_SUFFIXES)]
    # The shallowest copy first: a popular mirror of the corpus contains it twice, the second time one folder deeper.
    media.sort(key=lambda path: (len(path.parts), path.stem, path.suffix.lower() != _AUDIO_SUFFIXES[0], path))
    rows, taken = [], set()
    for path in media:
        item = path.as_posix() if place.is_file() else path.relative_to(place).as_posix()
        if reason := _unusable(path) or ("second copy of a recording" if path.stem in taken else None):
            report.drop(item, reason)
            continue
        taken.add(path.stem)
        row = {**_row(path), **audio_of[path]}
        if re.fullmatch(r"Actor_\d\d", path.parent.name) and path.parent.name != f"Actor_{row['speaker']}":
            report.repair(item, "in another actor's folder: the speaker is taken from the file name")
        rows.append(row)
    return ScannedCorpus(sorted(rows, key=lambda row: row["id"]), search_hint=RAVDESS_LAYOUT)


_LARGEST = 100_000_000  # bytes; the recordings have less than one million


def _open_zip(place: Path) -> dict[PurePath, Mapping[str, Any]]:
    """The files in a zip, each with where it lies there and a function that loads its bytes."""
    try:
        archive = zipfile.ZipFile(place)  # stays open for the functions, which may run in several threads
    except zipfile.BadZipFile as error:
        raise CorpusError(
            f"{place} is no whole zip archive ({error}): download {RELEASED_ZIP} again, or give the folder of RAVDESS"
        ) from None
    files = [info for info in archive.infolist() if not info.is_dir()]
    return {
        PurePosixPath(info.filename): {"path": info.filename, "bytes": partial(_read_zipped, archive, info)}
        for info in files
    }


def _read_zipped(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    from modeling_m4ser.audio_m4ser import AudioError  # imports torch

    if info.file_size > _LARGEST:
        raise AudioError(f"the recording would have {info.file_size / 1e6:,.0f} MB: none of RAVDESS is so large")
    try:
        return archive.read(info)
    # What is damaged; then what is encrypted, or compressed in a way that Python does not know.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise AudioError(f"the recording cannot be read from the archive: {error}") from error


def _unusable(path: PurePath) -> str | None:
    """Why a media file is no recording of RAVDESS speech; None where it is one."""
    if path.name.startswith("._"):
        return APPLE_DOUBLE
    if isinstance(path, Path) and not path.is_file():
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


def _row(path: PurePath) -> dict:
    """The row of a recording but for its audio, all of it from the file's name."""
    _, _, emotion, _, statement, _, actor = path.stem.split("-")
    return {
        "split": "train",
        "id": path.stem,
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
    takes_file=True,
    emotions=EMOTIONS,
    sex_of=voice,
)
