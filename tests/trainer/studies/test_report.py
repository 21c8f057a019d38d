"""The report: what is found, what is kept, what is said to be missing, and the page with its figures."""

import base64

import pytest
from matplotlib.figure import Figure

from trainer.errors import ExperimentError
from trainer.studies import report
from trainer.studies.report import ITEMS, find_results, keep_results, results_of, write_report

TABLE = "# {title}\n\n| model | runs | W-F1 |\n| --- | --- | --- |\n| M4SER | 3/3 | 45.1 |\n\n* Percentages.\n"


def picture(path):
    figure = Figure(figsize=(1, 1))
    figure.subplots().plot([0, 1])
    figure.savefig(path)


@pytest.fixture
def runs(tmp_path):
    """Two grids, a sensitivity with its figure, and a transfer with a table for each number of shots."""
    root = tmp_path / "runs"
    for folder, name in (
        ("meld", "ablation"),
        ("iemocap", "ablation"),
        ("settings", "sensitivity"),
        ("there", "transfer"),
        ("there/shots0", "transfer"),
    ):
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / f"{name}.md").write_text(TABLE.format(title=f"{name} on {folder}"), encoding="utf-8")
        (root / folder / f"{name}.csv").write_text("row\nM4SER\n", encoding="utf-8")
    picture(root / "settings" / "sensitivity.png")
    (root / "meld" / "M4SER").mkdir()
    picture(root / "meld" / "M4SER" / "loss_curves.png")  # of a cell, not of the table
    (root / "meld" / "notes.md").write_text("mine", encoding="utf-8")
    return root


def test_tables_are_found_by_name_and_parts_of_a_table_are_not(runs):
    found = {item.name: [path.parent.name for path in paths] for item, paths in find_results(runs).items()}
    assert found["ablation"] == ["iemocap", "meld"]
    assert found["transfer"] == ["there"]
    assert found["retest"] == []


def test_what_is_kept_is_small_and_belongs_to_a_table(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "MAX_BYTES", 30_000)
    (runs / "meld" / "ablation.json").write_text("x" * 30_001)
    keep_results(runs, tmp_path / "kept")
    files = {path.relative_to(tmp_path / "kept").as_posix() for path in (tmp_path / "kept").rglob("*.*")}
    expected = {f"ablation/{name}/ablation.{end}" for name in ("meld", "iemocap") for end in ("md", "csv")}
    expected |= {f"sensitivity/settings/sensitivity.{end}" for end in ("md", "csv", "png")}
    assert files == expected | {f"transfer/there/transfer.{end}" for end in ("md", "csv")}


def test_the_report_holds_every_table_under_its_item_and_says_what_is_missing(runs, tmp_path):
    text = results_of([runs, tmp_path / "nowhere"], tmp_path / "kept").read_text(encoding="utf-8")
    assert "* Robustness to recognition errors (beyond the paper): not there yet: `examples/run_robustness.py`" in text
    assert "* Ablations (Tables IV to VI): 2 below" in text
    order = [
        text.index(f"**{name}**") for name in ("ablation on iemocap", "ablation on meld", "sensitivity on settings")
    ]
    assert order == sorted(order)
    assert "transfer on there/shots0" not in text
    assert text.count("| M4SER | 3/3 | 45.1 |") == 4
    assert (
        "**Fig. 7: one setting at a time**\n\n![Fig. 7: one setting at a time](sensitivity/settings/sensitivity.png)"
        in text
    )
    assert "\n# " not in text.removeprefix("# ")


def test_the_page_is_one_file_with_its_figures(runs, tmp_path):
    page = (results_of([runs], tmp_path / "kept").parent / "report.html").read_text(encoding="utf-8")
    data = base64.b64encode((runs / "settings" / "sensitivity.png").read_bytes()).decode()
    assert f'<img src="data:image/png;base64,{data}" alt="Fig. 7: one setting at a time"' in page
    assert page.count("<table>") == 4
    assert "<h2>Ablations (Tables IV to VI)</h2>" in page


def test_a_report_among_the_runs_is_not_reported_again(runs):
    first = results_of([runs], runs / "report").read_text(encoding="utf-8")
    assert results_of([runs], runs / "report").read_text(encoding="utf-8") == first
    assert not (runs / "report" / "ablation" / "report").exists()


def test_results_that_were_kept_need_no_runs(runs, tmp_path):
    text = results_of([runs], tmp_path / "kept").read_text(encoding="utf-8")
    assert results_of([tmp_path / "gone"], tmp_path / "kept").read_text(encoding="utf-8") == text


def test_nothing_to_report_is_told(tmp_path):
    with pytest.raises(ExperimentError, match=r"holds no result: run one of run_ablation.py, "):
        write_report(tmp_path)


def test_every_command_of_an_item_is_a_script():
    scripts = {path.name for path in (report.Path(__file__).parents[3] / "examples").glob("*.py")}
    assert {item.command for item in ITEMS} <= scripts


def test_figures_are_in_the_papers_order_with_their_numbers(runs, tmp_path):
    for name in ("confusion_matrices", "weights_M4SER_clip_1", "label_distribution", "extra"):
        picture(runs / "meld" / f"{name}.png")
    text = results_of([runs], tmp_path / "kept").read_text(encoding="utf-8")
    captions = [line[2:-2] for line in text.splitlines() if line.startswith("**") and line.endswith("**")]
    assert [caption for caption in captions if caption.startswith("Fig") or caption == "extra"] == [
        "Fig. 6: utterances of each emotion",
        "Fig. 11: weights over time of one utterance (M4SER clip 1)",
        "Fig. 12: confusion matrices",
        "extra",
        "Fig. 7: one setting at a time",
    ]
