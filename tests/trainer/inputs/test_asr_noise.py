"""The noise model: what it learns from pairs, and that what it writes has the WER and the errors that it should."""

from collections import Counter
from itertools import pairwise

import jiwer
import numpy as np
import pytest
import torch
from datasets import DatasetDict
from hypothesis import given
from hypothesis import strategies as st

from data_scripts.errors import CorpusError
from modeling_m4ser.preparation_m4ser import normalize_text
from tests.helpers.corpus import tiny_corpus
from tests.helpers.experiments import experiment_arguments
from tests.helpers.tiny import tiny_model, tiny_processor
from trainer.experiments.arguments import ModelArguments
from trainer.experiments.run import run_experiment
from trainer.experiments.run_folder import load_log
from trainer.inputs.asr_noise import NEAREST, USUAL_CORRELATION, fit, intraclass_correlation, training_noise

PAIRS = [
    ("I love cats", "I love dogs."),  # a substitution
    ("the cat's there", "The dog's here!"),  # two
    ("we go home", "we can go home"),  # a deletion
    ("so we can go home", "we can go home"),  # an insertion
    ("we love birds", "We love dogs"),
    ("and nothing", "(laughs)"),  # no word of reference
]
MODEL = fit(PAIRS)


def sentences():
    """400 of 1 to 12 words."""
    texts = (normalize_text(text).split() for _, text in PAIRS)
    words = list(dict.fromkeys(word for text in texts for word in [*text, "june"]))
    return [" ".join(words[(7 * n + k * (1 + n % 3)) % len(words)] for k in range(1 + n % 12)) for n in range(400)]


CORPUS = sentences()


def heard(pairs, text):
    """How often a model of these pairs makes what of a text whose words are all wrong."""
    model = fit(pairs)
    return Counter(model.corrupt(text, 1, seed) for seed in range(400))


def test_it_counts_errors_and_confusions():
    assert MODEL.errors == {"replace": 4, "delete": 1, "insert": 1}
    assert (MODEL.words, MODEL.wer) == (3 + 3 + 4 + 4 + 3, 6 / 17)
    assert MODEL.heard_as == {"dogs": {"cats": 1, "birds": 1}, "dog's": {"cat's": 1}, "here": {"there": 1}}
    assert MODEL.inserted == {"so": 1}
    words = (normalize_text(hypothesis).split() for hypothesis, _ in PAIRS[:-1])
    assert MODEL.vocabulary == sorted({word for text in words for word in text})
    for pairs in ([], [("same words", "Same words.")], [("words", "")]):
        with pytest.raises(CorpusError, match="the pairs have none"):
            fit(pairs)


@given(text=st.text(alphabet="abcdog s'(),.", max_size=40), wer=st.floats(0.01, 1), seed=st.integers())
def test_no_word_is_invented_and_nothing_changes_where_nothing_can(text, wer, seed):
    assert MODEL.corrupt(text, 0, seed) == text
    written = MODEL.corrupt(text, wer, seed)
    assert written == MODEL.corrupt(text, wer, seed)
    if not normalize_text(text):
        assert written == text
    assert set(written.split()) <= {*normalize_text(text).split(), *text.split(), *MODEL.vocabulary}


def test_a_word_is_heard_as_in_the_pairs_or_as_one_near_in_spelling():
    known = heard([PAIRS[0]] * 3 + [PAIRS[1], *PAIRS[4:]], "Dogs!")
    assert set(known) == {"cats", "birds"}
    assert known["cats"] == pytest.approx(300, abs=40)
    near = heard([("cat cats hats cars carts dog house", "x1 x2 x3 x4 x5 x6 x7")], "cat")
    assert len(near) == NEAREST
    assert {"cats", "carts"} < set(near)
    assert not {"cat", "house"} & set(near)
    assert max(near.values()) < 2 * 400 / NEAREST
    inserted = heard([("so well", "well")] * 9 + [("oh well", "well")], "well")
    counts = Counter(tuple(sorted(text.split())) for text in inserted.elements())
    assert set(counts) == {("so", "well"), ("oh", "well")}
    assert counts["oh", "well"] == pytest.approx(40, abs=18)
    assert heard([("a", "b")], "a") == {"": 400}, "there is no other word"
    # Of the seed alone, in any process: strings' own hashes differ from one to the next.
    assert MODEL.corrupt("we can go home and love the dogs", 0.5, "s:id") == "home can go birds love love birds"


def test_deletions_and_insertions_stay_what_they_are():
    """Side by side they would be counted as substitutions."""
    model = fit([("we go home", "we can go home"), ("so we can go home", "we can go home")])
    texts = [text for text in CORPUS if len(text.split()) > 3]
    counted = jiwer.process_words(texts, [model.corrupt(text, 0.5, f"5:{n}") for n, text in enumerate(texts)])
    assert counted.substitutions < 0.05 * (counted.deletions + counted.insertions)


