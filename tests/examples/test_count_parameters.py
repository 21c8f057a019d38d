"""Table V's table: parameters by module, and the paper's."""

import pytest

from tests.helpers.process import call_example
from trainer.studies.paper import COST_TABLE


def rows_of(printed):
    lines = [line.strip("|").split("|") for line in printed.splitlines() if line.startswith("| ")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines if "---" not in cells[0]}


def test_the_table_has_table_vs_rows_and_the_papers_numbers(capsys, tmp_path):
    folder = tmp_path / "runs" / "table_v"
    call_example("count_parameters.py", "--output_dir", folder)
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
