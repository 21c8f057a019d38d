"""The corpus of an experiment: prepared once, from one selection."""

from pathlib import Path

import pandas as pd
import pytest
from datasets import DatasetDict

from data_scripts.audit import audit_dataset
from data_scripts.corpora import CorpusSelection
from data_scripts.errors import CorpusError
from data_scripts.prepare.folder import prepare_folder
from data_scripts.schema import save_prepared
from tests.data_scripts.transcribe.helpers import make_tiny_whisper
from tests.helpers.experiments import write_manifest
from tests.helpers.layouts import make_meld, make_ravdess
from trainer.errors import ExperimentError
from trainer.experiments import data
from trainer.experiments.arguments import CorpusArguments
from trainer.experiments.data import accepted_in_own_split, prepare_corpus


def without_hypotheses(folder):
    """Take the hypotheses out of a corpus' manifest."""
    table = pd.read_csv(folder / "manifest.csv")
    table.drop(columns="hypothesis").to_csv(folder / "manifest.csv", index=False)


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    write_manifest(folder)
    return folder


def test_it_is_prepared_once(corpus, tmp_path, capsys):
    first = prepare_corpus(CorpusArguments(data_dir=str(corpus)), tmp_path / "prepared")
    assert "18 utterances kept" in capsys.readouterr().out
    again = prepare_corpus(CorpusArguments(data_dir=str(corpus), num_workers=1), tmp_path / "prepared")
    assert capsys.readouterr().out == ""
    assert again["train"]["id"][:] == first["train"]["id"][:]
    assert len(first["train"]) == 18


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"emotions": ["happy", "sad"]}, r"another selection.*emotions.*--output_dir"),
        ({"emotions": ["sad", "happy", "angry", "neutral"]}, r"another selection.*emotions"),
        ({"data_dir": "elsewhere"}, "data_dir"),
    ],
)
def test_another_selection_in_the_same_folder_stops(corpus, tmp_path, options, message):
    prepare_corpus(CorpusArguments(data_dir=str(corpus)), tmp_path / "prepared")
    with pytest.raises(ExperimentError, match=message):
        prepare_corpus(CorpusArguments(**{"data_dir": str(corpus), **options}), tmp_path / "prepared")


def test_missing_hypotheses_are_imported(corpus, tmp_path, capsys):
    table = (corpus / "manifest.csv").read_text().splitlines()
    header = table[0].split(",")
    column = header.index("hypothesis")
    rows = [line.split(",") for line in table]
    (corpus / "manifest.csv").write_text("\n".join(",".join(r[:column] + r[column + 1 :]) for r in rows))
    hypotheses = tmp_path / "heard.csv"
    hypotheses.write_text("id,hypothesis\n" + "\n".join(f"{row[0]},words" for row in rows[1:-1]))
    arguments = CorpusArguments(data_dir=str(corpus), hypotheses=str(hypotheses), asr_model="somebody")
    dataset = prepare_corpus(arguments, tmp_path / "prepared")["train"]
    assert dataset["hypothesis"][:] == ["words"] * 17 + [None]
    assert set(dataset["asr_model"][:17]) == {"somebody"}
    assert "no hypothesis for 1 utterances" in capsys.readouterr().out


def test_a_file_of_hypotheses_fills_only_what_is_missing(corpus, tmp_path, capsys):
    table = pd.read_csv(corpus / "manifest.csv")
    table.loc[2, "hypothesis"] = None
    table.to_csv(corpus / "manifest.csv", index=False)
    hypotheses = tmp_path / "heard.csv"
    hypotheses.write_text("id,hypothesis\n" + "\n".join(f"{name},heard" for name in table["audio"]))
    arguments = CorpusArguments(data_dir=str(corpus), hypotheses=str(hypotheses))
    dataset = prepare_corpus(arguments, tmp_path / "prepared")["train"]
    assert dataset["hypothesis"][:] == table["hypothesis"].fillna("heard").to_list()
    assert "17 utterances keep the hypothesis they have" in capsys.readouterr().out


def test_the_named_recogniser_writes_what_is_missing(corpus, tmp_path):
    """It is loaded from the name that was given, recorded with what it wrote, and leaves given hypotheses alone."""
    table = pd.read_csv(corpus / "manifest.csv")
    table.loc[2, "hypothesis"] = None
    table.to_csv(corpus / "manifest.csv", index=False)
    recogniser = make_tiny_whisper(tmp_path / "recogniser", seconds=1, positions=8)
    arguments = CorpusArguments(data_dir=str(corpus), asr_model=str(recogniser))
    dataset = prepare_corpus(arguments, tmp_path / "prepared")["train"]
    assert None not in dataset["hypothesis"][:]
    assert [name and Path(name).name for name in dataset["asr_model"]].count("recogniser") == 1
    assert sum(text in set(table["hypothesis"]) for text in dataset["hypothesis"]) >= len(table) - 1


@pytest.mark.parametrize(
    ("make", "options", "language"),
    [
        (make_meld, {"corpus": "meld"}, "en"),
        (make_meld, {"corpus": "meld", "asr_language": "de"}, "de"),
        (make_ravdess, {"corpus": "ravdess"}, "en"),
        (write_manifest, {}, None),
    ],
)
def test_the_language_that_is_recognised(tmp_path, monkeypatch, make, options, language):
    """English where the corpus is; elsewhere the model guesses unless it is given one."""
    asked = []
    monkeypatch.setattr(data, "WhisperRecognizer", lambda model, **settings: asked.append((model, settings)))
    monkeypatch.setattr(data, "fill_folder", lambda folder, dataset, *_, **__: (dataset, {}))
    (tmp_path / "corpus").mkdir()
    make(tmp_path / "corpus")
    if not options:
        without_hypotheses(tmp_path / "corpus")
    arguments = CorpusArguments(data_dir=str(tmp_path / "corpus"), asr_model="whisper", **options)
    prepare_corpus(arguments, tmp_path / "prepared")
    assert asked == [("whisper", {"language": language})]


