"""`m4ser compare A B`: two models on the same utterances, as a table with intervals and a figure.

A and B are tables with a row for each utterance, or folders whose predictions.parquet are put together, such as all
folds of a training. A table is CSV, TSV, JSON, Parquet or Excel, of any model, with the columns id, predicted, and
where known label and speaker. Where none is called predicted, as in the table of m4ser predict, the label is what was
predicted; the true labels are then those of the other table, or of --labels.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_scripts.corpora.labels import map_label, parse_label_map
from data_scripts.errors import CorpusError, run_command
from data_scripts.files import write_atomically
from data_scripts.parsers import CommandParser
from data_scripts.spellings import one_spelling
from data_scripts.tables import read_table

if TYPE_CHECKING:
    import pandas as pd

#: Names of the column that holds a model's answers.
PREDICTED = ("predicted", "prediction", "predicted_label", "predicted_emotion", "pred", "pred_label")
_LISTED = 5  # names that a message gives
Frames = Mapping[str, "pd.DataFrame"]  # table or model -> rows by id


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options; a wrong one prints the usage and exits with 2."""
    parser = CommandParser(prog="m4ser compare", description=__doc__)
    add = parser.add_argument
    add("first", metavar="A", help="predictions of a model")
    add("second", metavar="B", help="predictions of another")
    add("--labels", metavar="TABLE", help="the true labels, and speakers where known, by id")
    add("--names", nargs=2, metavar=("A", "B"), help="what table and figure call the models")
    add("--label_map", nargs="+", metavar="LABEL=CLASS", help="names that mean a class of another, e.g. sadness=sad")
    add("--output_dir", metavar="FOLDER", help="where comparison.md, .tex, .json, the figure and left_out.csv go")
    add("--figure_format", nargs="+", choices=("png", "pdf", "svg"), default=["png"], help="of the figure")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Compare two models; returns the exit status."""
    return run_command(lambda: _compare(parse_arguments(arguments)))


def _compare(options: argparse.Namespace) -> None:
    """Print the comparison and, with an output folder, write it."""
    places, label_map = (options.first, options.second), parse_label_map(options.label_map)
    named = zip(options.names or places, places, strict=True)
    if len(models := {name: read_rows(place, label_map) for name, place in named}) < 2:
        raise CorpusError(f"both models are called {next(iter(models))}: give two tables, or --names")
    labels = {place: read_rows(place, label_map, predicts=False) for place in filter(None, [options.labels])}
    rows, left_out = align(models, labels)
    result = measure(rows)
    print(to_markdown(result), flush=True)
    for reason, count in Counter(left_out.values()).items():
        some = [identity for identity, why in left_out.items() if why == reason][:_LISTED]
        print(f"Left out: {count} {reason}, e.g. {', '.join(some)}.")
    if options.output_dir is not None:
        write(Path(options.output_dir), result, left_out, options.figure_format)


def read_rows(place: str, label_map: Mapping[str, str], predicts: bool = True) -> "pd.DataFrame":
    """Return a table's or a folder's rows by id: `predicted`, `label`, `speaker`, as texts, or None where not known.

    `label_map` is {name: class} of names that mean another class; without `predicts` the table holds labels alone.
    Raises `CorpusError` where no table is or can be read, a column is missing, or an id is there twice.
    """
    import pandas as pd

    from modeling_m4ser.rows_m4ser import find_columns, is_missing, plain_name

    folder = Path(place)
    written = [sorted(folder.rglob(f"predictions.{form}")) for form in ("parquet", "csv", "jsonl")]
    if not (paths := next(filter(None, written), []) if folder.is_dir() else [folder]):
        raise CorpusError(f"{place} holds no predictions: give the folder of a run or of m4ser predict, or a table")
    table = pd.concat(map(_load, paths))
    roles = {role: some[0] for role, some in find_columns(table.columns).items()}
    columns = {"id": roles.get("id"), "label": roles.get("emotion"), "speaker": roles.get("speaker")}
    if predicts:
        plain = {plain_name(column): column for column in table.columns}
        columns["predicted"] = next((plain[name] for name in PREDICTED if name in plain), None)
        if columns["predicted"] is None:
            answer = plain.get("label", columns["label"])
            columns |= {"predicted": answer, "label": None if answer == columns["label"] else columns["label"]}
    for role in ("id", "predicted" if predicts else "label"):
        if columns[role] is None:
            raise CorpusError(f"{place} has no column {role}; its columns: {', '.join(map(str, table.columns))}")

    def texts(role: str) -> list[str | None]:
        values = [None] * len(table) if columns.get(role) is None else table[columns[role]]
        empty = (is_missing(value) or not str(value).strip() for value in values)
        return [None if no else map_label(str(value), label_map) for value, no in zip(values, empty, strict=True)]

    data = {role: texts(role) for role in ("predicted", "label", "speaker")}
    frame = pd.DataFrame(data, table[columns["id"]].astype(str), dtype=object)
    if len(twice := frame.index[frame.index.duplicated()].unique()):
        some = ", ".join(twice[:_LISTED])
        raise CorpusError(f"{place} has {len(twice)} ids more than once, e.g. {some}: keep one row (one seed) of each")
    return frame


def _load(path: Path) -> "pd.DataFrame":
    """A table without its nested columns, such as embeddings, which would take most of the memory."""
    import pandas as pd
    import pyarrow.parquet

    if path.suffix.lower() != ".parquet":
        return pd.DataFrame(read_table(path))
    try:
        flat = [each.name for each in pyarrow.parquet.read_schema(path) if not pyarrow.types.is_nested(each.type)]
        return pyarrow.parquet.read_table(path, columns=flat).to_pandas(ignore_metadata=True)
    except pyarrow.ArrowException as error:
        raise CorpusError(f"{path} cannot be read as Parquet: {error}") from None


def align(models: Frames, labels: Frames) -> tuple[dict[str, "pd.DataFrame"], dict[str, str]]:
    """Return the models' rows that can be compared (`emotion`, `predicted`, `cluster`), and why others are left out.

    Raises `CorpusError` without labels, an id or a class in common, or where tables contradict each other.
    """
    import pandas as pd

    tables = [*labels.items(), *models.items()]
    known = sorted({value for _, frame in tables for value in frame["label"].dropna()})
    answers = [value for frame in models.values() for value in frame["predicted"].dropna()]
    spelling = one_spelling([*known, *answers], known)
    label, speaker = _merge("label", tables, spelling), _merge("speaker", tables, {})
    if not known:
        raise CorpusError(f"{' and '.join(models)} have no labels: --labels TABLE with the columns id and label")
    every = sorted({identity for frame in models.values() for identity in frame.index})  # draws follow the order
    left_out = {identity: "without a label" for identity in every if identity not in label}
    for name, frame in models.items():
        left_out |= dict.fromkeys(frame.index[frame["predicted"].isna()], f"without an answer in {name}")
        left_out |= {identity: f"not in {name}" for identity in every if identity not in frame.index}
    ids = [identity for identity in every if identity not in left_out]
    if not ids:
        some = " and ".join(f"{name} has {', '.join(frame.index[:2])}" for name, frame in models.items())
        raise CorpusError(f"no labelled id is in both tables: {some}")
    shared = {"emotion": [label[identity] for identity in ids], "cluster": [speaker.get(identity) for identity in ids]}
    rows = {}
    for name, frame in models.items():
        predicted = list(frame.loc[ids, "predicted"].map(spelling))
        if not {*predicted} & {*label.values()}:
            found, wanted = (", ".join(sorted({*some})[:_LISTED]) for some in (predicted, known))
            raise CorpusError(f"{name} answers {found}, the labels are {wanted}: say what means what by --label_map")
        rows[name] = pd.DataFrame({**shared, "predicted": predicted}, ids, dtype=object)
    return rows, left_out


def _merge(column: str, tables: Iterable[tuple[str, "pd.DataFrame"]], spelling: Mapping[str, str]) -> dict[str, str]:
    """A column of several tables as one, by id."""
    merged: dict[str, str] = {}
    for name, frame in tables:
        for identity, value in frame[column].dropna().map(lambda value: spelling.get(value, value)).items():
            if merged.setdefault(identity, value) != value:
                raise CorpusError(f"{name} gives {identity} the {column} {value}, another table {merged[identity]}")
    return merged


def measure(rows: Frames) -> dict[str, Any]:
    """Return what two models' rows say, as JSON: their number, and by metric both intervals and the difference."""
    from trainer.evaluation.significance import REPORTED_METRICS, bootstrap_interval, holm
    from trainer.studies.tables import TableRow, compare

    pair, first = [TableRow(name, {"": frame}, 1, 1) for name, frame in rows.items()], next(iter(rows.values()))
    labels, clusters = first["emotion"].to_numpy(str), list(first["cluster"])
    predicted = [frame["predicted"].to_numpy(str) for frame in rows.values()]
    metrics: dict[str, dict[str, Any]] = {}
    for metric in REPORTED_METRICS:
        each = [asdict(bootstrap_interval(labels, answers, metric, clusters)) for answers in predicted]
        metrics[metric] = {"models": each, "difference": compare(*pair, metric)}
    corrected = holm([part["difference"]["p_value"] for part in metrics.values()])
    for part, p_value in zip(metrics.values(), corrected, strict=True):
        part["difference"]["p_holm"] = p_value
    counts = {"utterances": len(clusters), "speakers": len({*clusters} - {None})}
    return {"models": list(rows), **counts, "metrics": metrics}


