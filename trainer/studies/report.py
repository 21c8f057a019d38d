"""One report of every table and figure that there is: in Markdown, and as one HTML file with all of it inside.

It begins with what was found: M4SER minus concatenation in every table that compares them.
"""

import base64
import html
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from data_scripts.files import write_atomically
from trainer.errors import ExperimentError
from trainer.evaluation.figures import plot_differences
from trainer.studies.tables import REFERENCES, TITLES, Table

REPORT_FILE, PAGE_FILE = "report.md", "report.html"
FOREST_FILE = "differences.png"
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
#: What else a figure's file may end in; each is kept, the first is shown.
ENDINGS = (".png", ".svg", ".pdf")
#: Larger files are no table and no figure.
MAX_BYTES = 1_000_000
BASELINE, MODEL = REFERENCES

_STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;"
    "background:Canvas;color:CanvasText}"
    "table{border-collapse:collapse;display:block;overflow-x:auto;font-size:.85rem}"
    "td,th{border:1px solid color-mix(in srgb,CanvasText 25%,Canvas);padding:.25rem .5rem;text-align:right;"
    "white-space:nowrap}"
    "td:first-child,th:first-child{text-align:left;position:sticky;left:0;background:Canvas}"
    "img{max-width:100%;max-height:40rem;background:#fff}"
)


class Item(NamedTuple):
    """A kind of result: the name of its files, its title, the script that makes it, and another name of its files."""

    name: str
    title: str
    command: str
    formerly: str | None = None


ITEMS = (
    Item("ablation", "Ablations (Tables IV to VI)", "run_ablation.py"),
    Item("retest", "The same models on other data", "retest.py"),
    Item("robustness", "Robustness to recognition errors (beyond the paper)", "run_robustness.py"),
    Item("sensitivity", "Sensitivity to one setting at a time (Fig. 7)", "run_sensitivity.py"),
    Item("learning_curve", "Learning curve (beyond the paper)", "run_learning_curve.py"),
    Item("transfer", "From one corpus to another (Tables VIII and IX)", "run_cross_corpus.py"),
    Item("correction", "Error detection and correction alone", "run_correction.py"),
    Item("parameters", "Parameters (Table V)", "count_parameters.py"),
    Item("benchmark", "Time (Table V)", "benchmark.py"),
    Item("analysis", "Speech and text representations (Table VII, Fig. 6 and 8 to 12)", "analyze.py", "consistency"),
)


@dataclass(frozen=True)
class Result:
    """One table with its figures: `content` is what its JSON file holds, if any."""

    item: Item
    path: Path
    title: str
    body: str
    notes: Sequence[str]
    figures: Sequence[Path]
    content: Mapping[str, Any]

    @classmethod
    def read(cls, item: Item, path: Path, paper: bool) -> "Result":
        """Read a result by its Markdown file; `paper` leaves the paper's numbers beside those of stand-ins, too."""
        content = _content(path)
        text, notes = path.read_text(encoding="utf-8"), []
        if content.get("metric") and content.get("rows"):
            table = _table(content, paper)
            text, notes = table.to_markdown().partition("\n* ")[0], list(table.notes)
        found = re.match(r"# (.+)\n", text)
        title, body = (found[1], text[found.end() :]) if found else (item.title, text)
        body = re.sub(r"^(#{2,4}) ", r"\1## ", body, flags=re.MULTILINE)  # sections of a page within another one
        return cls(item, path, title, body.strip(), notes, figures_of(path), content)

    @property
    def records(self) -> list[Mapping[str, Any]]:
        """The rows of a table of models."""
        return self.content.get("rows", []) if "metric" in self.content else []

    def differences(self) -> dict[str, Mapping[str, Any]]:
        """Return M4SER − concatenation by condition ("" where there is none), without those of one-class models."""
        named = {}
        for record in self.records:
            model, _, condition = record["row"].partition(", ")
            if model == MODEL:
                named[condition] = record["differences"].get(BASELINE)
        for condition in self.content.get("conditions", []):
            named[condition["condition"]] = condition["differences"].get(f"{MODEL} − {BASELINE}")
        return {name: each for name, each in named.items() if each is not None and not each.get("one_class")}


