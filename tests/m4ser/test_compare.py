"""`m4ser compare`: tables of any model are joined by id, what is left out is told, numbers are those of the trainer."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from m4ser.__main__ import main
from trainer.evaluation.significance import bootstrap_interval, paired_bootstrap

EMOTIONS = np.array(["angry", "happy", "sad"])
SIZE = 90
IDS = [f"clip{number:02d}" for number in range(SIZE)]
TRUE = EMOTIONS[np.arange(SIZE) % 3]
SPEAKERS = [f"speaker{number % 6}" for number in range(SIZE)]
RANDOM = np.random.default_rng(0)
GOOD, POOR = (np.where(RANDOM.random(SIZE) < share, TRUE, RANDOM.choice(EMOTIONS, SIZE)) for share in (0.8, 0.3))


@pytest.fixture
def places(tmp_path):
    """A run of two folds, a table as `m4ser predict` writes it, and their labels alone."""
    run = pd.DataFrame({"id": IDS, "speaker": SPEAKERS, "emotion": TRUE, "predicted": GOOD})
    for fold, part in (("fold1", run[:40]), ("fold2", run[40:])):
        (tmp_path / "run" / fold / "seed1").mkdir(parents=True)
        part.set_index("id").to_parquet(tmp_path / "run" / fold / "seed1" / "predictions.parquet")
    answered = pd.DataFrame({"id": IDS, "label": POOR, "labels": [[name] for name in POOR], "ok": True})
    answered.to_parquet(tmp_path / "poor.parquet")
    run[["id", "speaker", "emotion"]].to_csv(tmp_path / "labels.csv", index=False)
    return tmp_path


def compare(places, first, second, *words, status=0):
    assert main(["compare", str(places / first), str(places / second), *map(str, words)]) == status


def test_a_run_against_a_table_of_m4ser_predict(places, capsys):
    compare(places, "run", "poor.parquet", "--output_dir", places / "out", "--names", "50 % & up", "B")
    result = json.loads((places / "out" / "comparison.json").read_text())
    assert (result["models"], result["utterances"], result["speakers"]) == (["50 % & up", "B"], SIZE, 6)
    for metric, found in result["metrics"].items():
        each = [bootstrap_interval(TRUE, answers, metric, SPEAKERS) for answers in (GOOD, POOR)]
        assert found["models"] == [vars(interval) for interval in each]
        expected = vars(paired_bootstrap(TRUE, GOOD, POOR, metric, SPEAKERS))
        assert {name: found["difference"][name] for name in expected} == expected
        assert found["difference"]["p_value"] <= found["difference"]["p_holm"] < 0.001
    printed = capsys.readouterr().out
    ua = result["metrics"]["ua"]
    points = [f"{100 * interval['estimate']:.1f}" for interval in ua["models"]]
    assert re.search(
        rf"\| UA \| {points[0]} \(.*\| {points[1]} \(.*\| \+{100 * ua['difference']['estimate']:.1f} \|", printed
    )
    assert (places / "out" / "comparison.md").read_text() in printed
    latex = (places / "out" / "comparison.tex").read_text()
    assert all(part in latex for part in (r"\toprule", r"50 \% \& up", r"\textless 0.001"))
    assert (places / "out" / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert (places / "out" / "left_out.csv").read_text() == "id,reason\n"


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_folder_of_m4ser_predict_is_its_table(places, form):
    (places / "poor").mkdir()
    table, path = pd.read_parquet(places / "poor.parquet"), places / "poor" / f"predictions.{form}"
    table.to_csv(path) if form == "csv" else table.to_json(path, orient="records", lines=True)
    for second in ("poor", "poor.parquet"):
        compare(places, "run", second, "--output_dir", places / f"out-{second}", "--names", "A", "B")
    one, other = ((places / f"out-{name}" / "comparison.json").read_text() for name in ("poor", "poor.parquet"))
    assert one == other


def test_the_order_of_rows_and_models_and_the_format_decide_nothing_else(places):
    shuffled = pd.DataFrame({"utt_id": IDS, "Prediction": [name.upper() for name in POOR]}).sample(
        frac=1, random_state=1
    )
    shuffled.to_json(places / "poor.jsonl", orient="records", lines=True)
    pd.DataFrame({"id": IDS, "label": GOOD}).to_csv(places / "good.tsv", index=False, sep="\t")
    for name, words in {
        "as it is": ("run", "poor.parquet"),
        "turned": ("poor.jsonl", "good.tsv", "--labels", places / "labels.csv"),
    }.items():
        compare(places, *words, "--output_dir", places / name, "--figure_format", "svg")
    usual, turned = (json.loads((places / name / "comparison.json").read_text()) for name in ("as it is", "turned"))
    for metric, found in usual["metrics"].items():
        assert found["models"] == turned["metrics"][metric]["models"][::-1]
        for ours, theirs in (("estimate", "estimate"), ("low", "high")):
            assert found["difference"][ours] == pytest.approx(-turned["metrics"][metric]["difference"][theirs])
    assert b"<svg" in (places / "turned" / "comparison.svg").read_bytes()


def test_what_is_in_one_table_alone_or_failed_is_counted_and_listed(places, capsys):
    table = pd.DataFrame({"id": [*IDS[2:], "new"], "predicted": [*POOR[2:], "sad"]})
    table.loc[0, "predicted"] = None  # clip02
    table.to_csv(places / "poor.csv", index=False)
    compare(places, "run", "poor.csv", "--output_dir", places / "out")
    printed = capsys.readouterr().out
    first, second = places / "run", places / "poor.csv"
    listed = dict(pd.read_csv(places / "out" / "left_out.csv").itertuples(index=False))
    told = [f"not in {second}"] * 2, f"not in {first}", f"without an answer in {second}"
    assert listed == {"clip00": told[0][0], "clip01": told[0][1], "new": told[1], "clip02": told[2]}
    assert f"Left out: 2 not in {second}, e.g. clip00, clip01.\n" in printed
    assert f"{SIZE - 3} utterances of 6 speakers." in printed


@pytest.mark.parametrize(
    ("table", "words", "message"),
    [
        ({"id": ["x", "y"], "predicted": ["sad", "sad"]}, [], "no labelled id is in both tables: .* has clip00"),
        ({"id": ["clip00"] * 2, "predicted": ["sad"] * 2}, [], "has 1 ids more than once, e.g. clip00: keep one row"),
        ({"name": ["clip00"], "predicted": ["sad"]}, [], "has no column id; its columns: name, predicted"),
        ({"id": ["clip00"], "score": ["0.5"]}, [], "has no column predicted; its columns: id, score"),
        (
            {"id": IDS, "predicted": ["Trauer"] * SIZE},
            [],
            "answers Trauer, the labels are angry, happy, sad: .*--label_map",
        ),
        (
            {"id": IDS, "predicted": POOR, "label": POOR},
            [],
            r"other.csv gives clip\d\d the label \w+, another table \w+",
        ),
        ({"id": IDS, "predicted": POOR}, ["--labels", "other.csv"], "other.csv has no column label"),
    ],
)
def test_what_cannot_be_compared_is_named_with_a_way_out(places, capsys, monkeypatch, table, words, message):
    monkeypatch.chdir(places)
    pd.DataFrame(table).to_csv("other.csv", index=False)
    compare(places, "run", "other.csv", *words, status=2)
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(f"^error: .*{message}", line)


def test_labels_are_needed_names_differ_and_a_map_joins_classes(places, capsys):
    compare(places, "poor.parquet", "poor.parquet", status=2)
    assert "both models are called" in capsys.readouterr().err
    compare(places, "poor.parquet", "poor.parquet", "--names", "A", "B", status=2)
    assert "A and B have no labels: --labels TABLE" in capsys.readouterr().err
    (places / "bad.parquet").write_bytes(b"PAR1")
    compare(places, "run", "bad.parquet", status=2)
    assert "bad.parquet cannot be read as Parquet" in capsys.readouterr().err
    german = dict(zip(EMOTIONS, ("Wut", "Freude", "Trauer"), strict=True))
    pd.DataFrame({"id": IDS, "predicted": [german[name] for name in GOOD]}).to_csv(places / "german.csv", index=False)
    compare(places, "run", "german.csv", "--label_map", *(f"{name}={own}" for own, name in german.items()))
    assert "| UA |" in (printed := capsys.readouterr().out)
    assert printed.count("| +0.0 | – | n.s. | – |") == 4  # the same answers
