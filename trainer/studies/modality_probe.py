"""Whether H_ST^(inv) looks like one modality (Eq. 12-15, 20), by probes that the training never saw.

That the discriminator of the training answers 0.5 proves little: the generator has learned to deceive this one. Two
questions are asked afterwards, both of a network that was never trained too:

* **The probe.** New networks as large as the discriminator learn to tell H_S^(spe) from H_T^(spe), and then judge
  frames of H_ST^(inv) of other utterances. A frame is *taken for* a modality where a probe is at least as sure as it is
  for three quarters of that modality's own frames. So a generator that copies one modality is found in 75 % of frames,
  as is one that copies either in turn; the midpoint of both specific frames shows what a mixture of both gets.
* **The swap test.** Noise would pass the probe. So an utterance's speech is joined with another one's text: is
  H_ST^(inv) of the two still nearer to the recording's own than to a bystander's, and to the text's own? A mixture of
  both modalities is nearer to both, a copy of one to that one, with 50 % (chance) for the other; noise has 50 % twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modeling_m4ser import M4SERForEmotionClassification
from modeling_m4ser.fusion_m4ser import masked_mean
from trainer.errors import ExperimentError
from trainer.evaluation.significance import Interval, PairedDifference, bootstrap_interval, paired_bootstrap
from trainer.evaluation.summary import markdown_table
from trainer.studies.analysis import LoadedRun
from trainer.studies.representations import Collator, run_model, untrained_fusion
from trainer.studies.retest import FinishedRun

FRAMES_PER_UTTERANCE = 10
#: Of a modality's own frames, the share that is less sure than what is taken for this modality.
UNSURE_SHARE = 0.25
_FOLDS = 5
_HIDDEN_SIZE = 256  # as the discriminator's
#: What is found -> its column.
TITLES = {
    "specific": "specific frames told right",
    "speech": "invariant frames taken for speech",
    "text": "for text",
    "one": "for one of them",
    "midpoint": "midpoints of both specific frames, for one of them",
    "swap speech": "swapped: nearer to its speech",
    "swap text": "to its text",
}
COMPARED = "one"


@dataclass
class Representations:
    """What a model makes of N utterances: k frames of each at the same places, and means over all frames.

    Attributes:
        speech: (N, k, d) frames of H_S^(spe), k = `FRAMES_PER_UTTERANCE`.
        text: (N, k, d) frames of H_T^(spe).
        invariant: (N, k, d) frames of H_ST^(inv).
        own: (N, d) means of H_ST^(inv).
        swapped: (N, d) the same of each utterance's speech with the text of the next, of the first after the last.
    """

    speech: np.ndarray
    text: np.ndarray
    invariant: np.ndarray
    own: np.ndarray
    swapped: np.ndarray


@torch.no_grad()
def collect_representations(
    model: M4SERForEmotionClassification, rows: Sequence[Mapping[str, Any]], collator: Collator, seed: int = 0
) -> Representations:
    """Run a model over utterances, in an order drawn from the seed, and keep some frames of each, drawn from it too."""
    if not (model.config.use_modality_specific and model.config.use_modality_invariant):
        raise ExperimentError("a modality probe needs a model with modality-specific and -invariant representations")
    fusion: Any = model.m4ser.fusion
    rng = np.random.default_rng(seed)

    def fuse(speech: torch.Tensor, text: torch.Tensor) -> Any:
        masks = (torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device) for hidden in (speech, text))
        return fusion(speech, next(masks), text, next(masks))

    hidden = []
    for index in rng.permutation(len(rows)):
        output = run_model(model, rows[index], collator)
        hidden.append((output["speech_hidden"], output["text_hidden"]))
    found: dict[str, list[np.ndarray]] = {name: [] for name in Representations.__dataclass_fields__}
    for (speech, text), (_, next_text) in zip(hidden, hidden[1:] + hidden[:1], strict=True):
        fused, swapped = fuse(speech, text), fuse(speech, next_text)
        chosen = rng.integers(0, speech.shape[1], FRAMES_PER_UTTERANCE)
        parts = {
            "speech": fused.speech_specific[0, chosen],
            "text": fused.text_specific[0, chosen],
            "invariant": fused.invariant[0, chosen],
            "own": masked_mean(fused.invariant, fused.frame_mask)[0],
            "swapped": masked_mean(swapped.invariant, swapped.frame_mask)[0],
        }
        for name, part in parts.items():
            found[name].append(part.float().cpu().numpy())
    return Representations(**{name: np.stack(parts) for name, parts in found.items()})


class ModalityProbe:
    """Networks that tell frames (N, k, d) of speech from frames of text; each judges utterances it did not learn from.

    Attributes:
        right: (N, 2k) whether each frame, of speech and then of text, was told right.
    """

    def __init__(self, speech: np.ndarray, text: np.ndarray, seed: int = 0):
        count, frames, size = speech.shape
        if count < 2 * _FOLDS:
            raise ExperimentError(f"a modality probe needs at least {2 * _FOLDS} utterances, not {count}")
        order = np.random.default_rng(seed).permutation(count)
        self._folds = []
        self.right = np.zeros((count, 2 * frames), dtype=bool)
        for judged in np.array_split(order, _FOLDS):
            known = np.setdiff1d(order, judged)
            network = MLPClassifier((_HIDDEN_SIZE,), early_stopping=True, max_iter=100, random_state=seed)
            probe = make_pipeline(StandardScaler(), network)
            inputs = np.concatenate([speech[known], text[known]]).reshape(-1, size)
            probe.fit(inputs, np.repeat([1, 0], len(known) * frames))
            of_speech, of_text = _score(probe, speech[judged]), _score(probe, text[judged])
            self.right[judged] = np.concatenate([of_speech > 0.5, of_text < 0.5], axis=1)
            limits = np.quantile(of_speech, UNSURE_SHARE), np.quantile(of_text, 1 - UNSURE_SHARE)
            self._folds.append((judged, probe, *limits))

    def judge(self, frames: np.ndarray) -> dict[str, np.ndarray]:
        """Return what other frames (N, k, d) are taken for, (N, k): `speech`, `text`, and just `one` of them."""
        taken = {name: np.zeros(frames.shape[:2], dtype=bool) for name in ("speech", "text")}
        for judged, probe, as_speech, as_text in self._folds:
            scores = _score(probe, frames[judged])
            taken["speech"][judged], taken["text"][judged] = scores >= as_speech, scores <= as_text
        return {**taken, "one": taken["speech"] ^ taken["text"]}


def swap_test(own: np.ndarray, swapped: np.ndarray) -> dict[str, np.ndarray]:
    """Ask whose H_ST^(inv) of one utterance's speech with the next one's text is; each dimension counts by its spread.

    From (N, d) of each utterance and of its speech with the next one's text, return (N,) booleans: whether it is nearer
    to the utterance of its speech (`speech`), and of its text (`text`), than to the one after both.
    """
    spread = own.std(0)
    scale = np.where(spread > 0, spread, 1)

    def distances(step: int) -> np.ndarray:
        return np.linalg.norm((swapped - np.roll(own, -step, axis=0)) / scale, axis=1)

    return {"speech": distances(0) < distances(2), "text": distances(1) < distances(2)}


def share_of(found: np.ndarray) -> Interval:
    """Return the share of True, (S, N) or (S, N, k) of S seeds, with its 95 % interval for others and other seeds."""
    return bootstrap_interval(*_as_predictions(found))


def difference_of(first: np.ndarray, second: np.ndarray) -> PairedDifference:
    """Return the difference of two shares of True, first − second, (S, N, k) of the same utterances and seeds."""
    labels, predictions, metric, clusters = _as_predictions(first)
    return paired_bootstrap(labels, predictions, _as_predictions(second)[1], metric, clusters)


def probe_runs(
    runs: Sequence[FinishedRun], rows: Sequence[Mapping[str, Any]], seed: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Probe S seeds of one model, and the same encoders under a fusion that was never trained.

    The first seed is of the frames; probes and untrained fusions count on from it. Return what is found of both, by the
    keys of `TITLES`: booleans (S, N) or (S, N, k).
    """
    found: tuple[list, list] = [], []
    for number, run in enumerate(runs):
        loaded = LoadedRun.load(run)
        for model, answers in zip((loaded.model, untrained_fusion(loaded.model, seed + number)), found, strict=True):
            parts = collect_representations(model, rows, loaded.collator(), seed)
            judge = ModalityProbe(parts.speech, parts.text, seed + number)
            midpoint = judge.judge((parts.speech + parts.text) / 2)["one"]
            swap = {f"swap {name}": nearer for name, nearer in swap_test(parts.own, parts.swapped).items()}
            answers.append({"specific": judge.right, **judge.judge(parts.invariant), "midpoint": midpoint, **swap})
    trained, control = ({name: np.stack([answer[name] for answer in each]) for name in TITLES} for each in found)
    return trained, control


