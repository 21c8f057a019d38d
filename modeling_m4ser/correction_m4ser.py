"""ASR error detection (Eq. 2-3) and correction (Eq. 4-7): the decoder, and applying what it writes to a transcript."""

from dataclasses import dataclass

import torch
from torch import nn

from .configuration_m4ser import M4SERConfig
from .edits_m4ser import CHANGE, IGNORE_INDEX, KEEP, apply_edits
from .encoders_m4ser import TextEncoder
from .losses_m4ser import token_cross_entropy


@dataclass
class TranscriptCorrection:
    """What error detection and correction say about one transcript.

    Attributes:
        input_ids (`list[int]`): the transcript's word-piece ids, without special tokens.
        labels (`list[int]`): KEEP 0 / DELETE 1 / CHANGE 2 for each of them; empty where the model detects no errors.
        targets (`dict[int, list[int]]`): for each position labelled CHANGE, the ids that replace it.
        corrected_ids (`list[int]`): the corrected transcript's ids.
    """

    input_ids: list[int]
    labels: list[int]
    targets: dict[int, list[int]]
    corrected_ids: list[int]


class CorrectionDecoder(nn.Module):
    """Partially autoregressive correction: one decoder row for each place to rewrite, all rows of a batch at once.

    The transcript's first token (`[CLS]`, `<s>`) is a row's ⟨BOS⟩, and its last (`[SEP]`, `</s>`) a row's ⟨EOS⟩.
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
        if config.tie_correction_output and embedding_size != size:
            raise ValueError(
                f"tie_correction_output=True needs a hidden_size ({size}) equal to the text encoder's "
                f"({embedding_size})."
            )
        self.output = None if config.tie_correction_output else nn.Linear(size, config.text_config.vocab_size)
        self.pad_token_id = config.text_config.pad_token_id or 0

    def forward(
        self,
        tokens: torch.Tensor,
        anchors: torch.Tensor,
        memory: torch.Tensor,
        memory_mask: torch.Tensor,
        text_encoder: TextEncoder,
    ) -> torch.Tensor:
        """Score the next token at each position, Eq. 4-6.

        Args:
            tokens (`torch.Tensor` of shape `(R, t)`): z_{1:t,k}, ids with ⟨BOS⟩ first.
            anchors (`torch.Tensor` of shape `(R, d)`): h_T^(k), the vector of each row's place.
            memory (`torch.Tensor` of shape `(R, n, d)`): H_T of each row's utterance.
            memory_mask (`torch.Tensor` of shape `(R, n)`): True on valid tokens.
            text_encoder (`TextEncoder`): its embedding block gives TE + PE.

        Returns:
            `torch.Tensor` of shape `(R, t, vocabulary)`: logits.
        """
        embeddings = text_encoder.embeddings(input_ids=tokens)
        repeated = anchors[:, None, :].expand(-1, tokens.shape[1], -1)
        hidden = self.input_projection(torch.cat([embeddings, repeated], dim=-1))
        steps = tokens.shape[1]
        future = torch.ones(steps, steps, dtype=torch.bool, device=tokens.device).triu(1)
        hidden = self.layer(hidden, memory, tgt_mask=future, memory_key_padding_mask=~memory_mask)
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

        Args:
            correction_labels (`torch.Tensor` of shape `(B, n, c)`): at each place to rewrite the target ids, which end
                with ⟨EOS⟩; -100 elsewhere.
            input_ids (`torch.Tensor` of shape `(B, n)`): the transcripts.
            text_hidden (`torch.Tensor` of shape `(B, n, d)`): H_T.
            text_mask (`torch.Tensor` of shape `(B, n)`): True on valid tokens.
            text_encoder (`TextEncoder`): its embedding block gives TE + PE.

        Returns:
            `torch.Tensor` of shape `()`. Where there is nothing to rewrite it is 0, with a graph that reaches every
            parameter of the decoder: data-parallel training waits for the gradient of each of them.
        """
        rows = (correction_labels != IGNORE_INDEX).any(-1).nonzero()
        if len(rows) == 0:
            return torch.stack([parameter.sum() for parameter in self.parameters()]).sum() * 0.0
        utterance, place = rows.unbind(-1)
        targets = correction_labels[utterance, place]
        targets = targets[:, : int((targets != IGNORE_INDEX).sum(-1).max())]
        previous = targets[:, :-1].masked_fill(targets[:, :-1] == IGNORE_INDEX, self.pad_token_id)
        tokens = torch.cat([input_ids[utterance, :1], previous], dim=-1)
        logits = self(tokens, text_hidden[utterance, place], text_hidden[utterance], text_mask[utterance], text_encoder)
        return token_cross_entropy(logits, targets)

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
        """Decode all rows at once, greedily.

        Args:
            rows (`torch.Tensor` of shape `(R, 2)`): utterance and place of each.
            input_ids (`torch.Tensor` of shape `(B, n)`): the transcripts.
            text_hidden (`torch.Tensor` of shape `(B, n, d)`): H_T.
            text_mask (`torch.Tensor` of shape `(B, n)`): True on valid tokens.
            text_encoder (`TextEncoder`): its embedding block gives TE + PE.
            max_new_tokens (`int`): the most tokens of a target, ⟨EOS⟩ not counted.

        Returns:
            `list[list[int]]`: R lists of ids without ⟨BOS⟩ and ⟨EOS⟩.
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
    """Find the places that the decoder has to rewrite.

    Special tokens at both ends of a transcript are always KEEP. Without detection (ablation "w/o AED") each transcript
    that is not empty has one row, at its first token.

    Args:
        detection_logits (`torch.Tensor` of shape `(B, n, 3)`, *optional*): scores of KEEP, DELETE and CHANGE.
        text_mask (`torch.Tensor` of shape `(B, n)`): True on valid tokens.

    Returns:
        `tuple[torch.Tensor, torch.Tensor | None]`: rows `(R, 2)` of utterance and place, and the detected labels
        `(B, n)`, None without detection.
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
    """Put what the decoder wrote into the transcripts.

    Args:
        rows (`torch.Tensor` of shape `(R, 2)`): utterance and place of each row, as `places_to_rewrite` returns them.
        generated (`list[list[int]]`): what the decoder wrote for each row.
        labels (`torch.Tensor` of shape `(B, n)`, *optional*): detected labels, as `places_to_rewrite` returns them.
        input_ids (`torch.Tensor` of shape `(B, n)`): the transcripts.
        text_mask (`torch.Tensor` of shape `(B, n)`): True on valid tokens.

    Returns:
        `list[TranscriptCorrection]`: one for each transcript.
    """
    targets: list[dict[int, list[int]]] = [{} for _ in input_ids]
    for (utterance, place), ids in zip(rows.tolist(), generated, strict=True):
        targets[utterance][place - 1] = ids
    corrections = []
    for index, (ids, length) in enumerate(zip(input_ids.tolist(), text_mask.sum(-1).tolist(), strict=True)):
        pieces: list[int] = ids[1 : length - 1]
        if labels is None:
            corrected = targets[index].get(-1, pieces)
            corrections.append(TranscriptCorrection(pieces, [], {}, corrected))
            continue
        edits = labels[index, 1 : length - 1].tolist()
        corrections.append(
            TranscriptCorrection(pieces, edits, targets[index], apply_edits(pieces, edits, targets[index]))
        )
    return corrections
