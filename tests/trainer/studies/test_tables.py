"""The table: its numbers against the same written out, what is compared with what, and its three forms."""

import csv
import io
import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from trainer.evaluation.significance import holm, paired_bootstrap
from trainer.studies.tables import TableRow, compare, join_tables, make_table, names_in_figures

EMOTIONS = ["angry", "happy", "sad"]
LABELS = np.array(["happy", "sad", "angry", "happy"] * 30)
METRICS = ("wa", "ua", "weighted_f1")


def row(name, accuracies, ids=range(120), planned=None, **facts):
    """A row whose seeds are right with these probabilities."""
    ids, predictions = np.asarray(list(ids)), {}
    for seed, accuracy in accuracies.items():
        rng = np.random.default_rng([seed, len(name)])
        right = rng.random(120)[ids] < accuracy
        frame = {"emotion": LABELS[ids], "predicted": np.where(right, LABELS[ids], "angry")}
        index = pd.Index([f"clip{number:03d}" for number in ids], name="id")
        predictions[seed] = pd.DataFrame(frame | {"cluster": [f"d{number // 4}" for number in ids]}, index=index)
    return TableRow(name, predictions, len(accuracies), planned or len(accuracies), facts)


ROWS = [
    row("M4SER", {1: 0.9, 2: 0.9, 3: 0.9, 4: 0.9}, **{"learning rate": 0.0002}),
    row("concat", dict.fromkeys((1, 2, 3, 4), 0.45)),
    row("probe", {1: 0.45}, **{"learning rate": None}),
]


@pytest.fixture(scope="module")
def table():
    paper = {"M4SER": {"wa": 79.2, "ua": 80.1}}
    return make_table(ROWS, EMOTIONS, METRICS, "weighted_f1", ("concat", "M4SER"), paper, "# Noise", ["A note."])


def test_metrics_are_means_over_seeds_of_all_utterances(table):
    record, tables = table.records[0], list(ROWS[0].predictions.values())
    expected = [f1_score(part["emotion"], part["predicted"], average="weighted") for part in tables]
    assert record["metrics"]["weighted_f1"]["values"] == pytest.approx(expected)
    assert record["metrics"]["weighted_f1"]["mean"] == pytest.approx(np.mean(expected))
    assert record["metrics"]["weighted_f1"]["std"] == pytest.approx(np.std(expected, ddof=1))
    assert (record["seeds"], record["utterances"]) == ([1, 2, 3, 4], 120)
    assert table.records[2]["metrics"]["wa"]["std"] is None
    assert record["interval"]["low"] < record["interval"]["estimate"] < record["interval"]["high"]
    assert record["interval"]["clusters"] == 30


def test_each_row_is_compared_with_the_references_and_corrected_once_for_all(table):
    found = {
        (record["row"], reference): c for record in table.records for reference, c in record["differences"].items()
    }
    assert set(found) == {("M4SER", "concat"), ("concat", "M4SER"), ("probe", "concat"), ("probe", "M4SER")}
    parts = [np.stack([part["predicted"] for part in r.predictions.values()]) for r in ROWS]
    clusters = list(ROWS[0].predictions[1]["cluster"])
    expected = [
        paired_bootstrap(LABELS, parts[a], parts[b], "weighted_f1", clusters) for a, b in ((0, 1), (2, 1), (2, 0))
    ]
    assert found["M4SER", "concat"]["estimate"] == pytest.approx(expected[0].estimate)
    assert found["M4SER", "concat"]["estimate"] == pytest.approx(-found["concat", "M4SER"]["estimate"])
    corrected = holm([each.p_value for each in expected])
    assert found["M4SER", "concat"]["p_holm"] == found["concat", "M4SER"]["p_holm"] == pytest.approx(corrected[0])
    assert found["probe", "concat"]["p_holm"] == pytest.approx(corrected[1])
    assert found["probe", "M4SER"]["p_holm"] == pytest.approx(corrected[2])
    right = (parts[2] == LABELS) != (parts[0] == LABELS)
    assert found["probe", "M4SER"]["disagreement"] == pytest.approx(right.mean())


def test_rows_are_compared_on_what_both_have():
    some = row("some", {2: 0.5, 7: 0.5}, ids=range(40, 120))
    compared = compare(ROWS[0], some, "wa")
    first, second = ROWS[0].predictions[2].iloc[40:], some.predictions[2]
    expected = (first["predicted"] == first["emotion"]).mean() - (second["predicted"] == second["emotion"]).mean()
    assert compared["estimate"] == pytest.approx(expected)
    assert compared["clusters"] == 20
    assert compare(ROWS[0], row("other seeds", {7: 0.5, 8: 0.5}), "wa") is None
    assert compare(row("start", {1: 0.5}, ids=range(10)), row("end", {1: 0.5}, ids=range(20, 30)), "wa") is None


