"""Table V's table: parameters always, times where a benchmark of the same encoders has them."""

import json
import runpy

import pytest

from tests.helpers import ROOT
from trainer.errors import ExperimentError
from trainer.studies.paper import COST_TABLE

SCRIPT = runpy.run_path(str(ROOT / "examples" / "count_parameters.py"))


def record(task, way, row, mean):
    return {"task": task, "way": way, "row": row, "milliseconds": {"mean": mean, "std": mean / 10}}


@pytest.fixture
def benchmark(tmp_path):
    records = [
        record("training", "as it is", "only text", 600.0),
        record("training", "frozen, cached", "only text", 1.0),
        record("inference", "one utterance", "only text", 12.0),
        record("prediction", "as it comes", "only text", 7.0),
    ]
    file = tmp_path / "benchmark.json"
    options = {"size": "tiny", "speech_encoder": None, "batch_size": 4}
    file.write_text(json.dumps({"options": options, "records": records}))
    return file


def rows_of(printed):
    lines = [line.strip("|").split("|") for line in printed.splitlines() if line.startswith("| ")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines}


def test_the_table_has_table_vs_rows_and_the_papers_numbers(capsys, tmp_path):
    folder = tmp_path / "runs" / "table_v"
    SCRIPT["main"](SCRIPT["parse_arguments"](["--output_dir", str(folder)]))
    text = capsys.readouterr().out
    assert (folder / "parameters.md").read_text(encoding="utf-8") == text
    printed = rows_of(text)
    titles = printed.pop("row")
    assert list(printed) == list(COST_TABLE)
    for row, cells in printed.items():
        assert float(cells[titles.index("paper")]) == COST_TABLE[row]["parameters"]
        counted = [0 if cell == "–" else float(cell) for cell in cells[: titles.index("training")]]
        assert float(cells[titles.index("training")]) == pytest.approx(sum(counted), abs=0.1)
    assert printed["M4SER"][titles.index("inference")] == printed["+ MSR & MIR"][titles.index("inference")]
    assert "min/epoch" not in titles


def test_times_are_those_of_whole_steps_and_of_inference(benchmark, capsys):
    options = ["--size", "tiny", "--benchmark", str(benchmark), "--train_utterances", "401"]
    SCRIPT["main"](SCRIPT["parse_arguments"]([*options, "--model_options", '{"num_attention_heads": 4}']))
    printed = rows_of(capsys.readouterr().out)
    # 101 steps of 0.6 seconds.
    assert printed["only text"][-4:] == ["1.0", "12.0 ± 1.2", "0.5", "6.3 ± 0.1"]
    assert printed["M4SER"][-4:] == ["–", "–", "21.5", "44.7 ± 0.2"]


def test_a_benchmark_of_other_encoders_is_refused(benchmark, tmp_path):
    with pytest.raises(ExperimentError, match="other encoders than --size large"):
        SCRIPT["read_times"](benchmark, "large", 10)
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(ExperimentError, match=r"is no benchmark\.json"):
        SCRIPT["read_times"](tmp_path / "other.json", "large", 10)
