"""The paper's own numbers, exactly as it prints them (He et al., IEEE TASLP 2025), to stand beside measured ones."""

from collections.abc import Mapping
from pathlib import Path

from data_scripts.corpora import CORPORA
from data_scripts.corpora.report import prepared_report

_CORPORA = {name: record.paper for name, record in CORPORA.items() if record.paper is not None}


#: Their names as the paper writes them.
TITLES: Mapping[str, str] = {name: CORPORA[name].title for name in _CORPORA}

#: The metrics of each corpus in Tables III and IV: the paper's name and the one that `emotion_metrics` uses.
METRICS: Mapping[str, Mapping[str, str]] = {name: numbers.metrics for name, numbers in _CORPORA.items()}

#: corpus -> row of `trainer.experiments.ablations.ABLATIONS` -> {metric: percent}: Table IV, and what Tables V and VI
#: add of IEMOCAP.
ABLATION_TABLE: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    name: {row: dict(zip(numbers.metrics.values(), values, strict=True)) for row, values in numbers.ablations.items()}
    for name, numbers in _CORPORA.items()
}

# Tables VIII and IX: utterances of each class from the target corpus, row, and its metrics on MELD and on IEMOCAP.
_TRANSFER = (
    (0, "speech & text + concat", (53.0, 52.4), (58.9, 57.4)),
    (0, "+ MSR & MIR", (54.7, 53.2), (60.8, 59.9)),
    (0, "w/o AED & AEC", (55.6, 53.9), (61.9, 60.7)),
    (0, "M4SER", (57.3, 55.5), (64.0, 62.2)),
    (5, "M4SER", (57.9, 56.0), (66.4, 64.4)),
    (10, "M4SER", (58.7, 58.0), (66.7, 67.7)),
    (20, "M4SER", (59.4, 58.8), (69.0, 68.7)),
    (60, "M4SER", (62.1, 61.5), (74.0, 75.9)),
)

#: (source, target) -> utterances of each class from the target -> row -> {metric: percent}.
TRANSFER_TABLE: dict[tuple[str, str], dict[int, dict[str, dict[str, float]]]] = {}
for _shots, _row, *_values in _TRANSFER:
    for _pair, _numbers in zip((("iemocap", "meld"), ("meld", "iemocap")), _values, strict=True):
        _rows = TRANSFER_TABLE.setdefault(_pair, {}).setdefault(_shots, {})
        _rows[_row] = dict(zip(METRICS[_pair[1]].values(), _numbers, strict=True))

#: Table V: row of `ABLATIONS` -> millions of parameters, hours of training over 100 epochs, and milliseconds of
#: inference per utterance with their deviation; on IEMOCAP, with one Tesla V100.
COST_TABLE: Mapping[str, Mapping[str, float]] = {
    row: {"parameters": parameters, "train_hours": hours, "inference_ms": mean, "inference_ms_std": deviation}
    for row, parameters, hours, mean, deviation in (
        ("only speech", 316.2, 5.4, 23.7, 0.1),
        ("only text", 109.5, 0.5, 6.3, 0.1),
        ("speech & text + concat", 426.9, 9.6, 29.6, 0.1),
        ("+ MSR & MIR", 481.4, 12.0, 44.8, 0.1),
        ("w/o AED & AEC", 481.6, 20.8, 44.5, 0.6),
        ("M4SER", 512.9, 21.5, 44.7, 0.2),
    )
}

#: Table VII: the DTW distance between speech and text of its examples (a) and (b), with ASR and with human text.
CONSISTENCY_TABLE: Mapping[str, Mapping[str, float]] = {
    "a": {"hypothesis": 0.52, "transcript": 1.89},
    "b": {"hypothesis": 1.46, "transcript": 1.57},
}


def stand_in_reason(corpus: str, utterances: int, folder: str | Path) -> str:
    """Return why a corpus is another one in the layout of the paper's; empty where it is the paper's, or none of them.

    The number of utterances decides where the report of its prepared folder, of an earlier version, does not say.
    """
    if corpus not in _CORPORA:
        return ""
    report = prepared_report(folder)
    if report is not None and report.stand_in is not None:
        return report.stand_in
    whole = _CORPORA[corpus].utterances
    return f"{utterances} utterances instead of {whole}" if abs(utterances - whole) > whole / 100 else ""
