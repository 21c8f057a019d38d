"""`m4ser bench MODEL SHARDS`: a model in the benchmark oruk-bench: its clips, its names of labels, its own scores.

SHARDS is the folder of its Parquet files, with the columns audio_flac, label, language, source_id.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from data_scripts.errors import CorpusError, UserError, run_command
from data_scripts.files import write_atomically
from data_scripts.parsers import CommandParser


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options; a wrong one prints the usage and exits with 2."""
    parser = CommandParser(prog="m4ser bench", description=__doc__)
    parser.add_argument("model", metavar="MODEL", help="a folder or a name on the Hub")
    parser.add_argument("shards", metavar="SHARDS", help="the folder of the benchmark's Parquet files")
    parser.add_argument("--asr", metavar="MODEL", help="the recognizer of a model that reads transcripts")
    parser.add_argument("--batch_size", type=int, default=16, help="clips at once (default: %(default)s)")
    parser.add_argument("--device", help="e.g. cuda:0 (default: a GPU where there is one)")
    parser.add_argument("--output", metavar="FILE", help="where the scores go, as JSON")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Print the scores of a model; returns the exit status."""
    return run_command(lambda: _bench(parse_arguments(arguments)))


def _bench(options: argparse.Namespace) -> None:
    try:
        from oruk_bench.core import LABELS, TARGET_SR, clip_audio, load_eval, norm_label, score
    except ImportError as error:
        raise UserError("m4ser bench needs oruk-bench: pip install oruk-bench") from error
    from m4ser.runtimes import load_pipeline

    try:
        tables, index, labels, languages, sources = load_eval(options.shards)
    except (FileNotFoundError, KeyError) as error:
        columns = "audio_flac, label, language and source_id"
        raise CorpusError(f"{options.shards} holds no Parquet files with {columns}: {error}") from error
    pipe = load_pipeline(options.model, device=options.device, asr=options.asr)
    if pipe.model.config.uses_text and options.asr is None:
        raise UserError(f"{options.model} reads transcripts, and the benchmark has none: name a recognizer by --asr")
    classes = {name: norm_label(name) for name in pipe.model.config.id2label.values()}
    supported = [label for label in LABELS if label in classes.values()]
    if not supported:
        raise UserError(f"none of the labels {', '.join(classes)} is of the benchmark: {', '.join(LABELS)}")
    clips = ({"array": clip_audio(tables, index, number), "sampling_rate": TARGET_SR} for number in range(len(index)))
    # As its own adapters do: what is no class of the benchmark is no answer.
    best = (
        next(classes[each["label"]] for each in answer if classes[each["label"]])
        for answer in pipe(clips, batch_size=options.batch_size)
    )
    scores = score(labels, [LABELS.index(label) for label in best], languages, sources, supported)
    text = json.dumps({"model": options.model, **scores}, indent=2, ensure_ascii=False)
    if options.output is not None:
        write_atomically(Path(options.output), text + "\n")
    print(text)
