"""One setting at a time: which rows there are, that each value really arrives, and the figure."""

import json
import runpy

import pytest

from tests.helpers import ROOT
from tests.helpers.experiments import tiny_options, write_manifest
from tests.helpers.process import run_example_here
from trainer.errors import ExperimentError
from trainer.experiments.arguments import ModelArguments
from trainer.experiments.run_folder import load_results

SCRIPT = runpy.run_path(str(ROOT / "examples" / "run_sensitivity.py"))


def rows_of(model, *vary):
    return SCRIPT["make_rows"](model, SCRIPT["parse_values"](list(vary)))


def test_figure_7_varies_one_weight_at_a_time():
    rows = rows_of(ModelArguments(), *SCRIPT["FIGURE_7"])
    assert rows[0].name == "M4SER"
    assert len(rows) == 1 + 4 + 4 + 3 + 4
    assert all(len(row.model["model_options"]) == 1 for row in rows[1:])


def test_other_options_stay_and_the_configured_value_is_no_row_of_its_own():
    model = ModelArguments(model_options='{"frame_pooling": 4, "temperature": 0.1}', ablation="w/o GAN")
    rows = rows_of(model, "frame_pooling=2,4", "keep_punctuation=true")
    assert [row.name for row in rows] == ["w/o GAN", "frame_pooling=2", "keep_punctuation=True"]
    assert rows[1].model == {"model_options": {"frame_pooling": 2, "temperature": 0.1}}
    assert rows[2].model == {"processor_options": {"keep_punctuation": True}}


@pytest.mark.parametrize("vary", ["alpha=1", "frame_pooling", "frame_pooling=", "frame_pooling=1,,2"])
def test_what_cannot_be_varied_is_told(vary):
    with pytest.raises(ExperimentError, match="vary: "):
        SCRIPT["parse_values"]([vary])


def test_every_value_arrives_in_its_run(tmp_path):
    write_manifest(tmp_path)
    arguments = ["--data_dir", tmp_path, *tiny_options(tmp_path), "--num_folds", 3, "--folds", 2]
    arguments += ["--vary", "contrastive_weight=0.5,1", "lowercase=false"]
    arguments += ["--rows", "M4SER", "contrastive_weight=0.5", "lowercase=False"]
    run_example_here("run_sensitivity.py", *arguments)
    runs = {path.parents[2].name: load_results(path.parent) for path in (tmp_path / "out").rglob("results.json")}
    assert set(runs) == {"M4SER", "contrastive_weight_0.5", "lowercase_False"}
    weights = {name: run["model_config"]["contrastive_weight"] for name, run in runs.items()}
    assert weights == {"M4SER": 0.1, "contrastive_weight_0.5": 0.5, "lowercase_False": 0.1}
    assert {name for name, run in runs.items() if not run["processor"]["lowercase"]} == {"lowercase_False"}
    table = json.loads((tmp_path / "out" / "sensitivity.json").read_text())
    assert [row["row"] for row in table["rows"]] == ["M4SER", "contrastive_weight=0.5", "lowercase=False"]
    assert all("M4SER" in row["differences"] for row in table["rows"][1:])
    assert (tmp_path / "out" / "sensitivity.png").is_file()
