"""How well ASR errors are found and corrected (Eq. 2-7): detection by class, word error rate before and after.

Only the text encoder and the two heads run; no speech is read. Hypotheses and references are compared in the form that
the model reads, normalised by the processor: other habits of punctuation are no errors. (The word error rate in
`transcription.json` unifies spellings and spoken forms too, so it is a little lower.)
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein
from sklearn.metrics import precision_recall_fscore_support

from data_scripts.alignment import align_hypothesis
from modeling_m4ser import M4SERForEmotionClassification, M4SERProcessor
from modeling_m4ser.correction_m4ser import TranscriptCorrection
from modeling_m4ser.edits_m4ser import EDIT_NAMES
from modeling_m4ser.words_m4ser import correct_words

BATCH_SIZE = 32
#: Confidences to choose a threshold from; 1 changes nothing.
THRESHOLDS = (*(step / 20 for step in range(20)), 0.97, 0.98, 0.99)


@dataclass(frozen=True)
class CorrectedUtterance:
    """One utterance with what the model makes of its hypothesis; both texts are normalised.

    Attributes:
        correction: all edits of the model, whatever their confidence.
        labels: the true KEEP, DELETE or CHANGE of each word piece; empty where the hypothesis is.
        group: what the utterance is counted under besides the whole, e.g. its source.
        id: the row's, where it has one.
    """

    hypothesis: str
    reference: str
    correction: TranscriptCorrection
    labels: list[int]
    group: str | None
    id: str | None = None


def correct_rows(
    model: M4SERForEmotionClassification,
    processor: M4SERProcessor,
    rows: Iterable[Mapping[str, Any]],
    *,
    group_column: str | None = None,
    batch_size: int = BATCH_SIZE,
) -> list[CorrectedUtterance]:
    """Find all edits of the hypotheses of those rows that have both texts, and a word of human text."""
    complete = [row for row in rows if row.get("hypothesis") is not None and row.get("transcript") is not None]
    complete = [row for row in complete if processor.normalize_text(row["transcript"])]
    utterances = []
    for start in range(0, len(complete), batch_size):
        part = complete[start : start + batch_size]
        inputs = processor(text=[row["hypothesis"] for row in part]).to(model.device)
        corrections = model.correct_transcripts(inputs["input_ids"], inputs["text_attention_mask"], threshold=0.0)
        for row, correction in zip(part, corrections, strict=True):
            hypothesis, reference = (processor.normalize_text(row[name]) for name in ("hypothesis", "transcript"))
            pieces, labels = correction.input_ids, []
            if pieces:
                labels = align_hypothesis(pieces, processor.encode_transcript(row["transcript"])).labels
            group = None if group_column is None else str(row[group_column])
            utterances.append(CorrectedUtterance(hypothesis, reference, correction, labels, group, row.get("id")))
    return utterances


def corrected_texts(utterances: Sequence[CorrectedUtterance], processor: M4SERProcessor, threshold: float) -> list[str]:
    """Return the hypotheses, corrected by the edits whose confidence is at least `threshold`."""
    return [correct_words(each.hypothesis, each.correction.at(threshold), processor)[0] for each in utterances]


def measure_correction(
    model: M4SERForEmotionClassification,
    processor: M4SERProcessor,
    rows: Iterable[Mapping[str, Any]],
    *,
    threshold: float | None = None,
    **options: Any,
) -> dict[str, Any]:
    """`describe_correction` of `correct_rows` with these options; the threshold is the model's own by default."""
    utterances = correct_rows(model, processor, rows, **options)
    threshold = model.config.correction_threshold if threshold is None else threshold
    return describe_correction(utterances, processor, threshold)


def correction_for_log(
    model: M4SERForEmotionClassification, processor: M4SERProcessor, rows: Iterable[Mapping[str, Any]]
) -> dict[str, float | None]:
    """Return what a training log keeps of `measure_correction`: whether error detection and correction learn.

    `eval_detection_f1` (macro, over KEEP, DELETE and CHANGE), `eval_transcript_wer` (of the hypotheses as they are) and
    `eval_correction_wer` (of the corrected ones).
    """
    measured = measure_correction(model, processor, rows)
    return {
        "eval_detection_f1": measured["detection"] and measured["detection"]["macro_f1"],
        "eval_transcript_wer": measured["wer_before"],
        "eval_correction_wer": measured["wer_after"],
    }


