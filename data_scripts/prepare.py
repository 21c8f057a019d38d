"""Prepare a corpus: `python -m data_scripts.prepare ravdess --data_dir … --output_dir …`.

Writes one Parquet file per split and report.json, in which every dropped or repaired item is listed with its reason.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from data_scripts.corpora import CORPORA, load_corpus
from data_scripts.schema import CorpusError, save_prepared


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's options; a wrong one prints the usage and exits with 2."""
    parser = argparse.ArgumentParser(prog="python -m data_scripts.prepare", description=__doc__.split("\n\n")[0])
    parser.add_argument("corpus", choices=sorted(CORPORA))
    parser.add_argument("--data_dir", required=True, type=Path, help="the corpus's folder, or a manifest")
    parser.add_argument("--output_dir", required=True, type=Path, help="where the prepared corpus goes")
    parser.add_argument("--emotions", nargs="+", metavar="NAME", help="keep only these classes, in this order")
    parser.add_argument("--num_workers", type=int, default=2, help="recordings decoded at once (default 2)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 2 after one line that says what the user can change."""
    options = parse_arguments(arguments)
    try:
        corpus = load_corpus(options.corpus, options.data_dir, options.emotions, options.num_workers)
        folder = save_prepared(corpus.dataset, options.output_dir)
        corpus.report.save(folder / "report.json")
    except (CorpusError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(corpus.report.table())
    print(f"written to {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
