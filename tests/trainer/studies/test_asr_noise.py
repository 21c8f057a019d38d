"""The noise model: what it learns from pairs, and that what it writes has the WER and the errors that it should."""

from collections import Counter
from itertools import pairwise

import jiwer
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_scripts.errors import CorpusError
from data_scripts.tables import read_table
from modeling_m4ser.processing_m4ser import normalize_text
from tests.helpers import SHARED
from trainer.studies.asr_noise import NEAREST, fit, intraclass_correlation

PAIRS = [
    ("I love cats", "I love dogs."),  # a substitution
    ("the cat's there", "The dog's here!"),  # two
    ("we go home", "we can go home"),  # a deletion
    ("so we can go home", "we can go home"),  # an insertion
    ("we love birds", "We love dogs"),
    ("and nothing", "(laughs)"),  # no word of reference
]
SHARED_PAIRS = SHARED / "data" / "asr_pairs" / "asr_pairs.jsonl"


@pytest.fixture(scope="module")
def model():
    return fit(PAIRS)


@pytest.fixture(scope="module")
def corpus():
    """400 sentences of 1 to 12 words."""
    texts = (normalize_text(text).split() for _, text in PAIRS)
    words = list(dict.fromkeys(word for text in texts for word in [*text, "june"]))
    return [" ".join(words[(7 * n + k * (1 + n % 3)) % len(words)] for k in range(1 + n % 12)) for n in range(400)]


def test_it_counts_errors_and_confusions(model):
    assert model.errors == {"replace": 4, "delete": 1, "insert": 1}
    assert model.words == 3 + 3 + 4 + 4 + 3
    assert model.wer == 6 / 17
    assert model.heard_as == {"dogs": {"cats": 1, "birds": 1}, "dog's": {"cat's": 1}, "here": {"there": 1}}
    assert model.inserted == {"so": 1}
    heard = (normalize_text(hypothesis).split() for hypothesis, _ in PAIRS[:-1])
    assert model.vocabulary == sorted({word for words in heard for word in words})


def test_without_errors_there_is_nothing_to_learn():
    for pairs in ([], [("same words", "Same words.")], [("words", "")]):
        with pytest.raises(CorpusError, match="the pairs have none"):
            fit(pairs)


@given(text=st.text(), seed=st.integers())
def test_a_wer_of_0_gives_the_text_back(text, seed):
    assert fit(PAIRS).corrupt(text, 0, seed) == text


@pytest.mark.parametrize("text", ["", "  ", "(sighs)", "..."])
def test_a_text_without_words_stays(model, text):
    assert model.corrupt(text, 1, 0) == text


@pytest.mark.parametrize("wer", [-0.1, 1.1, float("nan")])
def test_a_wer_that_cannot_be_is_refused(model, wer):
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        model.corrupt("we go home", wer, 0)


def test_a_misheard_word_is_heard_as_in_the_pairs(model):
    only_substitutions = fit([PAIRS[0]] * 3 + [PAIRS[1], *PAIRS[4:]])
    heard = Counter(only_substitutions.corrupt("Dogs!", 1, seed) for seed in range(400))
    assert set(heard) == {"cats", "birds"}
    assert heard["cats"] == pytest.approx(300, abs=40)


def test_a_word_never_misheard_becomes_one_near_in_spelling():
    only_substitutions = fit([("cat cats hats cars carts dog house", "x1 x2 x3 x4 x5 x6 x7")])
    heard = Counter(only_substitutions.corrupt("cat", 1, seed) for seed in range(400))
    assert "cat" not in heard
    assert len(heard) == NEAREST
    assert {"cats", "carts"} < set(heard)
    assert "house" not in heard
    assert max(heard.values()) < 2 * 400 / NEAREST


def test_words_are_inserted_as_often_as_in_the_pairs():
    only_insertions = fit([("so well", "well")] * 9 + [("oh well", "well")])
    heard = Counter(tuple(sorted(only_insertions.corrupt("well", 1, seed).split())) for seed in range(400))
    assert set(heard) == {("so", "well"), ("oh", "well")}
    assert heard["oh", "well"] == pytest.approx(40, abs=18)


def test_deletions_and_insertions_stay_what_they_are(corpus):
    """Side by side they would be counted as substitutions."""
    model = fit([("we go home", "we can go home"), ("so we can go home", "we can go home")])
    texts = [text for text in corpus if len(text.split()) > 3]
    counted = jiwer.process_words(texts, [model.corrupt(text, 0.5, f"5:{n}") for n, text in enumerate(texts)])
    assert counted.substitutions < 0.05 * (counted.deletions + counted.insertions)


def test_where_there_is_no_other_word_it_is_left_out():
    assert fit([("a", "b")]).corrupt("a", 1, 0) == ""


@given(text=st.text(alphabet="abcdog s'", max_size=40), wer=st.floats(0.01, 1), seed=st.integers())
def test_no_word_is_invented(text, wer, seed):
    model = fit(PAIRS)
    assert set(model.corrupt(text, wer, seed).split()) <= {*normalize_text(text).split(), *text.split()} | {
        *model.vocabulary
    }


