"""A grid of runs: rows × folds × seeds as cells, resumed at the cell where it was stopped, and shown while it runs.

Nothing here knows what a row is: a table of ablations, of corpora or of hyperparameters is a list of cells and the
function that runs one.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from accelerate import PartialState

from data_scripts.files import folder_name
from data_scripts.journal import Journal
from trainer.errors import ExperimentError
from trainer.evaluation.summary import format_row, summarize

JOURNAL_FILE = "journal.jsonl"


@dataclass(frozen=True)
class Cell:
    """One run of a grid.

    Attributes:
        row: of the table.
        fold: name of the division of the data.
        seed: of training.
        arguments: what this row changes, for the function that runs the cell.
        variant: tells runs of the same row, fold and seed apart, e.g. a learning rate that is tried.
    """

    row: str
    fold: str
    seed: int
    arguments: Mapping[str, Any] = field(default_factory=dict, compare=False)
    variant: str = ""

    @property
    def line(self) -> tuple[str, str]:
        """The line of the live table that the cell counts for: its row and variant."""
        return self.row, self.variant

    @property
    def folder(self) -> Path:
        """Where the cell lies under the grid's folder: ROW[/VARIANT]/FOLD/seedN."""
        names = (self.row, *([self.variant] if self.variant else []), self.fold)
        return Path(*map(folder_name, names), f"seed{self.seed}")


RunCell = Callable[[Cell, Path], Mapping[str, Any]]


class Grid:
    """Runs cells one after the other, and prints a table after each; several processes of one launch run it together.

    A cell that is finished is asked for again, so that its results are returned; the journal keeps what each took.
    Only one launch at a time may fill a folder.

    Args:
        folder: of the grid; each cell gets a folder in it.
        run: (cell, its folder) -> its results, with `metrics` of `test`. It must return at once what is finished, go on
            with what is half done, and refuse a folder of other settings; `run_experiment` does.
        metrics: of `test`, for the live table.
        after_cell: called after each cell in the main process, e.g. to write a table of what there is.

    Attributes:
        finished: the results of every cell so far.

    Raises:
        JournalError: another process fills the folder.
    """

    def __init__(
        self,
        folder: str | Path,
        run: RunCell,
        metrics: Sequence[str],
        after_cell: Callable[["Grid"], None] | None = None,
    ):
        self.folder = Path(folder)
        self.finished: dict[Cell, Mapping[str, Any]] = {}
        self._run, self._metrics, self._after_cell = run, metrics, after_cell
        self._planned: list[Cell] = []
        # The other processes of a launch follow the main one, which alone holds the lock.
        self._journal = None
        if PartialState().is_main_process:
            self._journal = Journal(self.folder / JOURNAL_FILE, {}, activity="filled")
        records = self._journal.records if self._journal else []
        self._seconds: dict[str, float] = {record["cell"]: record["seconds"] for record in records}

    def run(self, cells: Sequence[Cell], further: Mapping[str, int] | None = None) -> list[Mapping[str, Any]]:
        """Run cells, and return their results in this order.

        Args:
            cells: none twice in a grid.
            further: row -> how many of its cells will follow in later calls, for the live table.

        Raises:
            ExperimentError: two cells of the grid would lie in one folder.
        """
        folders = [cell.folder for cell in (*self._planned, *cells)]
        if twice := [folder for folder in folders if folders.count(folder) > 1]:
            raise ExperimentError(
                f"Two cells of the grid would lie in {self.folder / twice[0]}: name its rows otherwise."
            )
        self._planned += cells
        for cell in cells:
            started = time.monotonic()
            self.finished[cell] = self._run(cell, self.folder / cell.folder)
            self._record(cell, time.monotonic() - started)
            if self._journal is not None:
                print(self.table(further or {}), flush=True)
                if self._after_cell is not None:
                    self._after_cell(self)
        return [self.finished[cell] for cell in cells]

    def table(self, further: Mapping[str, int]) -> str:
        """Return a line for each row: cells done, mean and deviation of their metrics; and the time left.

        Args:
            further: as in `run`.
        """
        lines = []
        for row, variant in dict.fromkeys(cell.line for cell in self._planned):
            planned = [cell for cell in self._planned if cell.line == (row, variant)]
            done = [self.finished[cell] for cell in planned if cell in self.finished]
            scores = format_row(summarize(done, self._metrics)) if done else "–"
            # Which variant the row's further cells will be of is not known yet.
            count = len(planned) + (0 if variant else further.get(row, 0))
            lines.append((f"{row} {variant}".strip(), f"{len(done)}/{count}", scores))
        width, counts = (max(len(line[column]) for line in lines) for column in (0, 1))
        total = len(self._planned) + sum(further.values())
        left = self.seconds_left(further)
        title = f"{len(self.finished)} of {total} cells" + ("" if left is None else f", about {format_time(left)} left")
        return "\n".join([title, *(f"  {name:{width}}  {count:>{counts}}  {scores}" for name, count, scores in lines)])

    def seconds_left(self, further: Mapping[str, int]) -> float | None:
        """Return how long the rest will take, from the mean of its row's cells, or of all; None before the first.

        Args:
            further: as in `run`.
        """
        known = [(cell, self._seconds[cell.folder.as_posix()]) for cell in self.finished]
        if not known:
            return None
        everything = _mean([seconds for _, seconds in known])
        rows = {cell.row: _mean([s for other, s in known if other.row == cell.row]) for cell, _ in known}
        rest = Counter(further) + Counter(cell.row for cell in self._planned if cell not in self.finished)
        return sum(count * rows.get(row, everything) for row, count in rest.items())

    def close(self) -> None:
        """Let other processes have the folder."""
        if self._journal is not None:
            self._journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _record(self, cell: Cell, seconds: float) -> None:
        """Keep what a cell took when it was run, not what reading it back takes."""
        name = cell.folder.as_posix()
        if name not in self._seconds:
            self._seconds[name] = seconds
            if self._journal is not None:
                self._journal.append({"cell": name, "seconds": round(seconds, 3)})


def format_time(seconds: float) -> str:
    """Return a duration as one reads it: 50 s, 12 min, 3 h 05 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
