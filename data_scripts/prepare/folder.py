"""From a corpus's own files to a prepared folder on disk: in parallel, incrementally, and unharmed by a crash.

    train.parquet · validation.parquet · test.parquet     the canonical table, see `schema`
    audio/<id>.flac                                       16 kHz mono copies of what is not that already
    report.json · README.md                               the account of every item, and the dataset card
    .prepare.jsonl                                        what was found of each recording, see `recordings`

The same corpus and options give the same files, whatever was interrupted before.
"""

import json
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet
from huggingface_hub import CommitOperationAdd, HfApi

from data_scripts.constants import SPLITS
from data_scripts.corpora import CorpusSelection, scan_corpus
from data_scripts.corpora.report import REPORT_NAME, PreparationReport
from data_scripts.errors import CorpusError
from data_scripts.files import write_atomically
from data_scripts.prepare.card import CARD_MARK, dataset_card
from data_scripts.prepare.recordings import RecordingStore
from data_scripts.schema import CARD_NAME, save_splits, tables_digest


def prepare_folder(
    selection: CorpusSelection, output_dir: str | os.PathLike, embed_audio: bool = False
) -> PreparationReport:
    """Prepare a corpus into `output_dir`, which `load_prepared` and `datasets.load_dataset` open; return its report.

    A recording that is 16 kHz mono WAV or FLAC is referred to where it lies, by its absolute path; of any other a FLAC
    is made in `output_dir/audio`. With `embed_audio`, all of them go as FLAC into the Parquet files, which then depend
    on no other file. Recordings that have not changed since an earlier run are not decoded again, unless they are
    embedded, and the hypotheses that `data_scripts.transcribe` has filled in since are kept.
    """
    folder = Path(output_dir).expanduser()
    _check_output(folder, selection.place)
    scanned, report = scan_corpus(selection)
    with RecordingStore(folder, embed_audio) as store:
        splits = store.finished_splits(scanned, report, selection.num_workers)
        if selection.strict and report.audit is not None:
            report.audit.refuse()
        save_splits(splits, scanned.emotions, folder)
        report.save(folder / REPORT_NAME)
        card = dataset_card(selection.record, report, embed_audio, tables_digest(folder))
        write_atomically(folder / CARD_NAME, card)
        store.remove_unused()
    return report


def push_to_hub(folder: str | os.PathLike, repository: str) -> str:
    """Upload a prepared folder with embedded audio as a dataset, private where it is new; return its address."""
    folder = Path(folder)
    files = [folder / f"{split}.parquet" for split in SPLITS if (folder / f"{split}.parquet").is_file()]
    for file in files:
        audio = pyarrow.parquet.ParquetFile(file).read_row_group(0, columns=["audio"])
        if audio["audio"][0].as_py()["bytes"] is None:
            raise CorpusError(f"{folder} only refers to its audio by path: prepare it with --embed_audio first")
    operations = [CommitOperationAdd(file.name, file) for file in [*files, folder / CARD_NAME]]
    report = json.loads((folder / REPORT_NAME).read_text(encoding="utf-8"))
    report.get("selection", {}).pop("data_dir", None)  # a place on this machine
    operations.append(CommitOperationAdd(REPORT_NAME, json.dumps(report, indent=2, ensure_ascii=False).encode()))
    api = HfApi()
    try:
        address = api.create_repo(repository, repo_type="dataset", private=True, exist_ok=True)
        api.create_commit(address.repo_id, operations, repo_type="dataset", commit_message="Prepared with M4SER")
    # Everything: refusals, bad names and lost connections have no class in common, and the last differ by version.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise CorpusError(f"the prepared folder is written, but not pushed to {repository}: {reason}") from error
    return str(address)


def _check_output(folder: Path, data_dir: Any) -> None:
    """Raise where the output would come between files that are not ours."""
    if isinstance(data_dir, Path) and data_dir.exists():  # it may be a dataset in memory, or on the Hub
        source = data_dir if data_dir.is_dir() else data_dir.parent
        if folder.resolve() == source.resolve():
            raise CorpusError(
                f"{folder} is the corpus's own folder: give another --output_dir, where nothing else lies"
            )
    card = folder / CARD_NAME
    if card.is_file() and CARD_MARK.encode() not in card.read_bytes():
        raise CorpusError(f"{card} was not written by this command and would be lost: give another --output_dir")
