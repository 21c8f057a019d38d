"""One report of every table and figure that there is: in Markdown, and as one HTML file with the figures inside."""

import base64
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_scripts.files import write_atomically
from trainer.errors import ExperimentError

REPORT_FILE, PAGE_FILE = "report.md", "report.html"
#: How a figure's file name begins -> what it shows, with the paper's number.
FIGURES = {
    "label_distribution": "Fig. 6: utterances of each emotion",
    "sensitivity": "Fig. 7: one setting at a time",
    "loss_curves": "Fig. 8: losses of one run",
    "emotions_tsne": "Fig. 9: t-SNE of the pooled features, by emotion",
    "representations_tsne": "Fig. 10: t-SNE of specific and invariant representations",
    "weights": "Fig. 11: weights over time of one utterance",
    "confusion_matrices": "Fig. 12: confusion matrices",
    "robustness": "Weighted F1 against the word error rate",
    "learning_curve": "What more training data is worth",
}
#: Larger files are no table and no figure.
MAX_BYTES = 1_000_000

_STYLE = (
    "body{font-family:sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;line-height:1.4}"
    "table{border-collapse:collapse;display:block;overflow-x:auto;font-size:.85rem}"
    "td,th{border:1px solid #ccc;padding:.25rem .5rem;text-align:right}td:first-child,th:first-child{text-align:left}"
    "img{max-width:100%}"
)


@dataclass(frozen=True)
class Item:
    """One kind of result.

    Attributes:
        name: of its files, without the ending.
        title: what it is, with the paper's number of it.
        command: the script that makes it.
    """

    name: str
    title: str
    command: str


ITEMS = (
    Item("ablation", "Ablations (Tables IV to VI)", "run_ablation.py"),
    Item("retest", "The same models on other data", "retest.py"),
    Item("robustness", "Robustness to recognition errors (beyond the paper)", "run_robustness.py"),
    Item("sensitivity", "Sensitivity to one setting at a time (Fig. 7)", "run_sensitivity.py"),
    Item("learning_curve", "Learning curve (beyond the paper)", "run_learning_curve.py"),
    Item("transfer", "From one corpus to another (Tables VIII and IX)", "run_cross_corpus.py"),
    Item("correction", "Error detection and correction alone", "run_correction.py"),
    Item("parameters", "Parameters (Table V)", "count_parameters.py"),
    Item("benchmark", "Time and memory (Table V)", "benchmark.py"),
    Item("consistency", "Speech and text representations (Table VII, Fig. 6 and 8 to 12)", "analyze.py"),
)


def find_results(root: str | Path) -> dict[Item, list[Path]]:
    """Return the Markdown file of each result under a folder, in the order of the paths.

    A table that others are parts of, as those of single numbers of shots, stands for them.

    Args:
        root: any folder; nothing in it is needed.
    """
    root = Path(root)
    found: dict[Item, list[Path]] = {}
    for item in ITEMS:
        paths = sorted(root.rglob(f"{item.name}.md"))
        whole = [path for path in paths if not any(path.parent.is_relative_to(o.parent) and o != path for o in paths)]
        found[item] = whole
    return found


def keep_results(runs: str | Path, folder: str | Path) -> None:
    """Copy the results under `runs` to FOLDER/NAME/…: tables, their numbers and their figures, nothing large.

    Args:
        runs: folder of experiments.
        folder: where small files are kept, e.g. in a repository.
    """
    runs, folder = Path(runs), Path(folder)
    for item, paths in find_results(runs).items():
        for path in paths:
            if path.resolve().is_relative_to(folder.resolve()):
                continue  # kept there before
            target = folder / item.name / path.parent.relative_to(runs)
            target.mkdir(parents=True, exist_ok=True)
            for part in [path.with_suffix(suffix) for suffix in (".md", ".csv", ".json")] + _figures(path):
                if part.is_file() and part.stat().st_size <= MAX_BYTES:
                    shutil.copyfile(part, target / part.name)


def write_report(folder: str | Path) -> Path:
    """Write `report.md` and `report.html` of the results under a folder into it.

    Args:
        folder: of results, see `find_results`.

    Returns:
        The path of `report.md`.

    Raises:
        ExperimentError: there is no result at all.
    """
    folder = Path(folder)
    found = find_results(folder)
    if not any(found.values()):
        raise ExperimentError(
            f"{folder} holds no result: run one of {', '.join(item.command for item in ITEMS)}, and name the folder of "
            "its output by --runs."
        )
    text = "\n".join(_lines(found, folder))
    write_atomically(folder / REPORT_FILE, text)
    write_atomically(folder / PAGE_FILE, _as_page(text, folder))
    return folder / REPORT_FILE


def _lines(found: dict[Item, list[Path]], folder: Path) -> Iterator[str]:
    """The report, line by line."""
    yield "# Results of M4SER\n"
    yield (
        "Each table says what it was measured on, with how many runs and which interval. Numbers of stand-in corpora "
        "and of synthetic voices are called so, and cannot be compared with the paper's.\n"
    )
    for item, paths in found.items():
        state = f"{len(paths)} below" if paths else f"not there yet: `examples/{item.command}`"
        yield f"* {item.title}: {state}"
    for item, paths in found.items():
        if paths:
            yield f"\n## {item.title}\n"
        for path in paths:
            yield f"### {path.parent.relative_to(folder).as_posix()}\n"
            yield _demoted(path.read_text(encoding="utf-8"))
            for figure in _figures(path):
                name = _caption(figure)
                yield f"**{name}**\n\n![{name}]({figure.relative_to(folder).as_posix()})\n"


def _demoted(text: str) -> str:
    """A page as part of another one: its title is a bold line, its sections are two levels lower."""
    text = re.sub(r"^# (.+)$", r"**\1**", text, flags=re.MULTILINE)
    return re.sub(r"^(#{2,4}) ", r"\1## ", text, flags=re.MULTILINE)


def _kind(figure: Path) -> str | None:
    """The key of `FIGURES` that a figure belongs to."""
    return next((start for start in FIGURES if figure.stem.startswith(start)), None)


def _figures(path: Path) -> list[Path]:
    """The figures that belong to a table: those beside it, in the paper's order, unknown ones last."""
    order = [*FIGURES, None]
    return sorted(path.parent.glob("*.png"), key=lambda figure: (order.index(_kind(figure)), figure))


def _caption(figure: Path) -> str:
    """What a figure shows, and of what, as far as its file's name tells."""
    kind = _kind(figure)
    rest = figure.stem.removeprefix(kind or "").strip("_").replace("_", " ")
    if kind is None:
        return rest
    return f"{FIGURES[kind]} ({rest})" if rest else FIGURES[kind]


def _as_page(text: str, folder: Path) -> str:
    """The report as HTML, with its figures inside."""
    from markdown_it import MarkdownIt

    def embed(match: re.Match) -> str:
        data = base64.b64encode((folder / match[2]).read_bytes()).decode()
        return f"![{match[1]}](data:image/png;base64,{data})"

    whole = re.sub(r"!\[([^\]]*)\]\(([^)]+\.png)\)", embed, text)
    body = MarkdownIt("commonmark").enable("table").render(whole)
    head = f'<meta charset="utf-8"><title>Results of M4SER</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}</body></html>\n'


def results_of(runs: Sequence[str | Path], folder: str | Path) -> Path:
    """Keep what is under `runs` in `folder`, and write the report of all that is there.

    Args:
        runs: folders of experiments; those that do not exist are passed over.
        folder: of results.
    """
    for part in runs:
        if Path(part).is_dir():
            keep_results(part, folder)
    return write_report(folder)
