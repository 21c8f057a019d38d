"""What the models return, in transformers' form: fields by name, or a tuple of those that are not None."""

from dataclasses import dataclass

import torch
from transformers.utils.generic import ModelOutput


@dataclass
class M4SERModelOutput(ModelOutput):
    """Output of [`MultimodalFusion`] and of [`M4SERModel`]. What the configuration leaves out is None.

    Args:
        pooled (`torch.Tensor` of shape `(B, d)`): H_ST^(ap), Eq. 17.
        speech_hidden (`torch.Tensor` of shape `(B, m, d)`): H_S, Eq. 1.
        text_hidden (`torch.Tensor` of shape `(B, n, d)`): H_T, Eq. 1.
        speech_specific (`torch.Tensor` of shape `(B, m, d)`): H_S^(spe), Eq. 9.
        text_specific (`torch.Tensor` of shape `(B, m, d)`): H_T^(spe), Eq. 10.
        joint_hidden (`torch.Tensor` of shape `(B, m, d)`): H_ST, Eq. 11.
        invariant (`torch.Tensor` of shape `(B, m, d)`): H_ST^(inv), Eq. 12.
        frame_mask (`torch.Tensor` of shape `(B, m)`): True on valid frames.
    """

    pooled: torch.Tensor | None = None
    speech_hidden: torch.Tensor | None = None
    text_hidden: torch.Tensor | None = None
    speech_specific: torch.Tensor | None = None
    text_specific: torch.Tensor | None = None
    joint_hidden: torch.Tensor | None = None
    invariant: torch.Tensor | None = None
    frame_mask: torch.Tensor | None = None


@dataclass
class M4SEROutput(ModelOutput):
    """Output of [`M4SERForEmotionClassification`]: its losses and scores, then the fields of [`M4SERModelOutput`].

    Args:
        loss (`torch.Tensor` of shape `()`): Eq. 22 over the labels that were given, without its adversarial part.
        logits (`torch.Tensor` of shape `(B, e)`): emotion scores before the softmax, Eq. 18.
        emotion_loss (`torch.Tensor` of shape `()`): L_ER, Eq. 19.
        detection_loss (`torch.Tensor` of shape `()`): L_AED, Eq. 3.
        correction_loss (`torch.Tensor` of shape `()`): L_AEC, Eq. 7.
        contrastive_loss (`torch.Tensor` of shape `()`): L_LCL, Eq. 21.
        detection_logits (`torch.Tensor` of shape `(B, n, 3)`): KEEP / DELETE / CHANGE scores, Eq. 2; only with
            `detection_labels`.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    emotion_loss: torch.Tensor | None = None
    detection_loss: torch.Tensor | None = None
    correction_loss: torch.Tensor | None = None
    contrastive_loss: torch.Tensor | None = None
    detection_logits: torch.Tensor | None = None
    pooled: torch.Tensor | None = None
    speech_hidden: torch.Tensor | None = None
    text_hidden: torch.Tensor | None = None
    speech_specific: torch.Tensor | None = None
    text_specific: torch.Tensor | None = None
    joint_hidden: torch.Tensor | None = None
    invariant: torch.Tensor | None = None
    frame_mask: torch.Tensor | None = None


__all__ = ["M4SERModelOutput", "M4SEROutput"]
