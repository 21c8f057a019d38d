"""What to do with an answer: act on its label, on a set of labels, or not at all.

The thresholds are fields of the configuration, fitted on validation data at the end of every training.
"""

from typing import Any

import numpy as np

#: Decisions that are no label.
UNCERTAIN, NO_SPEECH = "uncertain", "no_speech"


def decide(config: Any, probabilities: Any, ood_score: float | None = None, has_speech: bool = True) -> dict[str, Any]:
    """Return what the pipeline's `return_decision` says of one utterance.

    No speech outweighs everything, then a sound unlike the training data, then a low confidence: no text overrides any
    of them.

    Args:
        config ([`M4SERConfig`]): has the labels and the thresholds.
        probabilities (`np.ndarray` or `torch.Tensor` of shape `(e,)`): calibrated.
        ood_score (`float`, *optional*): how far the utterance lies from the training data.
        has_speech (`bool`): whether speech was found in the audio.

    Returns:
        `dict`: `decision`, a label, "uncertain" or "no_speech"; `confidence`, the highest probability; `labels`, the
        conformal set, best first (the best label alone where no quantile was fitted); and `ood_score` as given.
    """
    values = np.asarray(probabilities, np.float64)
    order = np.argsort(-values, kind="stable")
    ranked = values[order]
    names, confidence = [config.id2label[index] for index in order.tolist()], float(ranked[0])
    size = 1 if config.conformal_quantile is None else max(1, int((1 - ranked <= config.conformal_quantile).sum()))
    if not has_speech:
        decision = NO_SPEECH
    elif is_outside(config, ood_score) or confidence < config.reject_below:
        decision = UNCERTAIN
    else:
        decision = names[0]
    return {"decision": decision, "confidence": confidence, "labels": names[:size], "ood_score": ood_score}


def is_outside(config: Any, ood_score: float | None) -> bool:
    """Return whether an utterance lies outside the training data; a score that is no number does."""
    return None not in (config.ood_threshold, ood_score) and not ood_score <= config.ood_threshold