def test_a_prepared_folder_is_read_where_it_lies(corpus, tmp_path):
    prepare_corpus(CorpusArguments(data_dir=str(corpus)), tmp_path / "prepared")
    arguments = CorpusArguments(prepared_dir=str(tmp_path / "prepared"))
    assert len(prepare_corpus(arguments, tmp_path / "unused")["train"]) == 18
    assert not (tmp_path / "unused").exists()


def divided(folder):
    """Give a corpus a split column; its three speakers are in all of them."""
    table = pd.read_csv(folder / "manifest.csv")
    table["split"] = [("train", "validation", "test")[number // 6] for number in range(18)]
    table.to_csv(folder / "manifest.csv", index=False)


def test_splits_that_leak_are_refused_before_anything_is_recognised(corpus, tmp_path):
    divided(corpus)
    without_hypotheses(corpus)
    arguments = CorpusArguments(data_dir=str(corpus), asr_model="no/such/model", strict=True)
    with pytest.raises(CorpusError, match="the splits leak: 3 speakers are in more than one split"):
        prepare_corpus(arguments, tmp_path / "prepared")


def test_the_audit_of_a_dataset_names_its_classes(corpus, tmp_path):
    divided(corpus)
    dataset = prepare_corpus(CorpusArguments(data_dir=str(corpus)), tmp_path / "prepared")
    train = dataset["train"]
    happy = [
        number for number, label in enumerate(train["emotion"]) if train.features["emotion"].int2str(label) == "happy"
    ]
    dataset["train"] = train.select(happy)
    audit = audit_dataset(dataset)
    assert audit.classes["test"] == {
        name: dataset["test"]["emotion"][:].count(number)
        for number, name in enumerate(train.features["emotion"].names)
        if name != "happy"
    }
    assert audit.recordings == []
    assert audit.unchecked == {}


def test_a_folder_prepared_by_an_earlier_version_is_audited_without_its_recordings(corpus, tmp_path):
    divided(corpus)
    dataset = prepare_corpus(CorpusArguments(data_dir=str(corpus)), tmp_path / "prepared")
    save_prepared(
        DatasetDict({name: part.remove_columns("content") for name, part in dataset.items()}), tmp_path / "old"
    )
    old = prepare_corpus(CorpusArguments(prepared_dir=str(tmp_path / "old")), tmp_path / "unused")
    audit = audit_dataset(old)
    assert audit.unchecked == {"content": 18}
    assert len(audit.speakers) == 3
    assert accepted_in_own_split(CorpusArguments(prepared_dir=str(tmp_path / "old")), "nowhere") == ""


def test_what_is_wanted_of_a_prepared_folder_is_used(corpus, tmp_path):
    table = pd.read_csv(corpus / "manifest.csv")
    table["session"] = [f"s{number % 3}" for number in range(len(table))]
    table.drop(columns="hypothesis").to_csv(corpus / "manifest.csv", index=False)
    prepare_corpus(CorpusArguments(data_dir=str(corpus)), tmp_path / "prepared")
    heard = tmp_path / "heard.csv"
    heard.write_text("id,hypothesis\n" + "\n".join(f"{name},words" for name in table["audio"]))
    arguments = CorpusArguments(
        prepared_dir=str(tmp_path / "prepared"), emotions=["sad", "happy"], sessions=["s0", "s2"], hypotheses=str(heard)
    )
    part = prepare_corpus(arguments, tmp_path / "unused")["train"]
    wanted = table[table["emotion"].isin(["sad", "happy"]) & table["session"].isin(["s0", "s2"])]
    assert part.features["emotion"].names == ["sad", "happy"]
    assert [part.features["emotion"].int2str(label) for label in part["emotion"]] == wanted["emotion"].to_list()
    assert part["session"][:] == wanted["session"].to_list()
    assert set(part["hypothesis"]) == {"words"}
    assert not (tmp_path / "unused").exists()
    for options, message in (
        ({"emotions": ["bored"]}, "the prepared corpus has no emotion bored; it has "),
        ({"sessions": ["9"]}, "the prepared corpus has no session 9; it has s0, s1, s2"),
    ):
        with pytest.raises(CorpusError, match=message):
            prepare_corpus(CorpusArguments(prepared_dir=str(tmp_path / "prepared"), **options), tmp_path)


def test_a_prepared_folder_says_which_corpus_it_is(tmp_path):
    prepare_folder(CorpusSelection("ravdess", make_ravdess(tmp_path / "ravdess")), tmp_path / "prepared")
    arguments = CorpusArguments(prepared_dir=str(tmp_path / "prepared"))
    assert (arguments.corpus, arguments.record.language) == ("ravdess", "en")
    assert CorpusArguments(prepared_dir="nowhere").corpus == "manifest"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prepared_dir": "x", "label_map": ["a=b"], "data_dir": "y"}, "leave data_dir, label_map out"),
        ({"prepared_dir": "x", "audio_column_name": "a"}, "used as it is: leave audio_column_name out"),
        ({"prepared_dir": "x", "dataset_name": "y", "eval_split_name": "a"}, "leave dataset_name, eval_split_name out"),
    ],
)
def test_what_a_prepared_folder_cannot_give_is_refused(arguments, message):
    with pytest.raises(ExperimentError, match=message):
        CorpusArguments(**arguments)
