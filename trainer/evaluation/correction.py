"""How well ASR errors are found and mended (Eq. 2-7): detection by class, word error rate before and after correction.

Only the text encoder and the two heads run; no speech is read. Hypotheses and references are compared in the form that
the model reads, normalised by the processor: other habits of punctuation are no errors. (The word error rate in
`transcription.json` unifies spellings and spoken forms too, so it is a little lower.)
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jiwer
import numpy as np
from sklearn.metrics import precision_recall_fscore_support

from data_scripts.alignment import align_hypothesis
from modeling_m4ser import M4SERForEmotionClassification, M4SERProcessor
from modeling_m4ser.correction_m4ser import TranscriptCorrection
from modeling_m4ser.edits_m4ser import EDIT_NAMES

BATCH_SIZE = 32


@dataclass(frozen=True)
class CorrectedUtterance:
    """One utterance with what the model makes of its hypothesis.

    Attributes:
        hypothesis: the ASR text, normalised.
        reference: the human text, normalised; it has at least one word.
        correction: the model's edits of the hypothesis.
        corrected: the hypothesis with them.
        labels: the true KEEP, DELETE or CHANGE of each word piece; empty where the hypothesis is.
        group: what the utterance is counted under besides the whole, e.g. its source.
    """

    hypothesis: str
    reference: str
    correction: TranscriptCorrection
    corrected: str
    labels: list[int]
    group: str | None


def correct_rows(
    model: M4SERForEmotionClassification,
    processor: M4SERProcessor,
    rows: Iterable[Mapping[str, Any]],
    *,
    group_column: str | None = None,
    batch_size: int = BATCH_SIZE,
) -> list[CorrectedUtterance]:
    """Correct the hypotheses of those rows that have both texts.

    Args:
        model: with error detection, correction or both.
        processor: of the model.
        rows: with `hypothesis` and `transcript`, either may be None. A row whose normalised transcript has no word is
            left out, as it has no word error rate.
        group_column: the column that says which group a row belongs to.
        batch_size: of the model.

    Raises:
        ValueError: the model has neither head.
    """
    complete = [row for row in rows if row.get("hypothesis") is not None and row.get("transcript") is not None]
    complete = [row for row in complete if processor.normalize_text(row["transcript"])]
    utterances = []
    for start in range(0, len(complete), batch_size):
        part = complete[start : start + batch_size]
        inputs = processor(text=[row["hypothesis"] for row in part]).to(model.device)
        corrections = model.correct_transcripts(inputs["input_ids"], inputs["text_attention_mask"])
        for row, correction in zip(part, corrections, strict=True):
            hypothesis = processor.normalize_text(row["hypothesis"])
            pieces, labels = correction.input_ids, []
            if pieces:
                labels = align_hypothesis(pieces, processor.encode_transcript(row["transcript"])).labels
            changed = correction.corrected_ids != pieces
            utterances.append(
                CorrectedUtterance(
                    hypothesis=hypothesis,
                    reference=processor.normalize_text(row["transcript"]),
                    correction=correction,
                    corrected=processor.decode_transcript(correction.corrected_ids) if changed else hypothesis,
                    labels=labels,
                    group=None if group_column is None else str(row[group_column]),
                )
            )
    return utterances


def measure_correction(
    model: M4SERForEmotionClassification,
    processor: M4SERProcessor,
    rows: Iterable[Mapping[str, Any]],
    *,
    group_column: str | None = None,
    batch_size: int = BATCH_SIZE,
) -> dict[str, Any]:
    """Correct rows and describe what came of it: `correct_rows`, then `describe_correction`."""
    return describe_correction(correct_rows(model, processor, rows, group_column=group_column, batch_size=batch_size))


def describe_correction(utterances: Sequence[CorrectedUtterance]) -> dict[str, Any]:
    """Measure detection and correction, pooled and by group.

    Args:
        utterances: what `correct_rows` returns.

    Returns:
        `utterances`, `words` (of the references); `wer_before` and `wer_after`, errors per word of the references;
        `edit_rate`, edits (of whole words) per word of the hypotheses; `changed`, the share of utterances with an edit;
        `detection`, see `detection_metrics`, None where the model detects no errors. Rates of no words are None.
        `groups` holds the same for each group.
    """
    described = _describe(utterances)
    names = dict.fromkeys(each.group for each in utterances if each.group is not None)
    described["groups"] = {name: _describe([each for each in utterances if each.group == name]) for name in names}
    return described


def _describe(utterances: Sequence[CorrectedUtterance]) -> dict[str, Any]:
    references = [each.reference for each in utterances]
    hypotheses = [each.hypothesis for each in utterances]
    corrected = [each.corrected for each in utterances]
    words = sum(len(text.split()) for text in references)
    heard = sum(len(text.split()) for text in hypotheses)
    changed = [each for each in utterances if each.corrected != each.hypothesis]
    detected = [each for each in utterances if each.correction.labels]
    return {
        "utterances": len(utterances),
        "words": words,
        "wer_before": int(word_errors(references, hypotheses).sum()) / words if words else None,
        "wer_after": int(word_errors(references, corrected).sum()) / words if words else None,
        "edit_rate": int(word_errors(hypotheses, corrected).sum()) / heard if heard else None,
        "changed": len(changed) / len(utterances) if utterances else None,
        "detection": detection_metrics(
            [label for each in detected for label in each.labels],
            [label for each in detected for label in each.correction.labels],
        )
        if detected
        else None,
    }


def word_errors(references: Sequence[str], hypotheses: Sequence[str]) -> np.ndarray:
    """Return the word errors (substitutions, deletions and insertions) of each hypothesis.

    Args:
        references: N texts.
        hypotheses: N texts.

    Returns:
        (N,) counts.
    """
    errors = np.zeros(len(references), dtype=int)
    different = [index for index, pair in enumerate(zip(references, hypotheses, strict=True)) if pair[0] != pair[1]]
    if different:
        output = jiwer.process_words([references[i] for i in different], [hypotheses[i] for i in different])
        for index, chunks in zip(different, output.alignments, strict=True):
            errors[index] = sum(
                max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
                for chunk in chunks
                if chunk.type != "equal"
            )
    return errors


def detection_metrics(labels: Sequence[int], predictions: Sequence[int]) -> dict[str, Any]:
    """Precision, recall and F1 of KEEP, DELETE and CHANGE over word pieces.

    Args:
        labels: the alignment's label of each piece, special tokens and padding left out.
        predictions: the model's.

    Returns:
        `keep`, `delete` and `change`, each with `precision`, `recall`, `f1` and `support` (true pieces), and
        `macro_f1`. A class without any true piece has no recall and no F1 (None), and is left out of the mean, as in
        `emotion_metrics`; one that is never predicted has no precision.
    """
    classes = range(len(EDIT_NAMES))
    # sklearn's annotations know only the default of zero_division.
    undefined: Any = np.nan
    precisions, recalls, f1s, supports = precision_recall_fscore_support(
        labels, predictions, labels=list(classes), zero_division=undefined
    )
    found: dict[str, Any] = {}
    for name, precision, recall, f1, support in zip(
        EDIT_NAMES, *map(np.atleast_1d, (precisions, recalls, f1s, supports)), strict=True
    ):
        f1 = f1 if support else np.nan
        numbers = {"precision": precision, "recall": recall, "f1": f1}
        found[name] = {key: None if np.isnan(value) else float(value) for key, value in numbers.items()}
        found[name]["support"] = int(support)
    present = [found[name]["f1"] for name in EDIT_NAMES if found[name]["support"]]
    return {**found, "macro_f1": float(np.mean(present))}
