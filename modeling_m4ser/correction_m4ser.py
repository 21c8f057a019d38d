"""ASR error detection (Eq. 2-3) and correction (Eq. 4-7): the decoder, and applying what it writes to a transcript."""

from dataclasses import dataclass, field

import torch
from torch import nn

from .configuration_m4ser import M4SERConfig
from .edits_m4ser import CHANGE, DELETE, IGNORE_INDEX, KEEP, apply_edits
from .encoders_m4ser import TextEncoder
from .losses_m4ser import at_least_float32, token_cross_entropy

#: Where a transcript that is rewritten as a whole (ablation "w/o AED") has its confidence: before its first piece.
WHOLE = -1


@dataclass
class TranscriptCorrection:
    """What error detection and correction say about one transcript.

    An edit is a CHANGE with the DELETEs that follow it, or DELETEs alone; it is made as a whole or not at all. The
    confidence of one of its places is the probability of the detected label, times the mean probability of the tokens
    that the decoder writes there (⟨EOS⟩ included) where that is CHANGE. The confidence of an edit is the least of its
    places'.

    Attributes:
        input_ids (`list[int]`): the transcript's word-piece ids, without special tokens.
        labels (`list[int]`): KEEP 0 / DELETE 1 / CHANGE 2 for each of them; empty where the model detects no errors.
        targets (`dict[int, list[int]]`): for each position labelled CHANGE, the ids that replace it.
        corrected_ids (`list[int]`): the corrected transcript's ids.
        confidences (`dict[int, float]`): for each position that is not KEEP, the confidence of its edit. Where the
            model detects no errors, the mean probability of the transcript's tokens, under -1.
    """

    input_ids: list[int]
    labels: list[int]
    targets: dict[int, list[int]]
    corrected_ids: list[int]
    # Rounding differs with the batch: corrections are equal where they change the same.
    confidences: dict[int, float] = field(default_factory=dict, compare=False)

    def at(self, threshold: float) -> "TranscriptCorrection":
        """Return the correction with those edits alone whose confidence is at least `threshold`; 1 or more: none."""
        confidences = {p: c for p, c in self.confidences.items() if c >= threshold and threshold < 1}
        if not self.labels:
            corrected = self.corrected_ids if WHOLE in confidences else self.input_ids
            return TranscriptCorrection(self.input_ids, [], {}, corrected, confidences)
        labels = [label if place in confidences else KEEP for place, label in enumerate(self.labels)]
        targets = {place: ids for place, ids in self.targets.items() if place in confidences}
        corrected = apply_edits(self.input_ids, labels, targets)
        return TranscriptCorrection(self.input_ids, labels, targets, corrected, confidences)


