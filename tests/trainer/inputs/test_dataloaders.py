"""The order of the utterances: in training by length, seed and epoch, in evaluation that of the data."""

import itertools
from datetime import timedelta

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch.utils.data import Subset
from transformers import EvalPrediction

from tests.helpers.corpus import deterministic_model, tiny_corpus, tiny_trainer
from tests.helpers.tiny import EMOTIONS, tiny_config, tiny_model
from trainer import M4SERTrainingArguments, compute_emotion_metrics
from trainer.experiments.ablations import ABLATIONS
from trainer.inputs.dataloaders import EpochSampler, length_grouped_sampler
from trainer.inputs.rows import RowReader


def watched(trainer):
    """A list that fills with the ids of the rows that a trainer reads, in its order."""
    collate, read = trainer.data_collator, []

    def watch(rows):
        read.extend(row["id"] for row in rows)
        return collate(rows)

    trainer.data_collator = watch
    return read


def orders(tmp_path, data, **arguments):
    """The ids in the order in which each epoch of a training reads them."""
    model = tiny_model("whisper", **ABLATIONS["only speech"])
    trainer = tiny_trainer(tmp_path, model, data, per_device_train_batch_size=2, **arguments)
    read = watched(trainer)
    trainer.train()
    return [tuple(read[start : start + len(data)]) for start in range(0, len(read), len(data))]


def check_orders(sampler, epoch, size):
    """The order is one of all rows, the same again whatever is drawn elsewhere, and another in another epoch."""
    first = list(sampler)
    assert sorted(first) == list(range(size))
    torch.manual_seed(99)
    assert list(sampler) == first
    epoch[0] = 1
    assert list(sampler) != first
    return first


def test_the_sampler_depends_on_seed_and_epoch_alone():
    lengths, epoch = list(np.random.default_rng(0).uniform(1, 5, size=400)), [0]
    first = check_orders(EpochSampler(4, lengths, 3, lambda: epoch[0]), epoch, 400)
    spread = np.mean([np.ptp([lengths[i] for i in first[start : start + 4]]) for start in range(0, 400, 4)])
    assert spread < 0.8, "batches are not of similar length"


def test_every_epoch_of_a_training_has_an_order_of_its_own_by_the_seed_of_the_data(tmp_path):
    data = tiny_corpus(12)
    first, second, third = orders(tmp_path, data, num_train_epochs=3, seed=1)
    assert len({first, second, third}) == 3
    assert sorted(first) == sorted(second) == sorted(third) == sorted(data["id"])
    assert orders(tmp_path, data, num_train_epochs=2, seed=3, data_seed=1) == [first, second]
    assert orders(tmp_path, data, seed=1, data_seed=2) != [first]


def sampler_of(tmp_path, data, column="duration", epoch=lambda: 0):
    args = M4SERTrainingArguments(output_dir=str(tmp_path), length_column_name=column, use_cpu=True, seed=5)
    return length_grouped_sampler(data, args, epoch)


def test_the_named_column_is_what_is_grouped_by(tmp_path):
    lengths = [float(index) for index in range(48)]
    data = Dataset.from_dict({"frames": lengths, "duration": lengths[::-1]})
    found, other = (list(sampler_of(tmp_path, data, column)) for column in ("frames", "duration"))
    assert found == list(EpochSampler(16, lengths, 5, lambda: 0)) != other
    with pytest.raises(ValueError, match=r"no column 'words' to group batches by \(columns: frames, duration\)"):
        sampler_of(tmp_path, data, "words")


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        (["0.5", "2", "10"], [0.5, 2.0, 10.0]),
        ([timedelta(seconds=0.5), timedelta(seconds=2), timedelta(minutes=1)], [0.5, 2.0, 60.0]),
        ([np.timedelta64(500, "ms"), np.timedelta64(2, "s"), np.timedelta64(1, "m")], [0.5, 2.0, 60.0]),
        (["00:00:00.5", "0:00:02", "00:01:00"], [0.5, 2.0, 60.0]),
        ([torch.tensor(0.5), np.float32(2), 10], [0.5, 2.0, 10.0]),
    ],
)
def test_durations_are_read_however_they_are_written(tmp_path, values, seconds):
    rows = [{"audio": b"", "text": "so", "label": label, "duration": value} for label, value in enumerate(values)]
    adapted = RowReader(tiny_config("whisper")).read(rows, "train_dataset", training=True)
    assert sampler_of(tmp_path, adapted).lengths == seconds
    if isinstance(values[0], (str, timedelta)):
        assert sampler_of(tmp_path, Dataset.from_dict({"duration": values})).lengths == seconds


@pytest.mark.parametrize("value", [None, "long", float("nan"), [1.0]])
def test_a_duration_that_is_no_number_is_named(tmp_path, value):
    rows = Dataset.from_dict({"duration": [value] * 3})
    with pytest.raises(ValueError, match=r"^train_dataset\[0\] has the duration .*, which is no number: batches are"):
        sampler_of(tmp_path, rows)


def test_without_durations_the_order_is_random_and_that_is_told(tmp_path, caplog):
    epoch = [0]
    sampler = sampler_of(tmp_path, [{"frames": 1}] * 40, epoch=lambda: epoch[0])
    (record,) = caplog.records
    assert record.getMessage().startswith("The durations of the training data are not known: batches are in random")
    first = check_orders(sampler, epoch, 40)
    assert 10 < sum(one > other for one, other in itertools.pairwise(first)) < 30, "the rows are in some order"


def test_evaluation_reads_the_data_as_they_come(tmp_path):
    data = tiny_corpus(6)
    trainer = tiny_trainer(tmp_path, deterministic_model(), per_device_eval_batch_size=4)
    model, kinds = trainer.model.eval(), (data, list(data), Subset(data, range(6)), data.to_iterable_dataset())
    with torch.no_grad():
        alone = np.concatenate([model(**trainer.data_collator([row])).logits.numpy() for row in data])
    read = watched(trainer)
    for rows in kinds:
        output = trainer.predict(rows)
        np.testing.assert_allclose(output.predictions, alone, atol=1e-9)
        assert output.label_ids.tolist() == data["emotion"][:]
    assert read == data["id"][:] * len(kinds)


def test_what_an_interrupted_evaluation_left_is_forgotten(tmp_path):
    trainer = tiny_trainer(tmp_path, deterministic_model())
    trainer.compute_metrics = metrics = compute_emotion_metrics(EMOTIONS)
    for loader in (trainer.get_eval_dataloader, trainer.get_test_dataloader):
        metrics(EvalPrediction(np.eye(4), np.zeros(4, dtype=int)), compute_result=False)
        loader(tiny_corpus(2))
        assert metrics._batches == []
