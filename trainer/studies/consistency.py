"""How alike the weights of speech and of text run over time, as the paper's Table VII: dynamic time warping (DTW)."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from trainer.errors import ExperimentError
from trainer.studies.representations import UtteranceWeights, scaled

#: Where speech and text are compared -> their fields in `UtteranceWeights`.
SPACES = {
    "cross-modal, H^(spe)": ("speech_specific", "text_specific"),
    "encoders, H": ("speech", "text"),
}


def dtw_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the normalised DTW distance of two sequences of weights.

    Both are scaled to 0 … 1 first. The distance is the root of the mean, over the steps of the best path, of the
    squared differences: 0 where one is the other at another tempo, at most 1, and comparable between utterances of
    different length. (The best path is the one with the least sum of squares, not the least mean.)

    Args:
        first: (m,) weights.
        second: (n,) weights.

    Raises:
        ExperimentError: the package that warps is not installed.
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
    """Return the distance between the speech's and the text's weights of one utterance, by the keys of `SPACES`.

    The special tokens at both ends of the text, which nobody says, do not count.

    Args:
        weights: of an utterance with at least one word piece.
    """
    pairs = {space: [getattr(weights, field) for field in fields] for space, fields in SPACES.items()}
    pairs["encoders, H"][1] = weights.text[1:-1]
    return {space: dtw_distance(*pair) for space, pair in pairs.items()}


def mean_interval(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Return the mean with its 95 % interval for other utterances like these, by Student's t.

    Args:
        values: one for each utterance.

    Returns:
        The mean, and the interval's ends; None where there are fewer than two values, or all are equal.
    """
    mean = float(np.mean(values))
    if len(values) < 2 or np.ptp(values) == 0:
        return mean, None, None
    interval = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    return mean, float(interval.low), float(interval.high)


def consistency_table(distances: Mapping[str, Mapping[str, Sequence[Mapping[str, float]]]]) -> str:
    """Return a table in Markdown: mean distances over utterances, with ASR and with human text, and their difference.

    Args:
        distances: row -> column of the text (`hypothesis`, `transcript`) -> what `speech_text_distances` gives of each
            utterance, the same ones in the same order.
    """
    lines = [
        "| row | space | utterances | ASR text | human text | ASR − human, paired |",
        "|---|---|---|---|---|---|",
    ]
    for row, texts in distances.items():
        for space in SPACES:
            heard, written = ([each[space] for each in texts[name]] for name in ("hypothesis", "transcript"))
            cells = [_shown(heard), _shown(written), _shown(np.subtract(heard, written).tolist(), "+")]
            lines.append(f"| {' | '.join([row, space, str(len(heard)), *cells])} |")
    return "\n".join(lines)


def _shown(values: Sequence[float], sign: str = "") -> str:
    mean, low, high = mean_interval(values)
    return f"{mean:{sign}.3f}" + ("" if low is None else f" [{low:{sign}.3f}, {high:{sign}.3f}]")
