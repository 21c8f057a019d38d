"""What to do with an answer: act on its label, on a set of labels, or not at all."""

from typing import Any

import torch

#: Decisions that are no label.
UNCERTAIN, NO_SPEECH = "uncertain", "no_speech"


def decide(
    config: Any, probabilities: torch.Tensor, ood_score: float | None = None, has_speech: bool = True
) -> dict[str, Any]:
    """Return what the pipeline's `return_decision` says of one utterance.

    Args:
        config ([`M4SERConfig`]): has the labels and the thresholds.
        probabilities (`torch.Tensor` of shape `(e,)`): calibrated.
        ood_score (`float`, *optional*): how far the utterance lies from the training data.
        has_speech (`bool`): whether speech was found in the audio.

    Returns:
        `dict`: `decision`, a label, "uncertain" or "no_speech"; `confidence`, the highest probability.
    """
    best = int(probabilities.argmax())
    decision = config.id2label[best] if has_speech else NO_SPEECH
    return {"decision": decision, "confidence": float(probabilities[best])}
