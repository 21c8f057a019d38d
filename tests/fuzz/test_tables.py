"""Any table of recordings is prepared and trained on or refused in one line, whatever its order and place."""

import itertools
import math
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import assume, given
from hypothesis import strategies as st

from data_scripts import load_corpus
from data_scripts.corpora import CorpusSelection
from data_scripts.prepare.folder import prepare_folder
from data_scripts.schema import load_prepared
from data_scripts.tables import read_table
from tests.fuzz import strategies as some
from tests.helpers.tiny import speech_config, tiny_model
from tests.modeling_m4ser.test_audio import encoded
from trainer import M4SERDataCollator, M4SERTrainer, M4SERTrainingArguments
from trainer.experiments.arguments import GridArguments
from trainer.experiments.protocols import divide
from trainer.inputs.rows import RowReader


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A folder of short recordings, none like another, some of them broken."""
    folder, rng = tmp_path_factory.mktemp("clips"), np.random.default_rng(0)
    (folder / "sub").mkdir()
    for number, (name, form) in enumerate(some.CLIPS.items()):
        noise = rng.integers(-9000, 9000, (1700 + 100 * number, 1 + (number == 2))).astype(np.int16)
        (folder / name).write_bytes(encoded(noise, 8000 if number == 6 else some.RATE, form=form))
    for name, data in some.BROKEN_FILES.items():
        (folder / name).write_bytes(data)
    return folder


def by_id(dataset) -> dict:
    """Each row of a corpus but for where its audio lies."""
    rows = ((str(split), part.features["emotion"], row) for split, part in dataset.items() for row in part)
    kept = {row["id"]: {**row, "split": split, "emotion": names.int2str(row["emotion"])} for split, names, row in rows}
    return {name: {key: cell for key, cell in row.items() if key != "audio"} for name, row in kept.items()}


def folds_of(dataset) -> dict:
    folds = divide(dataset, "manifest", GridArguments(num_folds=3)).folds
    return {name: {split: sorted(part["id"]) for split, part in data.items()} for name, (data, _) in folds.items()}


@some.examples(10)
@given(data=st.data())
def test_a_table_is_prepared_and_trained_on_or_refused(pipe, clips, data):
    (frame, files, names), kind = data.draw(some.tables()), data.draw(st.sampled_from(some.TABLE_KINDS))
    encoding = data.draw(st.sampled_from(["utf-8"] * 5 + ["utf-8-sig", "utf-16", "cp1252", "utf-32"]))
    form = data.draw(st.sampled_from(",,,;\t|")), encoding, data.draw(st.sampled_from(["records", "columns", "split"]))
    order = data.draw(st.permutations(range(len(files))))
    with tempfile.TemporaryDirectory() as place:
        first, other = Path(place, "first"), Path(place, "an other [1]")
        for folder, table in ((first, frame), (other, frame.iloc[order].reset_index(drop=True))):
            shutil.copytree(clips, folder)
            some.write_table(table, folder / f"Rows.{kind}", *form)
        report, refusal = some.outcome(lambda: prepare_folder(CorpusSelection(data_dir=first), first / "prepared"))
        spelled = Path(os.path.relpath(other), ".", "..", other.name, f"Rows.{kind}")
        again, refused = some.outcome(lambda: load_corpus("manifest", spelled, num_workers=1))
        assert (refusal is None) == (refused is None), (refusal, refused)
        assume(report is not None)
        assert report.kept + len(report.dropped) == len(frame)
        reasons = [
            Counter({reason.replace(str(folder), ""): count for reason, count in each.reasons("dropped").items()})
            for folder, each in ((first, report), (other, again.report))
        ]
        assert reasons[0] == reasons[1]
        prepared = load_prepared(first / "prepared")
        assert by_id(prepared) == by_id(again.dataset)
        divided = [some.outcome(lambda each=each: folds_of(each)) for each in (prepared, again.dataset)]
        assert divided[0][0] == divided[1][0], divided
        check_rows(pipe, prepared, read_table(first / f"Rows.{kind}"), [first / name for name in files], names)
        if "train" in prepared and None not in (train := prepared["train"])["hypothesis"][:]:
            losses, refusal = some.outcome(lambda: train_twice(pipe, train, place))
            assert refusal is not None or (len(losses) == 2 and all(map(math.isfinite, losses)))


def check_rows(pipe, prepared, rows, paths, names):
    """Pipeline, trainer and preparation read the same in the rows whose ids tell them."""
    collate, kept = M4SERDataCollator(pipe.processor, pipe.model.config), itertools.chain(*prepared.values())
    for row in (row for row in kept if "id" in names and row["hypothesis"]):  # "": no cell, where a recogniser is named
        number = int(row["id"][1:])
        raw = {key: cell for key, cell in rows[number].items() if key != names["emotion"].strip()}
        raw[names["audio"].strip()] = str(paths[number])
        expected = collate([{**row, "emotion": None}])
        ways = (pipe._collate([pipe.preprocess(raw)]), collate([RowReader(pipe.model.config).read([raw], "data")[0]]))
        for got, name in itertools.product(ways, pipe.processor.model_input_names):
            torch.testing.assert_close(got[name], expected[name], rtol=0, atol=1e-3)  # what is prepared has 16 bits


def train_twice(pipe, train: Dataset, place: str) -> list[float]:
    """The losses of two steps."""
    labels = dict(enumerate(train.features["emotion"].names))
    model = tiny_model(speech_config=speech_config("hubert", conv_dim=[4] * 7), id2label=labels, label2id={})
    args = M4SERTrainingArguments(
        **{"output_dir": place, "use_cpu": True, "max_steps": 2, "logging_steps": 1, "save_strategy": "no"},
        **{"disable_tqdm": True, "log_level": "error", "per_device_train_batch_size": 2, "report_to": []},
    )
    trainer = M4SERTrainer(model, args, M4SERDataCollator(pipe.processor, model.config), train)
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