def _cells(result: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Titles and rows of the table."""
    from trainer.studies.tables import TITLES, format_p_value, format_percent, format_range

    header = ["", *result["models"], "difference", "95 % interval", "p", "smallest resolvable"]
    rows = []
    for metric, part in result["metrics"].items():
        found, least = part["difference"], part["difference"]["minimum_detectable_difference"]
        cells = [f"{format_percent(each['estimate'])} ({format_range(each)})" for each in part["models"]]
        cells += [f"{100 * found['estimate']:+.1f}", format_range(found), format_p_value(found["p_holm"])]
        rows.append([TITLES[metric], *cells, "–" if least is None else format_percent(least)])
    return header, rows


def to_markdown(result: Mapping[str, Any]) -> str:
    """Return the comparison as a Markdown table with its notes."""
    from trainer.evaluation.summary import markdown_table

    notes = (
        f"{result['utterances']} utterances of {result['speakers'] or 'no known'} speakers. Percent (95 % interval); "
        f"difference: {' minus '.join(result['models'])}. p: paired bootstrap over speakers, or else utterances, for "
        "four metrics together. Smallest resolvable: the true difference that such data find in 80 % of cases."
    )
    return f"{markdown_table(*_cells(result))}\n\n{notes}"


def write(folder: Path, result: Mapping[str, Any], left_out: Mapping[str, str], formats: Sequence[str]) -> None:
    """Write the comparison into a folder, in LaTeX for booktabs, and list what was left out."""
    import pandas as pd

    from trainer.evaluation.drawing import set_figure_formats
    from trainer.evaluation.figures import plot_differences
    from trainer.studies.tables import TITLES

    header, rows = _cells(result)
    latex = pd.DataFrame(rows, columns=header).to_latex(index=False, escape=True).replace("<", r"\textless ")
    write_atomically(folder / "comparison.md", to_markdown(result) + "\n")
    write_atomically(folder / "comparison.tex", latex)
    write_atomically(folder / "comparison.json", json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    listed = pd.DataFrame(left_out.items(), columns=["id", "reason"])
    write_atomically(folder / "left_out.csv", listed.to_csv(index=False))
    set_figure_formats(formats)
    found = [(TITLES[metric], part["difference"]) for metric, part in result["metrics"].items()]
    points = {title: (each["estimate"], each["low"], each["high"]) for title, each in found}
    title = f"{' minus '.join(result['models'])}, {result['utterances']} utterances"
    print(f"Written to {plot_differences(points, title, folder / 'comparison').parent}")
