"""Edit labels: applied to the hypothesis they give the reference back; what is kept is a longest common subsequence."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_scripts.alignment import Alignment, _matched_pairs, align_hypothesis
from modeling_m4ser.edits_m4ser import CHANGE, DELETE, KEEP, apply_edits
from tests.helpers import SHARED

PAIRS = SHARED / "data" / "asr_pairs" / "asr_pairs.jsonl"
TOKENIZER = SHARED / "models" / "all-MiniLM-L6-v2"


def lcs_length(first, second):
    """The textbook table, one row at a time; shares nothing with rapidfuzz."""
    above = [0] * (len(second) + 1)
    for piece in first:
        row = [0]
        for column, other in enumerate(second, 1):
            row.append(above[column - 1] + 1 if piece == other else max(above[column], row[-1]))
        above = row
    return above[-1]


def problems(hypothesis, reference):
    """What is wrong with the alignment of one pair; empty where all is well."""
    aligned, matched = align_hypothesis(hypothesis, reference), _matched_pairs(list(hypothesis), list(reference))
    anchors = [place for place, _ in matched if aligned.labels[place] == CHANGE]
    checks = {
        "the reference comes back": apply_edits(hypothesis, aligned.labels, aligned.targets) == list(reference),
        "the matched pieces are a longest common subsequence": len(matched) == lcs_length(hypothesis, reference),
        "a matched piece is kept, or carries an insertion": aligned.labels.count(KEEP) == len(matched) - len(anchors),
        "targets are not empty": all(aligned.targets.values()),
        "each piece has a label": len(aligned.labels) == len(hypothesis),
    }
    return [name for name, passed in checks.items() if not passed]


@pytest.mark.parametrize(
    ("hypothesis", "reference", "labels", "targets"),
    [
        pytest.param("a b c", "a b c", [KEEP] * 3, {}, id="equal"),
        pytest.param("a x c", "a b c", [KEEP, CHANGE, KEEP], {1: "b"}, id="substitution"),
        pytest.param("a x y c", "a b c", [KEEP, CHANGE, DELETE, KEEP], {1: "b"}, id="two for one"),
        pytest.param("a x c", "a b d c", [KEEP, CHANGE, KEEP], {1: "b d"}, id="one for two"),
        pytest.param("a x c", "a c", [KEEP, DELETE, KEEP], {}, id="surplus"),
        pytest.param("a c", "a b c", [CHANGE, KEEP], {0: "a b"}, id="insertion goes on the piece before"),
        pytest.param("a c", "a c b", [KEEP, CHANGE], {1: "c b"}, id="insertion at the end"),
        pytest.param("b c", "a b c", [CHANGE, KEEP], {0: "a b"}, id="insertion at the start"),
        pytest.param("b c", "a b d c", [CHANGE, KEEP], {0: "a b d"}, id="start insertion and one after it"),
        pytest.param("b", "a b c", [CHANGE], {0: "a b c"}, id="one piece between two insertions"),
        pytest.param("x y", "a b c", [CHANGE, DELETE], {0: "a b c"}, id="nothing in common"),
        pytest.param("x y", "", [DELETE, DELETE], {}, id="empty reference"),
    ],
)
def test_the_rule_case_by_case(hypothesis, reference, labels, targets):
    expected = {place: pieces.split() for place, pieces in targets.items()}
    assert align_hypothesis(hypothesis.split(), reference.split()) == Alignment(labels, expected)


def test_empty_hypothesis_says_why():
    with pytest.raises(ValueError, match="the hypothesis is empty: there is no piece"):
        align_hypothesis([], ["a"])


@pytest.mark.parametrize(
    ("hypothesis", "reference"),
    [([-1], [-2]), (["a"], [97]), ([2**61 + 4], [5])],
    ids=["hash(-1) == hash(-2)", "a letter and its code", "large integers"],
)
def test_different_pieces_with_one_hash_are_not_matched(hypothesis, reference):
    assert align_hypothesis(hypothesis, reference) == Alignment([CHANGE], {0: reference})


def test_inputs_stay_as_they_are():
    hypothesis, reference = ["a", "c"], ["a", "b", "c"]
    aligned = align_hypothesis(hypothesis, reference)
    aligned.targets[0].append("z")
    assert (hypothesis, reference) == (["a", "c"], ["a", "b", "c"])


# Few different pieces make repeats and ties; the text strategy brings any Unicode character.
ids = st.lists(st.integers(0, 3), max_size=12)
words = st.lists(st.sampled_from(["a", "b", "ab", "", "é", "😀", "漢"]), max_size=10)
PIECES = [ids, words, st.text(max_size=30)]


@settings(max_examples=400)
@given(pair=st.one_of(st.tuples(pieces.filter(len), pieces) for pieces in PIECES))
def test_the_reference_comes_back(pair):
    assert problems(*pair) == []


@pytest.mark.parametrize("unit", ["words", "word pieces"])
def test_all_real_asr_pairs_round_trip(unit):
    if not PAIRS.is_file() or not TOKENIZER.is_dir():
        pytest.skip(f"needs {PAIRS.name} and {TOKENIZER.name} in the shared folder beside the repository")
    with open(PAIRS, encoding="utf-8") as file:
        pairs = [json.loads(line) for line in file]
    sides = [[pair[side] for pair in pairs] for side in ("hypothesis", "reference")]
    if unit == "words":
        split = [[text.split() for text in side] for side in sides]
    else:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
        split = [tokenizer(side, add_special_tokens=False)["input_ids"] for side in sides]
    usable = [(hypothesis, reference) for hypothesis, reference in zip(*split, strict=True) if hypothesis]
    assert (len(pairs), len(usable)) == (13162, 13162)
    failures = [(pair, found) for pair in usable if (found := problems(*pair))]
    assert not failures, f"{len(failures)} failures, the first: {failures[0]}"
