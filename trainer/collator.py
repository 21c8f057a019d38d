"""From rows of a prepared corpus to a batch: decoding, the processor, and the auxiliary labels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.utils import logging

from data_scripts.alignment import align_hypothesis
from modeling_m4ser import IGNORE_INDEX, M4SERConfig, M4SERProcessor
from trainer.errors import TrainingError
from trainer.inputs.augmentation import load_at_speed
from trainer.inputs.feature_cache import FeatureCache

logger: Any = logging.get_logger(__name__)

#: Tokens of a correction target that replaces one place, the end token included.
MAX_CORRECTION_TOKENS = 32


@dataclass
class M4SERDataCollator:
    """Runs in the data loader's workers, so that decoding and alignment overlap with training.

    Args:
        processor: of the model.
        config: of the model; says which inputs and which auxiliary labels are wanted.
        text_column: `hypothesis` (ASR text, the paper's setting) or `transcript` (ground-truth text, Table VI).
        with_auxiliary_labels: whether to build detection and correction labels; evaluation does not need them.
        max_correction_tokens: longer correction targets are cut to this many tokens, the last of which is `[SEP]`. By
            default 32, and in the ablation "w/o AED", whose targets are whole references, as many as a text may have
            (the processor's `max_text_length`).
        feature_cache: what the speech encoder gives for recordings (see `trainer.inputs.feature_cache`). Rows in
            it are not decoded. A batch with a row that is not in it comes from the audio as always.
        transcript_noise: makes errors in the texts of `training_batch`, see
            [`trainer.inputs.asr_noise.TranscriptNoise`].

    A row without a human transcript gets no auxiliary labels; a batch without any has neither key.

    Raises:
        ValueError: `max_correction_tokens` below 2.
    """

    processor: M4SERProcessor
    config: M4SERConfig
    text_column: str = "hypothesis"
    with_auxiliary_labels: bool = True
    max_correction_tokens: int | None = None
    feature_cache: FeatureCache | None = None
    transcript_noise: Callable[[str], str] | None = None

    def __post_init__(self):
        if self.max_correction_tokens is not None and self.max_correction_tokens < 2:
            raise ValueError(f"max_correction_tokens must be at least 2, not {self.max_correction_tokens}.")

    @property
    def correction_limit(self) -> int:
        """The most tokens of a correction target, `[SEP]` included."""
        if self.max_correction_tokens is not None:
            return self.max_correction_tokens
        return MAX_CORRECTION_TOKENS if self.config.use_error_detection else self.processor.max_text_length

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Make the model's inputs of some rows.

        Args:
            rows: with `id`, `audio`, `emotion` (class index or None), `transcript` and `hypothesis`, and where wanted
                the `speed` to play the audio at.

        Returns:
            The processor's tensors, or in the place of its audio `speech_states` (B, layers, m, d_S) and the mask of
            their frames; `labels` (B,); and the auxiliary labels `detection_labels` (B, n) and
            `correction_labels` (B, n, c).

        Raises:
            AudioError: naming the file that cannot be decoded.
            ValueError: naming the row that lacks the text the model reads, or its emotion, or whose emotion is no class
                of the model.
        """
        text = [self._text(row) for row in rows] if self.config.uses_text else None
        return self._batch(rows, text, [_words(row, "transcript") for row in rows])

    def training_batch(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Make a batch as it is trained on: with `transcript_noise`, texts have new errors at each call.

        The auxiliary labels are of these errors too. The reference of a row without a human transcript is its text
        without them.
        """
        if self.transcript_noise is None or not self.config.uses_text:
            return self(rows)
        text = [self._text(row) for row in rows]
        human = [_words(row, "transcript") for row in rows]
        references = [clean if known is None else known for known, clean in zip(human, text, strict=True)]
        return self._batch(rows, [self.transcript_noise(clean) for clean in text], references)

    def _batch(
        self, rows: list[dict[str, Any]], text: list[str] | None, references: Sequence[str | None]
    ) -> dict[str, torch.Tensor]:
        rate = self.processor.sampling_rate
        speech = cached = names = None
        if self.config.uses_speech:
            cached = None if self.feature_cache is None else self.feature_cache.batch(rows)
            if cached is None:
                speech, names = [load_at_speed(row, rate) for row in rows], [row.get("id") for row in rows]
        batch = dict(cached or {})
        if speech is not None or text is not None:
            batch |= self.processor(audio=speech, text=text, sampling_rate=rate, names=names)
        emotions = [row.get("emotion") for row in rows]
        if any(emotion is not None for emotion in emotions):
            if None in emotions:
                raise TrainingError(f"Utterance {rows[emotions.index(None)].get('id')!r} has no emotion, others have.")
            size = len(self.config.id2label or ())
            for row in rows:
                label: Any = row["emotion"]
                if isinstance(label, str) or not 0 <= label < size:
                    raise TrainingError(
                        f"Utterance {row.get('id')!r} has the emotion {label!r}: it must be 0 to {size - 1}."
                    )
            batch["labels"] = torch.tensor(emotions, dtype=torch.long)
        if self.with_auxiliary_labels and self.config.uses_text:
            batch |= self._auxiliary_labels(references, batch["input_ids"], batch["text_attention_mask"])
        return batch

    def _text(self, row: dict[str, Any]) -> str:
        text = _words(row, self.text_column)
        if text is None:
            raise TrainingError(
                f"Utterance {row.get('id')!r} has no {self.text_column!r}. Write the hypotheses with `python -m "
                "data_scripts.transcribe`, or train on human text with text_column='transcript'."
            )
        return text

    def _auxiliary_labels(
        self, references: Sequence[str | None], input_ids: torch.Tensor, mask: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Labels y_d (B, n) and y_c (B, n, c) of what the configuration trains."""
        wants_detection, wants_correction = self.config.use_error_detection, self.config.use_error_correction
        if not (wants_detection or wants_correction) or all(reference is None for reference in references):
            return {}
        detection = torch.full_like(input_ids, IGNORE_INDEX)
        targets: dict[tuple[int, int], list[Any]] = {}
        for index, reference in enumerate(references):
            pieces = input_ids[index, 1 : int(mask[index].sum()) - 1].tolist()
            # Where ASR heard nothing there is no place to put an edit at.
            if reference is None or not pieces:
                continue
            reference_pieces = self.processor.encode_transcript(reference)
            alignment = align_hypothesis(pieces, reference_pieces)
            detection[index, 1 : len(pieces) + 1] = torch.tensor(alignment.labels)
            if wants_detection:
                targets |= {(index, place + 1): target for place, target in alignment.targets.items()}
            else:  # ablation "w/o AED": the whole reference is written from the first token
                targets[index, 0] = reference_pieces
        labels = {"detection_labels": detection} if wants_detection else {}
        if wants_correction:
            labels["correction_labels"] = self._correction_labels(targets, input_ids)
        return labels

    def _correction_labels(self, targets: dict[tuple[int, int], list[Any]], input_ids: torch.Tensor) -> torch.Tensor:
        """Return {(row, place): ids} as (B, n, c), each target closed by the end token."""
        end, limit = self.processor.tokenizer.sep_token_id, self.correction_limit
        if any(len(target) >= limit for target in targets.values()):
            logger.warning_once(
                f"Correction targets over {limit} tokens are cut (the collator's max_correction_tokens)."
            )
        closed = {place: [*target[: limit - 1], end] for place, target in targets.items()}
        labels = torch.full((*input_ids.shape, max(map(len, closed.values()), default=1)), IGNORE_INDEX)
        for place, target in closed.items():
            labels[place][: len(target)] = torch.tensor(target)
        return labels


def _words(row: dict[str, Any], column: str) -> str | None:
    """The text in a row's column, or None where there is none."""
    text = row.get(column)
    if text is not None and not isinstance(text, str):
        raise TrainingError(f"Utterance {row.get('id')!r}: its {column!r} must be a string, not {type(text).__name__}.")
    return text
