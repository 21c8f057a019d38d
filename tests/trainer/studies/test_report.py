"""The report: what is found and kept, what was found out, what is said to be missing, and the page of one file."""

import base64
import json
import re

import pytest
from matplotlib.figure import Figure

from tests.helpers import ROOT
from trainer.errors import ExperimentError
from trainer.studies import report
from trainer.studies.report import ITEMS, find_results, keep_results, update_report, write_report

TABLE = "# {title}\n\n| model | runs | W-F1 |\n| --- | --- | --- |\n| M4SER | 3/3 | 45.1 |\n\n* Percentages.\n"
CONCAT = "speech & text + concat"


def picture(path):
    figure = Figure(figsize=(1, 1))
    figure.subplots().plot([0, 1])
    figure.savefig(path)


def record(row, differences, **more):
    metrics = {"weighted_f1": {"mean": 0.45, "std": 0.01, "values": [0.45, 0.46]}}
    known = {"finished": 2, "planned": 2, "metrics": metrics, "interval": {"low": 0.4, "high": 0.5}, "facts": {}}
    return {"row": row, **known, "differences": differences, "paper": {"weighted_f1": 0.66}, **more}


def difference(estimate, p, **more):
    return {"estimate": estimate, "low": estimate - 0.02, "high": estimate + 0.02, "p_holm": p, **more}


def write_table(path, rows, heading, notes=("Percentages. Of two seeds.",), **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".md").write_text("# stale\n", encoding="utf-8")
    content = {"heading": f"# {heading}", "metric": "weighted_f1", "rows": rows, "notes": list(notes), **more}
    path.with_suffix(".json").write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def runs(tmp_path):
    """Two grids, a sensitivity with its figure, and a transfer with a table for each number of shots."""
    root = tmp_path / "runs"
    tables = {"meld": "ablation", "iemocap": "ablation", "settings": "sensitivity", "there": "transfer"}
    for folder, name in [*tables.items(), ("there/shots0", "transfer")]:
        (root / folder).mkdir(parents=True)
        (root / folder / f"{name}.md").write_text(TABLE.format(title=f"{name} on {folder}"), encoding="utf-8")
    picture(root / "settings" / "sensitivity.png")
    (root / "meld" / "M4SER").mkdir()
    picture(root / "meld" / "M4SER" / "loss_curves.png")  # of a cell, not of the table
    (root / "meld" / "notes.md").write_text("mine", encoding="utf-8")
    return root


def test_tables_are_found_by_name_and_parts_of_a_table_are_not(runs):
    (runs / "ablation.md").write_text("# All\n")  # of a grid in the folder itself, which hides nothing below
    found = {item.name: [path.parent.name for path in paths] for item, paths in find_results(runs).items()}
    assert found["ablation"] == ["runs", "iemocap", "meld"]
    assert found["transfer"] == ["there"]
    assert found["retest"] == []
    (runs / "there" / "transfer.md").unlink()
    assert find_results(runs)[ITEMS[5]] == [runs / "there" / "shots0" / "transfer.md"]


def test_what_is_kept_is_small_and_belongs_to_a_table_and_is_kept_again(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "MAX_BYTES", 30_000)
    (runs / "meld" / "ablation.json").write_text(json.dumps({"rows": ["x" * 30_001]}))
    kept = tmp_path / "kept"
    keep_results(runs, kept)
    expected = {f"ablation/{name}/ablation.md" for name in ("meld", "iemocap")}
    expected |= {f"sensitivity/settings/sensitivity.{end}" for end in ("md", "png")}
    found = {path.relative_to(kept).as_posix() for path in kept.rglob("*.*")}
    assert found == expected | {"transfer/there/transfer.md"}
    (runs / "meld" / "ablation.md").write_text("# newer\n")
    keep_results(runs, kept)
    assert (kept / "ablation" / "meld" / "ablation.md").read_text() == "# newer\n"


@pytest.mark.parametrize("named", [True, False])
def test_a_table_has_its_own_figures(tmp_path, named):
    """Two tables and an analysis in one folder, as a JSON file names them, or an older one leaves to their names."""
    folder, kept = tmp_path / "runs", tmp_path / "kept"
    drawn = ["label_distribution.png", "weights_M4SER_clip_1.png", "confusion_matrices.png"]
    tables = {"ablation": [], "sensitivity": ["sensitivity.png"], "analysis" if named else "consistency": drawn}
    for name, figures in tables.items():
        write_table(folder / name, [], name, **({"figures": figures} if named else {}))
    for name in ("sensitivity.png", *drawn, "notes.png"):
        picture(folder / name)
    (folder / "sensitivity.pdf").write_bytes(b"%PDF")
    text = update_report([folder], kept).read_text(encoding="utf-8")
    captions = [line[2:-2] for line in text.splitlines() if line.startswith("**Fig") and line.endswith("**")]
    assert captions == [
        "Fig. 7: one setting at a time",
        "Fig. 6: utterances of each emotion",
        "Fig. 11: weights over time of one utterance (M4SER clip 1)",
        "Fig. 12: confusion matrices",
    ]
    assert "![Fig. 6: utterances of each emotion](analysis/label_distribution.png)" in text
    assert {path.name for path in kept.rglob("*.p*")} == {*drawn, "sensitivity.png", "sensitivity.pdf"}


def test_the_report_holds_every_table_under_its_item_and_says_what_is_missing(runs, tmp_path):
    text = update_report([runs, tmp_path / "nowhere"], tmp_path / "kept").read_text(encoding="utf-8")
    assert "* Robustness to recognition errors (beyond the paper): not there yet, `examples/run_robustness.py`" in text
    assert "* [Ablations (Tables IV to VI)](#ablation)\n  * [ablation on iemocap](#ablation-iemocap-ablation)" in text
    titles = ("ablation on iemocap", "ablation on meld", "sensitivity on settings", "transfer on there")
    assert [line[4:] for line in text.splitlines() if line.startswith("### ")] == list(titles)
    assert text.count("| M4SER | 3/3 | 45.1 |") == 4
    assert text.startswith("# Results of M4SER\n\n## What was found\n\n* No table compares")
    assert text.count("\n# ") == 0


