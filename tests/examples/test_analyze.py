"""The analysis of a small grid, from the command line to every figure, twice the same."""

import json
import runpy

import pytest

from data_scripts.files import folder_name
from data_scripts.schema import load_prepared
from tests.helpers import ROOT
from tests.helpers.experiments import tiny_grid

LOOKS_AT_PICTURES = True
SCRIPT = runpy.run_path(str(ROOT / "examples" / "analyze.py"))
ROWS = {"M4SER": "M4SER", "speech & text + concat": "speech_text_concat", "only speech": "only_speech"}


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    return tiny_grid(tmp_path_factory.mktemp("grid"), "--seeds", 1, "--rows", *ROWS)


def analyze(grid, output, *options):
    arguments = ["--dataset", grid / "corpus", "--run", grid, "--split", "train", "--utterances", 9, *options]
    SCRIPT["main"](SCRIPT["parse_arguments"]([str(word) for word in (*arguments, "--output_dir", output)]))
    return {path.name: path.read_bytes() for path in output.iterdir()}


def test_a_grid_gives_every_figure_and_the_same_again(grid, tmp_path, capsys):
    pytest.importorskip("dtaidistance", reason="the extra `analysis` is not installed")
    row = load_prepared(grid / "corpus")["train"][4]
    written = analyze(grid, tmp_path / "a", "--utterance", row["id"])
    name = folder_name(row["id"])
    assert set(written) == {
        "label_distribution.png",
        *(f"loss_curves_{row}.png" for row in ROWS.values()),
        "confusion_matrices.png",
        "emotions_tsne.png",
        "representations_tsne.png",
        f"weights_M4SER_{name}.png",
        "analysis.json",
        "consistency.md",
    }
    page = written["consistency.md"].decode()
    assert f"| M4SER | {row['id']} | " in page
    assert "split train of corpus. Corpus: manifest." in page
    assert str(tmp_path) not in page
    assert page in capsys.readouterr().out
    numbers = json.loads(written["analysis.json"])["rows"]
    assert set(numbers) == set(ROWS)
    assert len(numbers["M4SER"]["distances"]["mean"]["transcript"]) == numbers["M4SER"]["utterances"] == 9
    # Without modality-specific representations there is nothing to compare.
    assert not any("distances" in numbers[row] for row in list(ROWS)[1:])
    again = analyze(grid, tmp_path / "b", "--utterance", row["id"])
    assert {key for key in written if written[key] != again[key]} == {"analysis.json"}
    assert json.loads(again["analysis.json"])["rows"] == numbers


def test_without_runs_there_is_the_label_distribution_alone(grid, tmp_path):
    SCRIPT["main"](SCRIPT["parse_arguments"](["--dataset", str(grid / "corpus"), "--output_dir", str(tmp_path)]))
    assert [path.name for path in tmp_path.iterdir()] == ["label_distribution.png"]
