"""MELD.Raw: dialogues of the series Friends, as official train, dev and test splits of mp4 clips.

    train_splits/ · dev_splits_complete/ · output_repeated_splits_test/      the clips, dia{D}_utt{U}.mp4
    train_sent_emo.csv · dev_sent_emo.csv · test_sent_emo.csv                one row for each clip

A pair of dialogue and utterance number is unique only within its split, so an id reads `train_dia0_utt0`. In test, some
clips have a twin named `final_videos_test…`, another cut: the plain name wins, and a twin is used only where it stands
alone. Poria et al. 2019, ACL; GPL-3.0.
"""

import re
from pathlib import Path

from data_scripts.constants import dialogue_of
from data_scripts.corpora.base import CorpusRecord, PaperNumbers, ScannedCorpus
from data_scripts.corpora.folders import APPLE_DOUBLE, walk
from data_scripts.corpora.options import CorpusSelection
from data_scripts.corpora.report import PreparationReport
from data_scripts.errors import CorpusError
from data_scripts.tables import Row, read_table

EMOTIONS = ("neutral", "joy", "surprise", "anger", "sadness", "disgust", "fear")
SPLIT_NAMES = {"train": "train", "dev": "validation", "test": "test"}  # MELD's names and the canonical ones
CLIP_FOLDERS = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}
CSV_COLUMNS = ("Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID")
MELD_LAYOUT = "train_sent_emo.csv beside train_splits/dia0_utt0.mp4, and the same for dev and test"
# The rows of the official CSVs. Every copy of MELD.Raw lacks two clips: train dia125_utt3 is broken, dev dia110_utt7 is
# absent, so 13,706 of 13,708 can be kept.
EXPECTED_SPLITS = {"train": 9989, "validation": 1109, "test": 2610}
EXPECTED_EMOTIONS: dict[str, int] = dict(zip(EMOTIONS, (6436, 2308, 1636, 1607, 1002, 361, 358), strict=True))

_CLIP_NAME = re.compile(r"(final_videos_test)?dia(\d+)_utt(\d+)\.mp4", re.IGNORECASE)
_SEARCH_DEPTH = 3  # levels below data_dir searched for CSVs and clip folders: MELD.Raw/train/train_splits

ClipNumber = tuple[int, int]  # of the dialogue, and of the utterance in it


def scan(selection: CorpusSelection, report: PreparationReport) -> ScannedCorpus:
    """Join the clips and the rows of the three CSVs; whatever is left out goes into `report`.

    `data_dir` is MELD.Raw or the folder that holds it. Each archive may lie unpacked in a folder of its own
    (`train/train_splits`), and the CSVs may lie apart from the clips.
    """
    data_dir = selection.place
    tables, folders = _find(data_dir, report)
    rows = []
    for split in SPLIT_NAMES:
        clips = _find_clips(folders[split], data_dir, report)
        rows.extend(_join(split, _read_table(tables[split], report), clips, data_dir, report))
    return ScannedCorpus(
        rows=rows,
        search_hint=MELD_LAYOUT,
        required_values={"split": list(SPLIT_NAMES.values())},
        remedy="unpack its archive again",
        expected={"emotions": EXPECTED_EMOTIONS, "splits": EXPECTED_SPLITS},
        official_split=True,
    )


def _find(data_dir: Path, report: PreparationReport) -> tuple[dict[str, Path], dict[str, Path]]:
    """The CSV and the folder of clips of each split; the shallowest where there are several."""
    by_name: dict[str, list[Path]] = {}
    for path in walk(data_dir, _SEARCH_DEPTH, closed=CLIP_FOLDERS.values()):
        if path.name.startswith("._"):
            report.drop(path.relative_to(data_dir).as_posix(), APPLE_DOUBLE)
        else:
            by_name.setdefault(path.name, []).append(path)
    found: list[dict[str, Path]] = []
    for names in ({split: f"{split}_sent_emo.csv" for split in SPLIT_NAMES}, CLIP_FOLDERS):
        chosen = {}
        for split, name in names.items():
            candidates = sorted(by_name.get(name, ()), key=lambda path: (len(path.parts), path))
            for surplus in candidates[1:]:
                report.drop(surplus.relative_to(data_dir).as_posix(), f"second {name}: the other one is read")
            if candidates:
                chosen[split] = candidates[0]
        found.append(chosen)
    tables, folders = found
    if not tables and not folders:
        raise CorpusError(f"{data_dir} is no MELD: give MELD.Raw, with {MELD_LAYOUT}")
    missing = [f"{split}_sent_emo.csv" for split in SPLIT_NAMES if split not in tables]
    missing += [f"{CLIP_FOLDERS[split]}/" for split in SPLIT_NAMES if split not in folders]
    if missing:
        packed = [f"{split}.tar.gz" for split in SPLIT_NAMES if split not in folders and f"{split}.tar.gz" in by_name]
        do = f"unpack {', '.join(packed)} there" if packed else "copy all of MELD.Raw"
        raise CorpusError(f"{', '.join(missing)} missing in {data_dir}: {do}")
    return tables, folders


