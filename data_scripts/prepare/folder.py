"""From a corpus's own files to a prepared folder on disk: in parallel, incrementally, and unharmed by a crash.

    train.parquet · validation.parquet · test.parquet     the canonical table, see `schema`
    audio/<id>.flac                                       16 kHz mono copies of what is not that already
    report.json · README.md                               the account of every item, and the dataset card
    .prepare.jsonl                                        what was found out about each recording

The same corpus and options give the same files, whatever was interrupted before.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet
from huggingface_hub import HfApi
from tqdm.auto import tqdm

from data_scripts.corpora.registry import keep_usable, scan_corpus
from data_scripts.corpora.report import PreparationReport
from data_scripts.prepare.card import CARD_MARK, dataset_card
from data_scripts.prepare.recordings import RecordingInfo, RecordingStore, write_atomically
from data_scripts.schema import SPLITS, CorpusError, write_split


def prepare_folder(
    name: str,
    data_dir: str | os.PathLike,
    output_dir: str | os.PathLike,
    emotions: Sequence[str] | None = None,
    sessions: Sequence[str] | None = None,
    embed_audio: bool = False,
    num_workers: int = 1,
) -> PreparationReport:
    """Prepare a corpus into `output_dir`, which `load_prepared` and `datasets.load_dataset` open.

    A recording that is 16 kHz mono WAV or FLAC is referred to where it lies, by its absolute path; of any other a FLAC
    is made in `output_dir/audio`. With `embed_audio`, all of them go as FLAC into the Parquet files, which then depend
    on no other file. Recordings that have not changed since an earlier run are not decoded again, and the hypotheses
    that `data_scripts.transcribe` has filled in since are kept.

    Args:
        output_dir: made if absent; must not be the corpus's own folder.
        name, data_dir, emotions, sessions, num_workers: as for `data_scripts.corpora.load_corpus`.

    Raises:
        CorpusError: as `load_corpus`; an output folder with foreign files; or one that is being prepared right now.
        OSError: something cannot be read or written.
    """
    folder = Path(output_dir)
    scanned, report = scan_corpus(name, data_dir, emotions, sessions, num_workers)
    _check_output(folder, Path(data_dir))
    with RecordingStore(folder, embed_audio) as store:
        answers = store.hear(scanned.rows, num_workers)
        kept = keep_usable(scanned, answers, report, data_dir)
        earlier = _earlier_hypotheses(folder)
        temporary = {split: folder / f".{split}.parquet.tmp" for split in kept}
        try:
            for split, rows in kept.items():
                with open(temporary[split], "wb") as file:
                    write_split(_finished(rows, store, earlier), scanned.emotions, file)
            for split, file in temporary.items():
                os.replace(file, folder / f"{split}.parquet")
        finally:
            for file in temporary.values():
                file.unlink(missing_ok=True)
        for split in set(SPLITS) - set(kept):  # of an earlier preparation: it would silently join this one
            (folder / f"{split}.parquet").unlink(missing_ok=True)
        report.save(folder / "report.json")
        write_atomically(folder / "README.md", dataset_card(report, embed_audio).encode())
        store.remove_unused(answers)
    return report


def push_to_hub(folder: str | os.PathLike, repository: str) -> str:
    """Upload a prepared folder with embedded audio as a dataset, private where it is new; returns its address.

    Raises:
        CorpusError: the audio is not embedded, so nobody else could hear it; or the Hub cannot be reached, or refuses.
    """
    folder = Path(folder)
    for split in SPLITS:
        if (folder / f"{split}.parquet").is_file():
            audio = pyarrow.parquet.ParquetFile(folder / f"{split}.parquet").read_row_group(0, columns=["audio"])
            if audio["audio"][0].as_py()["bytes"] is None:
                raise CorpusError(f"{folder} only refers to its audio by path: prepare it with --embed_audio first")
    api = HfApi()
    try:
        address = api.create_repo(repository, repo_type="dataset", private=True, exist_ok=True)
        api.upload_folder(
            repo_id=address.repo_id,
            repo_type="dataset",
            folder_path=folder,
            allow_patterns=["README.md", "report.json", *(f"{split}.parquet" for split in SPLITS)],
            commit_message="Prepared with M4SER",
        )
    # Everything: refusals, bad names and lost connections have no class in common, and the last differ by version.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise CorpusError(f"the prepared folder is written, but not pushed to {repository}: {reason}") from error
    return str(address)


def _check_output(folder: Path, data_dir: Path) -> None:
    """Raise where the output would come between files that are not ours."""
    source = data_dir if data_dir.is_dir() else data_dir.parent
    if folder.exists() and folder.resolve() == source.resolve():
        raise CorpusError(f"{folder} is the corpus's own folder: give another --output_dir, where nothing else lies")
    card = folder / "README.md"
    if card.is_file() and CARD_MARK.encode() not in card.read_bytes():
        raise CorpusError(f"{card} was not written by this command and would be lost: give another --output_dir")


def _finished(
    rows: Sequence[tuple[dict[str, Any], RecordingInfo]], store: RecordingStore, earlier: dict[tuple, tuple[str, str]]
) -> Iterator[dict[str, Any]]:
    """The rows with their audio, loaded one by one, and the hypotheses they had before."""
    for row, heard in tqdm(rows, desc=f"writing {rows[0][0]['split']}", unit="row"):
        row = {**row, "audio": store.audio_of(row, heard)}
        before = earlier.get((row["split"], row["id"]))
        if before is not None and row.get("hypothesis") is None and abs(before[0] - row["duration"]) < 1e-3:
            row["hypothesis"], row["asr_model"] = before[1:]
        yield row


def _earlier_hypotheses(folder: Path) -> dict[tuple[str, str], tuple[float, str, str]]:
    """What an earlier run's utterances hold: {(split, id): (duration, hypothesis, asr_model)}."""
    found = {}
    for split in SPLITS:
        try:
            columns = ["id", "duration", "hypothesis", "asr_model"]
            table = pyarrow.parquet.read_table(folder / f"{split}.parquet", columns=columns)
        except (OSError, KeyError, pyarrow.ArrowException):
            continue  # none, or nothing of ours
        for row in table.to_pylist():
            if row["hypothesis"] is not None:
                found[split, row["id"]] = row["duration"], row["hypothesis"], row["asr_model"]
    return found
