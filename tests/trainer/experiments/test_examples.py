"""The protocols of the example scripts: which rows each run of a corpus trains, validates and tests on."""

import json
import runpy

import pandas as pd
import pytest
from datasets import DatasetDict

from data_scripts import leave_one_session_out, load_prepared, speaker_folds
from data_scripts.audit import OFFICIAL_SPLIT, PROTOCOL_SPLIT, Audit
from data_scripts.corpora.iemocap import select_turns
from data_scripts.corpora.ravdess import voice
from data_scripts.schema import save_prepared
from data_scripts.splits import leave_one_speaker_out
from tests.helpers import ROOT
from tests.helpers.corpus import tiny_corpus
from tests.helpers.experiments import only_run
from tests.helpers.layouts import make_iemocap, make_meld, write_wav
from tests.helpers.process import run_example_here
from trainer.errors import ExperimentError
from trainer.experiments.run_folder import corpus_fingerprint

#: IEMOCAP's and MELD's transcripts, so that no recogniser is needed; one step of training.
SHORT = ("--text_column", "transcript", "--max_steps", 1, "--model_options", '{"num_attention_heads": 4}')


@pytest.fixture(scope="module")
def iemocap(tmp_path_factory):
    return make_iemocap(tmp_path_factory.mktemp("iemocap"))


def support(results, split):
    """How many utterances of each class a run measured a split on."""
    return [sum(row) for row in results["metrics"][split]["confusion_matrix"]]


@pytest.mark.parametrize(
    ("validation", "split_seed"), [(None, 2), ("0.25", 1)], ids=["a speaker held out", "a share held out"]
)
def test_iemocap_leaves_a_session_out_and_validates_on_the_others(iemocap, encoders, tmp_path, validation, split_seed):
    options = ["--split_seed", split_seed, "--folds", 2, "--sessions", 1, 2, 3]
    options += [] if validation is None else ["--validation", validation]
    run_example_here("run_iemocap.py", "--data_dir", iemocap, "--output_dir", tmp_path, *SHORT, *encoders, *options)
    results, predictions = only_run(tmp_path)
    corpus = load_prepared(tmp_path / "corpus")["train"]
    assert set(corpus["session"]) == {"1", "2", "3"}
    share = "speaker" if validation is None else float(validation)
    first, fold, _ = leave_one_session_out(corpus, share, split_seed)
    assert fold.validation != leave_one_session_out(corpus, share, 0)[1].validation, "the seed decides nothing here"
    splits = fold.select(corpus)
    assert results["corpus_fingerprint"] == corpus_fingerprint(splits) != corpus_fingerprint(first.select(corpus))
    assert set(splits["test"]["session"]) == {"2"}
    assert predictions["id"].tolist() == splits["test"]["id"][:]
    assert predictions["text"].tolist() == splits["test"]["transcript"][:]
    assert results["audit"]["accepted"] == PROTOCOL_SPLIT
    shared = results["audit"]["speakers"]
    assert all(splits == ["train", "validation"] for splits in shared.values())
    assert bool(shared) is (validation == "0.25")
    assert ("25%" if validation == "0.25" else "one speaker") in results["description"]


@pytest.fixture(scope="module")
def both_kinds(tmp_path_factory):
    """IEMOCAP of three sessions, every second dialog scripted."""
    return make_iemocap(tmp_path_factory.mktemp("iemocap"), sessions="123", dialogs=("F_impro01", "M_script02_1"))