def _content(path: Path) -> dict[str, Any]:
    """What the JSON file beside a table holds."""
    file = path.with_suffix(".json") if path.stem != "consistency" else path.with_name("analysis.json")
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _table(content: Mapping[str, Any], paper: bool) -> Table:
    """The table of a JSON file, an older one too; `paper` shows the paper's numbers beside those of a stand-in."""
    rows, paper = content["rows"], paper or not any("Stand-in corpus" in note for note in content["notes"])
    references = dict.fromkeys(name for name in REFERENCES for row in rows if name in row["differences"])
    references |= dict.fromkeys(name for row in rows for name in row["differences"])
    records = [
        {
            "one_class_runs": {},
            **row,
            "differences": {name: {"one_class": False, **each} for name, each in row["differences"].items()},
            "paper": row["paper"] if paper else {},
        }
        for row in rows
    ]
    notes = [note for note in content["notes"] if paper or not note.startswith("The paper's numbers")]
    return Table(list(rows[0]["metrics"]), content["metric"], list(references), records, content["heading"], notes)


def find_results(root: str | Path) -> dict[Item, list[Path]]:
    """Return the Markdown file of each result under a folder, without parts of a table that joins them."""
    found = {}
    for item in ITEMS:
        names = filter(None, (item.name, item.formerly))
        paths = sorted(path for name in names for path in Path(root).rglob(f"{name}.md"))
        parts = {path for path in paths if re.fullmatch(r"(shots|share)\d+", path.parent.name)}
        found[item] = [path for path in paths if path not in parts or path.parent.parent / path.name not in paths]
    return found


def figures_of(path: Path) -> list[Path]:
    """Return the figures of a table: those that its JSON file names; of an older one, those of its name or kind."""
    content = _content(path)
    if "figures" in content:
        found = [path.with_name(name) for name in content["figures"]]
    elif path.stem == "consistency":
        drawn = [kind for kind in FIGURES if kind not in {item.name for item in ITEMS}]
        found = [figure for kind in drawn for figure in sorted(path.parent.glob(f"{kind}*.png"))]
    else:
        found = [path.with_suffix(".png")]
    written = ([figure.with_suffix(ending) for ending in ENDINGS] for figure in found)
    return [next(filter(Path.is_file, files)) for files in written if any(map(Path.is_file, files))]


def keep_results(runs: str | Path, folder: str | Path) -> None:
    """Copy the results under `runs` to FOLDER/NAME/…, in the place of older ones: tables, numbers and figures."""
    runs, folder = Path(runs), Path(folder)
    for item, paths in find_results(runs).items():
        for path in paths:
            if path.resolve().is_relative_to(folder.resolve()):
                continue  # kept there before
            target = folder / item.name / path.parent.relative_to(runs)
            target.mkdir(parents=True, exist_ok=True)
            figures = [figure.with_suffix(ending) for figure in figures_of(path) for ending in ENDINGS]
            for part in (path, path.with_suffix(".json"), *figures):
                if part.is_file() and part.stat().st_size <= MAX_BYTES:
                    shutil.copyfile(part, target / part.name)


def write_report(folder: str | Path, paper: bool = False) -> Path:
    """Write `report.md`, whose path is returned, and `report.html` of the results under a folder into it.

    `paper` shows the paper's numbers beside those of stand-in corpora, too.
    """
    folder = Path(folder)
    found = {item: [Result.read(item, path, paper) for path in paths] for item, paths in find_results(folder).items()}
    if not any(found.values()):
        raise ExperimentError(
            f"{folder} holds no result: run one of {', '.join(item.command for item in ITEMS)}, and name the folder of "
            "its output by --runs."
        )
    text = "\n".join(_lines(found, folder)) + "\n"
    write_atomically(folder / REPORT_FILE, text)
    write_atomically(folder / PAGE_FILE, _as_page(text, folder))
    return folder / REPORT_FILE