def _read_table(path: Path, report: PreparationReport) -> dict[ClipNumber, Row]:
    """The rows of a CSV by (dialogue, utterance)."""
    rows = read_table(path)
    if not rows:
        raise CorpusError(f"{path} has no rows: download it again")
    if missing := [column for column in CSV_COLUMNS if column not in rows[0]]:
        raise CorpusError(
            f"{path} lacks the columns {', '.join(missing)}; its columns: {', '.join(map(str, rows[0]))}. Download it "
            "again"
        )
    table: dict[ClipNumber, Row] = {}
    for number, row in enumerate(rows, 2):
        place = f"{path.name}:{number}"
        try:
            key = int(row["Dialogue_ID"]), int(row["Utterance_ID"])
        except (TypeError, ValueError):
            report.drop(place, "row without a dialogue and utterance number")
            continue
        if key in table:
            report.drop(place, "second row of an utterance")
        else:
            table[key] = row
    return table


def _find_clips(folder: Path, data_dir: Path, report: PreparationReport) -> dict[ClipNumber, Path]:
    """The clips by (dialogue, utterance); what is none goes into the report."""
    plain: dict[ClipNumber, Path] = {}
    twins: dict[ClipNumber, Path] = {}
    for path in walk(folder):
        if path.is_dir():
            continue
        place = path.relative_to(data_dir).as_posix()
        match = _CLIP_NAME.fullmatch(path.name)
        if path.name.startswith("._"):
            report.drop(place, APPLE_DOUBLE)
        elif match is None:
            report.drop(place, "not named as a clip of MELD")
        else:
            clips, key = twins if match[1] else plain, (int(match[2]), int(match[3]))
            if key in clips:
                report.drop(place, "second copy of a clip")
            else:
                clips[key] = path
    for key, path in twins.items():
        place = path.relative_to(data_dir).as_posix()
        if key in plain:
            report.drop(place, "final_videos_test twin: the clip with the plain name is used")
        else:
            report.repair(place, "final_videos_test clip without a plain twin: used in its place")
    return twins | plain


def _join(
    split: str, table: dict[ClipNumber, Row], clips: dict[ClipNumber, Path], data_dir: Path, report: PreparationReport
) -> list[dict]:
    """The canonical rows of a split, by dialogue and utterance."""
    for key in sorted(clips.keys() - table.keys()):
        report.drop(clips[key].relative_to(data_dir).as_posix(), "unlabelled extra: no row of the CSV names this clip")
    rows = []
    for key in sorted(table):
        row, name = table[key], f"{split}_dia{key[0]}_utt{key[1]}"
        emotion = (row["Emotion"] or "").strip().lower()
        if key not in clips:
            report.drop(name, "clip absent")
        elif emotion not in EMOTIONS:
            report.drop(name, f"unknown emotion: {emotion}" if emotion else "no emotion")
        else:
            text = (row["Utterance"] or "").strip() or None
            if text is None:
                report.repair(name, "no transcription: the transcript is null")
            rows.append(
                {
                    "split": SPLIT_NAMES[split],
                    "id": name,
                    "path": str(clips[key].resolve()),
                    "emotion": emotion,
                    "speaker": (row["Speaker"] or "").strip() or None,
                    "transcript": text,
                }
            )
    return rows


#: Table IV: ACC and W-F1 in percent.
_ABLATIONS = {
    "M4SER": (66.5, 66.0),
    "only speech": (51.7, 45.1),
    "only text": (62.2, 58.6),
    "speech & text + concat": (63.9, 60.8),
    "w/o MSR": (65.0, 62.4),
    "w/o MIR": (65.6, 64.5),
    "w/o MSR & MIR": (64.8, 61.7),
    "w/o AED": (64.3, 61.7),
    "w/o AEC": (65.9, 64.1),
    "w/o AED & AEC": (65.1, 62.6),
    "w/o GAN": (65.8, 65.3),
    "w/o LCL": (65.9, 64.8),
    "w/o GAN & LCL": (65.5, 64.1),
}

RECORD = CorpusRecord(
    name="meld",
    title="MELD",
    license="gpl-3.0",
    about="Poria et al. 2019, *MELD: a multimodal multi-party dataset for emotion recognition in conversations*. Text "
    "and labels are GPL-3.0; the clips come from a television series, so keep this copy private.",
    scan=scan,
    language="en",
    emotions=EMOTIONS,
    dialogue_of=dialogue_of,
    paper=PaperNumbers(13708, {"ACC": "accuracy", "W-F1": "weighted_f1"}, _ABLATIONS),
)
