"""From edits of word pieces to corrections of words, in the text as it was given."""

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .correction_m4ser import WHOLE, TranscriptCorrection
from .edits_m4ser import DELETE, KEEP, apply_edits
from .preparation_m4ser import TAGS, is_apostrophe
from .processing_m4ser import M4SERProcessor

Range = tuple[int, int]
#: A letter of a script that writes no spaces between words, where each letter is corrected by itself: Thai, Lao,
#: Burmese, Khmer, kana and Han.
_SPACELESS = re.compile(
    "[\u0e01-\u0edf\u1000-\u109f\u1780-\u17d3\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
# Some tokenizers write spaces around each of them.
_GAP = re.compile(f"(?<={_SPACELESS.pattern}) (?={_SPACELESS.pattern})")


@dataclass(frozen=True)
class WordCorrection:
    """What the model makes of one word, or of neighbouring words that one edit replaces.

    Attributes:
        start (`int`): where it begins in the given text, in characters.
        end (`int`): where it ends, the first character after it.
        text (`str`): the given text between them.
        replacement (`str`): what stands there instead; empty where it goes, and `text` itself where the model sees an
            error but writes the same.
        confidence (`float`): the least of its edits' confidences, see [`TranscriptCorrection`].
    """

    start: int
    end: int
    text: str
    replacement: str
    confidence: float


@dataclass(frozen=True)
class _Block:
    """Characters of the given text, the same normalized, and their word pieces, each as a range (start, end)."""

    given: Range
    normal: Range
    pieces: Range

    def through(self, last: "_Block") -> "_Block":
        """The block from the start of this one to the end of `last`."""
        pairs = (self.given, last.given), (self.normal, last.normal), (self.pieces, last.pieces)
        return _Block(*((first[0], second[1]) for first, second in pairs))


def correct_words(
    text: str, correction: TranscriptCorrection, processor: M4SERProcessor
) -> tuple[str, list[WordCorrection]]:
    """Put a correction of a transcript's word pieces into the transcript as it was given.

    Outside of the words that change, the text keeps its case, its punctuation and its white space. A transcript that is
    written anew as a whole (ablation "w/o AED") is one correction.

    Args:
        text (`str`): the transcript.
        correction (`TranscriptCorrection`): what the model says of `processor(text=text)`.
        processor (`M4SERProcessor`): the model's.

    Returns:
        `tuple[str, list[WordCorrection]]`: the corrected text, and the corrections in the order of the text.

    Raises:
        ValueError: the correction is of another text.
    """
    if processor.encode_transcript(text) != correction.input_ids:
        raise ValueError(f"The correction is of another text than {text!r}.")
    found = []
    for block in _changed(text, correction, processor):
        old, new = correction.input_ids[slice(*block.pieces)], _written(correction, block.pieces)
        given = text[slice(*block.given)]
        replacement = given if new == old else _GAP.sub("", processor.decode_transcript(new).strip())
        places = range(*block.pieces) if correction.labels else [WHOLE]
        confidence = min(correction.confidences[place] for place in places if place in correction.confidences)
        found.append(WordCorrection(*block.given, given, replacement, confidence))
    return _put_in(text, found), found


def _put_in(text: str, corrections: list[WordCorrection]) -> str:
    """The text with the corrections made; a word that goes takes the white space before it along."""
    parts, done = [], 0
    for each in corrections:
        before = text[done : each.start]
        parts += [before if each.replacement else before.rstrip(), each.replacement]
        done = each.end
        if not each.replacement and not "".join(parts):
            done += len(text[done:]) - len(text[done:].lstrip())
    return "".join([*parts, text[done:]])


def _written(correction: TranscriptCorrection, pieces: Range) -> list[int]:
    """The ids that stand in the place of some pieces."""
    if not correction.labels:
        return correction.corrected_ids
    start, end = pieces
    targets = {place - start: ids for place, ids in correction.targets.items() if start <= place < end}
    return apply_edits(correction.input_ids[start:end], correction.labels[start:end], targets)


def _changed(text: str, correction: TranscriptCorrection, processor: M4SERProcessor) -> Iterator[_Block]:
    """Yield the parts of a text that change, each as large as needed to be words of its own."""
    normal, labels = processor.normalize_text(text), correction.labels
    if not labels:
        if WHOLE in correction.confidences and correction.corrected_ids != correction.input_ids:
            whole = (0, len(text))
            yield _Block(whole, (0, len(normal)), (0, len(correction.input_ids)))
        return
    if all(label == KEEP for label in labels):
        return

    def one_word(left: _Block, right: _Block) -> bool:
        """Whether two neighbours now write one word: `un` and `##happy`, `don '` and `t`."""
        if not normal[left.normal[1] : right.normal[0]].isspace():
            return False
        ids = _written(correction, left.pieces), _written(correction, right.pieces)
        apart = [processor.decode_transcript(part).strip() for part in ids]
        return all(apart) and processor.decode_transcript(ids[0] + ids[1]).strip() != " ".join(apart)

    parts: list[_Block] = []
    changed: list[bool] = []
    for block in _blocks(text, normal, processor):
        first, differs = block.pieces[0], any(label != KEEP for label in labels[slice(*block.pieces)])
        # An edit that goes on over words is one correction.
        goes_on = bool(parts) and changed[-1] and differs and labels[first] == DELETE and labels[first - 1] != KEEP
        while parts and (goes_on or ((changed[-1] or differs) and one_word(parts[-1], block))):
            block, differs, goes_on = parts.pop().through(block), changed.pop() or differs, False
        parts.append(block)
        changed.append(differs)
    yield from (block for block, differs in zip(parts, changed, strict=True) if differs)


def _blocks(text: str, normal: str, processor: M4SERProcessor) -> list[_Block]:
    """The smallest parts of a text that no word piece crosses, in order; each has at least one piece."""
    units = _aligned_units(text, normal, processor.normalize_text)
    blocks: list[_Block] = []
    position = 0
    for index, (start, end) in enumerate(_piece_ranges(normal, processor)):
        while position + 1 < len(units) and units[position][1][1] <= start:
            position += 1
        last = position
        while last + 1 < len(units) and units[last + 1][1][0] < end:
            last += 1
        (given, normal_range), (given_end, normal_end) = units[position], units[last]
        block = _Block((given[0], given_end[1]), (normal_range[0], normal_end[1]), (index, index + 1))
        if blocks and block.normal[0] < blocks[-1].normal[1]:
            blocks[-1] = blocks[-1].through(block)
        else:
            blocks.append(block)
    return blocks


def _piece_ranges(normal: str, processor: M4SERProcessor) -> Iterator[Range]:
    """Where each word piece stands in the normalized text; some tokenizers count the white space before it."""
    options = {"add_special_tokens": False, "return_offsets_mapping": True, "truncation": False, "verbose": False}
    yield from processor.tokenizer(normal, **options)["offset_mapping"][: processor.max_text_length - 2]


def _aligned_units(text: str, normal: str, normalize: Callable[[str], str]) -> list[tuple[Range, Range]]:
    """Ranges of words (and signs) in the given text and in the normalized one.

    Where the parts of a text are normalized otherwise than the whole, which rare characters can bring about, the whole
    text is one unit.
    """
    aligned, position = [], 0
    for start, end in _units(text):
        part = normalize(text[start:end])
        if not part:
            continue
        position += len(normal[position:]) - len(normal[position:].lstrip())
        if not normal.startswith(part, position):
            aligned, position = [], 0
            break
        aligned.append(((start, end), (position, position + len(part))))
        position += len(part)
    if not aligned or normal[position:].strip():
        stripped = text.strip()
        start = text.index(stripped)
        return [((start, start + len(stripped)), (0, len(normal)))]
    return aligned


def _units(text: str) -> Iterator[Range]:
    """Yield the ranges of words (or letters, where no spaces part words) and other signs, but for `[TAGS]`."""
    tags = {place for tag in TAGS.finditer(text) for place in range(*tag.span())}
    start = None
    for place in range(len(text) + 1):
        inside = place < len(text) and place not in tags
        if start is not None and inside and _stands_alone(text, start, place):
            yield start, place
            start = None
        if inside and (_is_letter(text[place]) or _is_inner_apostrophe(text, place)):
            start = place if start is None else start
            continue
        if start is not None:
            yield start, place
            start = None
        if inside and not text[place].isspace():
            yield place, place + 1


def _stands_alone(text: str, start: int, place: int) -> bool:
    """Whether a letter begins a unit beside what began at `start`: it, or that one, is of a script without spaces."""
    if _is_mark(text[place]) or not _is_letter(text[place]):
        return False
    return bool(_SPACELESS.match(text[place]) or _SPACELESS.match(text[start]))


def _is_letter(character: str) -> bool:
    # With its marks (accents, vowel signs) and the invisible joiners of some scripts.
    return character.isalnum() or _is_mark(character)


def _is_mark(character: str) -> bool:
    return unicodedata.category(character) in ("Mn", "Mc", "Me", "Cf")


def _is_inner_apostrophe(text: str, place: int) -> bool:
    neighbours = text[place - 1 : place] + text[place + 1 : place + 2]
    return is_apostrophe(text[place]) and len(neighbours) == 2 and all(map(_is_letter, neighbours))
