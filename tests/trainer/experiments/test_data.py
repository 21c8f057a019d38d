"""The corpus of an experiment: prepared once, from one selection."""

from pathlib import Path

import pandas as pd
import pytest

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
from trainer.experiments.arguments import CorpusArguments, ModelArguments
from trainer.experiments.data import accepted_in_own_split, outline_corpus, prepare_corpus


def changed(folder, *dropped, **columns):
    """Change the columns of a corpus' manifest; return it as a table."""
    table = pd.read_csv(folder / "manifest.csv").drop(columns=list(dropped)).assign(**columns)
    table.to_csv(folder / "manifest.csv", index=False)
    return table


def divided(folder, *dropped):
    """Give a corpus a split column; its three speakers are in all of them."""
    changed(folder, *dropped, split=[("train", "validation", "test")[number // 6] for number in range(18)])


def heard(folder, names):
    """A file of hypotheses of these utterances."""
    (folder / "heard.csv").write_text("id,hypothesis\n" + "\n".join(f"{name},heard" for name in names))
    return str(folder / "heard.csv")


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


def without(table, *rows):
    """A table's hypotheses, but for these rows."""
    return [None if number in rows else text for number, text in enumerate(table["hypothesis"])]


def test_missing_hypotheses_are_imported_and_given_ones_stay(corpus, tmp_path, capsys):
    table = pd.read_csv(corpus / "manifest.csv")
    changed(corpus, hypothesis=without(table, 2, 17))
    file = heard(tmp_path, table["audio"][:-1])
    arguments = CorpusArguments(data_dir=str(corpus), hypotheses=file, asr_model="somebody")
    dataset = prepare_corpus(arguments, tmp_path / "prepared")["train"]
    expected = [*table["hypothesis"][:-1], None]
    expected[2] = "heard"
    assert dataset["hypothesis"][:] == expected
    assert dataset["asr_model"][2] == "somebody"
    printed = capsys.readouterr().out
    assert "16 utterances keep the hypothesis they have" in printed
    assert "no hypothesis for 1 utterances" in printed


def test_the_named_recogniser_writes_what_is_missing(corpus, tmp_path):
    """It is loaded from the name that was given, recorded with what it wrote, and leaves given hypotheses alone."""
    table = pd.read_csv(corpus / "manifest.csv")
    changed(corpus, hypothesis=without(table, 2))
    recogniser = make_tiny_whisper(tmp_path / "recogniser", seconds=1, positions=8)
    arguments = CorpusArguments(data_dir=str(corpus), asr_model=str(recogniser))
    dataset = prepare_corpus(arguments, tmp_path / "prepared")["train"]
    assert dataset["hypothesis"][2] is not None
    assert without(dataset, 2) == without(table, 2)
    assert [name and Path(name).name for name in dataset["asr_model"]].count("recogniser") == 1


def test_a_recognizer_of_another_language_is_told_before_it_writes(corpus, tmp_path, monkeypatch):
    changed(corpus, "hypothesis", transcript="das ist nicht mein und wir")
    told = []
    monkeypatch.setattr(data.logger, "warning_once", told.append)
    recogniser = make_tiny_whisper(tmp_path / "tiny.en", seconds=1, positions=8)
    outline_corpus(CorpusArguments(data_dir=str(corpus), asr_model=str(recogniser)), tmp_path / "prepared")
    (warning,) = told
    assert warning.startswith(
        "The transcripts look German, but tiny.en is English-only; language 'german' needs a mult"
    )
    changed(corpus, transcript="what is it that you want and that is not to be")
    outline_corpus(CorpusArguments(data_dir=str(corpus), asr_model=str(recogniser)), tmp_path / "prepared")
    assert len(told) == 1


def test_nobody_recognises_what_no_model_reads(corpus, tmp_path, monkeypatch):
    """With noise like its errors, human text needs the recogniser too; a table is read for whoever wants to know."""
    changed(corpus, "hypothesis", transcript="what people said")
    monkeypatch.setattr(data, "WhisperRecognizer", lambda *_, **__: pytest.fail("asked"))
    human, deaf = ModelArguments(text_column="transcript"), ModelArguments(ablation="only speech")
    arguments = CorpusArguments(data_dir=str(corpus), asr_model="whisper")
    dataset = prepare_corpus(arguments, tmp_path / "prepared", [human, deaf])["train"]
    assert dataset["hypothesis"][:] == [None] * 18
    for models in ([human, ModelArguments()], [ModelArguments(text_column="transcript", transcript_noise=0.2)], []):
        with pytest.raises(pytest.fail.Exception, match="asked"):
            prepare_corpus(arguments, tmp_path / "prepared", models)
    arguments.hypotheses = heard(tmp_path, dataset["id"][:])
    assert set(prepare_corpus(arguments, tmp_path / "prepared", [human])["train"]["hypothesis"]) == {"heard"}


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
        changed(tmp_path / "corpus", "hypothesis")
    arguments = CorpusArguments(data_dir=str(tmp_path / "corpus"), asr_model="whisper", **options)
    prepare_corpus(arguments, tmp_path / "prepared")
    assert asked == [("whisper", {"language": language})]


def test_a_folder_prepared_by_an_earlier_version_is_audited_without_its_recordings(corpus, tmp_path):
    divided(corpus)
    dataset = prepare_corpus(CorpusArguments(data_dir=str(corpus)), tmp_path / "prepared")
    dataset["train"] = dataset["train"].filter(lambda row: row["emotion"] > 0)
    save_prepared(dataset.remove_columns("content"), tmp_path / "old")
    old = prepare_corpus(CorpusArguments(prepared_dir=str(tmp_path / "old")), tmp_path / "unused")
    audit = audit_dataset(old)
    assert audit.unchecked == {"content": sum(map(len, old.values()))}
    assert audit.classes["test"] == {"angry": old["test"]["emotion"][:].count(0)}
    assert len(audit.speakers) == 3
    assert accepted_in_own_split(CorpusArguments(prepared_dir=str(tmp_path / "old")), "nowhere") == ""


def test_what_is_wanted_of_a_prepared_folder_is_used(corpus, tmp_path):
    table = changed(corpus, "hypothesis", session=[f"s{number % 3}" for number in range(18)])
    prepare_corpus(CorpusArguments(data_dir=str(corpus)), tmp_path / "prepared")
    file = heard(tmp_path, table["audio"])
    arguments = CorpusArguments(
        prepared_dir=str(tmp_path / "prepared"), emotions=["sad", "happy"], sessions=["s0", "s2"], hypotheses=file
    )
    part = prepare_corpus(arguments, tmp_path / "unused")["train"]
    wanted = table[table["emotion"].isin(["sad", "happy"]) & table["session"].isin(["s0", "s2"])]
    assert part.features["emotion"].names == ["sad", "happy"]
    assert [part.features["emotion"].int2str(label) for label in part["emotion"]] == wanted["emotion"].to_list()
    assert part["session"][:] == wanted["session"].to_list()
    assert set(part["hypothesis"]) == {"heard"}
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
