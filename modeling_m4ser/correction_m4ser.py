"""ASR error detection (Eq. 2-3) and correction (Eq. 4-7): the decoder, and decoding the edits of a transcript."""

from dataclasses import dataclass

import torch
from torch import nn

from .configuration_m4ser import M4SERConfig
from .edits_m4ser import CHANGE, IGNORE_INDEX, KEEP, apply_edits
from .encoders_m4ser import TextEncoder
from .losses_m4ser import at_least_float32


@dataclass
class TranscriptCorrection:
    """What error detection and correction say of one transcript.

    Attributes:
        input_ids: the transcript's word-piece ids, without special tokens.
        labels: KEEP 0 / DELETE 1 / CHANGE 2 for each of them; empty where the model has no error detection.
        targets: position of a CHANGE -> the ids that replace it.
        corrected_ids: the corrected transcript's ids.
    """

    input_ids: list[int]
    labels: list[int]
    targets: dict[int, list[int]]
    corrected_ids: list[int]


class CorrectionDecoder(nn.Module):
    """Partially autoregressive correction: one decoder row for each place to rewrite, over the whole batch at once.

    A row starts with the transcript's own first token (`[CLS]`, `<s>`) as ⟨BOS⟩ and ends with its last (`[SEP]`,
    `</s>`).
    """

    def __init__(self, config: M4SERConfig):
        super().__init__()
        size, embedding_size = config.hidden_size, config.text_config.hidden_size
        self.input_projection = nn.Linear(embedding_size + size, size)
        self.layer = nn.TransformerDecoderLayer(
            size,
            config.num_attention_heads,
            dim_feedforward=config.correction_intermediate_size,
            dropout=config.fusion_dropout,
            activation="gelu",
            batch_first=True,
        )
        self.tied = config.tie_correction_output
        if self.tied and embedding_size != size:
            raise ValueError(
                f"tie_correction_output=True needs a hidden_size ({size}) equal to the text encoder's "
                f"({embedding_size})."
            )
        self.output = None if self.tied else nn.Linear(size, config.text_config.vocab_size)
        self.pad_token_id = config.text_config.pad_token_id or 0

    def forward(
        self,
        tokens: torch.Tensor,
        anchors: torch.Tensor,
        memory: torch.Tensor,
        memory_mask: torch.Tensor,
        text_encoder: TextEncoder,
    ) -> torch.Tensor:
        """Eq. 4-6.

        Args:
            tokens: z_{1:t,k}, ids (R, t), ⟨BOS⟩ first.
            anchors: h_T^(k) of each row's place (R, d).
            memory: H_T of each row's utterance (R, n, d).
            memory_mask: (R, n), True on valid tokens.
            text_encoder: whose embedding block gives TE + PE.

        Returns:
            Logits of the next token at each position (R, t, vocabulary).
        """
        embeddings = text_encoder.embeddings(input_ids=tokens)
        repeated = anchors[:, None, :].expand(-1, tokens.shape[1], -1)
        hidden = self.input_projection(torch.cat([embeddings, repeated], dim=-1))
        steps = tokens.shape[1]
        future = torch.ones(steps, steps, dtype=torch.bool, device=tokens.device).triu(1)
        hidden = self.layer(hidden, memory, tgt_mask=future, memory_key_padding_mask=~memory_mask)
        if self.tied:
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
        """L_AEC, Eq. 7, as the mean over target tokens.

        Args:
            correction_labels: (B, n, c): target ids ending with ⟨EOS⟩ at each place to rewrite, -100 elsewhere.
            input_ids: (B, n); text_hidden: H_T (B, n, d); text_mask: (B, n).

        Returns:
            Scalar. With nothing to rewrite, a zero that still reaches every parameter of the decoder: data-parallel
            training waits for the gradient of each of them.
        """
        rows = (correction_labels != IGNORE_INDEX).any(-1).nonzero()
        if len(rows) == 0:
            return sum(parameter.sum() for parameter in self.parameters()) * 0.0
        utterance, place = rows.unbind(-1)
        targets = correction_labels[utterance, place]
        targets = targets[:, : int((targets != IGNORE_INDEX).sum(-1).max())]
        previous = targets[:, :-1].masked_fill(targets[:, :-1] == IGNORE_INDEX, self.pad_token_id)
        tokens = torch.cat([input_ids[utterance, :1], previous], dim=-1)
        logits = self(tokens, text_hidden[utterance, place], text_hidden[utterance], text_mask[utterance], text_encoder)
        return nn.functional.cross_entropy(
            at_least_float32(logits.flatten(0, 1)), targets.flatten(), ignore_index=IGNORE_INDEX
        )

    @torch.no_grad()
    def generate(
        self,
        rows: torch.Tensor,
        input_ids: torch.Tensor,
        text_hidden: torch.Tensor,
        text_mask: torch.Tensor,
        text_encoder: TextEncoder,
        max_new_tokens: int,
    ) -> list[list[int]]:
        """Greedy decoding of all rows at once.

        Args:
            rows: (R, 2): utterance and place of each; the other arguments as in `loss`.
            max_new_tokens: the longest target, ⟨EOS⟩ not counted.

        Returns:
            R lists of ids without ⟨BOS⟩ and ⟨EOS⟩.
        """
        if len(rows) == 0:
            return []
        utterance, place = rows.unbind(-1)
        last = text_mask.sum(-1, keepdim=True) - 1
        end = input_ids.gather(1, last)[utterance, 0]
        tokens = input_ids[utterance, :1]
        finished = torch.zeros(len(rows), dtype=torch.bool, device=tokens.device)
        for _ in range(max_new_tokens):
            logits = self(
                tokens, text_hidden[utterance, place], text_hidden[utterance], text_mask[utterance], text_encoder
            )
            following = torch.where(finished, end, logits[:, -1].argmax(-1))
            tokens = torch.cat([tokens, following[:, None]], dim=-1)
            finished = finished | (following == end)
            if bool(finished.all()):
                break
        generated = []
        for row, stop in zip(tokens[:, 1:].tolist(), end.tolist(), strict=True):
            generated.append(row[: row.index(stop)] if stop in row else row)
        return generated


def places_to_rewrite(
    detection_logits: torch.Tensor | None, text_mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Where the decoder has to work, as rows (R, 2) of (utterance, place), and the detected labels (B, n).

    Special tokens at both ends of a transcript are always KEEP. Without detection (ablation "w/o AED") each non-empty
    transcript has one row, at its first token.
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


def collect_corrections(
    rows: torch.Tensor,
    generated: list[list[int]],
    labels: torch.Tensor | None,
    input_ids: torch.Tensor,
    text_mask: torch.Tensor,
) -> list[TranscriptCorrection]:
    """The decoder's rows put back into their transcripts; arguments as `places_to_rewrite` and `generate` give them."""
    targets: list[dict[int, list[int]]] = [{} for _ in input_ids]
    for (utterance, place), ids in zip(rows.tolist(), generated, strict=True):
        targets[utterance][place - 1] = ids
    corrections = []
    for index, (ids, length) in enumerate(zip(input_ids.tolist(), text_mask.sum(-1).tolist(), strict=True)):
        pieces = ids[1 : length - 1]
        if labels is None:
            corrections.append(TranscriptCorrection(pieces, [], {}, targets[index].get(-1, pieces)))
            continue
        edits = labels[index, 1 : length - 1].tolist()
        corrections.append(
            TranscriptCorrection(pieces, edits, targets[index], apply_edits(pieces, edits, targets[index]))
        )
    return corrections