@pytest.mark.parametrize(
    ("validation", "tested_on"),
    [(None, "partner"), ("speaker", "speaker"), ("0.25", 0.25)],
    ids=["its partner", "a speaker", "a share"],
)
def test_iemocap_leaves_a_speaker_out(both_kinds, encoders, tmp_path, capsys, validation, tested_on):
    """The second of six folds, on scripted dialogs without excited."""
    options = ["--protocol", "speaker", "--turns", "scripted", "--merge_excited", "false", "--folds", 2]
    options += ["--split_seed", 3, "--sessions", 1, 2, 3, *(["--validation", validation] if validation else [])]
    run_example_here("run_iemocap.py", "--data_dir", both_kinds, "--output_dir", tmp_path, *SHORT, *encoders, *options)
    results, _ = only_run(tmp_path)
    corpus = select_turns(load_prepared(tmp_path / "corpus"), "scripted")["train"]
    assert corpus.features["emotion"].names == ["neutral", "happy", "angry", "sad"]
    assert len(corpus) == 24
    fold = leave_one_speaker_out(corpus, tested_on, 3)[1]
    splits = fold.select(corpus)
    assert results["corpus_fingerprint"] == corpus_fingerprint(splits)
    assert results["split"]["test"]["speakers"] == ["Ses01M"]
    told = {
        "partner": "the other speaker of the same session",
        "speaker": "one speaker of the other sessions",
        0.25: "25% of the training speakers",
    }[tested_on]
    description = (
        f"IEMOCAP, leave one speaker out; validation on {told}, never the test speaker. Only scripted dialogs. "
    )
    description += "Excited utterances are left out."
    assert results["description"].startswith(description)
    assert f"{description} 24 utterances: neutral 6, happy 6, angry 6, sad 6\n" in capsys.readouterr().out


def test_iemocap_with_six_classes(encoders, tmp_path):
    six = ("neutral", "frustrated", "angry", "sad", "happy", "excited")
    release = make_iemocap(tmp_path / "release", codes=("neu", "hap", "exc", "ang", "sad", "fru"))
    options = ["--emotions", *six, "--merge_excited", "false", "--folds", 5]  # excited, asked for, stays
    options += ["--data_dir", release, "--output_dir", tmp_path / "out"]
    run_example_here("run_iemocap.py", *SHORT, *encoders, *options)
    results, _ = only_run(tmp_path / "out")
    assert support(results, "test") == [2] * 6
    assert results["split"]["test"]["sessions"] == ["5"]
    report = json.loads((tmp_path / "out" / "corpus" / "report.json").read_text())
    assert sum(report["expected"]["emotions"].values()) == 7380
    assert list(report["expected"]["emotions"]) == list(six)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"merge_excited": False, "label_map": ["Excited=happy"]}, "label_map says what excited becomes"),
        ({"protocol": "dialog"}, "protocol must be one of session, speaker, not 'dialog'"),
        ({"turns": "acted"}, "turns must be one of all, improvised, scripted, not 'acted'"),
        ({"validation": "partner"}, "validation 'partner' needs --protocol speaker"),
        ({"protocol": "speaker", "validation": "1.5"}, "validation must be 'speaker' or a share"),
    ],
)
def test_iemocap_refuses_what_cannot_be(options, message):
    arguments = runpy.run_path(str(ROOT / "examples" / "run_iemocap.py"))["IemocapArguments"]
    with pytest.raises(ExperimentError, match=message):
        arguments(data_dir="anywhere", **options)


def test_meld_keeps_its_own_splits(encoders, tmp_path):
    corpus = make_meld(tmp_path / "MELD.Raw")
    run_example_here("run_meld.py", "--data_dir", corpus, "--output_dir", tmp_path / "out", *SHORT, *encoders)
    results, predictions = only_run(tmp_path / "out")
    dataset = load_prepared(tmp_path / "out" / "corpus")
    assert results["corpus_fingerprint"] == corpus_fingerprint(dataset)
    for split, name in (("train", "train"), ("validation", "dev"), ("test", "test")):
        assert f"First of {name}." in dataset[split]["transcript"][:]
    assert predictions["text"].tolist() == dataset["test"]["transcript"][:]
    # The same people speak in every split of MELD.
    assert results["audit"]["speakers"] == {name: ["train", "validation", "test"] for name in ("Ross", "Joey")}
    assert results["audit"]["accepted"] == OFFICIAL_SPLIT


