"""Speed perturbation (Ko et al. 2015): more voices and tempos to train on, out of the recordings there are."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset, concatenate_datasets

from modeling_m4ser import load_audio
from modeling_m4ser.rows_m4ser import read_channel, read_part
from trainer.errors import TrainingError

SPEED_COLUMN = "speed"


def with_speeds(data: Dataset, factors: Sequence[float]) -> Dataset:
    """Return the rows of `data` once at each speed; without 1.0 the recordings themselves are not trained on.

    A new column `speed` tells the collator which; `duration` is divided by it. A recording played at 1.1 times its
    speed is shorter and higher by that factor, as if another person had spoken it. The copies do not depend on a draw
    in each epoch, so a resumed run sees the same rows.
    """
    if not isinstance(data, Dataset):
        raise TrainingError(
            f"speed_perturbation needs a datasets.Dataset to train on, not {type(data).__name__}: load the corpus with "
            "data_scripts.load_prepared or leave speed_perturbation out."
        )
    copies = []
    for factor in factors:
        durations = [seconds / factor for seconds in data["duration"]]
        copy = data.add_column(SPEED_COLUMN, [float(factor)] * len(data)).remove_columns("duration")
        copies.append(copy.add_column("duration", durations, feature=data.features["duration"]))
    return concatenate_datasets(copies)


def load_at_speed(row: Mapping[str, Any], sampling_rate: int) -> np.ndarray:
    """Return the waveform (samples,) of a row's recording, played at the row's `speed` where it has one."""
    # Samples at 1/1.1 of the rate, taken for samples at the rate: the recording at 1.1 times its speed.
    rate = sampling_rate / (row.get(SPEED_COLUMN) or 1)
    channel, part = read_channel(row.get("channel")), read_part(row)
    return load_audio(row["audio"], rate, name=row.get("id"), channel=channel, part=part)
