"""Robustness: each condition's texts and measured WER, what is compared, and what is written."""

from pathlib import Path

import jiwer
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from data_scripts.errors import CorpusError
from tests.helpers.corpus import PAIRS, tiny_corpus
from trainer.errors import ExperimentError
from trainer.inputs.asr_noise import fit
from trainer.studies import robustness
from trainer.studies.retest import FinishedRun
from trainer.studies.robustness import choose_runs, condition_tables, draw, make_conditions, read_pairs

NOISE = fit((hypothesis, reference) for reference, hypothesis in PAIRS)


@pytest.fixture(scope="module")
def corpus():
    return tiny_corpus(18)


@pytest.fixture(scope="module")
def conditions(corpus):
    other = {(None, name): "we go home" for name in corpus["id"]} | {(None, "elsewhere"): "unused"}
    return make_conditions(corpus, NOISE, [0.5, 0, 0.2], {"home, always": other})


def test_each_condition_has_its_texts_and_its_measured_wer(corpus, conditions):
    human = corpus["transcript"][:]
    noisy = {
        wer: [NOISE.corrupt(text, wer, f"0 {name}") for name, text in zip(corpus["id"], human, strict=True)]
        for wer in (0.2, 0.5)
    }
    wanted = {
        "human text": ("human", human),
        "noise 20 %": ("noise", noisy[0.2]),
        "noise 50 %": ("noise", noisy[0.5]),
        "none": ("recogniser", corpus["hypothesis"][:]),
        "home, always": ("recogniser", ["we go home"] * 18),
    }
    assert [condition.name for condition in conditions] == list(wanted)
    for condition in conditions:
        kind, texts = wanted[condition.name]
        assert condition.kind == kind
        assert condition.data["hypothesis"][:] == texts
        # These texts are as the normaliser writes them, but for "i am".
        assert condition.wer == pytest.approx(jiwer.wer(human, texts), abs=1e-4)
        wrong = sum(heard != said for heard, said in zip(human, texts, strict=True))
        assert condition.with_error == pytest.approx(wrong / 18, abs=1e-4)
        kept, before = (table.remove_columns(["hypothesis", "asr_model"])[:] for table in (condition.data, corpus))
        assert kept == before


def test_what_cannot_be_a_condition(corpus):
    gap = corpus.map(lambda row: {"hypothesis": None if row["id"] == "clip00" else row["hypothesis"]})
    assert [condition.name for condition in make_conditions(gap, NOISE, [], {})] == ["human text"]
    texts = {(None, name): "we" for name in corpus["id"]}
    with pytest.raises(ExperimentError, match="are called noise_20: give the hypotheses another NAME"):
        make_conditions(corpus, NOISE, [0.2], {"noise 20 %": texts})
    del texts[(None, "clip03")]
    with pytest.raises(CorpusError, match=r"X lacks 1 of 18 utterances, e\.g\. clip03"):
        make_conditions(corpus, NOISE, [], {"X": texts})
    with pytest.raises(CorpusError, match="18 of 18 utterances have no human text"):
        make_conditions(tiny_corpus(18, with_transcripts=False), NOISE, [], {})


# Measuring


def run(row, seed):
    return FinishedRun(Path(row), row, f"own_split/seed{seed}", {"model_config": {"modalities": "both"}})


def table(corpus, wrong):
    """Predictions that are wrong at every so manieth utterance."""
    names = corpus.features["emotion"].names
    emotions = [names[label] for label in corpus["emotion"]]
    predicted = [names[0] if n % wrong == 0 else emotion for n, emotion in enumerate(emotions)]
    columns = {"id": corpus["id"][:], "speaker": None, "emotion": emotions, "predicted": predicted}
    return pd.DataFrame(columns).set_index("id").sort_index()


@pytest.fixture(scope="module")
def tables(corpus, conditions):
    """M4SER is better than concatenation, and the better the more errors there are."""
    return {
        condition.name: {
            **{run("M4SER", seed): table(corpus, 7) for seed in (1, 2)},
            **{run("speech & text + concat", seed): table(corpus, 6 - 4 * (condition.wer > 0.3)) for seed in (1, 2)},
            run("only speech", 1): table(corpus, 5),
        }
        for condition in conditions
    }