@pytest.mark.parametrize("wer", [0.02, 0.1, 0.3, 0.6])
def test_the_wer_and_the_shares_of_errors_are_as_wanted(wer):
    counted = jiwer.process_words(CORPUS, [MODEL.corrupt(text, wer, f"5:{n}") for n, text in enumerate(CORPUS)])
    words = sum(len(text.split()) for text in CORPUS)
    assert counted.wer == pytest.approx(wer, abs=3 * (wer * (1 - wer) / words) ** 0.5)
    kinds = np.array([counted.substitutions, counted.deletions, counted.insertions])
    tolerance = 3 * (0.25 / kinds.sum()) ** 0.5
    assert kinds / kinds.sum() == pytest.approx(np.array([4, 1, 1]) / 6, abs=tolerance)


def test_a_text_gets_no_fewer_errors_at_a_higher_wer():
    levels = [level / 20 for level in range(1, 21)]
    for number, text in enumerate(CORPUS[::10]):
        wers = [jiwer.wer(text, MODEL.corrupt(text, wer, number)) for wer in levels]
        # A place for every error is not always found; never is more than one lost in these texts.
        slack = 1 / len(text.split())
        assert all(later >= earlier - slack for earlier, later in pairwise(wers))


def test_errors_gather_as_in_the_pairs():
    # Every second sentence of the pairs is all wrong, the others are right; then each has one error in four words.
    texts = [text for text in CORPUS if len(text.split()) == 10]
    for pairs, correlation, least, most in (
        ([("a b c d", "e f g h"), ("a b c d", "a b c d")], 0.99, 0.9, 1),
        ([("a b c x", "a b c d")], 0, 0, 0.02),
    ):
        model = fit(pairs * 50)
        assert model.correlation == correlation
        wers = [jiwer.wer(t, model.corrupt(t, 0.5, f"{n} {seed}")) for n, t in enumerate(texts) for seed in range(40)]
        assert np.mean(wers) == pytest.approx(0.5, abs=0.06)
        assert least <= np.mean([wer in (0, 1) for wer in wers]) <= most


@pytest.mark.parametrize("wer", [0.1, 0.5])
@pytest.mark.parametrize("true", [0.0, 0.1, 0.5])
def test_the_correlation_is_found_again(true, wer):
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 20, 4000)
    size = 1 / true - 1 if true else None
    rates = rng.beta(wer * size, (1 - wer) * size, 4000) if size else wer
    assert intraclass_correlation(lengths, rng.binomial(lengths, rates)) == pytest.approx(true, abs=0.04)


def test_a_correlation_that_cannot_be_measured_is_0_and_errors_are_no_more_than_words():
    for lengths, counts in (([3], [1]), ([3, 4], [3, 4]), ([1, 1, 1], [1, 0, 1])):
        assert intraclass_correlation(lengths, counts) == 0
    assert intraclass_correlation([2] * 4, [9, 0, 1, 0]) == intraclass_correlation([2] * 4, [2, 0, 1, 0])


def test_texts_that_are_trained_on_get_new_errors_at_each_call_and_the_same_ones_again_with_the_generator_s_state():
    hypotheses, transcripts = zip(*PAIRS, (None, "unheard"), ("untold", None), strict=True)
    noise = training_noise(hypotheses, transcripts, 0.5)
    assert noise.model == MODEL, "fitted on the pairs"
    torch.manual_seed(0)
    first = [noise("we can go home and love the dogs") for _ in range(20)]
    assert len(set(first)) > 10
    torch.manual_seed(0)
    assert [noise("we can go home and love the dogs") for _ in range(20)] == first


@pytest.mark.parametrize(
    "hypotheses",
    [[None] * len(CORPUS), CORPUS, [text.upper() for text in CORPUS]],
    ids=["human text", "without an error", "upper case"],
)
def test_without_a_recogniser_s_errors_they_are_the_usual_ones_in_the_words_there_are(hypotheses):
    noise = training_noise(hypotheses, CORPUS, 0.3)
    assert noise.model.correlation == USUAL_CORRELATION
    written = [noise(text) for text in CORPUS]
    assert {word for text in written for word in text.split()} <= {word for text in CORPUS for word in text.split()}
    counted = jiwer.process_words(CORPUS, written)
    assert counted.wer == pytest.approx(0.3, abs=0.05)
    kinds = np.array([counted.substitutions, counted.deletions, counted.insertions])
    assert kinds / kinds.sum() == pytest.approx(np.array([0.53, 0.29, 0.18]), abs=0.07)


def test_transcripts_get_errors_in_training_alone(tmp_path, monkeypatch):
    given, changed, train = [], [], tiny_corpus(8)
    monkeypatch.setattr(
        "trainer.experiments.run.training_noise",
        lambda *texts: given.extend(texts) or (lambda text: changed.append(text) or " ".join(text.split()[::-1])),
    )
    run_experiment(
        lambda emotions: (tiny_model("whisper"), tiny_processor(tmp_path, "whisper")),
        DatasetDict(train=train, validation=tiny_corpus(6), test=tiny_corpus(4)),
        experiment_arguments(tmp_path / "out", num_train_epochs=1),
        description="Noise.",
        split={},
        text_column="transcript",
        arguments={"model": ModelArguments(transcript_noise=0.25, text_column="transcript")},
    )
    assert given == [train["hypothesis"][:], train["transcript"][:], 0.25]
    assert sorted(changed) == sorted(train["transcript"][:])
    assert any(entry.get("loss_correction", 0) > 0 for entry in load_log(tmp_path / "out"))