def update_report(runs: Sequence[str | Path], folder: str | Path, paper: bool = False) -> Path:
    """Keep what is under `runs`, where they exist, in `folder`, and write the report of all that is there."""
    for part in runs:
        if Path(part).is_dir():
            keep_results(part, folder)
    return write_report(folder, paper)


def _lines(found: Mapping[Item, Sequence[Result]], folder: Path) -> Iterator[str]:
    """The report, line by line."""
    results = [result for some in found.values() for result in some]
    yield "# Results of M4SER\n"
    yield "## What was found\n"
    compared = [
        (", ".join(filter(None, [_titled(result), name])), result, each)
        for result in results
        if result.item.name != "robustness"
        for name, each in result.differences().items()
    ]
    yield from (f"* {line}" for line in findings(results, compared))
    if compared:
        rows = {name: (each["estimate"], each["low"], each["high"]) for name, _, each in compared}
        forest = plot_differences(rows, f"{MODEL} − {BASELINE}", folder / FOREST_FILE)
        yield f"\n![{MODEL} minus concatenation in every table]({forest.name})"
    yield "\n## Contents\n"
    for item, some in found.items():
        link = f"[{item.title}](#{item.name})" if some else item.title
        yield f"* {link}" + ("" if some else f": not there yet, `examples/{item.command}` makes it")
        yield from (f"  * [{_titled(result)}](#{_anchor(result, folder)})" for result in some if len(some) > 1)
    shared = _shared_sentences(results)
    for item, some in found.items():
        if some:
            yield f'\n<a id="{item.name}"></a>\n\n## {item.title}\n'
        for result in some:
            yield from _section(result, folder, shared)
    if shared:
        yield '\n<a id="notes"></a>\n\n## Notes\n'
        yield from (f"{number}. {sentence}" for sentence, number in shared.items())


def _section(result: Result, folder: Path, shared: Mapping[str, int]) -> Iterator[str]:
    """One table with its own notes, links to the shared ones, and its figures."""
    yield f'<a id="{_anchor(result, folder)}"></a>\n\n### {_titled(result)}\n'
    yield f"{result.body}\n"
    numbers: list[int] = []
    for note in result.notes:
        sentences = _sentences(note)
        numbers += [shared[sentence] for sentence in sentences if sentence in shared]
        if own := " ".join(sentence for sentence in sentences if sentence not in shared):
            yield f"* {own}"
    ends = [f"[Notes](#notes) {', '.join(map(str, sorted(set(numbers))))}."] if numbers else []
    if result.content.get("rows") or result.content.get("conditions"):
        ends.append(f"[Numbers]({result.path.with_suffix('.json').relative_to(folder).as_posix()})")
    yield f"\n{' '.join(ends)}\n"
    for figure in result.figures:
        name, place = _caption(figure), figure.relative_to(folder).as_posix()
        yield f"**{name}**\n\n{'' if figure.suffix == '.pdf' else '!'}[{name}]({place})\n"


def findings(results: Sequence[Result], compared: Sequence[tuple[str, Result, Mapping[str, Any]]]) -> list[str]:
    """Return what the tables say of M4SER against concatenation (`compared`, with titles), in at most five lines."""
    lines = []
    if compared:
        differences = [each for *_, each in compared]
        ahead = sum(each["estimate"] > 0 for each in differences)
        better, worse = (sum(_is_clear(each, sign) for each in differences) for sign in (1, -1))
        lines.append(
            f"**{MODEL} is ahead of concatenation in {ahead} of {len(compared)} comparisons**, significantly in "
            f"{better}; concatenation is significantly ahead in {worse} (p < 0.05, corrected within each table)."
        )
        title, result, each = max(compared, key=lambda row: (_is_clear(row[2]), row[2]["estimate"]))
        lines.append(f"The largest gain is {_points(result, each)} on “{title}”.")
    for kind, of in (("learning_curve", "more training data"), ("robustness", "more recognition errors")):
        curves = [result for result in results if result.item.name == kind and len(result.differences()) > 1]
        if curves:
            (first, low), *_, (last, high) = curves[0].differences().items()
            changes = f"{_points(curves[0], low)} ({first}) to {_points(curves[0], high)} ({last})"
            lines.append(f"With {of}, {MODEL} − concatenation goes from {changes}.")
    records = [record for result in results for record in result.records]
    if flagged := [record["row"] for record in records if record.get("one_class_runs")]:
        names = ", ".join(dict.fromkeys(row.partition(", ")[0] for row in flagged))
        lines.append(f"Rows that predict one class only in some run (†; {len(flagged)}: {names}) are not compared.")
    return lines or ["No table compares M4SER with concatenation yet."]


