"""IEMOCAP_full_release: dyadic sessions of ten actors, labelled by several raters.

    Session{1..5}/sentences/wav/<dialog>/<utterance>.wav       the recordings, 16 kHz
    Session{1..5}/dialog/EmoEvaluation/<dialog>.txt            the labels: "[start - end]<TAB>id<TAB>neu<TAB>[V, A, D]"
    Session{1..5}/dialog/transcriptions/<dialog>.txt           the words: "id [start-end]: text"

The three are joined on the utterance's id. The four classes of most papers, the default, count excited as happy: 5,531
utterances; without excited they are 4,490, and six classes (frustrated and excited by themselves) 7,380. The raters did
not agree (xxx) on 2,507. A dialog is improvised or scripted, as its name says.

Busso et al. 2008, Language Resources and Evaluation 42(4); the licence comes with the corpus.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data_scripts.constants import dialogue_of
from data_scripts.corpora.base import CorpusRecord, PaperNumbers, ScannedCorpus
from data_scripts.corpora.folders import APPLE_DOUBLE, children, read_text, walk
from data_scripts.corpora.options import CorpusSelection
from data_scripts.corpora.report import PreparationReport
from data_scripts.errors import CorpusError

if TYPE_CHECKING:
    from datasets import DatasetDict

DEFAULT_EMOTIONS = ("neutral", "happy", "angry", "sad")
# Each code's label, and its utterances in the full release, excited and happy apart.
_CODES = {
    "neu": ("neutral", 1708),
    "hap": ("happy", 595),
    "exc": ("excited", 1041),
    "ang": ("angry", 1103),
    "sad": ("sad", 1084),
    "fru": ("frustrated", 1849),
    "sur": ("surprised", 107),
    "fea": ("fearful", 40),
    "dis": ("disgust", 2),
    "oth": ("other", 3),
}
EMOTION_CODES = {code: label for code, (label, _) in _CODES.items()}
EXPECTED_LABELS = dict(_CODES.values())
NO_AGREEMENT_CODE = "xxx"
SESSION_NUMBERS = ("1", "2", "3", "4", "5")
IEMOCAP_LAYOUT = "Session1 … Session5 with sentences/wav, dialog/EmoEvaluation and dialog/transcriptions"
# Utterances of the four default classes, excited counted as happy.
EXPECTED_SESSIONS = {"1": 1085, "2": 1023, "3": 1151, "4": 1031, "5": 1241}
TURNS = ("improvised", "scripted")

_RELEASE_FOLDER = "IEMOCAP_full_release"
_WAV_FOLDER, _LABEL_FOLDER, _TEXT_FOLDER = "sentences/wav", "dialog/EmoEvaluation", "dialog/transcriptions"
_SESSION_FOLDER_NAME = re.compile(r"Session(\d+)")
# The letter after SesNN says who wears the motion capture; who speaks is the letter of the last part.
_UTTERANCE_ID = re.compile(r"Ses(\d\d)[FM]_\w+_([FM])\w*\d+")
_DIALOG_KIND = re.compile(r"Ses\d\d[FM]_(impro|script)\d")
_LABEL_LINE = re.compile(r"\[[\d.]+ - [\d.]+\]\t(\S+)\t(\w+)\t\[")


def sex(speaker: str) -> str | None:
    """Return "male" or "female" for an IEMOCAP speaker such as "Ses01F"."""
    return {"M": "male", "F": "female"}.get(speaker[-1:])


def scan(selection: CorpusSelection, report: PreparationReport) -> ScannedCorpus:
    """Join recordings, labels and words; every file, line and utterance left out goes into `report`.

    `data_dir` is IEMOCAP_full_release or the folder that holds it. All five sessions must be there, unless others are
    wanted.
    """
    root = _find_root(selection.place)
    numbers = _choose_sessions(root, selection.sessions, report)
    for path in walk(root):
        if path.name.startswith("._"):
            report.drop(path.relative_to(root).as_posix(), APPLE_DOUBLE)
    expected = {"sessions": {number: EXPECTED_SESSIONS[number] for number in numbers if number in EXPECTED_SESSIONS}}
    if tuple(numbers) == SESSION_NUMBERS:  # the labels' counts in each session are not published
        expected["emotions"] = EXPECTED_LABELS
    return ScannedCorpus(
        rows=[row for number in numbers for row in _Session(root, number, report).rows()],
        search_hint=IEMOCAP_LAYOUT,
        required_values={"session": numbers},
        remedy="copy the session again, or leave it out on purpose: --sessions followed by the others",
        expected=expected,
    )


def select_turns(dataset: "DatasetDict", turns: str) -> "DatasetDict":
    """Return the utterances of improvised or of scripted dialogs, as the ids of a prepared corpus tell them."""
    from datasets import DatasetDict  # late: a command line's --help reads this file

    kept = DatasetDict()
    for split, part in dataset.items():
        kinds = [match and match[1] for match in map(_DIALOG_KIND.match, part["id"])]
        if None in kinds:
            raise CorpusError(
                f"the id {part[kinds.index(None)]['id']!r} names no improvised or scripted dialog of IEMOCAP: turns "
                "can be chosen of that corpus only"
            )
        kept[split] = part.select([row for row, kind in enumerate(kinds) if turns.startswith(str(kind))])
    if not any(map(len, kept.values())):
        raise CorpusError(f"no {turns} utterance among the {sum(map(len, dataset.values()))} of this selection")
    return kept


def drop_excited(dataset: "DatasetDict") -> "DatasetDict":
    """Return a prepared corpus, in which excited is a class by itself, without that class."""
    from data_scripts.schema import select_rows  # late: a command line's --help reads this file

    names = next(iter(dataset.values())).features["emotion"].names
    if "excited" not in names:
        raise CorpusError(
            "this corpus has no class excited, so those utterances cannot be told from happy ones: prepare it with "
            f"--emotions {' '.join(names)} excited"
        )
    return select_rows(dataset, [name for name in names if name != "excited"])


def _find_root(data_dir: Path) -> Path:
    """The folder that holds the Session folders."""
    for root in (data_dir, data_dir / _RELEASE_FOLDER):
        if root.is_dir() and _sessions_in(root):
            return root
    hint = f"give {_RELEASE_FOLDER}, the folder of Session1 … Session5"
    if _SESSION_FOLDER_NAME.fullmatch(data_dir.resolve().name):
        hint = "you gave one session: give the folder above it"
    raise CorpusError(f"{data_dir} is no IEMOCAP: {hint}")


def _sessions_in(root: Path) -> list[str]:
    """The numbers of the sessions there."""
    folders = {path.name for path in children(root) if path.is_dir()}
    return sorted((match[1] for match in map(_SESSION_FOLDER_NAME.fullmatch, folders) if match), key=int)


def _choose_sessions(root: Path, sessions: Sequence[str] | None, report: PreparationReport) -> list[str]:
    """The numbers of the sessions to read, ascending; all of them must be there, whole."""
    present = _sessions_in(root)
    if odd := [session for session in sessions or () if not session.isdecimal()]:
        raise CorpusError(f"the sessions of IEMOCAP are numbers, 1 to 5, got {odd[0]!r}")
    wanted = sorted(sessions or SESSION_NUMBERS, key=int)
    if missing := [number for number in wanted if number not in present]:
        there = " ".join(number for number in wanted if number in present) or " ".join(present)
        verb = "is" if len(missing) == 1 else "are"
        raise CorpusError(
            f"{', '.join(f'Session{number}' for number in missing)} {verb} missing in {root}: copy the whole corpus, "
            f"or prepare what is there on purpose: --sessions {there}"
        )
    for number in wanted:
        parts = (_WAV_FOLDER, _LABEL_FOLDER, _TEXT_FOLDER)
        if lacking := [part for part in parts if not (root / f"Session{number}" / part).is_dir()]:
            others = " ".join(other for other in wanted if other != number)
            raise CorpusError(
                f"Session{number} in {root} lacks {', '.join(lacking)}: copy the whole session"
                + (f", or leave it out on purpose: --sessions {others}" if others else "")
            )
    for number in present:
        if number not in wanted:
            report.drop(f"Session{number}", "session not selected")
    return wanted


class _Session:
    """One session's files, read and joined."""

    def __init__(self, root: Path, number: str, report: PreparationReport):
        self.root, self.number, self.report = root, number, report
        self.folder = root / f"Session{number}"
        self.wavs = self._find_wavs()
        self.labels = self._read_labels()
        self.texts = self._read_texts()

    def rows(self) -> Iterator[dict]:
        """The utterances to keep, by id; the others are dropped with their reason."""
        for name in sorted({*self.wavs, *self.labels, *self.texts}):
            if reason := self._unusable(name):
                self.report.drop(name, reason)
                continue
            text = self.texts.get(name)
            if text is None:
                self.report.repair(name, "no transcription: the transcript is null")
            elif ":" in text:
                self.report.note(name, "text contains ':' and is kept whole (the line is split at the first ']:')")
            letter = _UTTERANCE_ID.sub(r"\2", name)
            yield {
                "split": "train",
                "id": name,
                "path": str(self.wavs[name].resolve()),
                "emotion": EMOTION_CODES[self.labels[name]],
                "speaker": f"Ses{int(self.number):02d}{letter}",
                "session": self.number,
                "transcript": text,
            }

    def _unusable(self, name: str) -> str | None:
        """Why an utterance cannot be kept; None where it can."""
        label = self.labels.get(name)
        if name not in self.wavs:
            if label is not None:
                return "label without wav"
            kind = " (id ending XX and a digit)" if re.search(r"XX\d+$", name) else ""
            return f"transcription without label and wav{kind}"
        if label is None:
            return "wav without label"
        match = _UTTERANCE_ID.fullmatch(name)
        if match is None:
            return "id without a speaker letter in its last part"
        if int(match[1]) != int(self.number):
            return "id of another session"
        if " " in label:
            return "labelled twice, differently"
        if label == NO_AGREEMENT_CODE:
            return "no agreement among the raters (xxx)"
        return None if label in EMOTION_CODES else f"unknown label: {label}"

    def _find_wavs(self) -> dict[str, Path]:
        """The recordings by id."""
        found: dict[str, Path] = {}
        for folder in children(self.folder / _WAV_FOLDER):
            if folder.name.startswith("._"):
                continue
            for path in children(folder) if folder.is_dir() else [folder]:
                if path.suffix.lower() != ".wav" or path.name.startswith("._"):
                    continue
                if path.stem in found:
                    self.report.drop(self._place(path), "second copy of a recording")
                else:
                    found[path.stem] = path
        return found

    def _read_labels(self) -> dict[str, str]:
        """The labels by id; what raters said one by one, in the sub-folders, is not read."""
        labels: dict[str, str] = {}
        for path in children(self.folder / _LABEL_FOLDER):
            if path.is_dir():
                self.report.drop(self._place(path), "sub-folder of single raters' views, not the agreed labels")
        for place, line in self._lines(_LABEL_FOLDER):
            if not line.startswith("["):
                continue  # the header, the raters' own lines, blank lines
            match = _LABEL_LINE.match(line)
            if match is None:
                self.report.drop(place, "label line of another form")
                continue
            name, code = match.groups()
            if name not in labels:
                labels[name] = code
            elif labels[name] == code:
                self.report.note(name, "labelled twice, with the same emotion")
            else:
                labels[name] = f"{labels[name]} {code}"
        return labels

    def _read_texts(self) -> dict[str, str | None]:
        """The words by id; None where the line has none."""
        texts: dict[str, str | None] = {}
        for place, line in self._lines(_TEXT_FOLDER):
            head, separator, text = line.partition("]:")  # the text itself may contain ':'
            name = head.split(" ", 1)[0]
            if not line.strip():
                continue
            if not separator or not name.startswith("Ses"):
                self.report.drop(place, "transcription line without an utterance id")
            elif name in texts:
                self.report.drop(place, "second transcription of an utterance")
            else:
                texts[name] = text.strip() or None
        return texts

    def _lines(self, part: str) -> Iterator[tuple[str, str]]:
        """Every line of the .txt files in a folder, with its place as `file:number`."""
        for path in children(self.folder / part):
            if path.suffix == ".txt" and not path.name.startswith("._") and path.is_file():
                text = read_text(path, self._place(path), self.report)
                for number, line in enumerate(text.splitlines(), 1):
                    yield f"{self._place(path)}:{number}", line

    def _place(self, path: Path) -> str:
        """A path as the report writes it."""
        return path.relative_to(self.root).as_posix()