@pytest.fixture(scope="module")
def made(corpus, conditions, tables):
    """Three utterances make a cluster."""
    names = corpus.features["emotion"].names
    return condition_tables(conditions, tables, names, lambda name, _: str(int(name[4:]) // 3))


def test_each_condition_has_a_table_of_its_errors_where_the_model_alone_is_compared(conditions, tables, made):
    by_name = {condition.name: condition for condition in conditions}
    assert [by_name[name].wer for name in made] == sorted(condition.wer for condition in conditions)
    for name, table in made.items():
        expected = {
            run.row: f1_score(predictions["emotion"], predictions["predicted"], average="weighted")
            for run, predictions in tables[name].items()
        }
        found = {record["row"]: record["interval"]["estimate"] for record in table.records}
        assert found == pytest.approx(expected)
        assert [list(each["differences"]) for each in table.records] == [["speech & text + concat"], [], []]
        for record in table.records:
            assert record["interval"]["clusters"] == 6
            assert record["facts"]["WER"] == pytest.approx(100 * by_name[name].wer, abs=0.05)
            assert record["facts"]["utterances with errors"] == pytest.approx(100 * by_name[name].with_error, abs=0.05)


def test_the_curve_is_of_human_text_and_noise_and_recognisers_are_markers(conditions, made, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(robustness, "plot_robustness", lambda *arguments: drawn.append(arguments))
    draw(conditions, made, tmp_path / "figure.png")
    ((curves, (subtracted, difference), markers, metric, path),) = drawn
    noisy = sorted((c for c in conditions if c.kind != "recogniser"), key=lambda c: c.wer)
    assert set(curves) == {"M4SER", "speech & text + concat", "only speech"}
    for name, points in curves.items():
        records = [next(r for r in made[c.name].records if r["row"] == name) for c in noisy]
        expected = [(c.wer, r["interval"]["estimate"]) for c, r in zip(noisy, records, strict=True)]
        assert [(wer, interval.estimate) for wer, interval in points] == expected
    recognisers = {c.name: c.wer for c in conditions if c.kind == "recogniser"}
    assert {name: wer for name, (wer, _) in markers.items()} == recognisers
    assert subtracted == "M4SER − speech & text + concat"
    for c, (wer, interval) in zip(noisy, difference, strict=True):
        compared = made[c.name].records[0]["differences"]["speech & text + concat"]
        assert (wer, interval.estimate, interval.low) == (c.wer, compared["estimate"], compared["low"])
    assert (metric, path.name) == ("W-F1", "figure.png")


def test_rows_keep_their_order_and_those_without_a_run_are_printed(capsys):
    runs = [run("only text", 1), run("M4SER", 1), run("M4SER", 2)]
    assert choose_runs(runs, ["M4SER", "w/o AED", "only text"]) == [*runs[1:], runs[0]]
    assert "no finished run of: w/o AED" in capsys.readouterr().out
    with pytest.raises(ExperimentError, match="no finished run is of w/o GAN; there are M4SER, only text"):
        choose_runs(runs, ["w/o GAN"])


def test_pairs_are_those_of_the_table_or_of_the_train_split(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("hypothesis,reference\nwe go,we go home\n,nothing heard\n", encoding="utf-8")
    assert read_pairs(path, {}, "x") == [("we go", "we go home"), ("", "nothing heard")]
    (tmp_path / "gap.jsonl").write_text('{"hypothesis": "a", "reference": "b"}\n{"reference": "c"}\n', encoding="utf-8")
    assert read_pairs(tmp_path / "gap.jsonl", {}, "x") == [("a", "b")]
    train = {"hypothesis": ["a", None, "c"], "transcript": ["A", "B", None]}
    test = {"hypothesis": ["heard"], "transcript": ["said"]}
    assert read_pairs(None, {"train": train, "test": test}, "x") == [("a", "A")]
    with pytest.raises(CorpusError, match="x has no train split to fit the noise model on: give --pairs"):
        read_pairs(None, {"test": train}, "x")
    path.write_text("hypothesis,text\na,b\n", encoding="utf-8")
    with pytest.raises(ExperimentError, match="has no column 'reference'; its columns: hypothesis, text"):
        read_pairs(path, {}, "x")
