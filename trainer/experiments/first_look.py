"""What a corpus looks like before anything is trained on it, and which options that speaks for."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from datasets import DatasetDict

#: Training utterances below which `--preset small` is proposed.
FEW_UTTERANCES = 1000
#: Words that are frequent in one of these languages and rare in the others.
_FREQUENT_WORDS = {
    "English": "the and is you that it of to what this was have not are with",
    "German": "ich und das ist nicht die der es ein zu wir auf mit auch wie",
    "French": "je est pas les des une vous nous dans que qui pour mais avec ce",
    "Spanish": "el los que es por una con para pero muy yo esta como lo del",
    "Italian": "il che non di è per una sono ma gli questo della come più mi",
    "Portuguese": "não que um uma os para com mas você isso eu ele muito do da",
    "Dutch": "het een ik niet van dat wij maar zijn ook je op voor met deze",
}
#: The scripts of Unicode that one language or a few are written in, by how a letter's name begins.
_SCRIPTS = {
    "CJK": "Chinese or Japanese",
    "HIRAGANA": "Japanese",
    "KATAKANA": "Japanese",
    "HANGUL": "Korean",
    "CYRILLIC": "Russian or another language in Cyrillic",
    "ARABIC": "Arabic or another language in its script",
    "DEVANAGARI": "Hindi or another language in Devanagari",
    "GREEK": "Greek",
    "HEBREW": "Hebrew",
    "THAI": "Thai",
}
#: What the values of a column that is not the labels' look like.
_OTHER_COLUMNS = {
    "speakers": r"(actor|actress|speaker|spkr?|subj(ect)?|participant|person|user|client|voice)[\W_]*\w{1,4}"
    r"|[a-z]{1,2}[\W_]?\d{1,4}|ses\d+_?[fm]",
    "dates or times": r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}\b.*|(19|20)\d{6}([t_ -].*)?|\d{1,2}:\d\d(:.*)?",
    "files": r"(/|\./|~|[a-z]:|https?://|file:).*[/\\].*|.*[/\\].*[/\\].*|.*\.(wav|mp3|flac|ogg|opus|m4a|aac|webm|mp4|txt)",
}


def first_look(dataset: DatasetDict, holds_speakers_out: bool = True, preset_helps: bool = True) -> list[str]:
    """Return one line of what was found in a corpus, one of each doubt whether that is meant, and one of other options.

    Args:
        dataset: prepared splits.
        holds_speakers_out: whether it will be divided by speakers where it has no splits of its own.
        preset_helps: whether `--preset small` may be proposed.
    """
    parts = list(dataset.values())
    clips, train = sum(map(len, parts)), len(dataset["train"]) if "train" in dataset else 0
    speakers = {speaker for part in parts for speaker in part["speaker"]} - {None}
    classes = Counter(label for part in parts for label in part["emotion"])
    names = parts[0].features["emotion"].names
    texts = [text for part in parts for column in ("hypothesis", "transcript") for text in part[column] if text]
    language = guess_language(texts)
    found = [
        f"{clips} clips, {sum(sum(part['duration']) for part in parts) / 60:.0f} minutes",
        f"{len(speakers)} speakers" if speakers else "no speakers",
        f"{len(classes)} classes ({', '.join(f'{names[label]} {count}' for label, count in classes.most_common())})",
    ]
    if len(dataset) > 1:
        found.append(f"its own splits ({', '.join(f'{name} {len(part)}' for name, part in dataset.items())})")
    found.append(f"text looks {language}" if language else "no text yet" if not texts else "text of unknown language")
    proposed = []
    if not speakers and holds_speakers_out and len(dataset) == 1:
        proposed.append("--split_by utterance (nothing says who speaks; on new speakers results will be worse)")
    if preset_helps and train < FEW_UTTERANCES:
        proposed.append("--preset small")
    if language not in ("English", None):
        proposed.append("a multilingual recognizer and encoders (--asr_model openai/whisper-small, --text_encoder ...)")
    pairs = (pair for part in parts for pair in zip(part["emotion"], part["speaker"], strict=True))
    doubts = _doubts([(names[label], speaker) for label, speaker in pairs])
    return [
        f"Found: {', '.join(found)}.",
        *(f"Check: {doubt}." for doubt in doubts),
        *([f"Consider: {', '.join(proposed)}."] if proposed else []),
    ]


def _doubts(rows: Sequence[tuple[str, str | None]]) -> list[str]:
    """What speaks against the labels of rows (class, speaker) being emotions, and what to do if they are none."""
    counts = Counter(name for name, _ in rows)
    speakers: dict[str, set[str | None]] = {}
    for name, speaker in rows:
        speakers.setdefault(name, set()).add(speaker)
    found = []
    for kind, pattern in _OTHER_COLUMNS.items():
        alike = [name for name in counts if re.fullmatch(pattern, name.casefold())]
        if len(alike) > len(counts) / 2:
            found.append(f"the classes look like {kind} ({_first(alike)}): --label_column_name names another column")
    single = {name: next(iter(some)) for name, some in speakers.items() if len(some) == 1}
    if None not in single.values() and len(single) == len(counts) and len(set(single.values())) > 1:
        pairs = [f"{name}: {speaker}" for name, speaker in single.items()]
        found.append(f"each class has one speaker ({_first(pairs)}): a model may learn the voice, not the emotion")
    if len(counts) > len(rows) / 20:
        found.append(
            f"{len(counts)} classes share {len(rows)} clips: join some by --label_map, or choose by --emotions"
        )
    voices = {speaker for some in speakers.values() for speaker in some}
    if len(rows) >= 20 and len(voices) > len(rows) / 2:
        found.append(f"{len(voices)} speakers of {len(rows)} clips: --speaker_column_name names another column")
    if rare := [name for name, count in counts.items() if count == 1]:
        found.append(f"one clip only of {_first(rare)}: it cannot be both trained on and tested")
    return found


def _first(names: Sequence[str]) -> str:
    """The first names of several, for a message."""
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def guess_language(texts: Iterable[str]) -> str | None:
    """Return the language that some texts look like, by their script and most frequent words; None where unclear."""
    sample = " ".join(text for _, text in zip(range(500), texts, strict=False)).lower()
    letters = [letter for letter in sample if letter.isalpha()]
    if not letters:
        return None
    scripts = Counter(unicodedata.name(letter, "").split(" ")[0] for letter in letters)
    if scripts["HIRAGANA"] + scripts["KATAKANA"] > 0.1 * len(letters):
        return "Japanese"
    script, count = scripts.most_common(1)[0]
    if script in _SCRIPTS and count > 0.5 * len(letters):
        return _SCRIPTS[script]
    words = Counter(re.findall(r"[^\W\d_]+", sample))
    scores = {name: sum(words[word] for word in known.split()) for name, known in _FREQUENT_WORDS.items()}
    (best, most), (_, next_most) = sorted(scores.items(), key=lambda item: -item[1])[:2]
    return best if most >= 0.1 * words.total() and most > 1.5 * next_most else None
