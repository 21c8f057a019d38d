"""Corrections of words: true edits of word pieces give the reference, in the given text, which stays as it was else."""

import random
import string

import pytest
from transformers import BertTokenizerFast

from data_scripts.alignment import align_hypothesis
from modeling_m4ser import KEEP, M4SERProcessor, WordCorrection, apply_edits, correct_words, normalize_text
from modeling_m4ser.correction_m4ser import WHOLE, TranscriptCorrection, edits_of
from modeling_m4ser.words_m4ser import _aligned_units
from tests.helpers.tiny import tiny_processor

WORDS = ("don", "t", "un", "happy", "we", "are", "like", "flights", "fight", "to", "a", "list", "of", "5", "6", "$")


@pytest.fixture
def processor(tmp_path) -> M4SERProcessor:
    """With pieces of words: ##happy joins the one before it."""
    signs = [*string.ascii_lowercase, *string.punctuation]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "##happy", *"我门们很高兴", *signs]
    pieces += [f"##{letter}" for letter in string.ascii_lowercase]
    (tmp_path / "vocab.txt").write_text("\n".join(dict.fromkeys(pieces)) + "\n", encoding="utf-8")
    tokenizer = BertTokenizerFast.from_pretrained(tmp_path, model_max_length=64)
    return M4SERProcessor(tiny_processor(tmp_path, "whisper").feature_extractor, tokenizer)


def true_correction(processor, hypothesis, reference, confidence=lambda place: 0.5):
    ids = processor.encode_transcript(hypothesis)
    alignment = align_hypothesis(ids, processor.encode_transcript(reference))
    corrected = apply_edits(ids, alignment.labels, alignment.targets)
    sure = {place: confidence(place) for edit in edits_of(alignment.labels) for place in edit}
    return TranscriptCorrection(ids, alignment.labels, alignment.targets, corrected, sure)


@pytest.mark.parametrize(
    ("given", "reference", "corrected", "words"),
    [
        ("We  ARE, happy!", "we are happy", "We  ARE, happy!", []),
        ("We like fight to  Happy.", "we like flights happy", "We like flights  Happy.", [("fight to", "flights")]),
        ("We are-un happy!", "we are unhappy", "We are-unhappy!", [("un happy", "unhappy")]),
        ("Don t [cough] list", "don't list", "don't [cough] list", [("Don t", "don't")]),
        ("I don’t, like", "i do like", "I do, like", [("don’t", "do")]),
        ("it’s $5 - OK", "it's $6 ok", "it’s $6 - OK", [("5", "6")]),
        ("we we are", "we are", "we are", [("we", "")]),
        ("To we are!", "we are", "we are!", [("To", "")]),
        ("we to", "of we are to a list", "of we are to a list", [("we", "of we are"), ("to", "to a list")]),
        ("to [x] 5", "", "[x]", [("to [x] 5", "")]),
        ("我门很高兴。", "我们很高兴", "我们很高兴。", [("门", "们")]),
        ("我很高, happy", "我很高兴 happy", "我很高兴, happy", [("高", "高兴")]),
    ],
)
def test_what_changes_and_what_stays(processor, given, reference, corrected, words):
    text, found = correct_words(given, true_correction(processor, given, reference), processor)
    if reference:
        assert text == corrected
        assert [(word.text, word.replacement) for word in found] == words
    else:
        assert text == ""
    for word in found:
        assert given[word.start : word.end] == word.text


def test_true_edits_of_any_text_give_the_reference(processor):
    dice = random.Random(0)
    letters = [*WORDS[:-1], "can't", "belief", "o'clock", "zebra"]
    for _ in range(300):
        hypothesis, reference = ([dice.choice(letters) for _ in range(dice.randrange(1, 9))] for _ in range(2))
        if dice.random() < 0.7:
            reference = [dice.choice((word, word, word, "zebra")) for word in hypothesis]
        given = "".join(
            dice.choice((word, word.title())) + dice.choice((" ", "  ", ", ", "! ", "-", " [noise] "))
            for word in hypothesis
        )
        text, found = correct_words(given, true_correction(processor, given, " ".join(reference)), processor)
        assert processor.normalize_text(text) == " ".join(reference)
        # What lies between two corrections is as given, but for the space around a word that goes.
        rest, position = text, 0
        for word in found:
            between = given[position : word.start].strip()
            assert between in rest
            rest = rest[rest.index(between) + len(between) :]
            position = word.end
        assert rest.rstrip().endswith(given[position:].strip())


def test_the_least_confidence_counts(processor):
    correction = true_correction(processor, "we unhappy to", "we are a list", confidence=lambda place: 0.9 - place / 10)
    places = [place for place, label in enumerate(correction.labels) if label != KEEP]
    assert len(places) > 1
    (word,) = correct_words("we unhappy to", correction, processor)[1]
    assert word.confidence == pytest.approx(0.9 - places[-1] / 10)


def test_a_change_into_itself_is_told_and_changes_nothing(processor):
    ids = processor.encode_transcript("Happy")
    correction = TranscriptCorrection(ids, [2], {0: ids}, ids, {0: 0.7})
    assert correct_words("Happy!", correction, processor) == ("Happy!", [WordCorrection(0, 5, "Happy", "Happy", 0.7)])


def test_a_transcript_written_anew_is_one_correction(processor):
    ids, new = processor.encode_transcript("fight to"), processor.encode_transcript("a list")
    whole = TranscriptCorrection(ids, [], {}, new, {WHOLE: 0.6})
    assert correct_words("Fight to", whole, processor) == ("a list", [WordCorrection(0, 8, "Fight to", "a list", 0.6)])
    assert correct_words("Fight to", whole.at(0.7), processor) == ("Fight to", [])


def test_what_is_not_read_stays(processor):
    given = " ".join(["we"] * 62 + ["Zebra"] * 40)
    reference = " ".join(["of", *["we"] * 61])
    correction = true_correction(processor, given, reference)
    text, _ = correct_words(given, correction, processor)
    assert text == " ".join(["of"] + ["we"] * 61 + ["Zebra"] * 40)


def test_another_text_is_refused(processor):
    with pytest.raises(ValueError, match="of another text than 'we like'"):
        correct_words("we like", true_correction(processor, "we", "we are"), processor)


@pytest.mark.parametrize(
    "text", ["Café e\u0301te\u0301", "ﬁve ½ “so”", "a(b)c ’tis rock'n'roll", "１２ हिन्दी", "…", "<a> b"]
)
def test_units_are_what_is_normalized(text):
    normal = normalize_text(text)
    units = _aligned_units(text, normal, normalize_text)
    for (start, end), (low, high) in units:
        assert normalize_text(text[start:end]) == normal[low:high]
    assert "".join(normal[low:high] for _, (low, high) in units) == normal.replace(" ", "") or len(units) == 1