def test_the_same_seed_and_text_give_the_same_errors(model, corpus):
    first = [model.corrupt(text, 0.5, "s:id") for text in corpus]
    assert first == [fit(PAIRS).corrupt(text, 0.5, "s:id") for text in corpus]
    assert first != [model.corrupt(text, 0.5, "t:id") for text in corpus]
    # In any process: strings' own hashes differ from one to the next.
    assert model.corrupt("we can go home and love the dogs", 0.5, "s:id") == "home can go birds love love birds"


@pytest.mark.parametrize("wer", [0.02, 0.1, 0.3, 0.6])
def test_the_wer_and_the_shares_of_errors_are_as_wanted(model, corpus, wer):
    heard = [model.corrupt(text, wer, f"5:{number}") for number, text in enumerate(corpus)]
    counted = jiwer.process_words(corpus, heard)
    words = sum(len(text.split()) for text in corpus)
    assert counted.wer == pytest.approx(wer, abs=3 * (wer * (1 - wer) / words) ** 0.5)
    errors = counted.substitutions + counted.deletions + counted.insertions
    tolerance = 3 * (0.25 / errors) ** 0.5
    assert counted.substitutions / errors == pytest.approx(4 / 6, abs=tolerance)
    assert counted.deletions / errors == pytest.approx(1 / 6, abs=tolerance)
    assert counted.insertions / errors == pytest.approx(1 / 6, abs=tolerance)


def test_a_text_gets_no_fewer_errors_at_a_higher_wer(model, corpus):
    levels = [level / 20 for level in range(1, 21)]
    for number, text in enumerate(corpus[::10]):
        wers = [jiwer.wer(text, model.corrupt(text, wer, number)) for wer in levels]
        # A place for every error is not always found; never is more than one lost in these texts.
        slack = 1 / len(text.split())
        assert all(later >= earlier - slack for earlier, later in pairwise(wers))


def test_errors_gather_as_in_the_pairs(corpus):
    # Every second sentence of the pairs is all wrong, the others are right; then each has one error in four words.
    gathered = fit([("a b c d", "e f g h"), ("a b c d", "a b c d")] * 50)
    even = fit([("a b c x", "a b c d")] * 50)
    assert gathered.correlation == 0.99
    assert even.correlation == 0
    texts = [text for text in corpus if len(text.split()) == 10]
    shares = {}
    for name, model in {"gathered": gathered, "even": even}.items():
        counts = [
            jiwer.wer(text, model.corrupt(text, 0.5, f"{n} {seed}"))
            for n, text in enumerate(texts)
            for seed in range(40)
        ]
        assert sum(counts) / len(counts) == pytest.approx(0.5, abs=0.06)
        shares[name] = sum(count in (0, 1) for count in counts) / len(counts)
    assert shares["gathered"] > 0.9
    assert shares["even"] < 0.02


@pytest.mark.parametrize("wer", [0.1, 0.5])
@pytest.mark.parametrize("true", [0.0, 0.1, 0.5])
def test_the_correlation_is_found_again(true, wer):
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 20, 4000)
    size = 1 / true - 1 if true else None
    rates = rng.beta(wer * size, (1 - wer) * size, 4000) if size else wer
    assert intraclass_correlation(lengths, rng.binomial(lengths, rates)) == pytest.approx(true, abs=0.04)


def test_more_errors_than_words_are_as_many_as_there_are_words():
    assert intraclass_correlation([2, 2, 2, 2], [9, 0, 1, 0]) == intraclass_correlation([2, 2, 2, 2], [2, 0, 1, 0])


@pytest.mark.parametrize(("lengths", "counts"), [([3], [1]), ([3, 4], [3, 4]), ([1, 1, 1], [1, 0, 1])])
def test_where_no_correlation_can_be_measured_it_is_0(lengths, counts):
    assert intraclass_correlation(lengths, counts) == 0


@pytest.mark.skipif(not SHARED_PAIRS.is_file(), reason="needs ../shared/data/asr_pairs")
def test_on_real_pairs_the_wer_is_within_a_point():
    rows = read_table(SHARED_PAIRS)[:2000]
    model = fit((row["hypothesis"], row["reference"]) for row in rows)
    texts = [normalize_text(row["reference"]) for row in rows[:600] if normalize_text(row["reference"])]
    for wer in (0.1, 0.6):
        heard = [model.corrupt(text, wer, number) for number, text in enumerate(texts)]
        counted = jiwer.process_words(texts, heard)
        assert counted.wer == pytest.approx(wer, abs=0.01)
        errors = counted.substitutions + counted.deletions + counted.insertions
        shares = [count / errors for count in (counted.substitutions, counted.deletions, counted.insertions)]
        fitted = [count / sum(model.errors.values()) for count in model.errors.values()]
        assert shares == pytest.approx(fitted, abs=0.03)
