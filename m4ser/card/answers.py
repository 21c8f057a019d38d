"""What models, and what they are compared with, answer to the test rows."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from datasets import DatasetDict

from data_scripts.constants import SAMPLING_RATE
from data_scripts.errors import CorpusError
from data_scripts.splits import complete_splits
from m4ser.card.conditions import EXACT, Condition
from m4ser.card.subjects import Subject, in_thirds
from m4ser.compare import read_rows
from m4ser.predict.predictor import Predictor, Settings
from modeling_m4ser import load_audio
from modeling_m4ser.decisions_m4ser import is_outside
from trainer.evaluation.linear_probe import FrozenFeatures, fit_probe

#: What stands in place of a label where a recording could not be answered.
NO_ANSWER = "(no answer)"
#: A baseline: what a linear probe predicts that is fitted on the training data, where these are known.
PROBE = "linear probe"
_NUMBERS = ["confidence", "p_true", "set_size"]
_COLUMNS = [*_NUMBERS, "predicted", "decision", "held", "outside", "error"]


def answer(
    subjects: Sequence[Subject], rows: pd.DataFrame, repeated: pd.DataFrame, conditions: Sequence[Condition]
) -> dict[str, pd.DataFrame]:
    """Return condition -> rows with what the models answer: all `rows` as they are (""), and those `repeated`.

    Where the training data are known, `PROBE` is a condition too, of which there is `predicted` alone. Each model is
    loaded once.

    Columns beside those of `rows_of`: `predicted`, `decision`, `confidence`, `p_true` (the probability of the true
    label), `held` (whether it is in the set), `set_size`, `outside` (unlike the training data), `sureness` (least,
    middling, most: thirds), `error`, and `probability_NAME` of each class. What a model does not have is None.
    """
    from tqdm.auto import tqdm

    parts: dict[str, list[pd.DataFrame]] = {}
    probed: list[pd.Series] = []
    jobs = [(Condition("", ""), rows), *((condition, repeated) for condition in conditions)]
    with tqdm(total=sum(len(some) for _, some in jobs), unit="utterance") as bar:
        for number, subject in enumerate(subjects):
            pipe = Predictor(Settings(subject.model)).pipe
            probed += [_probe(subject, pipe)] if is_probed(subjects) else []
            for condition, every in jobs:
                texts = every["text"] if condition.words is None else condition.words(every)
                some = every.assign(read=list(texts))[every["subject"] == number]
                found = []
                for each in pipe(_heard(subject, some, condition), batch_size=1 if condition.tier == EXACT else 16):
                    found.append(each)
                    bar.update()
                records = [_record(pipe.model.config, *pair) for pair in zip(some["emotion"], found, strict=True)]
                columns = [*_COLUMNS, *(f"probability_{label}" for label in pipe.model.config.id2label.values())]
                parts.setdefault(condition.name, []).append(some.join(pd.DataFrame(records, some.index, columns)))
    tables = {name: pd.concat(some) for name, some in parts.items()}
    for name, table in tables.items():
        table = table.astype(dict.fromkeys(_NUMBERS, float))
        tables[name] = table.assign(sureness=in_thirds(table["confidence"], ("least", "middling", "most")))
    return tables | ({PROBE: rows.assign(predicted=pd.concat(probed).reindex(rows.index))} if probed else {})


def _heard(subject: Subject, rows: pd.DataFrame, condition: Condition) -> Iterator[dict[str, Any]]:
    for identity, place, text in zip(rows.index, rows["place"], rows["read"], strict=True):
        samples = condition.waveform(load_audio(subject.test[place]["audio"], name=identity), identity)
        yield {"audio": {"array": samples, "sampling_rate": SAMPLING_RATE}, "text": text}


def _record(config: Any, emotion: str, found: Mapping[str, Any]) -> dict[str, Any]:
    if "error" in found:
        return {"predicted": NO_ANSWER, "decision": NO_ANSWER, "held": False, "outside": False, "error": found["error"]}
    scores = {each["label"]: each["score"] for each in found["emotions"]}
    record = {"predicted": found["emotions"][0]["label"], "decision": found["decision"], "error": None}
    record |= {"confidence": found["confidence"], "p_true": scores.get(emotion, 0.0)}
    has_sets, has_domain = config.conformal_quantile is not None, config.ood_threshold is not None
    record |= {"held": emotion in found["labels"] if has_sets else None}
    record |= {"set_size": len(found["labels"]) if has_sets else None}
    record |= {"outside": is_outside(config, found["ood_score"]) if has_domain else None}
    return record | {f"probability_{label}": score for label, score in scores.items()}


def is_probed(subjects: Sequence[Subject]) -> bool:
    """Return whether `PROBE` can be fitted: the training data of all are known."""
    return all(subject.training for subject in subjects)


def _probe(subject: Subject, pipe: Any) -> pd.Series:
    """Return what a probe predicts by features of the model's encoders: speech, and text where every row has one."""
    data, _ = complete_splits(DatasetDict({**subject.training, "test": subject.test}))
    config = pipe.model.config
    full = [name for name in ("hypothesis", "transcript") if all(None not in part[name][:] for part in data.values())]
    kinds = ["speech"] * config.uses_speech + ["text"] * (config.uses_text and bool(full))
    frozen = FrozenFeatures(lambda _: (pipe.model, pipe.processor), *full[:1])
    found = fit_probe(frozen.of(data, kinds, shared=False), data).predictions
    return found.set_index("id")["predicted"]


def baseline(place: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Return those `rows` that a finished run, or a table of predictions, has answered.

    Raises:
        CorpusError: it has answered none of them.
    """
    found = read_rows(place, {})["predicted"].dropna()
    shared = rows.index.intersection(found.index)
    if shared.empty:
        raise CorpusError(f"{place} has no prediction of these rows, e.g. {rows.index[0]}: name a run of the same data")
    return rows.loc[shared].assign(predicted=found.loc[shared])


def repeatable(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    """Return at most so many rows, spread evenly over emotions and speakers."""
    ordered = rows.assign(id=rows.index).sort_values(["emotion", "speaker", "id"])["id"]
    places = np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int)
    return rows.loc[rows.index.isin(ordered.iloc[places])]
