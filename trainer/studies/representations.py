"""What trained models make of utterances (the paper's Fig. 9 to 11 and Table VII): means, and weights over time."""

import copy
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import stats
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
#: Where Table VII compares speech and text -> their fields in `UtteranceWeights`.
SPACES = {
    "cross-modal, H^(spe)": ("speech_specific", "text_specific"),
    "encoders, H": ("speech", "text"),
}


@dataclass(frozen=True)
class UtteranceWeights:
    """The weights of one utterance over time, not scaled (Fig. 11), see `weights_of`.

    Attributes:
        speech: (m,) of H_S, one for each frame; so are the specific ones.
        text: (n,) of H_T, one for each token, the special ones at both ends included.
        predicted: the index of the emotion that the model answers.
    """

    speech: np.ndarray
    text: np.ndarray
    speech_specific: np.ndarray
    text_specific: np.ndarray
    predicted: int


@torch.no_grad()
def run_model(model: M4SERForEmotionClassification, row: Mapping[str, Any], collator: Collator) -> Any:
    """Run a model on one utterance; its emotion, which another corpus may number otherwise, is not read."""
    model.eval()
    batch = collator([{**row, "emotion": None}])
    return model(**{name: tensor.to(model.device) for name, tensor in batch.items() if "label" not in name})


def untrained_fusion(model: M4SERForEmotionClassification, seed: int) -> M4SERForEmotionClassification:
    """Return a model with the same encoders, and random weights in everything else: what training started from."""
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
    """Run a model over N utterances, and keep one vector of each representation, (N, d), a mean over the frames.

    `pooled` is H_ST^(ap); a model that has them also has the keys of `REPRESENTATIONS`.
    """
    config, found = model.config, {"pooled": []}
    if config.use_modality_specific and config.use_modality_invariant:
        found |= {name: [] for name in REPRESENTATIONS}
    for row in rows:
        output = run_model(model, row, collator)
        for name, parts in found.items():
            field = REPRESENTATIONS.get(name)
            part = masked_mean(output[field], output["frame_mask"]) if field else output["pooled"]
            parts.append(part[0].float().cpu().numpy())
    return {name: np.stack(parts) for name, parts in found.items()}


def representation_weights(
    model: M4SERForEmotionClassification, row: Mapping[str, Any], collator: Collator
) -> UtteranceWeights:
    """Return the weights of one utterance over time, of the text that the collator reads."""
    output = run_model(model, row, collator)
    fields = "speech_hidden", "text_hidden", "speech_specific", "text_specific"
    weights = (weights_of(output[field][0].float().cpu().numpy()) for field in fields)
    return UtteranceWeights(*weights, predicted=int(output["logits"][0].argmax()))


def weights_of(hidden: np.ndarray) -> np.ndarray:
    """Accumulate hidden features (m, d) into one dimension (m,): w_t = Σ_k |h_tk|.

    The paper does not say how it accumulates. H_i^(spe), and H_i where there is no projection to d, come out of a layer
    norm, whose features sum up to 0 before its own scale and shift: their plain sum would tell next to nothing, the sum
    of their sizes tells how far a frame or a token stands out.
    """
    return np.abs(hidden).sum(-1)


def scaled(weights: np.ndarray) -> np.ndarray:
    """Return weights (m,) from 0 (the least) to 1 (the largest of the sequence); all 0 where they are equal."""
    low, high = weights.min(), weights.max()
    return (weights - low) / (high - low) if high > low else np.zeros_like(weights)


def word_tokens(text: str, processor: M4SERProcessor) -> list[tuple[str, int, int]]:
    """Return (word, first token, token after the last) of each word that is read; token 0 is the special one before."""
    normal = processor.normalize_text(text)
    limit: dict[str, Any] = {"truncation": True, "max_length": processor.max_text_length, "verbose": False}
    offsets = processor.tokenizer(normal, return_offsets_mapping=True, **limit)["offset_mapping"]
    found = []
    for word in re.finditer(r"\S+", normal):
        # A piece may begin with the white space before it; its last character is always the word's.
        own = [i for i, (start, end) in enumerate(offsets) if start < end and word.start() < end <= word.end()]
        if own:
            found.append((word[0], own[0], own[-1] + 1))
    return found


def embed(points: np.ndarray, seed: int = 0) -> np.ndarray:
    """Lay vectors (N, d) out in a plane (N, 2) by t-SNE, the same for the same vectors and seed."""
    if len(points) < 4:
        raise ExperimentError(f"t-SNE needs at least 4 utterances, not {len(points)}")
    perplexity = min(30.0, (len(points) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(points.astype(np.float64))


def dtw_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the normalised dynamic time warping (DTW) distance of two sequences of weights (m,) and (n,).

    Both are scaled to 0 … 1 first. The distance is the root of the mean, over the steps of the best path, of the
    squared differences: 0 where one is the other at another tempo, at most 1, and comparable between utterances of
    different length. (The best path is the one with the least sum of squares, not the least mean.)
    """
    try:
        from dtaidistance import dtw
    except ImportError as error:
        raise ExperimentError(
            'Table VII needs the package dtaidistance: pip install -c constraints.txt -e ".[analysis]"'
        ) from error
    sequences = [np.ascontiguousarray(scaled(part), dtype=np.double) for part in (first, second)]
    path, distance = dtw.warping_path_fast(*sequences, include_distance=True)
    return float(distance) / math.sqrt(len(path))


def speech_text_distances(weights: UtteranceWeights) -> dict[str, float]:
    """Return the distance between speech's and text's weights of one utterance, by the keys of `SPACES`.

    The special tokens at both ends of the text, which nobody says, do not count: it needs a word piece between them.
    """
    pairs = {space: [getattr(weights, field) for field in fields] for space, fields in SPACES.items()}
    pairs["encoders, H"][1] = weights.text[1:-1]
    return {space: dtw_distance(*pair) for space, pair in pairs.items()}


def mean_interval(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Return the mean over utterances and its 95 % interval, by Student's t: None where the values do not vary."""
    mean = float(np.mean(values))
    if len(values) < 2 or np.ptp(values) == 0:
        return mean, None, None
    interval = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    return mean, float(interval.low), float(interval.high)