def describe_correction(
    utterances: Sequence[CorrectedUtterance], processor: M4SERProcessor, threshold: float
) -> dict[str, Any]:
    """Measure detection, of all edits, and correction by those of at least this confidence, pooled and by group.

    Returns:
        `utterances`, `words` (of the references); `wer_before` and `wer_after`, errors per word of the references;
        `wer_change` with its interval; `edit_rate`, edits (of whole words) per word of the hypotheses; `changed`, the
        share of utterances with an edit; `detection`, None where the model detects no errors. Rates of no words are
        None. `groups` holds the same for each group.
    """
    corrected = corrected_texts(utterances, processor, threshold)
    groups = {}
    for name in dict.fromkeys(each.group for each in utterances if each.group is not None):
        pairs = [(each, text) for each, text in zip(utterances, corrected, strict=True) if each.group == name]
        groups[name] = _describe(*zip(*pairs, strict=True))
    return {**_describe(utterances, corrected), "groups": groups}


def _describe(utterances: Sequence[CorrectedUtterance], corrected: Sequence[str]) -> dict[str, Any]:
    references = [each.reference for each in utterances]
    hypotheses = [each.hypothesis for each in utterances]
    lengths = np.array([len(text.split()) for text in references], dtype=int)
    before, after = word_errors(references, hypotheses), word_errors(references, corrected)
    words, heard = int(lengths.sum()), sum(len(text.split()) for text in hypotheses)
    labels = [label for each in utterances if each.correction.labels for label in each.labels]
    return {
        "utterances": len(utterances),
        "words": words,
        "wer_before": int(before.sum()) / words if words else None,
        "wer_after": int(after.sum()) / words if words else None,
        "wer_change": wer_change_interval(before, after, lengths) if words else None,
        "edit_rate": int(word_errors(hypotheses, corrected).sum()) / heard if heard else None,
        "changed": sum(h != c for h, c in zip(hypotheses, corrected, strict=True)) / len(hypotheses) if words else None,
        "detection": detection_metrics(labels, [label for each in utterances for label in each.correction.labels])
        if labels
        else None,
    }


def wer_change_interval(before: np.ndarray, after: np.ndarray, words: np.ndarray) -> dict[str, float]:
    """Return how far correction moves the word error rate: `estimate`, `low` and `high`, below 0 where it helps.

    `before`, `after` and `words` count each utterance's errors and reference words, (N,). The interval is of a paired
    percentile bootstrap over utterances (95 %, 2,000 draws).
    """
    # scipy.stats.bootstrap refuses a single utterance, as a small source may have.
    rng, size = np.random.default_rng(0), len(words)
    change, drawn = np.asarray(after) - np.asarray(before), []
    for _ in range(2000):
        chosen = rng.integers(size, size=size)
        drawn.append(change[chosen].sum() / max(words[chosen].sum(), 1))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {"estimate": float(change.sum() / words.sum()), "low": float(low), "high": float(high)}


def choose_threshold(
    utterances: Sequence[CorrectedUtterance], processor: M4SERProcessor, thresholds: Sequence[float] = THRESHOLDS
) -> float:
    """Return the threshold of the smallest word error rate among those that make no group worse than it was.

    Of equal ones it is the highest, which changes least. To change nothing (1) is always among them.
    """
    references = [each.reference for each in utterances]
    before = word_errors(references, [each.hypothesis for each in utterances])
    groups = np.array([str(each.group) for each in utterances])
    best, fewest = 1.0, int(before.sum())
    for threshold in sorted(set(thresholds), reverse=True):
        errors = word_errors(references, corrected_texts(utterances, processor, threshold))
        worse = any(errors[groups == name].sum() > before[groups == name].sum() for name in set(groups.tolist()))
        if not worse and errors.sum() < fewest:
            best, fewest = threshold, int(errors.sum())
    return float(best)


def word_errors(references: Sequence[str], hypotheses: Sequence[str]) -> np.ndarray:
    """Return the word errors (substitutions, deletions and insertions) of each hypothesis, (N,) counts."""
    pairs = zip(references, hypotheses, strict=True)
    return np.array([Levenshtein.distance(first.split(), second.split()) for first, second in pairs], dtype=int)


def detection_metrics(labels: Sequence[int], predictions: Sequence[int]) -> dict[str, Any]:
    """Precision, recall and F1 of KEEP, DELETE and CHANGE over word pieces, and their `macro_f1`.

    A class without any true piece has no recall and no F1 (None), and is left out of the mean, as in `emotion_metrics`;
    one that is never predicted has no precision.
    """
    # sklearn's annotations know only the default of zero_division.
    undefined: Any = np.nan
    columns: Any = precision_recall_fscore_support(
        labels, predictions, labels=list(range(len(EDIT_NAMES))), zero_division=undefined
    )
    found: dict[str, Any] = {}
    for name, precision, recall, f1, support in zip(EDIT_NAMES, *columns, strict=True):
        numbers = {"precision": precision, "recall": recall, "f1": f1 if support else np.nan}
        found[name] = {key: None if np.isnan(value) else float(value) for key, value in numbers.items()}
        found[name]["support"] = int(support)
    present = [found[name]["f1"] for name in EDIT_NAMES if found[name]["support"]]
    return {**found, "macro_f1": float(np.mean(present))}
