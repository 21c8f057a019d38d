"""Which folder above a recording names its class, and which its speaker.

Words for emotions tell CLASS/SPEAKER/ from SPEAKER/CLASS/; where the names do not say, nothing is guessed.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

from data_scripts.corpora.base import CORPORA
from data_scripts.spellings import spelling_key

# Words for emotions besides the labels of the corpora.
_WORDS = """
afraid amused amusement ang anger angry annoyance annoyed anxiety anxious apathetic bored boredom calm calmness
concerned confused contempt content depressed desire dis disappointed disappointment disgust disgusted disgusting
distress elated elation embarrassed encouraging enthusiasm enthusiastic exc excited excitement fea fear fearful
frightened fru frustrated frustration guilt hap happiness happy hate hatred interest irritated joy joyful joyous love
nervous neu neutral neutrality panic pride proud relaxed relief relieved sad sadness sarcastic scared serene shame
sleepiness sleepy stressed sur surprise surprised sympathetic tender tenderness tense worried
angst ekel freude furcht fröhlich glücklich langeweile neutral scham traurig trauer überraschung verachtung wut wütend
ärger ärgerlich
alegría asco enfado enojo felicidad ira miedo neutro sorpresa tristeza
colère dégoût joie neutre peur surprise tristesse
disgusto gioia paura rabbia sorpresa
愤怒 生气 高兴 快乐 开心 悲伤 伤心 难过 恐惧 害怕 惊讶 惊奇 厌恶 中性 中立 平静
злость гнев радость грусть печаль страх отвращение удивление нейтральная нейтрально
"""
_FOLD = re.compile(r"fold[\W_]*\d+", re.IGNORECASE)


def read_class_folders(folders: Mapping[str, Sequence[str]]) -> dict[str, dict[str, str]] | None:
    """Return what the folders above recordings say of each: `label`, and where known `speaker` and `session`.

    Args:
        folders: {recording: the names of the folders above it, the outermost first}, without those of splits. One such
            as `fold1` is a session.

    Returns:
        {recording: what is known}; None where several levels may be the class.
    """
    folds = {name: list(filter(_FOLD.fullmatch, parts)) for name, parts in folders.items()}
    found: dict[str, dict[str, str]] = {name: {"session": some[-1]} if some else {} for name, some in folds.items()}
    paths = {name: [part for part in parts if not _FOLD.fullmatch(part)] for name, parts in folders.items()}
    paths = {name: parts for name, parts in paths.items() if parts}
    places = {name: [place for place, part in enumerate(parts) if is_emotion(part)] for name, parts in paths.items()}
    if paths and any(len(some) != 1 for some in places.values()):
        if (level := _class_level(list(paths.values()))) is None:
            return None
        places = {name: [level] for name in paths}
    for name, (place,) in places.items():
        found[name]["label"] = paths[name].pop(place)
    labels = {name: found[name]["label"] for name in paths}
    for name, speaker in _speaker_folders(paths, labels).items():
        found[name]["speaker"] = speaker
    if not any("speaker" in known for known in found.values()):
        spoken = _speakers_in_names(set(labels.values()))
        for name, label in labels.items():
            found[name] |= spoken.get(label, {})
    return found


@cache
def is_emotion(name: str) -> bool:
    """Return whether a name begins or ends with a word for an emotion, as `OAF_happy` does."""
    words = spelling_key(re.sub(r"[\W\d_]+", " ", name)).split()
    known = {*_WORDS.split(), *(spelling_key(label) for record in CORPORA.values() for label in record.emotions)}
    return bool(words) and bool({words[0], words[-1]} & known)


def _class_level(paths: Sequence[Sequence[str]]) -> int | None:
    """The level of folders that is the class: the only one of several names, or else of mostly emotions."""
    levels = [set(names) for names in zip(*paths, strict=False)]
    several = [number for number, names in enumerate(levels) if len(names) > 1] or [len(levels) - 1]
    emotional = [number for number in several if sum(map(is_emotion, levels[number])) > len(levels[number]) / 2]
    return next((some[0] for some in (several, emotional) if len(some) == 1), None)


def _speaker_folders(others: Mapping[str, Sequence[str]], labels: Mapping[str, str]) -> dict[str, str]:
    """{recording: speaker} where beside the class one level of folders has several names, and these several classes."""
    if len({len(parts) for parts in others.values()}) != 1:
        return {}
    levels = [names for names in zip(*others.values(), strict=True) if len(set(names)) > 1]
    if len(levels) != 1 or not _are_crossed(zip(levels[0], labels.values(), strict=True)):
        return {}
    return dict(zip(others, levels[0], strict=True))


def _speakers_in_names(labels: Iterable[str]) -> dict[str, dict[str, str]]:
    """{name: its speaker and label} where each name of a class holds both, as OAF_angry, or angry-03."""
    for pattern in (r"(?P<speaker>[^\W_]+)[\W_]+(?P<label>.+)", r"(?P<label>.+)[\W_]+(?P<speaker>[^\W_]+)"):
        parts = {name: match.groupdict() for name in labels if (match := re.fullmatch(pattern, name))}
        if len(parts) == len(set(labels)) and all(
            is_emotion(part["label"]) and not is_emotion(part["speaker"]) for part in parts.values()
        ):
            pairs = [(part["speaker"], part["label"]) for part in parts.values()]
            if _are_crossed(pairs):
                return parts
    return {}


def _are_crossed(pairs: Iterable[tuple[str, str]]) -> bool:
    """Whether a speaker is of several classes, and a class of several speakers, as speakers of a corpus are."""
    distinct = set(pairs)
    return all(len({pair[side] for pair in distinct}) < len(distinct) for side in (0, 1))
