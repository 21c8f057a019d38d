"""The analysis and the probe of a small grid, from the command line to every figure, twice the same."""

import json

import pytest

from data_scripts.files import folder_name
from data_scripts.schema import load_prepared
from tests.helpers.process import call_example
from trainer.errors import ExperimentError
from trainer.studies import analysis

LOOKS_AT_PICTURES = True
ROWS = {"M4SER": "M4SER", "speech & text + concat": "speech_text_concat", "only speech": "only_speech"}


@pytest.fixture
def analyze(finished_grid):
    def written(output, *options):
        runs = [finished_grid.folder / name for name in ROWS.values()]
        arguments = ["--prepared_dir", finished_grid.corpus, "--runs", *runs, "--split", "train", "--utterances", 9]
        call_example("analyze.py", *arguments, *options, "--output_dir", output)
        return {path.name: path.read_bytes() for path in output.iterdir()}

    return written


def test_a_grid_gives_every_figure_and_the_same_again(finished_grid, analyze, tmp_path, capsys):
    pytest.importorskip("dtaidistance", reason="the extra `analysis` is not installed")
    row = load_prepared(finished_grid.corpus)["train"][4]
    written = analyze(tmp_path / "a", "--utterance", row["id"])
    figures = {
        *(f"{name}.png" for name in ("label_distribution", "confusion_matrices", "emotions_tsne")),
        *(f"loss_curves_{row}.png" for row in ROWS.values()),
        *("representations_tsne.png", f"weights_M4SER_{folder_name(row['id'])}.png"),
    }
    assert set(written) == {*figures, "analysis.json", "analysis.md"}
    page = written["analysis.md"].decode()
    assert f"| M4SER | {row['id']} | " in page
    assert "split train of corpus" in page
    assert str(tmp_path) not in page
    assert page in capsys.readouterr().out
    content = json.loads(written["analysis.json"])
    assert set(content["figures"]) == figures
    assert page.startswith(content["heading"])
    numbers = content["rows"]
    assert set(numbers) == set(ROWS)
    assert len(numbers["M4SER"]["distances"]["mean"]["transcript"]) == numbers["M4SER"]["utterances"] == 9
    # Without modality-specific representations there is nothing to compare.
    assert not any("distances" in numbers[row] for row in list(ROWS)[1:])
    assert analyze(tmp_path / "b", "--utterance", row["id"]) == written


def test_the_seed_arrives_in_the_layout_and_the_untrained_fusion(finished_grid, analyze, tmp_path, monkeypatch):
    seeds, read, find = [], [], analysis.find_rows
    monkeypatch.setattr(analysis, "find_rows", lambda data, ids: read.append(ids) or find(data, ids))
    monkeypatch.setattr(analysis, "_weigh", lambda *_: {"mean": {key: [{}] for key in analysis.TEXTS}, "single": {}})
    monkeypatch.setattr(analysis, "_means", lambda *_: [])
    for name in ("embed", "untrained_fusion"):
        original = getattr(analysis, name)
        monkeypatch.setattr(analysis, name, lambda *args, f=original: seeds.append((f.__name__, args[1])) or f(*args))
    analyze(tmp_path, "--seed", 7)
    assert set(seeds) == {("embed", 7), ("untrained_fusion", 7)}
    assert read[0] == load_prepared(finished_grid.corpus)["train"]["id"][::2], "nine of eighteen, evenly spaced"


def test_without_runs_there_is_the_label_distribution_alone(finished_grid, tmp_path):
    call_example("analyze.py", "--prepared_dir", finished_grid.corpus, "--output_dir", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"label_distribution.png", "analysis.json", "analysis.md"}


def test_the_probe_compares_a_row_and_its_untrained_fusion(finished_grid, capsys):
    options = ["--prepared_dir", finished_grid.corpus, "--split", "train", "--utterances", 18]
    call_example("probe_modalities.py", *options, "--runs", finished_grid.folder / "M4SER")
    printed = capsys.readouterr().out
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in printed.splitlines() if "|" in line]
    assert [line[:2] for line in lines[2:]] == [["M4SER", "2"], ["M4SER, untrained fusion", "2"]]
    assert lines[2][2:] != lines[3][2:]
    assert "18 utterances of" in printed


def test_a_probe_needs_as_many_runs_of_each_model(finished_grid):
    folders = finished_grid.folder / "M4SER", finished_grid.folder / "only_text" / "fold2" / "seed1"
    with pytest.raises(ExperimentError, match=r"equally many runs.*2 of M4SER, 1 of only text"):
        call_example(
            "probe_modalities.py", "--prepared_dir", finished_grid.corpus, "--split", "train", "--runs", *folders
        )
