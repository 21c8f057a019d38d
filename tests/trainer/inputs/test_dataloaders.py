"""The order of the utterances: in training by length, seed and epoch, in evaluation longest first and put back."""

import itertools

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch.utils.data import Subset

from tests.helpers.corpus import deterministic_model, tiny_corpus, tiny_trainer
from tests.helpers.tiny import tiny_model
from trainer import M4SERTrainingArguments
from trainer.inputs.dataloaders import EpochSampler, LongestFirstSampler, length_grouped_sampler


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
    trainer = tiny_trainer(tmp_path, tiny_model("whisper"), data, per_device_train_batch_size=2, **arguments)
    read = watched(trainer)
    trainer.train()
    return [tuple(read[start : start + len(data)]) for start in range(0, len(read), len(data))]


def test_the_sampler_depends_on_seed_and_epoch_alone():
    lengths = list(np.random.default_rng(0).uniform(1, 5, size=400))
    sampler = EpochSampler(4, lengths, seed=3)
    first = list(sampler)
    torch.manual_seed(99)
    assert list(sampler) == first
    assert sorted(first) == list(range(400))
    sampler.epoch = 1
    assert list(sampler) != first
    spread = np.mean([np.ptp([lengths[i] for i in first[start : start + 4]]) for start in range(0, 400, 4)])
    assert spread < 0.8, "batches are not of similar length"


def test_every_epoch_of_a_training_has_an_order_of_its_own_by_the_seed_of_the_data(tmp_path):
    data = tiny_corpus(12)
    first, second, third = orders(tmp_path, data, num_train_epochs=3, seed=1)
    assert len({first, second, third}) == 3
    assert sorted(first) == sorted(second) == sorted(third) == sorted(data["id"])
    assert orders(tmp_path, data, num_train_epochs=2, seed=3, data_seed=1) == [first, second]
    assert orders(tmp_path, data, seed=1, data_seed=2) != [first]


def test_the_named_column_is_what_is_grouped_by(tmp_path):
    lengths = [float(index) for index in range(48)]
    data = Dataset.from_dict({"frames": lengths, "duration": lengths[::-1]})
    args = M4SERTrainingArguments(output_dir=str(tmp_path), length_column_name="frames", use_cpu=True, seed=5)
    expected = EpochSampler(args.train_batch_size, lengths, 5)
    assert list(length_grouped_sampler(data, args)) == list(expected)
    assert list(expected) != list(EpochSampler(args.train_batch_size, lengths[::-1], 5))


def test_without_durations_the_order_is_random_and_that_is_told(tmp_path, caplog):
    rows = [{"frames": 1}] * 40
    args = M4SERTrainingArguments(output_dir=str(tmp_path), use_cpu=True, seed=5)
    sampler = length_grouped_sampler(rows, args)
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "The durations of the training data are not known: batches are in random order"
    )
    first = list(sampler)
    assert sorted(first) == list(range(40))
    assert 10 < sum(one > other for one, other in itertools.pairwise(first)) < 30, "the rows are in some order"
    assert list(length_grouped_sampler(rows, args)) == first
    sampler.epoch = 1
    assert list(sampler) != first


def test_a_column_of_lengths_that_was_named_must_be_there(tmp_path):
    args = M4SERTrainingArguments(output_dir=str(tmp_path), length_column_name="frames", use_cpu=True)
    with pytest.raises(ValueError, match="no column 'frames' to group batches by \\(columns: duration\\)"):
        length_grouped_sampler(Dataset.from_dict({"duration": [1.0]}), args)


# Evaluation


def evaluator(tmp_path, kind="whisper", **arguments):
    """A trainer that evaluates 4 rows at a time, by a float64 model."""
    model = deterministic_model() if kind == "whisper" else tiny_model(kind, spread=True).double()
    return tiny_trainer(tmp_path, model, **{"per_device_eval_batch_size": 4, **arguments})


def longest_first(data):
    return sorted(range(len(data)), key=lambda index: -data["duration"][index])


def alone(trainer, data):
    """Logits (N, e) of each row in a batch of its own."""
    model = trainer.model.eval()
    with torch.no_grad():
        return np.concatenate([model(**trainer.data_collator([row])).logits.numpy() for row in data])


def test_the_longest_come_first_equal_ones_in_order_and_those_without_a_length_last():
    sampler = LongestFirstSampler([1.0, 3.0, None, 2.0, 3.0])
    assert list(sampler) == [1, 4, 3, 0, 2]
    assert len(sampler) == 5
    lengths = [index % 3 for index in range(300)]
    assert list(LongestFirstSampler(lengths)) == [*range(2, 300, 3), *range(1, 300, 3), *range(0, 300, 3)]