def test_the_sexes_of_ravdess_share_each_fold(encoders, tmp_path):
    for actor in range(1, 7):
        for emotion in (3, 4):
            name = f"03-01-{emotion:02d}-01-01-01-{actor:02d}.wav"
            write_wav(tmp_path / "RAVDESS" / f"Actor_{actor:02d}" / name, seed=10 * actor + emotion)
    options = ["--corpus", "ravdess", "--num_folds", 3, "--folds", 1, "--split_seed", 4, "--seed", 11]
    first = ["--data_dir", tmp_path / "RAVDESS", "--output_dir", tmp_path / "out", *options]
    run_example_here("run_custom.py", *first, *SHORT, *encoders)
    results, predictions = only_run(tmp_path / "out", seed=11)
    corpus = load_prepared(tmp_path / "out" / "corpus")["train"]
    drawn = [speaker_folds(corpus, 3, seed, stratify)[0] for seed, stratify in ((4, voice), (4, None), (0, voice))]
    prints = [corpus_fingerprint(fold.select(corpus)) for fold in drawn]
    assert len(set(prints)) == 3, "the seed or the sexes decide nothing here"
    assert results["corpus_fingerprint"] == prints[0]
    for split in ("train", "validation", "test"):
        assert {voice(speaker) for speaker in results["split"][split]["speakers"]} == {"male", "female"}
    assert set(predictions["speaker"]) == set(results["split"]["test"]["speakers"])
    women = predictions[[voice(speaker) == "female" for speaker in predictions["speaker"]]]
    assert set(results["breakdown"]["sex"]) == {"male", "female"}
    assert results["breakdown"]["sex"]["female"]["utterances"] == len(women)
    assert results["breakdown"]["sex"]["female"]["wa"] == pytest.approx((women["emotion"] == women["predicted"]).mean())
    # The prepared corpus is divided as what it was prepared from.
    prepared = ["--prepared_dir", tmp_path / "out" / "corpus", *options[2:]]
    run_example_here("run_custom.py", "--output_dir", tmp_path / "again", *SHORT, *encoders, *prepared)
    again, _ = only_run(tmp_path / "again", seed=11)
    assert again["corpus_fingerprint"] == prints[0]
    assert set(again["breakdown"]["sex"]) == {"male", "female"}


def test_a_manifest_with_splits_keeps_them(encoders, tmp_path, capsys):
    rows = [
        {
            "audio": write_wav(tmp_path / f"{split}{number}.wav", seed=10 * start + number).name,
            "emotion": ("happy", "sad")[number % 2],
            "speaker": f"speaker{start}{number % 3}",
            "transcript": f"i am {split}",
            "split": split,
        }
        for start, (split, size) in enumerate((("train", 6), ("validation", 3), ("test", 4)))
        for number in range(size)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "manifest.csv", index=False)
    options = ["--data_dir", tmp_path, "--output_dir", tmp_path / "out", "--strict"]
    run_example_here("run_custom.py", *SHORT, *encoders, *options)
    assert "warning: own_split" not in capsys.readouterr().err
    results, predictions = only_run(tmp_path / "out")
    assert results["audit"] == vars(Audit(["train", "validation", "test"]))
    assert predictions["text"].tolist() == ["i am test"] * 4
    assert results["description"].startswith("Corpus: manifest, its own split.")
    assert sum(support(results, "validation")) == 3
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["folds"] == ["own_split"]
    assert summary["seeds"] == [42]


def test_validation_data_that_are_lacking_follow_the_split_seed(encoders, tmp_path, monkeypatch):
    save_prepared(DatasetDict(train=tiny_corpus(16), test=tiny_corpus(4, seed=1)), tmp_path / "corpus")
    drawn = []
    options = [
        *encoders,
        "--model_options",
        '{"num_attention_heads": 4}',
        "--prepared_dir",
        tmp_path / "corpus",
        "--output_dir",
        tmp_path / "out",
    ]
    monkeypatch.setattr("trainer.experiments.run_folds", lambda folds, *_: drawn.append(folds["own_split"][0]))
    for seed in (0, 1):
        run_example_here("run_custom.py", *options, "--split_seed", seed)
    assert drawn[0]["validation"]["id"][:] != drawn[1]["validation"]["id"][:]
