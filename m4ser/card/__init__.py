"""`m4ser card MODEL DATA`: what a trained model can be relied on for, as one page of checks.

MODEL is a trained model, or a folder of runs, such as all folds of a training, each of which is tested on its own test
rows. DATA is a folder that m4ser prepare wrote. The page says of each check whether the model passed it, failed it, or
whether so few data cannot tell; the numbers lie beside it.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_scripts.errors import run_command
from data_scripts.parsers import CommandParser

if TYPE_CHECKING:
    import pandas as pd

    from m4ser.card.page import Result


def main(arguments: Sequence[str]) -> int:
    """Write the card of a model; returns the exit status, see `run_command`."""
    options = parse_arguments(arguments)
    return run_command(lambda: write_card(options))


def parse_arguments(words: Sequence[str]) -> argparse.Namespace:
    """Return the options of a command line."""
    parser = CommandParser(prog="m4ser card", description=__doc__)
    add = parser.add_argument
    add("model", metavar="MODEL", help="trained model: a folder, a folder of runs, or a name on the Hub")
    add("data", metavar="DATA", help="prepared folder with labels, and best with speakers")
    add("--train", metavar="FOLDER", help="prepared folder that the model was trained on, where DATA does not hold it")
    add("--split", help="of DATA; by default what the run itself was tested on, test, or the only one")
    add("--baseline", nargs="+", default=[], metavar="RUN", help="runs or tables of predictions to compare with")
    add("--max_rows", type=int, default=160, metavar="N", help="rows that are heard again under each change (160)")
    add("--output_dir", required=True, metavar="FOLDER", help="where card.html, card.json and answers.parquet go")
    return parser.parse_args(words)


def write_card(options: argparse.Namespace) -> None:
    """Do what the options say."""
    import pandas as pd

    from m4ser.card import answers as answering
    from m4ser.card.conditions import all_conditions
    from m4ser.card.page import draw_page
    from m4ser.card.plan import plan
    from m4ser.card.subjects import find_subjects, rows_of
    from modeling_m4ser import M4SERConfig

    begun, folder = time.monotonic(), Path(options.output_dir)
    subjects = find_subjects(options.model, options.data, options.train, options.split)
    config: Any = M4SERConfig.from_pretrained(subjects[0].model)
    names, rows = list(config.id2label.values()), rows_of(subjects, options.data)
    repeated = answering.repeatable(rows, options.max_rows)
    conditions = all_conditions(repeated, config.uses_speech, config.uses_text)
    rivals = {place: answering.baseline(place, rows) for place in options.baseline}
    probes = [answering.PROBE] * answering.is_probed(subjects)
    checks = plan(rows, names, conditions, [*rivals, *probes], subjects)
    bounds = [{"section": check.section, "check": check.name, "bound": check.bound} for check in checks]
    _write(folder / "bounds.json", bounds)
    print(f"{len(checks)} checks, their bounds in {folder / 'bounds.json'}", flush=True)

    answers = answering.answer(subjects, rows, repeated, conditions)
    pd.concat(answers, names=["condition"]).to_parquet(folder / "answers.parquet")
    measured = [(check, check.measure({**answers, **rivals})) for check in checks]
    results = [(check, found, check.verdict(found)) for check, found in measured]
    seconds = time.monotonic() - begun
    facts = {
        "Model": f"{options.model}, {len(subjects)} run{'s' * (len(subjects) > 1)}",
        "Data": f"{options.data}: {len(rows)} utterances of {rows['speaker'].nunique()} speakers",
        "Again under each change": f"{len(repeated)} of them, {len(conditions)} changes",
        "Classes": ", ".join(names),
        "Checks": f"{len(checks)} in {seconds / 60:.1f} minutes",
    }
    records = [
        {"section": check.section, "check": check.name, "least": check.least, "most": check.most}
        | {**asdict(found), "verdict": verdict}
        for check, found, verdict in results
    ]
    _write(folder / "card.json", {**facts, "seconds": seconds, "checks": records})
    figures = _figures(folder, answers[""], results, names)
    page = draw_page(f"Card of {Path(options.model).name}", facts, results, figures)
    (folder / "card.html").write_text(page, encoding="utf-8")
    verdicts = Counter(verdict for *_, verdict in results)
    print(f"{folder / 'card.html'}: {', '.join(f'{count} {verdict}' for verdict, count in verdicts.items())}")


def _write(path: Path, content: Any) -> None:
    from data_scripts.files import write_atomically

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _figures(folder: Path, rows: "pd.DataFrame", results: "Sequence[Result]", names: Sequence[str]) -> dict[str, Any]:
    """Draw the confusions, what changes cost, and the reliability; section -> (what it shows, its file)."""
    import pandas as pd

    from trainer.evaluation.calibration import reliability_curve
    from trainer.evaluation.figures import plot_confusion_matrix, plot_differences, plot_reliability

    counts = pd.crosstab(rows["emotion"], rows["predicted"]).reindex(index=names, columns=names, fill_value=0)
    matrix = counts.to_numpy().tolist()
    drawn: dict[str, Any] = {"right": ("confusions", plot_confusion_matrix(matrix, names, folder / "confusion.png"))}
    ending, title = ": change of UA", "change of unweighted accuracy"
    for section in ("sound", "words"):
        found = [(check.name, each) for check, each, _ in results if check.section == section and ending in check.name]
        points = {name.removesuffix(ending): (each.value, each.low, each.high) for name, each in found}
        if points and all(value is not None for value, *_ in points.values()):
            drawn[section] = title, plot_differences(points, title, folder / f"{section}.png")
    known = rows.dropna(subset="confidence")
    curve = reliability_curve(known[[f"probability_{name}" for name in names]], known["emotion"].map(names.index))
    drawn["confidence"] = "reliability", plot_reliability({"this model": curve}, folder / "reliability.png")
    return drawn