def test_markdown_is_for_people(table):
    lines = table.to_markdown().splitlines()
    assert lines[0] == "# Noise"
    titles, _, *rows = (line.strip("| ").split(" | ") for line in lines[2:7])
    assert titles == [
        *("model", "runs", "WA", "UA", "W-F1", "W-F1, 95 % interval", "− concat (p)", "− M4SER (p)"),
        *("paper's WA", "paper's UA", "learning rate"),
    ]
    cells = dict(zip(titles, rows[0], strict=True))
    scores = table.records[0]["metrics"]["wa"]
    assert cells["WA"] == f"{100 * scores['mean']:.1f} ± {100 * scores['std']:.1f}"
    assert (cells["runs"], cells["paper's WA"], cells["learning rate"]) == ("4/4", "79.2", "0.0002")
    difference = 100 * table.records[0]["differences"]["concat"]["estimate"]
    assert cells["− concat (p)"] == f"**{difference:+.1f} (<0.001)**"
    assert cells["− M4SER (p)"] == ""
    weak = table.records[2]["differences"]["concat"]
    assert weak["p_holm"] > 0.05
    assert f"| {100 * weak['estimate']:+.1f} (n.s." in lines[6]
    corrected = json.loads(re.sub(r'"p_holm": [^,}]+', '"p_holm": 0.06', json.dumps(table.records)))
    assert "**" not in replace(table, records=corrected).to_markdown()
    assert "3 comparisons" in lines[8]
    sizes = [c["minimum_detectable_difference"] for r in table.records for c in r["differences"].values()]
    assert f"a difference of {100 * np.median(sizes):.1f} points" in lines[9]
    assert "not measured here" in lines[10]
    assert lines[11] == "* A note."


def test_csv_and_json_hold_the_numbers(table, tmp_path):
    table.write(tmp_path / "table", ["table.png"])
    first, *_ = csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text(encoding="utf-8")))
    content = json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))
    record = content["rows"][0]
    assert content["figures"] == ["table.png"]
    assert record == json.loads(json.dumps(table.records[0]))
    assert float(first["metrics.ua.mean"]) == record["metrics"]["ua"]["mean"]
    assert float(first["differences.concat.p_holm"]) == record["differences"]["concat"]["p_holm"]
    assert float(first["paper.ua"]) == record["paper"]["ua"] == pytest.approx(0.801)
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == table.to_markdown()


def test_joined_tables_keep_their_differences_and_correct_them_for_the_whole():
    parts = {
        label: make_table(rows, EMOTIONS, METRICS, "weighted_f1", ("concat", "M4SER"), {}, f"# {label}")
        for label, rows in (("few", [ROWS[0], row("concat", dict.fromkeys((1, 2, 3, 4), 0.85))]), ("many", ROWS))
    }
    before = [json.dumps(part.records) for part in parts.values()]
    joined = join_tables(parts, "# Both", ["A note."])
    assert [record["row"] for record in joined.records] == [
        *("M4SER, few", "concat, few", "M4SER, many", "concat, many", "probe, many")
    ]
    few, many = ([record["differences"] for record in part.records] for part in parts.values())
    estimates = [c["estimate"] for differences in (*few, *many) for c in differences.values()]
    assert [c["estimate"] for r in joined.records for c in r["differences"].values()] == estimates
    # M4SER and concat of either table, the probe and both of the second.
    p_values = [few[0]["concat"]["p_value"], many[0]["concat"]["p_value"]]
    corrected = holm([*p_values, *(many[2][name]["p_value"] for name in ("concat", "M4SER"))])
    assert joined.records[0]["differences"]["concat"]["p_holm"] == pytest.approx(corrected[0])
    assert joined.records[1]["differences"]["M4SER"]["p_holm"] == pytest.approx(corrected[0])
    assert joined.records[3]["differences"]["M4SER"]["p_holm"] == pytest.approx(corrected[1])
    assert corrected[0] > few[0]["concat"]["p_holm"]
    assert "for 4 comparisons" in joined.notes[0]
    assert joined.notes[-1] == "A note."
    assert [json.dumps(part.records) for part in parts.values()] == before


def test_a_row_of_one_class_is_flagged_and_no_difference_to_it_is_bold():
    silent = row("silent", {1: 0.0, 2: 0.0, 3: 0.0, 4: 0.0})
    table = make_table([*ROWS[:2], silent], EMOTIONS, METRICS, "weighted_f1", ("concat",), {}, "# Noise")
    assert [record["one_class_runs"] for record in table.records] == [{}, {}, {"angry": 4}]
    assert table.records[2]["differences"]["concat"]["p_holm"] < 0.05
    joined = join_tables({"x": table}, "# Joined")
    for text, end in ((table.to_markdown(), ""), (joined.to_markdown(), ", x")):
        lines = {line.split(" | ")[0]: line for line in text.splitlines()}
        assert lines[f"| silent{end} †"].count("**") == 0
        assert lines[f"| M4SER{end}"].count("**") == 2
        assert f"† predicts one class only: silent{end} (angry; 4 of 4 runs)" in text
    sound = make_table(ROWS, EMOTIONS, METRICS, "wa", (), {}, "# Noise")
    assert "†" not in sound.to_markdown()
    names = names_in_figures([sound, table])
    assert (names["M4SER"], names["silent"]) == ("M4SER", "silent (one class only)")


def test_a_table_of_what_there_is_and_is_to_be_compared():
    """Before a row is finished, and where only some rows are compared."""
    assert "# Nothing" in make_table([], EMOTIONS, METRICS, "ua", ("concat",), {}, "# Nothing").to_markdown()
    alone = make_table([row("M4SER", {1: 0.9}, planned=6)], EMOTIONS, METRICS, "ua", ("concat",), {}, "# One")
    assert "| M4SER | 1/6 |" in alone.to_markdown()
    assert not {"learning rate", "paper"} & set(alone.to_markdown().split())
    rows = [ROWS[0], *(replace(other, compared=False) for other in ROWS[1:])]
    table = make_table(rows, EMOTIONS, METRICS, "weighted_f1", ("concat", "probe"), {}, "# Noise")
    assert [list(record["differences"]) for record in table.records] == [["concat", "probe"], [], []]
    assert "for 2 comparisons" in table.notes[0]
