"""A model of recognition errors: transcripts of any word error rate (WER), wrong in the ways of a recogniser.

It is fitted on pairs of ASR and human text, whose words are aligned with as few errors as possible (Levenshtein), after
`normalize_text`. It keeps the shares of substitutions, deletions and insertions at every WER; what each word was heard
as, and how often (one that was never misheard becomes one of the `NEAREST` words of the recogniser in spelling); which
words are inserted, and how often; and how much errors gather in some utterances and spare others: an utterance's errors
are beta-binomial, of the same intraclass correlation at every WER.

It leaves out that some words are misheard more often than others, and that what is heard depends on the words around.
"""

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from rapidfuzz import process
from rapidfuzz.distance import Levenshtein
from scipy import stats

from data_scripts.errors import CorpusError
from modeling_m4ser.preparation_m4ser import normalize_text

#: How many words, the nearest in spelling, one that was never misheard may become.
NEAREST = 5
#: Errors of each kind in 100, and their correlation within an utterance, where no recogniser is known: those of the
#: 13,162 pairs of HyPoradise (Chen et al., NeurIPS 2023), of five sources.
USUAL_ERRORS, USUAL_CORRELATION = {"replace": 53, "delete": 29, "insert": 18}, 0.14
_ATTEMPTS = 30


@dataclass(frozen=True)
class NoiseModel:
    """A recogniser's errors, counted; made by `fit`.

    Attributes:
        words: how many reference words the pairs have.
        errors: substitutions, deletions and insertions in the pairs, as `replace`, `delete` and `insert`.
        heard_as: reference word -> what it was heard as, other than itself -> how often.
        correlation: of errors within an utterance: 0 where each word has the same chance of one, near 1 where an
            utterance is either all wrong or all right.
    """

    words: int
    errors: Mapping[str, int]
    heard_as: Mapping[str, Mapping[str, int]]
    inserted: Mapping[str, int]
    vocabulary: Sequence[str]
    correlation: float
    _near: dict[str, list[str]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def wer(self) -> float:
        """The WER of the pairs: errors per reference word."""
        return sum(self.errors.values()) / self.words

    def corrupt(self, text: str, wer: float, seed: int | str) -> str:
        """Return a text with errors, whose expected WER, by words of `normalize_text`, is `wer`, in [0, 1].

        A text of n words gets 0 to n errors, n · `wer` on average over seeds; the same text and seed get no fewer at a
        higher WER. They are placed such that they stay errors: with a word deleted and one inserted beside it, say,
        only one would be counted. Where chance finds no such places, as in a text of one repeated word, there are
        fewer. The same text and seed give the same errors, so `seed` holds the utterance's id.
        """
        words = normalize_text(text).split()
        if wer == 0 or not words:
            return text
        rng = random.Random(f"{seed} {text}")
        number = self._number_of_errors(len(words), wer, rng.random())
        kinds = Counter(rng.choices(list(self.errors), list(self.errors.values()), k=number))
        best, closest = words, (-1, 0)
        for _ in range(_ATTEMPTS):
            changed = self._place(words, kinds, rng)
            counted = Counter(kind for kind, *_ in Levenshtein.editops(words, changed))
            # So many errors, before all, and of these kinds: a deletion and an insertion can look like substitutions.
            found = (counted.total(), -abs(counted["delete"] - kinds["delete"]))
            if found > closest:
                best, closest = changed, found
            if closest == (number, 0):
                break
        return " ".join(best)

    def _number_of_errors(self, words: int, wer: float, quantile: float) -> int:
        """A quantile of the beta-binomial distribution of errors in so many words."""
        if self.correlation == 0 or wer == 1:
            return max(0, int(stats.binom.ppf(quantile, words, wer)))
        size = 1 / self.correlation - 1
        return max(0, int(stats.betabinom.ppf(quantile, words, wer * size, (1 - wer) * size)))

    def _place(self, words: Sequence[str], kinds: Mapping[str, int], rng: random.Random) -> list[str]:
        """The words with so many errors of each kind, at random places."""
        places = rng.sample(range(len(words)), kinds["replace"] + kinds["delete"])
        replaced, deleted = set(places[: kinds["replace"]]), set(places[kinds["replace"] :])
        gaps = Counter(rng.choices(range(len(words) + 1), k=kinds["insert"]))
        changed: list[str] = []
        for place in range(len(words) + 1):
            if gaps[place]:
                changed += rng.choices(list(self.inserted), list(self.inserted.values()), k=gaps[place])
            if place in replaced:
                changed += self._substitute(words[place], rng)
            elif place < len(words) and place not in deleted:
                changed.append(words[place])
        return changed

    def _substitute(self, word: str, rng: random.Random) -> list[str]:
        """What a word is heard as, never itself; nothing where the recogniser has no other word."""
        if heard := self.heard_as.get(word):
            return rng.choices(list(heard), list(heard.values()))
        if word not in self._near:
            found = process.extract(word, self.vocabulary, scorer=Levenshtein.normalized_similarity, limit=NEAREST + 1)
            self._near[word] = [other for other, *_ in found if other != word][:NEAREST]
        return [rng.choice(self._near[word])] if self._near[word] else []


def fit(pairs: Iterable[tuple[str, str]]) -> NoiseModel:
    """Count the errors of a recogniser in (hypothesis, reference) pairs; those without a reference do not count."""
    errors, inserted, vocabulary = Counter(replace=0, delete=0, insert=0), Counter(), set()
    lengths, counts = [], []
    heard_as: dict[str, Counter[str]] = {}
    for texts in pairs:
        hypothesis, reference = (normalize_text(text).split() for text in texts)
        if not reference:
            continue
        lengths.append(len(reference))
        vocabulary.update(hypothesis)
        operations: list[Any] = Levenshtein.editops(reference, hypothesis).as_list()
        counts.append(len(operations))
        for kind, place, other in operations:
            errors[kind] += 1
            if kind == "replace":
                heard_as.setdefault(reference[place], Counter())[hypothesis[other]] += 1
            elif kind == "insert":
                inserted[hypothesis[other]] += 1
    if not errors.total():
        raise CorpusError(
            "a noise model learns from recognition errors, and the pairs have none "
            f"({sum(lengths)} words of reference): give it hypotheses of a recogniser with their human text"
        )
    return NoiseModel(
        sum(lengths), errors, heard_as, inserted, sorted(vocabulary), intraclass_correlation(lengths, counts)
    )


@dataclass(frozen=True)
class TranscriptNoise:
    """A text -> the same with errors that no call before made, of the expected WER `wer`, in (0, 1).

    The draws are those of torch's generator: a resumed run makes the same ones.
    """

    model: NoiseModel
    wer: float

    def __call__(self, text: str) -> str:
        """Return the text with errors."""
        return self.model.corrupt(text, self.wer, int(torch.randint(2**62, ())))


def training_noise(hypotheses: Sequence[str | None], transcripts: Sequence[str | None], wer: float) -> TranscriptNoise:
    """Return the noise for texts that are trained on, row by row ASR text and human text, each None where not known.

    Its errors are those of the recogniser, where rows with both texts have one. Else they are of the usual kinds, with
    the words that there are.
    """
    rows = list(zip(hypotheses, transcripts, strict=True))
    pairs = [(hypothesis, transcript) for hypothesis, transcript in rows if None not in (hypothesis, transcript)]
    if any(normalize_text(said) and normalize_text(heard) != normalize_text(said) for heard, said in pairs):
        return TranscriptNoise(fit(pairs), wer)
    words = Counter(word for texts in rows for text in texts for word in normalize_text(text or "").split())
    return TranscriptNoise(NoiseModel(words.total(), USUAL_ERRORS, {}, words, sorted(words), USUAL_CORRELATION), wer)


def intraclass_correlation(lengths: Sequence[int], counts: Sequence[int]) -> float:
    """Return the correlation of errors within utterances, by the method of moments, in [0, 0.99].

    It is what the weighted variance of the utterances' WER has beyond chance. More errors than words (`lengths`) count
    as so many as there are words.
    """
    n = np.asarray(lengths, float)
    share = np.minimum(np.asarray(counts) / n, 1)
    wer = (n * share).sum() / n.sum()
    if not 0 < wer < 1 or len(n) < 2:
        return 0.0
    by_chance = len(n) - 1
    beyond = (n * (share - wer) ** 2).sum() / (wer * (1 - wer)) - by_chance
    most = n.sum() - (n**2).sum() / n.sum() - by_chance
    return float(np.clip(beyond / most, 0, 0.99)) if most > 0 else 0.0
