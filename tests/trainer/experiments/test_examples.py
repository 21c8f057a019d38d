"""The protocols of the example scripts: which rows each run of a corpus trains, validates and tests on."""

import json
import runpy
from collections import Counter

import pandas as pd
import pytest
from datasets import DatasetDict

from data_scripts import leave_one_session_out, load_prepared, speaker_folds, utterance_folds
from data_scripts.audit import OFFICIAL_SPLIT, Audit
from data_scripts.corpora.iemocap import select_turns
from data_scripts.corpora.ravdess import voice
from data_scripts.schema import save_prepared
from data_scripts.splits import complete_splits, leave_one_speaker_out
from tests.helpers import ROOT
from tests.helpers.corpus import tiny_corpus
from tests.helpers.experiments import only_run
from tests.helpers.layouts import make_iemocap, make_meld, write_wav
from tests.helpers.process import run_example_here
from trainer.errors import ExperimentError
from trainer.experiments.cross_validation import audit_folds
from trainer.experiments.run_folder import corpus_fingerprint

#: IEMOCAP's and MELD's transcripts, so that no recogniser is needed.
TINY = ("--text_column", "transcript", "--model_options", '{"num_attention_heads": 4}')


@pytest.fixture
def planned(encoders):
    """A function that returns the folds, the corpus and the description of a script's runs; none is made."""

    def plan(script, *arguments):
        plans = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("trainer.experiments.run_folds", lambda *given: plans.append((given[0], given[1], given[5])))
            run_example_here(script, *encoders, *TINY, *arguments)
        (found,) = plans
        return found

    return plan


def ids(splits):
    return {name: part["id"][:] for name, part in splits.items()}


@pytest.fixture(scope="module")
def iemocap(tmp_path_factory):
    """IEMOCAP of four sessions, every second dialog scripted."""
    return make_iemocap(tmp_path_factory.mktemp("iemocap"), sessions="1234", dialogs=("F_impro01", "M_script02_1"))


@pytest.mark.parametrize(
    ("protocol", "validation", "held_out", "told"),
    [
        ("session", None, "speaker", "one speaker of the training sessions"),
        ("session", "0.25", 0.25, "25% of the training sessions"),
        ("speaker", None, "partner", "the other speaker of the same session"),
        ("speaker", "speaker", "speaker", "one speaker of the other sessions"),
        ("speaker", "0.25", 0.25, "25% of the training speakers"),
    ],
)
def test_iemocap_leaves_a_session_or_speaker_out(
    planned, iemocap, tmp_path, capsys, protocol, validation, held_out, told
):
    """The second fold, of scripted dialogs without excited."""
    options = ["--turns", "scripted", "--merge_excited", "false", "--folds", 2, "--split_seed", 2]
    options += ["--sessions", 1, 2, 3, "--protocol", protocol, *(["--validation", validation] if validation else [])]
    folds, _, described = planned("run_iemocap.py", "--data_dir", iemocap, "--output_dir", tmp_path, *options)
    corpus = select_turns(load_prepared(tmp_path / "corpus"), "scripted")["train"]
    assert corpus.features["emotion"].names == ["neutral", "happy", "angry", "sad"]
    assert (len(corpus), set(corpus["session"])) == (24, {"1", "2", "3"})
    divide = leave_one_session_out if protocol == "session" else leave_one_speaker_out
    fold, other = (divide(corpus, held_out, seed)[1] for seed in (2, 0))
    assert held_out == "partner" or fold.validation != other.validation, "the seed decides nothing here"
    assert {name: ids(splits) for name, (splits, _) in folds.items()} == {fold.name: ids(fold.select(corpus))}
    expected = f"IEMOCAP, leave one {protocol} out; validation on {told}, never the test {protocol}. "
    assert described == f"{expected}Only scripted dialogs. Excited utterances are left out."
    assert f"{described} 24 utterances: neutral 6, happy 6, angry 6, sad 6\n" in capsys.readouterr().out


def test_iemocap_with_six_classes(planned, tmp_path):
    six = ("neutral", "frustrated", "angry", "sad", "happy", "excited")
    release = make_iemocap(tmp_path / "release", codes=("neu", "hap", "exc", "ang", "sad", "fru"))
    options = ["--emotions", *six, "--merge_excited", "false", "--folds", 5]  # excited, asked for, stays
    folds, *_ = planned("run_iemocap.py", "--data_dir", release, "--output_dir", tmp_path / "out", *options)
    ((splits, _),) = folds.values()
    assert set(splits["test"]["session"]) == {"5"}
    assert Counter(splits["test"]["emotion"]) == dict.fromkeys(range(6), 2)
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


