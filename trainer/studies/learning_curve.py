"""A corpus with a part of its training data, for a learning curve: how much of a difference is a lack of data."""

import dataclasses
import math
import random

from datasets import Dataset, DatasetDict

from data_scripts.splits import rows_by_emotion
from trainer.errors import ExperimentError
from trainer.experiments.protocols import Division


def with_training_share(division: Division, share: float, seed: int) -> Division:
    """Return a division whose folds train on a share of their utterances, and validate and test on the same as before.

    The utterances are drawn emotion by emotion, at least one of each that is there. A smaller share is a part of a
    larger one of the same seed.

    Args:
        division: the whole corpus.
        share: of the training utterances, above 0 and at most 1, which returns the division as it is.
        seed: of the draw.

    Raises:
        ExperimentError: a share outside.
    """
    if not 0 < share <= 1:
        raise ExperimentError(f"A share of the training data lies above 0 and at most at 1, not at {share:g}.")
    if share == 1:
        return division
    folds = {}
    for name, (data, description) in division.folds.items():
        train = data["train"].select(_draw(data["train"], share, f"{seed} {name}"))
        described = {**description, "train": {"utterances": len(train), "share": share, "seed": seed}}
        folds[name] = DatasetDict({**data, "train": train}), described
    words = f"{division.description}, {100 * share:g} % of the training data"
    return dataclasses.replace(division, folds=folds, description=words)


def training_utterances(division: Division) -> float:
    """Return how many utterances train, the mean over folds."""
    counts = [len(data["train"]) for data, _ in division.folds.values()]
    return sum(counts) / len(counts)


def _draw(data: Dataset, share: float, seed: str) -> list[int]:
    """Numbers of rows, ascending."""
    dice, drawn = random.Random(seed), []
    for rows in rows_by_emotion(data, range(len(data))).values():
        dice.shuffle(rows)
        drawn += rows[: max(1, math.floor(share * len(rows) + 0.5))]
    return sorted(drawn)