#: Table IV: WA and UA in percent; "+ MSR & MIR" of Table V, human text of Table VI.
_ABLATIONS = {
    "M4SER": (79.2, 80.1),
    "only speech": (68.9, 69.8),
    "only text": (65.1, 66.4),
    "speech & text + concat": (73.4, 75.2),
    "w/o MSR": (77.3, 78.4),
    "w/o MIR": (78.9, 79.5),
    "w/o MSR & MIR": (76.5, 77.9),
    "w/o AED": (76.9, 78.3),
    "w/o AEC": (78.0, 79.2),
    "w/o AED & AEC": (77.3, 78.6),
    "w/o GAN": (78.7, 79.8),
    "w/o LCL": (78.2, 79.6),
    "w/o GAN & LCL": (78.1, 79.3),
    "+ MSR & MIR": (76.6, 77.4),
    "M4SER, human text": (78.4, 79.9),
}

RECORD = CorpusRecord(
    name="iemocap",
    title="IEMOCAP",
    license="other",
    about="Busso et al. 2008, *IEMOCAP: interactive emotional dyadic motion capture database*. Its licence, which "
    "comes from the University of Southern California, does not allow passing the recordings on: keep this copy "
    "private.",
    scan=scan,
    language="en",
    emotions=tuple(EMOTION_CODES.values()),
    default_emotions=DEFAULT_EMOTIONS,
    merged={"excited": "happy"},
    has_sessions=True,
    sex_of=sex,
    protocol="leave_one_session_out",
    dialogue_of=dialogue_of,
    paper=PaperNumbers(5531, {"WA": "wa", "UA": "ua"}, _ABLATIONS),
)