class CorrectionDecoder(nn.Module):
    """Partially autoregressive correction: one decoder row for each place to rewrite, all rows of a batch at once.

    The transcript's first token (`[CLS]`, `<s>`) is a row's ⟨BOS⟩, and its last (`[SEP]`, `</s>`) a row's ⟨EOS⟩.
    """

    def __init__(self, config: M4SERConfig):
        super().__init__()
        size, text = config.hidden_size, config.text_config
        # What the embedding block gives: ELECTRA and ALBERT widen it in a later layer, MobileBERT in the block itself.
        widened = text.model_type == "mobilebert"
        embedding_size = text.hidden_size if widened else getattr(text, "embedding_size", text.hidden_size)
        self.input_projection = nn.Linear(embedding_size + size, size)
        self.layer = nn.TransformerDecoderLayer(
            size,
            config.num_attention_heads,
            dim_feedforward=config.correction_intermediate_size,
            dropout=config.fusion_dropout,
            activation="gelu",
            batch_first=True,
        )
        if config.tie_correction_output and embedding_size != size:
            raise ValueError(
                f"tie_correction_output=True needs a hidden_size ({size}) equal to the size of the text encoder's "
                f"embeddings ({embedding_size})."
            )
        self.output = None if config.tie_correction_output else nn.Linear(size, text.vocab_size)
        self.pad_token_id = text.pad_token_id or 0

    def forward(
        self,
        tokens: torch.Tensor,
        anchors: torch.Tensor,
        memory: torch.Tensor,
        memory_mask: torch.Tensor,
        text_encoder: TextEncoder,
        last_alone: bool = False,
    ) -> torch.Tensor:
        """Score the next token at each position of (R, t) ids with ⟨BOS⟩ first, Eq. 4-6: logits (R, t, vocabulary).

        `anchors` (R, d) are h_T^(k), the vectors of the rows' places; `memory` (R, n, d) is H_T of their utterances.
        `last_alone`: score the last position only, (R, vocabulary).
        """
        steps = tokens.shape[1]
        repeated = anchors[:, None, :].expand(-1, steps, -1)
        hidden = self.input_projection(torch.cat([text_encoder.embeddings(input_ids=tokens), repeated], dim=-1))
        future = torch.ones(steps, steps, dtype=torch.bool, device=tokens.device).triu(1)
        hidden = self.layer(hidden, memory, tgt_mask=future, memory_key_padding_mask=~memory_mask)
        hidden = hidden[:, -1] if last_alone else hidden
        if self.output is None:
            return nn.functional.linear(hidden, text_encoder.model.get_input_embeddings().weight)
        return self.output(hidden)

    def loss(
        self,
        correction_labels: torch.Tensor,
        input_ids: torch.Tensor,
        text_hidden: torch.Tensor,
        text_mask: torch.Tensor,
        text_encoder: TextEncoder,
    ) -> torch.Tensor:
        """Compute L_AEC, Eq. 7, as the mean over target tokens.

        `correction_labels` (B, n, c) has the target ids at each place to rewrite, which end with ⟨EOS⟩, and -100
        elsewhere. Where there is nothing to rewrite the loss is 0, with a graph through the whole decoder all the same:
        processes that share the work wait for each other's weights and gradients.
        """
        rows = (correction_labels != IGNORE_INDEX).any(-1).nonzero()
        is_idle = len(rows) == 0
        if is_idle:
            rows = rows.new_zeros(1, 2)
        utterance, place = rows.unbind(-1)
        targets = correction_labels[utterance, place]
        previous = targets[:, :-1].masked_fill(targets[:, :-1] == IGNORE_INDEX, self.pad_token_id)
        tokens = torch.cat([input_ids[utterance, :1], previous], dim=-1)
        logits = self(tokens, text_hidden[utterance, place], text_hidden[utterance], text_mask[utterance], text_encoder)
        return logits.sum() * 0.0 if is_idle else token_cross_entropy(logits, targets)

    @torch.no_grad()
    def generate(
        self,
        rows: torch.Tensor,
        input_ids: torch.Tensor,
        text_hidden: torch.Tensor,
        text_mask: torch.Tensor,
        text_encoder: TextEncoder,
        max_new_tokens: int,
    ) -> tuple[list[list[int]], list[float]]:
        """Decode all rows (R, 2) of utterance and place at once, greedily; one that has ended takes no further part.

        Returns R lists of at most `max_new_tokens` ids without ⟨BOS⟩ and ⟨EOS⟩, and the mean probability of each row's
        tokens, ⟨EOS⟩ among them where it was written.
        """
        generated: list[list[int]] = [[] for _ in rows]
        probabilities: list[list[float]] = [[] for _ in rows]
        utterance, place = rows.unbind(-1)
        last = text_mask.sum(-1, keepdim=True) - 1
        end = input_ids.gather(1, last)[utterance, 0]
        tokens, active = input_ids[utterance, :1], torch.arange(len(rows), device=rows.device)
        for _ in range(max_new_tokens if len(rows) else 0):
            source = utterance[active]
            places = text_hidden[source, place[active]], text_hidden[source], text_mask[source]
            scores = self(tokens, *places, text_encoder, last_alone=True)
            probability, following = at_least_float32(scores).softmax(-1).max(-1)
            goes_on = following != end[active]
            for row, token, chance, more in zip(
                *(column.tolist() for column in (active, following, probability, goes_on)), strict=True
            ):
                probabilities[row].append(chance)
                if more:
                    generated[row].append(token)
            tokens = torch.cat([tokens, following[:, None]], dim=-1)[goes_on]
            active = active[goes_on]
            if not len(active):
                break
        return generated, [sum(row) / max(len(row), 1) for row in probabilities]


