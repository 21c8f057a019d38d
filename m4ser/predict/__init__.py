"""`m4ser predict`: recordings, folders, tables, data sets and archives -> one table of emotions, a row an input.

It takes up where it was stopped: the same command predicts what has no answer yet and tries again what failed.
"""

import argparse
import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_scripts.errors import run_command
from data_scripts.parsers import CommandParser
from m4ser.predict.predictor import Settings
from m4ser.runtimes import add_runtime, keep_torch_out

if TYPE_CHECKING:
    from m4ser.predict.parts import Parts


def main(arguments: Sequence[str]) -> int:
    """Predict what the command line names; returns the exit status, see `run_command`."""
    options = parse_arguments(arguments)
    return run_command(lambda: predict(options))


def parse_arguments(words: Sequence[str]) -> argparse.Namespace:
    """Return the options of a command line."""
    parser = CommandParser(prog="m4ser predict", description=__doc__)
    known = "recording, folder, pattern in quotes, table, data set (of the Hub, saved, prepared), lhotse cuts, tar"
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help=known)
    parser.add_argument("--model", required=True, help="Folder of a trained model, or its name on the Hub.")
    parser.add_argument("--output_dir", required=True, metavar="FOLDER", help="Where the table goes; new, or begun.")
    parser.add_argument("--asr", metavar="MODEL", help="Speech recognizer that writes the texts not given.")
    parser.add_argument("--format", default="parquet", choices=("parquet", "csv", "jsonl"), help="Of the table.")
    parser.add_argument("--batch_size", type=_count, default=16, metavar="N", help="Utterances at once; default: 16.")
    parser.add_argument("--num_workers", type=_count, default=2, metavar="N", help="Decoding threads; default: 2.")
    parser.add_argument("--channel", type=int, metavar="N", help="Channel to read, from 0; default: the mean.")
    parser.add_argument("--corrections", action="store_true", help="Add what error correction makes of the texts.")
    parser.add_argument("--embeddings", action="store_true", help="Add the pooled features.")
    parser.add_argument("--engine", default="local", choices=("local", "ray"), help="Or a Ray cluster.")
    add_runtime(parser)
    return parser.parse_args(words)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, not {text}")
    return int(text)


def predict(options: argparse.Namespace) -> None:
    """Do what the options say; the processes of one launch share the rows."""
    keep_torch_out(options.runtime)
    from data_scripts.journal import locked
    from m4ser.predict import engines
    from m4ser.predict.formats import write_table
    from m4ser.predict.inputs import Inputs
    from m4ser.predict.parts import Parts, table_schema
    from m4ser.predict.predictor import describe
    from trainer.experiments.run_folder import claim_folder

    settings = Settings(**{each.name: getattr(options, each.name) for each in fields(Settings)})
    folder = Path(options.output_dir)
    with engines.processes() as (rank, count, wait), contextlib.ExitStack() as held:
        inputs = Inputs(options.inputs)
        described = describe(settings, inputs.has_text)
        if rank == 0:
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(folder / ".lock", "filled"))
            if (folder / "parts").is_dir() and not any((folder / "parts").glob("part-*.parquet")):
                (folder / "manifest.json").unlink(missing_ok=True)  # of a try that answered nothing: it binds nobody
            claim_folder(folder, described, "manifest.json")
            for torn in (folder / "parts").glob(".part-*.tmp"):  # of a process that was killed
                torn.unlink()
        wait()  # until the folder is this prediction's
        schema = table_schema(described["model"]["id2label"].values(), settings.corrections, settings.embeddings)
        parts = Parts(folder, schema, inputs.digests)
        places = parts.unanswered()
        wait()  # until all processes have read the same parts, by which they share the rows
        run = engines.run_ray if options.engine == "ray" else engines.run_local
        if places:
            _collect(run(settings, inputs, places, rank, count), parts, len(inputs), len(places), rank, count)
        wait()
        if rank == 0:
            table = folder / f"predictions.{options.format}"
            write_table(parts.rows(), schema, table)
            failures = parts.failures()
            kinds = "".join(f"; {number} {kind}" for kind, number in failures.most_common())
            reasons = ": why is in the column error" if failures else ""
            print(f"{table}: {len(inputs) - failures.total()} of {len(inputs)} rows answered{kinds}{reasons}")


def _collect(answers: Iterator[list[Any]], parts: "Parts", rows: int, places: int, rank: int, count: int) -> None:
    """Put answers into parts as they come, and show how fast that is; what has come is kept whatever happens."""
    from tqdm.auto import tqdm

    begun, heard = time.monotonic(), 0.0
    with tqdm(total=rows, initial=rows - places, unit="row", desc="predicting", disable=rank > 0) as progress:
        try:
            for chunk in answers:
                parts.append(chunk)
                heard += count * sum(answer.get("seconds") or 0.0 for answer in chunk)
                progress.set_postfix_str(f"{heard / (time.monotonic() - begun):.1f} × real time", refresh=False)
                progress.update(min(count * len(chunk), progress.total - progress.n))  # the others are about as far
        finally:
            parts.flush()