def probe_table(findings: Mapping[str, Mapping[str, np.ndarray]]) -> str:
    """Return a Markdown table of what `probe_runs` found of each model, with differences to the first one."""
    first = next(iter(findings.values()))
    lines = []
    for name, found in findings.items():
        compared = None if found is first else _percent(difference_of(found[COMPARED], first[COMPARED]), "+")
        lines.append([name, len(found[COMPARED]), *(_percent(share_of(found[key])) for key in TITLES), compared])
    header = ["model", "runs", *TITLES.values(), f"“{TITLES[COMPARED]}”, minus the first line"]
    return markdown_table(header, lines)


def _percent(share: Interval, sign: str = "") -> str:
    """A share, or with `sign` "+" a difference, in percent with its interval where it has one."""
    ends = [100 * end for end in (share.low, share.high) if end is not None]
    return f"{100 * share.estimate:{sign}.1f}" + (f" [{ends[0]:{sign}.1f}, {ends[1]:{sign}.1f}]" if ends else "")


def _score(probe: Any, frames: np.ndarray) -> np.ndarray:
    """The probability of speech, (N, k)."""
    return probe.predict_proba(frames.reshape(-1, frames.shape[-1]))[:, 1].reshape(frames.shape[:2])


def _as_predictions(found: np.ndarray) -> tuple[np.ndarray, np.ndarray, str, list[int]]:
    """Booleans as predictions of True, so that their accuracy is their share, clustered by utterance."""
    by_seed = found.reshape(len(found), -1)
    frames_each = by_seed.shape[1] // found.shape[1]
    clusters = np.repeat(np.arange(found.shape[1]), frames_each).tolist()
    return np.ones(by_seed.shape[1], dtype=bool), by_seed, "accuracy", clusters