def _is_clear(compared: Mapping[str, Any], sign: int = 1) -> bool:
    """Whether a difference is of this sign and significant."""
    p = compared["p_holm"]
    return sign * compared["estimate"] > 0 and p is not None and p < 0.05


def _points(result: Result, compared: Mapping[str, Any]) -> str:
    ends = (compared["low"], compared["high"])
    interval = "" if None in ends else " [" + ", ".join(f"{100 * end:.1f}" for end in ends) + "]"
    return f"{100 * compared['estimate']:+.1f}{interval} points of {TITLES.get(result.content['metric'], '')}"


def _titled(result: Result) -> str:
    """The title without what stands in the notes; a table without one is called by its folder, too."""
    if result.title == result.item.title:
        return f"{result.title}: {result.path.parent.name}"
    return result.title.replace(" (a stand-in corpus)", "")


def _anchor(result: Result, folder: Path) -> str:
    return result.path.relative_to(folder).with_suffix("").as_posix().replace("/", "-")


def _sentences(note: str) -> list[str]:
    return re.split(r"(?<=[.!?]) (?=[A-Z*±])", note)


def _shared_sentences(results: Sequence[Result]) -> dict[str, int]:
    """Sentences that several tables have in common -> their number in the notes of the whole."""
    counted = Counter(sentence for result in results for note in result.notes for sentence in _sentences(note))
    return {sentence: number for number, sentence in enumerate((s for s, n in counted.items() if n > 1), 1)}


def _caption(figure: Path) -> str:
    """What a figure shows, and of what, as far as its file's name tells."""
    kind = next((start for start in FIGURES if figure.stem.startswith(start)), "")
    rest = figure.stem.removeprefix(kind).strip("_").replace("_", " ")
    return f"{FIGURES[kind]} ({rest})" if kind and rest else FIGURES.get(kind, rest)


def _as_page(text: str, folder: Path) -> str:
    """The report as HTML, with its figures and its numbers inside."""
    from markdown_it import MarkdownIt

    def data(kind: str, content: bytes) -> str:
        return f"data:{kind};base64,{base64.b64encode(content).decode()}"

    def embed(match: re.Match) -> str:
        kind = "image/svg+xml" if match[2].endswith(".svg") else "image/png"
        return f"![{match[1]}]({data(kind, (folder / match[2]).read_bytes())})"

    def download(match: re.Match) -> str:
        content = json.loads((folder / match[1]).read_text(encoding="utf-8"))
        table = pd.json_normalize(content.get("rows") or content["conditions"]).to_csv(index=False)
        name = Path(match[1]).with_suffix(".csv").name
        return f'<a download="{name}" href="{data("text/csv", table.encode())}">Download the numbers (CSV)</a>'

    text = re.sub(r"!\[([^\]]*)\]\(([^)]+\.(?:png|svg))\)", embed, text)
    text = re.sub(r"\[Numbers\]\(([^)]+\.json)\)", download, text)
    return html_page("Results of M4SER", MarkdownIt("commonmark").enable("table").render(text))


def html_page(title: str, body: str, style: str = "") -> str:
    """Return a page with all of its style inside, for light and dark screens of any width; `title` is plain text."""
    viewport = '<meta name="viewport" content="width=device-width">'
    head = f'<meta charset="utf-8">{viewport}<title>{html.escape(title)}</title><style>{_STYLE}{style}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}</body></html>\n'