def test_it_begins_with_what_was_found(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(report, "plot_differences", lambda rows, _, path: drawn.append(rows) or picture(path) or path)
    clear, unclear, void = difference(0.031, 0.002), difference(-0.01, 0.4), difference(0.2, 0.001, one_class=True)
    large = difference(0.09, 0.4)  # and no gain that is known to be one
    kept = tmp_path / "kept"
    write_table(kept / "a" / "ablation", [record("M4SER", {CONCAT: clear}), record(CONCAT, {"M4SER": clear})], "On A")
    flagged = record("M4SER", {CONCAT: void}, one_class_runs={"neutral": 2})
    write_table(kept / "b" / "ablation", [flagged, record("only text", {CONCAT: void})], "On B")
    differences = {"25 %": unclear, "50 %": large, "100 %": clear}
    shares = [record(f"M4SER, {share}", {CONCAT: each}) for share, each in differences.items()]
    write_table(kept / "learning_curve", shares, "Curve")
    errors = [record("M4SER, human text", {CONCAT: unclear}), record("M4SER, noise", {CONCAT: clear})]
    write_table(kept / "robustness", errors, "Noise")  # the same models, which count once
    text = write_report(kept).read_text(encoding="utf-8")
    lines = [line for line in text.partition("## Contents")[0].splitlines() if line.startswith("* ")]
    assert lines == [
        "* **M4SER is ahead of concatenation in 3 of 4 comparisons**, significantly in 2; concatenation is "
        "significantly ahead in 0 (p < 0.05, corrected within each table).",
        "* The largest gain is +3.1 [1.1, 5.1] points of W-F1 on “On A”.",
        "* With more training data, M4SER − concatenation goes from -1.0 [-3.0, 1.0] points of W-F1 (25 %) to "
        "+3.1 [1.1, 5.1] points of W-F1 (100 %).",
        "* With more recognition errors, M4SER − concatenation goes from -1.0 [-3.0, 1.0] points of W-F1 (human text) "
        "to +3.1 [1.1, 5.1] points of W-F1 (noise).",
        "* Rows that predict one class only in some run (†; 1: M4SER) are not compared.",
    ]
    assert list(drawn[0]) == ["On A", "Curve, 25 %", "Curve, 50 %", "Curve, 100 %"]
    assert drawn[0]["On A"] == (0.031, *(clear[end] for end in ("low", "high")))
    assert "| M4SER † |" in text


def test_the_papers_numbers_stand_beside_no_stand_in_unless_asked_for(tmp_path):
    note = "**Stand-in corpus**: 12 utterances in the layout of MELD, which has 13708."
    write_table(tmp_path / "a" / "ablation", [record("M4SER", {})], "On A (a stand-in corpus)", [note])
    assert "paper's W-F1" not in write_report(tmp_path).read_text(encoding="utf-8")
    assert "paper's W-F1" in write_report(tmp_path, paper=True).read_text(encoding="utf-8")
    write_table(tmp_path / "a" / "ablation", [record("M4SER", {})], "On A", [])
    assert "paper's W-F1" in write_report(tmp_path).read_text(encoding="utf-8")


def test_what_several_tables_say_is_said_once(tmp_path):
    for name in "ab":
        notes = ["Percentages. ± is over seeds.", f"Only {name}."]
        write_table(tmp_path / name / "ablation", [record("M4SER", {})], name, notes)
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert text.count("Percentages.") == 1
    assert text.endswith("## Notes\n\n1. Percentages.\n2. ± is over seeds.\n")
    assert text.count("[Notes](#notes) 1, 2.") == 2
    assert text.count("* Only a.") == text.count("* Only b.") == 1


def test_the_page_is_one_file_with_figures_and_numbers(runs, tmp_path):
    write_table(runs / "meld" / "ablation", [record("M4SER", {CONCAT: difference(0.01, 0.4)})], "Ablations of MELD")
    page = (update_report([runs], tmp_path / "kept").parent / "report.html").read_text(encoding="utf-8")
    data = base64.b64encode((runs / "settings" / "sensitivity.png").read_bytes()).decode()
    assert f'<img src="data:image/png;base64,{data}" alt="Fig. 7: one setting at a time"' in page
    assert "<h2>Ablations (Tables IV to VI)</h2>" in page
    assert set(re.findall('href="#(.+?)"', page)) <= set(re.findall('<a id="(.+?)"', page))
    (numbers,) = re.findall('download="ablation.csv" href="data:text/csv;base64,(.+?)"', page)
    assert base64.b64decode(numbers).startswith(b"row,finished,planned,")
    assert "<script" not in page
    assert "color-scheme:light dark" in page


def test_a_report_among_the_runs_is_not_reported_again_and_needs_no_runs(runs):
    first = update_report([runs], runs / "report").read_text(encoding="utf-8")
    assert update_report([runs], runs / "report").read_text(encoding="utf-8") == first
    assert not (runs / "report" / "ablation" / "report").exists()
    assert update_report([runs / "gone"], runs / "report").read_text(encoding="utf-8") == first


def test_nothing_to_report_is_told(tmp_path):
    with pytest.raises(ExperimentError, match=r"holds no result: run one of run_ablation.py, "):
        write_report(tmp_path)
    scripts = {path.name for path in (ROOT / "examples").glob("*.py")}
    assert {item.command for item in ITEMS} <= scripts
