"""Whether a representation tells its modality, by an independent probe; and whether both modalities shape it alike.

That the discriminator of the training answers 0.5 proves little: a constant shift would do. So a new one is trained
afterwards, on other frames than it is tested on, and the same is done to a network that was never trained.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modeling_m4ser import M4SERForEmotionClassification
from modeling_m4ser.fusion_m4ser import masked_mean

Collator = Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]]

FRAMES_PER_UTTERANCE = 10
_TRAINED_SHARE = 0.7
_HIDDEN_SIZE = 256  # as the discriminator's


@dataclass
class ModalityFrames:
    """Frames whose modality is known, `FRAMES_PER_UTTERANCE` of each utterance.

    Attributes:
        speech: (N, k, d) frames of speech.
        text: (N, k, d) frames of text.
    """

    speech: np.ndarray
    text: np.ndarray


@torch.no_grad()
def _encodings(
    model: M4SERForEmotionClassification, rows: Sequence[Mapping[str, Any]], collator: Collator
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """H_S (1, m, d) and H_T (1, n, d) of each utterance."""
    model.eval()
    for row in rows:
        batch = {name: tensor.to(model.device) for name, tensor in collator([dict(row)]).items() if "label" not in name}
        output = model(**batch)
        yield output["speech_hidden"], output["text_hidden"]


def _all(hidden: torch.Tensor) -> torch.Tensor:
    """A mask of one utterance without padding."""
    return torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)


@torch.no_grad()
def collect_frames(
    model: M4SERForEmotionClassification, rows: Sequence[Mapping[str, Any]], collator: Collator, seed: int = 0
) -> dict[str, ModalityFrames]:
    """Return frames of each representation with their modality.

    The specific representations have theirs. An invariant frame is made of both; here it is made of one alone, the
    other being the mean vector of all utterances: H_ST^(inv) of speech, and of text.

    Args:
        model: with modality-specific and -invariant representations.
        rows: utterances, as the collator takes them.
        collator: of the model.
        seed: of the choice of frames.

    Returns:
        `specific` and `invariant`.
    """
    encoded = list(_encodings(model, rows, collator))
    mean_speech = torch.cat([speech[0] for speech, _ in encoded]).mean(0)
    mean_text = torch.cat([text[0] for _, text in encoded]).mean(0)
    fusion: Any = model.m4ser.fusion
    generator = np.random.default_rng(seed)
    found: dict[str, list[np.ndarray]] = {name: [] for name in ("ss", "st", "is", "it")}
    for speech, text in encoded:
        mask = _all(speech)
        both = fusion(speech, mask, text, _all(text))
        neutral_text = mean_text.expand(1, 1, -1)
        of_speech = fusion(speech, mask, neutral_text, _all(neutral_text)).invariant
        of_text = fusion(mean_speech.expand_as(speech), mask, text, _all(text)).invariant
        chosen = generator.integers(0, speech.shape[1], FRAMES_PER_UTTERANCE)
        parts = (both.speech_specific, both.text_specific, of_speech, of_text)
        for name, part in zip(found, parts, strict=True):
            found[name].append(part[0, chosen].float().cpu().numpy())
    stacked = {name: np.stack(parts) for name, parts in found.items()}
    return {
        "specific": ModalityFrames(stacked["ss"], stacked["st"]),
        "invariant": ModalityFrames(stacked["is"], stacked["it"]),
    }


def probe_modality(frames: ModalityFrames, seed: int = 0) -> dict[str, float]:
    """Train a probe as large as the discriminator to tell speech from text, and test it on other utterances.

    Args:
        frames: to tell apart.
        seed: of the division of utterances and of the probe's weights.

    Returns:
        `accuracy` on the tested frames (0.5: they do not tell), with `low` and `high` of its 95 % interval over
        utterances.
    """
    count = len(frames.speech)
    order = np.random.default_rng(seed).permutation(count)
    parts = order[: round(_TRAINED_SHARE * count)], order[round(_TRAINED_SHARE * count) :]

    def table(utterances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        both = np.stack([frames.speech[utterances], frames.text[utterances]], axis=1)
        labels = np.broadcast_to(np.array([1, 0])[None, :, None], both.shape[:3])
        return both.reshape(-1, both.shape[-1]), labels.reshape(-1)

    probe = make_pipeline(
        StandardScaler(), MLPClassifier((_HIDDEN_SIZE,), early_stopping=True, max_iter=100, random_state=seed)
    )
    probe.fit(*table(parts[0]))
    inputs, labels = table(parts[1])
    right = (probe.predict(inputs) == labels).reshape(len(parts[1]), -1).mean(1)
    draws = np.random.default_rng(seed).integers(0, len(right), (2000, len(right)))
    low, high = np.quantile(right[draws].mean(1), [0.025, 0.975])
    return {"accuracy": float(right.mean()), "low": float(low), "high": float(high)}


@torch.no_grad()
def swap_test(
    model: M4SERForEmotionClassification, rows: Sequence[Mapping[str, Any]], collator: Collator
) -> dict[str, float]:
    """Exchange one modality of each utterance for the next utterance's, and see how far H_ST^(inv) moves.

    Args:
        model: with a modality-invariant representation.
        rows: utterances, at least two.
        collator: of the model.

    Returns:
        `speech` and `text`: the mean distance by which the mean over frames moves when that modality is exchanged,
        relative to the distance when both are; and `balance`, the smaller of them over the larger: 1 where both
        modalities shape the representation alike.
    """
    encoded = list(_encodings(model, rows, collator))
    fusion: Any = model.m4ser.fusion

    def invariant(speech: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        mask = _all(speech)
        return masked_mean(fusion(speech, mask, text, _all(text)).invariant, mask)[0]

    moved = {"speech": 0.0, "text": 0.0, "both": 0.0}
    for (speech, text), (other_speech, other_text) in zip(encoded, encoded[1:] + encoded[:1], strict=True):
        own = invariant(speech, text)
        moved["speech"] += (invariant(other_speech, text) - own).norm().item()
        moved["text"] += (invariant(speech, other_text) - own).norm().item()
        moved["both"] += (invariant(other_speech, other_text) - own).norm().item()
    shares = {name: moved[name] / moved["both"] for name in ("speech", "text")}
    return {**shares, "balance": min(shares.values()) / max(shares.values())}
