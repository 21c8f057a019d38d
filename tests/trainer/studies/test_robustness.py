"""Robustness: each condition's texts and measured WER, what is compared, and what is written."""

import json
from pathlib import Path

import jiwer
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from data_scripts.errors import CorpusError
from tests.helpers.corpus import PAIRS, tiny_corpus
from trainer.errors import ExperimentError
from trainer.studies import robustness
from trainer.studies.asr_noise import fit
from trainer.studies.retest import FinishedRun
from trainer.studies.robustness import make_conditions, measure, retest_conditions, write

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
    wanted = {
        "human text": ("human", human),
        "noise 20 %": ("noise", [NOISE.corrupt(t, 0.2, f"0 {n}") for n, t in zip(corpus["id"], human, strict=True)]),
        "noise 50 %": ("noise", [NOISE.corrupt(t, 0.5, f"0 {n}") for n, t in zip(corpus["id"], human, strict=True)]),
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
        assert condition.with_error == pytest.approx(
            sum(h != t for h, t in zip(human, texts, strict=True)) / 18, abs=1e-4
        )
        assert (
            condition.data.remove_columns(["hypothesis", "asr_model"])[:]
            == corpus.remove_columns(["hypothesis", "asr_model"])[:]
        )


def test_a_condition_is_the_same_data_when_it_is_made_again_and_of_another_seed_not(corpus, conditions):
    again = make_conditions(corpus, NOISE, [0.2, 0.5], {})
    assert [c.data._fingerprint for c in again] == [c.data._fingerprint for c in conditions[:-1]]
    other = make_conditions(corpus, NOISE, [0.2, 0.5], {}, seed=1)
    same = [a.data._fingerprint == b.data._fingerprint for a, b in zip(again, other, strict=True)]
    assert same == [True, False, False, True]


def test_what_cannot_be_a_condition_is_told(corpus):
    texts = {(None, name): "we" for name in corpus["id"]}
    with pytest.raises(ExperimentError, match="are called noise_20: give the hypotheses another NAME"):
        make_conditions(corpus, NOISE, [0.2], {"noise 20 %": texts})
    del texts[(None, "clip03")]
    with pytest.raises(CorpusError, match=r"X lacks 1 of 18 utterances, e\.g\. clip03"):
        make_conditions(corpus, NOISE, [], {"X": texts})
    with pytest.raises(CorpusError, match="18 of 18 utterances have no human text"):
        make_conditions(tiny_corpus(18, with_transcripts=False), NOISE, [], {})


def test_without_own_hypotheses_there_is_no_such_condition(corpus):
    gap = corpus.map(lambda row: {"hypothesis": None if row["id"] == "clip00" else row["hypothesis"]})
    assert [condition.name for condition in make_conditions(gap, NOISE, [], {})] == ["human text"]


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


def test_metrics_and_differences_are_those_of_the_predictions(conditions, tables):
    records = measure(conditions, tables, lambda name, _: name)
    assert [record["wer"] for record in records] == sorted(condition.wer for condition in conditions)
    for record in records:
        expected = {}
        for each, predictions in tables[record["condition"]].items():
            expected[each.row] = f1_score(predictions["emotion"], predictions["predicted"], average="weighted")
        for name, row in record["rows"].items():
            assert row["estimate"] == pytest.approx(expected[name])
            assert row["values"] == pytest.approx([expected[name]] * len(row["runs"]))
            assert row["low"] < row["estimate"] < row["high"]
        assert set(record["rows"]) == set(expected)
        ((name, compared),) = record["differences"].items()
        assert name == "M4SER − speech & text + concat"
        assert compared["estimate"] == pytest.approx(expected["M4SER"] - expected["speech & text + concat"])
        assert compared["low"] < compared["estimate"] < compared["high"]
        assert compared["p_holm"] >= compared["p_value"]
    smallest = min((r["differences"]["M4SER − speech & text + concat"] for r in records), key=lambda c: c["p_value"])
    assert smallest["p_holm"] == pytest.approx(len(conditions) * smallest["p_value"])


def test_utterances_of_one_cluster_are_drawn_together(conditions, tables):
    (first, *_) = measure(conditions, tables, lambda name, _: name[:-1])  # clip00 to clip17: two clusters
    (alone, *_) = measure(conditions, tables, lambda name, _: str(int(name[4:]) // 3))
    for record, clusters in ((first, 2), (alone, 6)):
        assert {row["clusters"] for row in record["rows"].values()} == {clusters}
        assert {compared["clusters"] for compared in record["differences"].values()} == {clusters}


def test_the_curve_is_of_human_text_and_noise_and_recognisers_are_markers(conditions, tables, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(robustness, "plot_robustness", lambda *arguments: drawn.append(arguments))
    records = measure(conditions, tables, lambda name, _: name)
    write(records, NOISE, "# Title", [], tmp_path)
    ((curves, (subtracted, difference), markers, metric, _),) = drawn
    by_kind = {kind: [r for r in records if (r["kind"] == "recogniser") == kind] for kind in (False, True)}
    for name, points in curves.items():
        expected = [(record["wer"], record["rows"][name]["estimate"]) for record in by_kind[False]]
        assert [(wer, interval.estimate) for wer, interval in points] == expected
    measured = [record["differences"][subtracted]["estimate"] for record in by_kind[False]]
    assert [interval.estimate for _, interval in difference] == measured
    assert {name: wer for name, (wer, _) in markers.items()} == {r["condition"]: r["wer"] for r in by_kind[True]}
    assert metric == "W-F1"


def test_table_and_figure_are_written(conditions, tables, tmp_path):
    records = measure(conditions, tables, lambda name, _: name)
    write(records, NOISE, "# Title", ["A note."], tmp_path / "new")
    lines = (tmp_path / "new" / "robustness.md").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# Title"
    assert lines[-1] == "* A note."
    row = next(line for line in lines if line.startswith("| noise 50 %"))
    record = next(record for record in records if record["condition"] == "noise 50 %")
    assert f"| {100 * record['wer']:.1f} | " in row
    assert f"| {100 * record['rows']['only speech']['estimate']:.1f} (" in row
    content = json.loads((tmp_path / "new" / "robustness.json").read_text(encoding="utf-8"))
    assert content["conditions"] == json.loads(json.dumps(records))
    assert content["noise_model"]["errors"] == dict(NOISE.errors)
    flat = pd.read_csv(tmp_path / "new" / "robustness.csv")
    assert len(flat) == len(conditions) * 4
    assert set(flat["row"]) == {"M4SER", "speech & text + concat", "only speech", "M4SER − speech & text + concat"}
    assert (tmp_path / "new" / "robustness.png").stat().st_size > 0


def test_two_runs_of_one_name_are_refused(conditions, tmp_path):
    with pytest.raises(ExperimentError, match="are both M4SER, own_split/seed1"):
        retest_conditions([run("M4SER", 1), run("M4SER", 1)], conditions, tmp_path)
    # Their predictions would lie in one folder.
    with pytest.raises(ExperimentError, match="are both w o GAN, own_split/seed1"):
        retest_conditions([run("w/o GAN", 1), run("w o GAN", 1)], conditions, tmp_path)
    assert not list(tmp_path.iterdir())
