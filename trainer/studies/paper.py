"""The paper's own numbers, exactly as it prints them (He et al., IEEE TASLP 2025), to stand beside measured ones."""

from collections.abc import Mapping

#: What a corpus of a table is called in the paper -> its utterances there (IEMOCAP's four classes; MELD's tables).
UTTERANCES: Mapping[str, int] = {"iemocap": 5531, "meld": 13708}

#: Their names as the paper writes them.
TITLES: Mapping[str, str] = {"iemocap": "IEMOCAP", "meld": "MELD"}

#: The metrics of each corpus in Tables III and IV: the paper's name and the one that `emotion_metrics` uses.
METRICS: Mapping[str, Mapping[str, str]] = {
    "iemocap": {"WA": "wa", "UA": "ua"},
    "meld": {"ACC": "accuracy", "W-F1": "weighted_f1"},
}

#: Table IV, in percent: row -> (IEMOCAP's WA and UA, MELD's ACC and W-F1).
_TABLE_IV = {
    "M4SER": (79.2, 80.1, 66.5, 66.0),
    "only speech": (68.9, 69.8, 51.7, 45.1),
    "only text": (65.1, 66.4, 62.2, 58.6),
    "speech & text + concat": (73.4, 75.2, 63.9, 60.8),
    "w/o MSR": (77.3, 78.4, 65.0, 62.4),
    "w/o MIR": (78.9, 79.5, 65.6, 64.5),
    "w/o MSR & MIR": (76.5, 77.9, 64.8, 61.7),
    "w/o AED": (76.9, 78.3, 64.3, 61.7),
    "w/o AEC": (78.0, 79.2, 65.9, 64.1),
    "w/o AED & AEC": (77.3, 78.6, 65.1, 62.6),
    "w/o GAN": (78.7, 79.8, 65.8, 65.3),
    "w/o LCL": (78.2, 79.6, 65.9, 64.8),
    "w/o GAN & LCL": (78.1, 79.3, 65.5, 64.1),
}

#: corpus -> row of `trainer.experiments.ablations.ABLATIONS` -> {metric: percent}. The row "+ MSR & MIR" is Table V's,
#: which is of IEMOCAP alone, as Table VI is.
ABLATION_TABLE: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    "iemocap": {
        **{row: {"wa": wa, "ua": ua} for row, (wa, ua, _, _) in _TABLE_IV.items()},
        "+ MSR & MIR": {"wa": 76.6, "ua": 77.4},
        "M4SER, human text": {"wa": 78.4, "ua": 79.9},  # Table VI
    },
    "meld": {row: {"accuracy": accuracy, "weighted_f1": f1} for row, (_, _, accuracy, f1) in _TABLE_IV.items()},
}

#: Tables VIII and IX: (source, target) -> utterances of each class from the target -> row -> {metric: percent}.
TRANSFER_TABLE: Mapping[tuple[str, str], Mapping[int, Mapping[str, Mapping[str, float]]]] = {
    (source, target): {
        shots: {row: dict(zip(metrics, values, strict=True)) for row, values in rows.items()}
        for shots, rows in by_shots.items()
    }
    for source, target, metrics, by_shots in (
        (
            "iemocap",
            "meld",
            ("accuracy", "weighted_f1"),
            {
                0: {
                    "speech & text + concat": (53.0, 52.4),
                    "+ MSR & MIR": (54.7, 53.2),
                    "w/o AED & AEC": (55.6, 53.9),
                    "M4SER": (57.3, 55.5),
                },
                5: {"M4SER": (57.9, 56.0)},
                10: {"M4SER": (58.7, 58.0)},
                20: {"M4SER": (59.4, 58.8)},
                60: {"M4SER": (62.1, 61.5)},
            },
        ),
        (
            "meld",
            "iemocap",
            ("wa", "ua"),
            {
                0: {
                    "speech & text + concat": (58.9, 57.4),
                    "+ MSR & MIR": (60.8, 59.9),
                    "w/o AED & AEC": (61.9, 60.7),
                    "M4SER": (64.0, 62.2),
                },
                5: {"M4SER": (66.4, 64.4)},
                10: {"M4SER": (66.7, 67.7)},
                20: {"M4SER": (69.0, 68.7)},
                60: {"M4SER": (74.0, 75.9)},
            },
        ),
    )
}

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


def is_stand_in(corpus: str, utterances: int) -> bool:
    """Whether a corpus is another one in the layout of the paper's, or a part of it: its size differs by over 1 %.

    Args:
        corpus: its name in the registry; one that the paper does not use stands in for none.
        utterances: that it has.
    """
    return corpus in UTTERANCES and abs(utterances - UTTERANCES[corpus]) > UTTERANCES[corpus] / 100
