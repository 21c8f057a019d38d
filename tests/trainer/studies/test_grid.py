"""The grid: where cells lie, what is run again after a stop, and the live table."""

import json
import multiprocessing
import os
import signal

import pytest

from data_scripts.journal import JournalError
from trainer.errors import ExperimentError
from trainer.studies.grid import JOURNAL_FILE, Cell, Grid, format_time


def score(value):
    return {"metrics": {"test": {"wa": value, "ua": value / 2}}}


def cells_of(rows=("a", "b"), folds=("fold1", "fold2"), seeds=(1, 2), **fields):
    return [Cell(row, fold, seed, **fields) for row in rows for seed in seeds for fold in folds]


def test_cells_lie_in_a_folder_of_their_own():
    assert Cell("w/o MSR & MIR", "fold1", 3).folder.as_posix() == "w_o_MSR_MIR/fold1/seed3"
    tried = Cell("M4SER", "session_1", 3, variant="learning_rate 0.0002")
    assert tried.folder.as_posix() == "M4SER/learning_rate_0.0002/session_1/seed3"


def test_two_cells_in_one_folder_are_refused_before_any_is_run(tmp_path):
    ran = []
    with Grid(tmp_path, lambda cell, folder: ran.append(cell) or score(0.5), ["wa"]) as grid:
        with pytest.raises(ExperimentError, match=r"would lie in .*a_b"):
            grid.run([Cell("a b", "fold1", 1), Cell("a/b", "fold1", 1)])
        assert not ran
        grid.run([Cell("a b", "fold1", 1)])
        with pytest.raises(ExperimentError, match="would lie in"):
            grid.run([Cell("a/b", "fold1", 1)])


def test_cells_run_in_order_and_a_table_follows_each(tmp_path, capsys):
    values = dict(zip(cells_of(), (0.5, 0.7, 0.3, 0.1, 0.2, 0.2, 0.2, 0.2), strict=True))
    seen = []
    with Grid(
        tmp_path,
        lambda cell, folder: score(values[cell]) | {"folder": folder},
        ["wa", "ua"],
        lambda grid: seen.append(len(grid.finished)),
    ) as grid:
        results = grid.run(cells_of(["a"]), {"b": 4})
        assert [result["folder"] for result in results] == [tmp_path / cell.folder for cell in cells_of(["a"])]
        tables = capsys.readouterr().out.split(" cells")
        assert [table.splitlines()[-1].strip() for table in tables[:-1]] == [f"{n} of 8" for n in (1, 2, 3, 4)]
        assert "a  1/4  wa 50.0  ua 25.0" in tables[1]
        assert "a  4/4  wa 40.0 ± 25.8  ua 20.0 ± 12.9" in tables[4]
        assert "b" not in tables[4].replace("about", "")
        grid.run(cells_of(["b"]))
    assert seen == list(range(1, 9))
    last = capsys.readouterr().out
    assert "8 of 8 cells" in last
    assert last.splitlines()[-1].strip() == "b  4/4  wa 20.0 ± 0.0  ua 10.0 ± 0.0"


def test_variants_have_lines_of_their_own(tmp_path):
    with Grid(tmp_path, lambda cell, folder: score(0.5), ["wa"]) as grid:
        grid.run(cells_of(["a"], seeds=[1], variant="rate 1") + cells_of(["a"], seeds=[1], variant="rate 2"))
        lines = grid.table({"a": 6}).splitlines()
    assert lines[0].startswith("4 of 10 cells")
    assert lines[1:] == ["  a rate 1  2/2  wa 50.0 ± 0.0", "  a rate 2  2/2  wa 50.0 ± 0.0"]


def test_the_time_left_is_told_from_the_rows_own_cells_and_those_of_earlier_launches(tmp_path):
    first, second = cells_of(["a"], seeds=[1]), cells_of(["b"], seeds=[1])
    seconds = dict(zip((*first, *second), (100, 200, 10, 30), strict=True))
    lines = [{"settings": {}}, *({"cell": c.folder.as_posix(), "seconds": s} for c, s in seconds.items())]
    (tmp_path / JOURNAL_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    with Grid(tmp_path, lambda cell, folder: score(0.5), ["wa"]) as grid:
        assert grid.seconds_left({"a": 2}) is None
        grid.run(first)
        assert grid.seconds_left({"a": 2, "b": 1}) == 2 * 150 + 150  # nothing is known of b yet
        grid.run(second[:1])
        assert grid.seconds_left({"a": 2, "b": 3}) == 2 * 150 + 3 * 10
        assert "about 6 min left" in grid.table({"a": 2, "b": 3})
    assert len((tmp_path / JOURNAL_FILE).read_text().splitlines()) == 5  # what is finished is not timed again


def test_only_one_launch_fills_a_folder(tmp_path):
    grid = Grid(tmp_path, lambda cell, folder: score(0.5), ["wa"])
    with pytest.raises(JournalError, match="is being filled by another process"):
        Grid(tmp_path, lambda cell, folder: score(0.5), ["wa"])
    grid.close()
    Grid(tmp_path, lambda cell, folder: score(0.5), ["wa"]).close()


def test_a_killed_grid_goes_on_at_the_cell(tmp_path):
    cells = [Cell("a", f"fold{number}", 1) for number in (1, 2, 3)]

    def fill(killed_at=None):
        ran = []

        def run(cell, folder):
            if not (folder / "done").is_file():
                ran.append(cell.fold)
                if cell.fold == killed_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                folder.mkdir(parents=True)
                (folder / "done").touch()
            return score(0.5)

        with Grid(tmp_path, run, ["wa"]) as grid:
            grid.run(cells)
        return ran

    child = multiprocessing.get_context("fork").Process(target=fill, args=("fold2",))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    assert fill() == ["fold2", "fold3"]
    journal = [json.loads(line) for line in (tmp_path / JOURNAL_FILE).read_text().splitlines()[1:]]
    assert [record["cell"] for record in journal] == [cell.folder.as_posix() for cell in cells]


@pytest.mark.parametrize(
    ("seconds", "text"), [(12.4, "12 s"), (89, "89 s"), (150, "2 min"), (5399, "1 h 30 min"), (11100, "3 h 05 min")]
)
def test_durations_are_read_at_a_glance(seconds, text):
    assert format_time(seconds) == text
