"""What the analysis reads of runs and corpora."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from datasets import ClassLabel, DatasetDict

from data_scripts.corpora.report import PreparationReport
from data_scripts.errors import CorpusError
from data_scripts.schema import save_prepared
from tests.helpers.corpus import tiny_corpus
from tests.helpers.tiny import EMOTIONS, tiny_pretrained
from trainer.errors import ExperimentError
from trainer.studies import analysis
from trainer.studies.analysis import LoadedRun, count_labels, find_rows, mean_confusion, page, runs_by_row
from trainer.studies.representations import SPACES
from trainer.studies.retest import FinishedRun


def make_run(folder, row="M4SER", text_column="hypothesis", emotions=("angry", "sad")):
    return FinishedRun(Path(folder), row, "seed1", {"text_column": text_column, "emotions": list(emotions)})


def test_runs_are_grouped_by_row(monkeypatch):
    runs = [make_run("a"), make_run("b"), make_run("c", "M4SER, human text"), make_run("d", "only speech")]
    # The folder of one may be named in two ways.
    monkeypatch.setattr(
        analysis, "finished_runs", lambda *roots: [*runs, make_run("x/../a")][: len(runs) + len(roots) - 1]
    )
    found = runs_by_row(["grid", "x/../a"])
    assert found == {"M4SER": runs[:2], "M4SER, human text": [runs[2]], "only speech": [runs[3]]}
    runs.append(make_run("e", emotions=("sad", "angry")))
    with pytest.raises(ExperimentError, match="e has different classes from a"):
        runs_by_row(["grid"])


def test_confusions_are_means_over_the_runs_that_test_a_class(tmp_path):
    tables = (["angry"] * 4 + ["sad"], ["angry", "angry", "angry", "sad", "sad"], ["angry", "angry"], ["sad", "angry"])
    for number, (true, predicted) in enumerate((tables[:2], tables[2:])):
        (tmp_path / str(number)).mkdir()
        table = pd.DataFrame({"emotion": true, "predicted": predicted})
        table.to_parquet(tmp_path / str(number) / "predictions.parquet")
    emotions = ("sad", "angry", "calm")
    shares = mean_confusion([make_run(tmp_path / str(number), emotions=emotions) for number in range(2)])
    # 3 of 4 and 1 of 2 angry are right: each run counts as much. Sad is in the first alone, calm in none.
    np.testing.assert_allclose(shares, [[1, 0, 0], [0.375, 0.625, 0], [np.nan] * 3])


def test_utterances_are_found_and_named():
    data = tiny_corpus(6)
    (row,) = find_rows(data, ["clip03"])
    assert (row["id"], row["emotion"]) == ("clip03", EMOTIONS[data["emotion"][3]])
    assert find_rows(data, []) == []
    with pytest.raises(CorpusError, match="no utterance 'other' in this split; its first is 'clip00'"):
        find_rows(data, ["clip01", "other"])


def test_labels_are_counted_over_all_splits(tmp_path):
    for name in ("one", "two"):
        save_prepared(DatasetDict(train=tiny_corpus(9), test=tiny_corpus(2)), tmp_path / name)
    folders = [str(tmp_path / name) for name in ("one", "two")]
    found = count_labels(folders)
    # Both are called the same, so that only the folders tell them apart.
    assert list(found) == folders
    counted = [*tiny_corpus(9)["emotion"], *tiny_corpus(2)["emotion"]]
    assert found[folders[0]] == {name: counted.count(index) for index, name in enumerate(EMOTIONS)}
    assert list(count_labels(folders[:1])) == ["prepared"]
    PreparationReport("meld").save(tmp_path / "one" / "report.json")
    assert list(count_labels(folders)) == ["MELD stand-in", "prepared"]


def test_two_names_of_one_emotion_are_one_bar(tmp_path):
    data = tiny_corpus(4).cast_column("emotion", ClassLabel(names=["joy", "happy", "sadness", "calm"]))
    save_prepared(DatasetDict(train=data), tmp_path)
    (counts,) = count_labels([str(tmp_path)]).values()
    assert (set(counts), sum(counts.values())) == ({"happy", "sad", "calm"}, 4)


def test_a_run_reads_the_text_it_was_trained_on(tmp_path):
    tiny_pretrained(tmp_path / "model", "whisper")
    loaded = LoadedRun.load(make_run(tmp_path / "model", text_column="transcript"))
    assert not loaded.model.training
    assert loaded.collator().text_column == "transcript"
    assert loaded.collator("hypothesis").text_column == "hypothesis"
    assert loaded.can_read({"hypothesis": None, "transcript": "so"})
    assert not loaded.can_read({"hypothesis": "so", "transcript": None})
    assert loaded.can_compare({"hypothesis": "so happy", "transcript": "go home"})
    for other in (None, "", " ... ", "so"):
        assert not loaded.can_compare({"hypothesis": other, "transcript": "go home"})
        assert not loaded.can_compare({"hypothesis": "so happy", "transcript": other})


def test_the_page_has_means_single_utterances_and_the_paper():
    """The texts differ by as much in every utterance, however much the utterances differ."""
    single = {"hypothesis": dict.fromkeys(SPACES, 0.25), "transcript": dict.fromkeys(SPACES, 0.5)}
    means = {
        name: [dict.fromkeys(SPACES, value + extra) for value in (0.25, 0.5)]
        for name, extra in (("hypothesis", 0.125), ("transcript", 0.0))
    }
    found = {"utterances": 2, "silhouette": -0.054, "distances": {"mean": means, "single": {"clip1": single}}}
    text = "\n".join(page({"M4SER": found, "only text": {"utterances": 3, "silhouette": None}}, ["Corpus: here."]))
    assert "| M4SER | 2 | -0.05 |\n| only text | 3 |  |\n\n* Corpus: here.\n" in text
    assert "| M4SER | clip1 | cross-modal, H^(spe) | 0.250 | 0.500 |" in text
    (row,) = (line for line in text.splitlines() if line.startswith("| M4SER | cross-modal, H^(spe) | 2 "))
    assert row.startswith("| M4SER | cross-modal, H^(spe) | 2 | 0.500 [")
    assert row.endswith("| +0.125 |")
    assert "(a) 0.52 and 1.89, (b) 1.46 and 1.57" in text