def test_meld_keeps_its_own_splits(planned, tmp_path):
    raw, out = make_meld(tmp_path / "MELD.Raw"), tmp_path / "out"
    folds, corpus, described = planned("run_meld.py", "--data_dir", raw, "--output_dir", out)
    (splits, _) = folds["own_split"]
    assert ids(splits) == ids(load_prepared(out / "corpus"))
    for split, name in (("train", "train"), ("validation", "dev"), ("test", "test")):
        assert f"First of {name}." in splits[split]["transcript"][:]
    assert described.startswith("MELD, its own train")
    # The same people speak in every split of MELD.
    audit = audit_folds(folds, corpus, out, tell=False)["own_split"]
    assert audit.speakers == {name: ["train", "validation", "test"] for name in ("Ross", "Joey")}
    assert audit.accepted == OFFICIAL_SPLIT


def test_the_sexes_of_ravdess_share_each_fold(planned, encoders, tmp_path):
    for actor in range(1, 7):
        for emotion in (3, 4):
            name = f"03-01-{emotion:02d}-01-01-01-{actor:02d}.wav"
            write_wav(tmp_path / "RAVDESS" / f"Actor_{actor:02d}" / name, seed=10 * actor + emotion)
    options = ["--corpus", "ravdess", "--num_folds", 3, "--folds", 1, "--split_seed", 4, "--seed", 11]
    first = ["--data_dir", tmp_path / "RAVDESS", "--output_dir", tmp_path / "out", *options]
    run_example_here("run_custom.py", *first, *encoders, *TINY, "--max_steps", 1)
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
    folds, again, _ = planned("run_custom.py", "--output_dir", tmp_path / "again", *prepared)
    assert corpus_fingerprint(folds["fold1"][0]) == prints[0]
    assert again.record.sex_of is voice


@pytest.mark.parametrize(
    ("options", "divide", "told"),
    [
        (["--num_folds", 3], lambda corpus: speaker_folds(corpus, 3, 5), "speakers held out"),
        (
            ["--split_by", "utterance", "--num_folds", 4],
            lambda corpus: utterance_folds(corpus, 4, 5),
            "divided at random, so that tested speakers may be trained on",
        ),
    ],
)
def test_a_corpus_without_splits_is_divided(planned, tmp_path, options, divide, told):
    save_prepared(DatasetDict(train=tiny_corpus(24)), tmp_path)
    options += ["--prepared_dir", tmp_path, "--output_dir", tmp_path, "--folds", 2, "--split_seed", 5]
    folds, _, described = planned("run_custom.py", *options)
    corpus = tiny_corpus(24)
    assert {name: ids(splits) for name, (splits, _) in folds.items()} == {
        "fold2": ids(divide(corpus)[1].select(corpus))
    }
    assert described == f"Corpus: manifest, {told}."


def test_splits_of_a_manifest_are_kept(planned, tmp_path):
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
    out = tmp_path / "out"
    folds, corpus, described = planned("run_custom.py", "--data_dir", tmp_path, "--output_dir", out, "--strict")
    assert ids(folds["own_split"][0]) == ids(load_prepared(out / "corpus"))
    assert corpus.strict
    assert audit_folds(folds, corpus, out, tell=False) == {"own_split": Audit(["train", "validation", "test"])}
    assert described == "Corpus: manifest, its own split."


def test_validation_data_that_are_lacking_follow_the_split_seed(planned, tmp_path):
    splits = DatasetDict(train=tiny_corpus(16), test=tiny_corpus(4, seed=1))
    save_prepared(splits, tmp_path / "corpus")
    options, drawn = ["--prepared_dir", tmp_path / "corpus", "--output_dir", tmp_path / "out"], []
    for seed in (0, 1):
        folds, _, described = planned("run_custom.py", *options, "--split_seed", seed)
        completed, protocol = complete_splits(splits, seed)
        drawn.append(ids(folds["own_split"][0]))
        assert (drawn[-1], described) == (ids(completed), f"Corpus: manifest, {protocol}.")
    assert drawn[0] != drawn[1]
