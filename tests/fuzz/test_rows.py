"""The pipeline answers any row or says why not; the trainer and the preparation of a corpus read the same in it."""

import math

import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from data_scripts import load_corpus
from tests.fuzz import strategies as some
from trainer import M4SERDataCollator
from trainer.inputs.rows import RowReader


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    (folder / "sub").mkdir()
    for name, data in (some.GOOD_FILES | some.BROKEN_FILES).items():
        (folder / name).write_bytes(data)
    return folder


@some.examples(150)
@given(data=st.data(), said=st.sampled_from([*some.TEXTS, *some.ODD]), channel=st.sampled_from([None, *some.CHANNELS]))
def test_the_pipeline_answers_or_refuses(pipe, folder, data, said, channel):
    row = data.draw(some.inputs(folder))
    scores, refusal = some.outcome(lambda: pipe(row, asr=lambda _: said, channel=channel))
    if scores:
        assert math.isclose(sum(item["score"] for item in scores), 1, abs_tol=1e-4)
    else:
        assert refusal is not None or len(row) == 0  # no inputs have no answers


STORED = {name: form for name, form in some.FORMS.items() if name != "Path"}  # what a `datasets.Dataset` can hold
ARRAYS = (some.NOISE[:, 0], some.NOISE[:, 1] / 2.0**15, some.NOISE.T.tolist(), (some.NOISE / 2.0**15).tolist(), [])


@some.examples(40)
@given(data=st.data())
def test_a_row_is_read_alike(pipe, folder, data):
    audio = data.draw(st.one_of(some.files(folder, STORED), st.sampled_from(ARRAYS)))
    row = {data.draw(some.names("audio")): audio, data.draw(some.names("emotion")): "angry"}
    row[data.draw(some.names("hypothesis"))] = data.draw(st.sampled_from(["so happy", "", "SAD (sighs)", "nan", None]))
    times = dict.fromkeys(("start", "end", "duration"), (0, 50, "0,05", "0:00.09", 0.1, 9, math.nan, "", None))
    for role, values in {
        "sampling_rate": (some.RATE, 8000.0, None),
        "channel": (0, "1", 1.0, 7, None),
        **times,
    }.items():
        row |= {data.draw(some.names(role)): data.draw(st.sampled_from(values))} if data.draw(st.booleans()) else {}
    collate = M4SERDataCollator(pipe.processor, pipe.model.config)
    ways = {
        "pipeline": lambda: pipe._collate([pipe.preprocess(row)]),
        "trainer": lambda: collate([RowReader(pipe.model.config).read([row], "data")[0]]),
        "preparation": lambda: collate(
            list(load_corpus("dataset", Dataset.from_list([row]), num_workers=1).dataset["train"])
        ),
    }
    read = {way: some.outcome(call) for way, call in ways.items()}
    if "no sound" in (read["preparation"][1] or ""):  # such as a single sample: a preparation drops it, others warn
        del read["preparation"]
    assert len({why is None for _, why in read.values()}) == 1, {way: why for way, (_, why) in read.items()}
    for got, why in read.values():
        for name in pipe.processor.model_input_names if why is None else ():
            # What is prepared may be a copy in 16 bits.
            torch.testing.assert_close(got[name], read["pipeline"][0][name], rtol=0, atol=1e-3)
