"""Several runs' metrics as one."""

import pytest

from trainer.evaluation.summary import markdown_table, pool, summarize


def test_summary():
    runs = [{"metrics": {"test": {"ua": value}}} for value in (0.5, 0.7)]
    assert summarize(runs, ["ua"])["ua"]["mean"] == pytest.approx(0.6)
    assert summarize(runs, ["ua"])["ua"]["std"] == pytest.approx(0.1414, abs=1e-4)


def test_pooled_metrics_weigh_utterances_not_folds():
    matrices = ([[8, 2], [0, 0]], [[1, 0], [3, 1]])
    runs = [{"metrics": {"test": {"confusion_matrix": matrix}}} for matrix in matrices]
    assert pool(runs) == {"wa": pytest.approx(10 / 15), "ua": pytest.approx((9 / 11 + 1 / 4) / 2)}


def test_markdown_tables_keep_their_cells_apart():
    rows = [["a|b", 0.25, None], ["two\nlines", 3, 1e-5]]
    assert markdown_table(["model", "UA", "p"], rows, align="lrc").splitlines() == [
        "| model | UA | p |",
        "| :--- | ---: | :---: |",
        r"| a\|b | 0.25 |  |",
        "| two lines | 3 | 1e-05 |",
    ]
    assert markdown_table(["x"], []) == "| x |\n| --- |"
    with pytest.raises(ValueError, match="3 columns has a line of 2"):
        markdown_table(["model", "UA", "p"], [["M4SER", 1]])
