"""What trained models make of utterances, for the paper's Fig. 9, 10 and 11: means, and weights over time."""

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.manifold import TSNE
from transformers import set_seed

from modeling_m4ser import M4SERForEmotionClassification, M4SERProcessor
from modeling_m4ser.fusion_m4ser import masked_mean
from trainer.errors import ExperimentError

Collator = Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]]

#: Representation of Fig. 10 -> the field of [`modeling_m4ser.M4SERModelOutput`].
REPRESENTATIONS = {
    "speech-specific": "speech_specific",
    "text-specific": "text_specific",
    "modality-invariant": "invariant",
}


@dataclass(frozen=True)
class UtteranceWeights:
    """The weights of one utterance over time, not scaled (Fig. 11), see `weights_of`.

    Attributes:
        speech: (m,) of H_S, one for each frame.
        text: (n,) of H_T, one for each token, the special ones at both ends included.
        speech_specific: (m,) of H_S^(spe).
        text_specific: (m,) of H_T^(spe), one for each frame too.
        predicted: the index of the emotion that the model answers.
    """

    speech: np.ndarray
    text: np.ndarray
    speech_specific: np.ndarray
    text_specific: np.ndarray
    predicted: int


def untrained_fusion(model: M4SERForEmotionClassification, seed: int) -> M4SERForEmotionClassification:
    """Return a model with the same encoders, and random weights in everything else: what training started from.

    Args:
        model: a trained one.
        seed: of the random weights.
    """
    set_seed(seed)
    control: Any = M4SERForEmotionClassification(copy.deepcopy(model.config))
    # What is new in an M4SER starts from random weights; its encoders do not.
    for name in ("speech_encoder", "text_encoder"):
        encoder = getattr(model.m4ser, name)
        if encoder is not None:
            getattr(control.m4ser, name).load_state_dict(encoder.state_dict())
    return control.to(model.device).eval()


def mean_representations(
    model: M4SERForEmotionClassification, rows: Sequence[Mapping[str, Any]], collator: Collator
) -> dict[str, np.ndarray]:
    """Run a model over utterances, one at a time, and keep one vector of each representation.

    Args:
        model: of any row of the ablations.
        rows: N utterances, as the collator takes them.
        collator: of the model.

    Returns:
        `pooled`, H_ST^(ap) (N, d), and of a model that has them the keys of `REPRESENTATIONS`, means over the valid
        frames (N, d).
    """
    config, found = model.config, {"pooled": []}
    if config.use_modality_specific and config.use_modality_invariant:
        found |= {name: [] for name in REPRESENTATIONS}
    for row in rows:
        output = _run(model, row, collator)
        for name, parts in found.items():
            part = output["pooled"] if name == "pooled" else _mean(output, REPRESENTATIONS[name])
            parts.append(part[0].float().cpu().numpy())
    return {name: np.stack(parts) for name, parts in found.items()}


def representation_weights(
    model: M4SERForEmotionClassification, row: Mapping[str, Any], collator: Collator
) -> UtteranceWeights:
    """Return the weights of one utterance over time.

    Args:
        model: with modality-specific representations.
        row: the utterance, as the collator takes it.
        collator: of the model; its `text_column` decides which text is read.

    Raises:
        ExperimentError: the model has no modality-specific representations.
    """
    if not model.config.use_modality_specific:
        raise ExperimentError("weights over time need a model with modality-specific representations")
    output = _run(model, row, collator)
    names = {"speech": "speech_hidden", "text": "text_hidden"} | {
        name: name for name in ("speech_specific", "text_specific")
    }
    weights = {name: weights_of(output[field][0].float().cpu().numpy()) for name, field in names.items()}
    return UtteranceWeights(**weights, predicted=int(output["logits"][0].argmax()))


def weights_of(hidden: np.ndarray) -> np.ndarray:
    """Accumulate hidden features into one dimension: w_t = Σ_k |h_tk|.

    The paper does not say how it accumulates. H_i^(spe), and H_i where there is no projection to d, come out of a layer
    norm, whose features sum up to 0 before its own scale and shift: their plain sum would tell next to nothing, the sum
    of their sizes tells how far a frame or a token stands out.

    Args:
        hidden: (m, d) frames, or (n, d) tokens.

    Returns:
        (m,) or (n,).
    """
    return np.abs(hidden).sum(-1)


def scaled(weights: np.ndarray) -> np.ndarray:
    """Return weights from 0 (the least) to 1 (the largest of the sequence); all 0 where they are equal.

    Args:
        weights: (m,), at least one.
    """
    low, high = weights.min(), weights.max()
    return (weights - low) / (high - low) if high > low else np.zeros_like(weights)


def word_tokens(text: str, processor: M4SERProcessor) -> list[tuple[str, int, int]]:
    """Return the words of a transcript with the tokens that write them.

    Args:
        text: the transcript.
        processor: of the model.

    Returns:
        (word, first token, token after the last) of each word that is read, normalized; tokens count from the special
        one at the start, which is 0.
    """
    normal = processor.normalize_text(text)
    offsets = processor.tokenizer(
        normal,
        truncation=True,
        max_length=processor.max_text_length,
        return_offsets_mapping=True,
        verbose=False,
    )["offset_mapping"]
    found = []
    for word in re.finditer(r"\S+", normal):
        # A piece may begin with the white space before it; its last character is always the word's.
        own = [i for i, (start, end) in enumerate(offsets) if start < end and word.start() < end <= word.end()]
        if own:
            found.append((word[0], own[0], own[-1] + 1))
    return found


def embed(points: np.ndarray, seed: int = 0) -> np.ndarray:
    """Lay vectors out in a plane by t-SNE, the same for the same vectors and seed.

    Args:
        points: (N, d), N at least 4.
        seed: of the layout.

    Returns:
        (N, 2).

    Raises:
        ExperimentError: fewer than 4 vectors.
    """
    if len(points) < 4:
        raise ExperimentError(f"t-SNE needs at least 4 utterances, not {len(points)}")
    perplexity = min(30.0, (len(points) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(points.astype(np.float64))


@torch.no_grad()
def _run(model: M4SERForEmotionClassification, row: Mapping[str, Any], collator: Collator) -> Any:
    """What a model returns of one utterance; its emotion, which another corpus may number otherwise, is not read."""
    model.eval()
    batch = collator([{**row, "emotion": None}])
    return model(**{name: tensor.to(model.device) for name, tensor in batch.items() if "label" not in name})


def _mean(output: Any, field: str) -> torch.Tensor:
    return masked_mean(output[field], output["frame_mask"])
