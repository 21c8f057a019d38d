"""Pairs of ASR and human text from a table or a prepared corpus. Imports nothing heavy: `--help` answers at once."""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.errors import ExperimentError

PARTS = ("train", "validation", "test")


@dataclass
class CorrectionArguments:
    """Which pairs of texts, and what is left out of training."""

    pairs: str | None = field(
        default=None,
        metadata={"help": "Table with the columns hypothesis, reference and source, or a prepared folder."},
    )
    held_out_sources: list[str] = field(
        default_factory=list, metadata={"help": "Sources that are left out of training as a whole, and tested."}
    )
    validation_share: float = field(default=0.1, metadata={"help": "Share of the other pairs to validate on."})
    test_share: float = field(default=0.1, metadata={"help": "Share of the other pairs to test on."})
    split_seed: int = field(default=0, metadata={"help": "Seed of that division."})
    text_encoder: str = field(
        default="sentence-transformers/all-MiniLM-L6-v2", metadata={"help": "Hub name or folder of a BERT-like model."}
    )
    compare_decoding: bool = field(
        default=False, metadata={"help": "Also time the parallel decoding against rewriting whole sentences."}
    )

    def __post_init__(self):
        shares = self.validation_share, self.test_share
        if min(shares) <= 0 or sum(shares) >= 1:
            raise ExperimentError(
                f"validation_share and test_share must be positive and leave some to train on, not {shares[0]} and "
                f"{shares[1]}."
            )


def read_columns(path: Path, columns: Sequence[str]) -> list[tuple[Any, ...]]:
    """Return these columns of a table's rows, or of all splits of a prepared folder; None where a row has none."""
    from data_scripts.schema import load_prepared
    from data_scripts.tables import read_table

    if path.is_dir():
        rows = [row for part in load_prepared(path).values() for row in part.remove_columns("audio").to_list()]
    else:
        rows = read_table(path, empty_cell="")
    known = dict.fromkeys(name for row in rows for name in row)
    if missing := [column for column in columns if rows and column not in known]:
        raise ExperimentError(f"{path} has no column {missing[0]!r}; its columns: {', '.join(known)}.")
    return [tuple(row.get(column) for column in columns) for row in rows]


def read_pairs(arguments: CorrectionArguments) -> list[dict[str, Any]]:
    """Return rows with both texts: `id`, `hypothesis`, `transcript`, `source` and `characters` (of the hypothesis)."""
    if arguments.pairs is None:
        raise ExperimentError("Name a table of pairs or a prepared corpus: --pairs FILE_OR_FOLDER.")
    path, rows = Path(arguments.pairs), []
    columns = ("hypothesis", "transcript", "asr_model") if path.is_dir() else ("hypothesis", "reference", "source")
    for number, row in enumerate(read_columns(path, columns)):
        if row[0] is not None and row[1] is not None:
            texts = {"hypothesis": row[0], "transcript": row[1]}
            source = "unknown" if row[2] is None else str(row[2])
            rows.append({"id": f"{path.name}:{number}", **texts, "source": source, "characters": len(row[0])})
    if not rows:
        raise ExperimentError(f"{path} has no row with both texts.")
    return rows


def divide_pairs(rows: Sequence[Mapping[str, Any]], arguments: CorrectionArguments) -> dict[str, list[Any]]:
    """Divide pairs into `train`, `validation` and `test` at random, and `held_out`, whole sources.

    Pairs with the same human text, but for case and punctuation, come into the same part. A held-out source's pair with
    the text of a training pair stays held out.
    """
    sources = {row["source"] for row in rows}
    if unknown := sorted(set(arguments.held_out_sources) - sources):
        raise ExperimentError(f"There is no source {', '.join(unknown)} to hold out; there are {', '.join(sources)}.")
    parts: dict[str, list[Any]] = {name: [] for name in (*PARTS, "held_out")}
    rng, chosen = random.Random(arguments.split_seed), {}
    for row in rows:
        if row["source"] in arguments.held_out_sources:
            parts["held_out"].append(row)
            continue
        key = " ".join(re.findall(r"\w+", row["transcript"].lower()))
        if key not in chosen:
            place = rng.random()
            in_test = place < arguments.test_share
            in_validation = place < arguments.test_share + arguments.validation_share
            chosen[key] = "test" if in_test else "validation" if in_validation else "train"
        parts[chosen[key]].append(row)
    if empty := [name for name in PARTS if not parts[name]]:
        raise ExperimentError(
            f"The {empty[0]} part is empty: {arguments.pairs} has too few pairs that are not held out."
        )
    return parts
