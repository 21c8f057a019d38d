"""Pairs of ASR and human text: where they are read from, and which part each comes into."""

import json

import pytest
from datasets import DatasetDict

from data_scripts.schema import save_prepared
from tests.helpers.corpus import PAIRS as TEXTS
from tests.helpers.corpus import tiny_corpus
from trainer.errors import ExperimentError
from trainer.studies.text_pairs import PARTS, CorrectionArguments, divide_pairs, read_pairs


def test_pairs_of_a_table(pairs_table, tmp_path):
    rows = read_pairs(CorrectionArguments(pairs=str(pairs_table)))
    assert len(rows) == 60
    assert rows[0].keys() == {"id", "hypothesis", "transcript", "source", "characters"}
    first = (rows[0]["hypothesis"], rows[0]["transcript"], rows[0]["source"])
    assert first == ("we go now i am", "we go home i am", "books")
    texts = (("a", "b", 1), (None, "b", 1), ("", "b", 2))
    lines = [dict(zip(("hypothesis", "reference", "source"), each, strict=True)) for each in texts]
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    (tmp_path / "own.jsonl").open("a", encoding="utf-8").write('\n{"hypothesis": "c", "reference": "d"}\n')
    *rows, bare = read_pairs(CorrectionArguments(pairs=str(tmp_path / "own.jsonl")))
    assert bare["source"] == "unknown"
    assert [(row["hypothesis"], row["transcript"], row["source"]) for row in rows] == [("a", "b", "1"), ("", "b", "2")]


def test_pairs_of_a_prepared_corpus(tmp_path):
    save_prepared(DatasetDict(train=tiny_corpus(6), test=tiny_corpus(2)), tmp_path)
    rows = read_pairs(CorrectionArguments(pairs=str(tmp_path)))
    assert [(row["transcript"], row["hypothesis"]) for row in rows] == [*TEXTS, *TEXTS[:2]]
    assert {row["source"] for row in rows} == {"none"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pairs": None}, "--pairs FILE_OR_FOLDER"),
        ({"held_out_sources": ["radio"]}, "no source radio to hold out"),
        ({"held_out_sources": ["books", "calls", "podcasts"]}, "The train part is empty"),
        ({"validation_share": 0.0}, "must be positive and leave some to train on"),
        ({"validation_share": 0.5, "test_share": 0.5}, "must be positive and leave some to train on"),
    ],
)
def test_what_cannot_be(pairs_table, changes, message):
    def divide():
        arguments = CorrectionArguments(**{"pairs": str(pairs_table), **changes})
        divide_pairs(read_pairs(arguments), arguments)

    with pytest.raises(ExperimentError, match=message):
        divide()


def test_parts(pairs_table):
    arguments = CorrectionArguments(
        pairs=str(pairs_table), held_out_sources=["podcasts"], validation_share=0.2, test_share=0.3
    )
    texts = [text for number in range(1000) for text in (f"{number} go", f"{number}, Go!")]
    rows = [{"transcript": text, "source": "books"} for text in texts]
    for row in [*rows[18::20], *rows[19::20]]:
        row["source"] = "podcasts"
    parts = divide_pairs(rows, arguments)
    assert sum(map(len, parts.values())) == len(rows)
    assert [row["source"] for row in parts["held_out"]] == ["podcasts"] * 200
    assert all(row["source"] == "books" for name in PARTS for row in parts[name])
    assert len(parts["validation"]) == pytest.approx(360, abs=80)
    assert len(parts["test"]) == pytest.approx(540, abs=80)
    held = [{row["transcript"].split()[0].strip(",") for row in parts[name]} for name in PARTS]
    assert sum(map(len, held)) == len(set.union(*held)), "one text in two parts"
    assert divide_pairs(rows, arguments) == parts
    arguments.split_seed = 1
    assert divide_pairs(rows, arguments) != parts