def correct(
    detector: nn.Module | None,
    corrector: CorrectionDecoder | None,
    text_encoder: TextEncoder,
    input_ids: torch.Tensor,
    text_hidden: torch.Tensor,
    text_mask: torch.Tensor,
    max_new_tokens: int,
) -> list[TranscriptCorrection]:
    """Detect errors, and decode what replaces them, see [`M4SERForEmotionClassification.correct_transcripts`].

    Without `detector` the whole transcript is rewritten; without `corrector` a CHANGE leaves its piece. All edits are
    made, whatever their confidence.
    """
    scores = None if detector is None else at_least_float32(detector(text_hidden))
    rows, labels = places_to_rewrite(scores, text_mask)
    utterance, place = rows.unbind(-1)
    if corrector is None:
        generated = input_ids[utterance, place][:, None].tolist()
        probabilities = [1.0] * len(generated)
    else:
        generated, probabilities = corrector.generate(
            rows, input_ids, text_hidden, text_mask, text_encoder, max_new_tokens
        )
    confidence = torch.ones(input_ids.shape, dtype=torch.float64, device=input_ids.device)
    if scores is not None and labels is not None:
        confidence = scores.softmax(-1).gather(-1, labels[..., None])[..., 0].double()
    confidence[utterance, place] *= torch.tensor(probabilities, dtype=torch.float64, device=confidence.device)
    return _collect(rows, generated, labels, input_ids, text_mask, confidence)


def places_to_rewrite(
    detection_logits: torch.Tensor | None, text_mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Find the places that the decoder has to rewrite, from the scores (B, n, 3) of KEEP, DELETE and CHANGE.

    Special tokens at both ends of a transcript are always KEEP. Without detection (ablation "w/o AED") each transcript
    that is not empty has one row, at its first token. The rows (R, 2) are utterance and place.
    """
    lengths = text_mask.sum(-1)
    if detection_logits is None:
        utterance = (lengths > 2).nonzero()
        return torch.cat([utterance, torch.zeros_like(utterance)], dim=-1), None
    labels = detection_logits.argmax(-1)
    steps = torch.arange(labels.shape[1], device=labels.device)
    inner = (steps > 0) & (steps < lengths[:, None] - 1)
    labels = labels.masked_fill(~inner, KEEP)
    return (labels == CHANGE).nonzero(), labels


def _collect(
    rows: torch.Tensor,
    generated: list[list[int]],
    labels: torch.Tensor | None,
    input_ids: torch.Tensor,
    text_mask: torch.Tensor,
    confidence: torch.Tensor,
) -> list[TranscriptCorrection]:
    """Put what the decoder wrote for each row into the transcripts; `confidence` (B, n) is that of each place."""
    written: list[dict[int, list[int]]] = [{} for _ in input_ids]
    for (utterance, place), ids in zip(rows.tolist(), generated, strict=True):
        written[utterance][place - 1] = ids
    corrections = []
    columns = written, input_ids.tolist(), text_mask.sum(-1).tolist(), confidence.tolist()
    for index, (targets, ids, length, sure) in enumerate(zip(*columns, strict=True)):
        pieces: list[int] = ids[1 : length - 1]
        if labels is None:
            confidences = {WHOLE: sure[0]} if targets else {}
            corrected = targets.get(WHOLE, pieces)
            corrections.append(TranscriptCorrection(pieces, [], {}, corrected, confidences))
            continue
        edits, confidences = labels[index, 1 : length - 1].tolist(), {}
        for edit in edits_of(edits):
            confidences |= dict.fromkeys(edit, min(sure[place + 1] for place in edit))
        corrected = apply_edits(pieces, edits, targets)
        corrections.append(TranscriptCorrection(pieces, edits, targets, corrected, confidences))
    return corrections


def edits_of(labels: list[int]) -> list[list[int]]:
    """Return the places of each edit: a CHANGE with the DELETEs that follow it, or DELETEs alone."""
    edits: list[list[int]] = []
    for place, label in enumerate(labels):
        if label == DELETE and edits and edits[-1][-1] == place - 1:
            edits[-1].append(place)
        elif label != KEEP:
            edits.append([place])
    return edits