@pytest.mark.parametrize("kind", ["whisper", "hubert-group"])
def test_predictions_are_read_longest_first_and_returned_in_the_order_of_the_data(tmp_path, kind):
    """Without transcripts, which an evaluation does not need."""
    data = tiny_corpus(10, with_transcripts=False)
    trainer = evaluator(tmp_path, kind)
    assert "eval_loss" in trainer.evaluate(data)
    expected = alone(trainer, data)
    assert np.abs(expected[:, None] - expected).max(-1)[~np.eye(10, dtype=bool)].min() > 1e-5, "rows are too alike"
    read = watched(trainer)
    output = trainer.predict(data)
    assert read == [data["id"][index] for index in longest_first(data)] != data["id"][:]
    assert output.label_ids.tolist() == data["emotion"][:]
    np.testing.assert_allclose(output.predictions, expected, atol=1e-9)


def test_metrics_are_computed_in_the_order_of_the_data(tmp_path):
    data, seen = tiny_corpus(10), []
    order, data = longest_first(data), data.rename_column("duration", "frames")
    trainer = evaluator(tmp_path, "hubert", include_for_metrics=["inputs", "loss"], length_column_name="frames")
    trainer.compute_metrics = metrics = lambda prediction: seen.append(prediction) or {"rows": len(seen)}
    assert trainer.evaluate(data)["eval_rows"] == 1
    assert trainer.compute_metrics is metrics
    assert trainer.predict(data).metrics["test_rows"] == 2
    expected = np.zeros(10)
    for start in range(0, 10, 4):
        batch = order[start : start + 4]
        with torch.no_grad():
            expected[batch] = trainer.model(**trainer.data_collator([data[index] for index in batch])).loss
    for prediction in seen:
        np.testing.assert_allclose(prediction.predictions, alone(trainer, data), atol=1e-9)
        assert prediction.label_ids.tolist() == data["emotion"][:]
        np.testing.assert_allclose(prediction.losses, expected, atol=1e-9)
        for row, values in zip(data, prediction.inputs, strict=True):
            clip = trainer.data_collator([row])["input_values"][0].numpy()
            np.testing.assert_array_equal(values[: len(clip)], clip)
    trainer.compute_metrics = fail = lambda prediction: 1 / 0
    with pytest.raises(ZeroDivisionError):
        trainer.evaluate(data)
    assert trainer.compute_metrics is fail


def test_metrics_by_batch_and_several_sets(tmp_path):
    totals = []

    def total(prediction, compute_result):
        totals.append((prediction.predictions[:, 0] * prediction.label_ids).sum().item())
        return {"total": sum(totals)} if compute_result else {}

    sets = {"one": tiny_corpus(10), "other": tiny_corpus(5, seed=1)}
    trainer = evaluator(tmp_path, batch_eval_metrics=True)
    trainer.compute_metrics = total
    expected = {name: (alone(trainer, data)[:, 0] * data["emotion"]).sum() for name, data in sets.items()}
    metrics = trainer.evaluate(sets)
    assert metrics["eval_one_total"] == pytest.approx(expected["one"], abs=1e-9)
    assert metrics["eval_other_total"] == pytest.approx(sum(expected.values()), abs=1e-9)
    assert len(totals) == 3 + 2
    np.testing.assert_allclose(trainer.predict(sets["one"]).predictions, alone(trainer, sets["one"]), atol=1e-9)


def test_what_has_no_row_for_each_utterance_stays_in_the_order_of_the_batches(tmp_path):
    data = tiny_corpus(8)
    trainer = evaluator(tmp_path)
    trainer.preprocess_logits_for_metrics = lambda logits, labels: logits.mean(0, keepdim=True)
    expected = alone(trainer, data)[longest_first(data)].reshape(2, 4, 4).mean(1)
    np.testing.assert_allclose(trainer.predict(data).predictions, expected, atol=1e-9)


AS_IT_COMES = {
    "no column": (lambda data: data.remove_columns("duration"), {}),
    "a list": (list, {}),
    "a subset": (lambda data: Subset(data, range(len(data))), {}),
    "a stream": (lambda data: data.to_iterable_dataset(), {}),
    "batch by batch": (lambda data: data, {"eval_do_concat_batches": False}),
    "the last rows dropped": (lambda data: data, {"dataloader_drop_last": True}),
}


@pytest.mark.parametrize("case", AS_IT_COMES)
def test_the_rest_is_read_as_it_comes(tmp_path, case):
    data = tiny_corpus(6)
    change, arguments = AS_IT_COMES[case]
    trainer = evaluator(tmp_path, **arguments)
    read, expected = watched(trainer), alone(trainer, data)
    read.clear()
    predictions = trainer.predict(change(data)).predictions
    kept = 4 if arguments.get("dataloader_drop_last") else 6
    assert read == data["id"][:kept]
    predictions = np.concatenate(predictions) if isinstance(predictions, list) else predictions
    np.testing.assert_allclose(predictions, expected[:kept], atol=1e-9)
