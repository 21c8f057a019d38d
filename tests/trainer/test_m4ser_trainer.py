"""Algorithm 1 in the Trainer: the two phases, the two optimizers, accumulation, resuming, logging, evaluation."""

import copy
import re

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset
from torch.nn.functional import cross_entropy, logsigmoid
from transformers import EvalPrediction

from tests.helpers.corpus import deterministic_model, tiny_corpus, tiny_trainer
from tests.helpers.tiny import EMOTIONS, parameters_of, tiny_config, tiny_model, tiny_processor
from trainer import M4SERDataCollator, M4SERTrainer, M4SERTrainingArguments, compute_emotion_metrics
from trainer.adversary import DISCRIMINATOR_OPTIMIZER_FILE
from trainer.experiments.ablations import ABLATIONS


def changed(before, model):
    return {name for name, parameter in model.named_parameters() if not torch.equal(before[name], parameter)}


def part_of(name):
    part = "encoders" if "_encoder." in name else name.split(".")[0]
    return part if part in EVERYTHING else "rest"


def largest_difference(first, second):
    return max((first[name] - second[name]).abs().max().item() for name in first)


#: Rates -> what an update moves. The first is of whatever has no rate of its own.
EVERYTHING = {"encoders", "classifier", "discriminator", "rest"}
RATES = {
    "the adversarial phase alone": ({"learning_rate": 0.0, "discriminator_learning_rate": 1e-3}, {"discriminator"}),
    "the main phase alone": ({"discriminator_learning_rate": 0.0}, EVERYTHING - {"discriminator"}),
    "encoders stand": ({"encoder_learning_rate": 0.0}, EVERYTHING - {"encoders"}),
    "frozen encoders": ({}, EVERYTHING - {"encoders"}),
    "rates by part": (
        {"learning_rate": 0.0, "classifier_learning_rate": 1e-2, "encoder_learning_rate": 1e-3},
        {"classifier", "encoders"},
    ),
}


@pytest.mark.parametrize("case", RATES)
def test_each_part_moves_at_its_own_rate(tmp_path, case):
    model, (rates, expected) = tiny_model("whisper"), RATES[case]
    if case == "frozen encoders":
        model.freeze_encoders()
    before = parameters_of(model)
    trainer = tiny_trainer(tmp_path, model, max_steps=1, **rates)
    trainer.train()
    moved = changed(before, model)
    assert {part_of(name) for name in moved} == expected
    untrained = {name for name in before if "pooler" in name or "embed_positions" in name}
    assert moved >= {name for name in before if part_of(name) in expected} - untrained
    # Adam's first step is as long as its learning rate.
    step = (model.classifier.bias - before["classifier.bias"]).abs()
    rate = rates.get("classifier_learning_rate", rates.get("learning_rate", 1e-3))
    torch.testing.assert_close(step, torch.full_like(step, rate), rtol=1e-3, atol=0)
    # The optimizers are disjoint and complete.
    main = [id(p) for group in trainer.optimizer.param_groups for p in group["params"]]
    adversary = [id(p) for group in trainer.adversary.optimizer.param_groups for p in group["params"]]
    assert sorted(adversary) == sorted(id(p) for p in model.discriminator.parameters())
    assert sorted([*main, *adversary]) == sorted(id(p) for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(("reduction", "objective"), [("sum", "modality"), ("mean", "paper")])
def test_one_step_is_algorithm_1_by_hand(tmp_path, reduction, objective):
    """Lines 22-25 written out: D on detached features first, then the rest against the updated D."""
    readings = {"adversarial_reduction": reduction, "discriminator_objective": objective}
    model = deterministic_model(adversarial_weight=0.7, **readings)
    for parameter in model.discriminator.parameters():
        torch.nn.init.normal_(parameter, std=0.5)  # at its initial weights L_G is at its minimum
    untouched, reference = parameters_of(model), copy.deepcopy(model).train()
    trainer = tiny_trainer(tmp_path, model, tiny_corpus(8), max_steps=1, logging_steps=1, max_grad_norm=0.0)
    batch = trainer.data_collator([tiny_corpus(8)[int(index)] for index in trainer._get_train_sampler()])
    trainer.train()

    settings = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8}
    critic = reference.discriminator
    rest = [p for name, p in reference.named_parameters() if not name.startswith("discriminator.")]
    critic_optimizer = torch.optim.Adam(critic.parameters(), **settings)
    rest_optimizer = torch.optim.Adam([p for p in rest if p.requires_grad], **settings)
    output = reference(**batch)
    valid = output.frame_mask
    speech, text = critic(output.speech_specific.detach())[valid], critic(output.text_specific.detach())[valid]
    invariant = critic(output.invariant.detach())[valid]
    modality = (logsigmoid(speech) + logsigmoid(-text)).mean()
    ambiguity = (-logsigmoid(invariant) - logsigmoid(-invariant)).mean()
    (-(modality + ambiguity) if objective == "paper" else -modality).backward()
    torch.nn.utils.clip_grad_norm_(critic.parameters(), 1.0)
    critic_optimizer.step()
    logits = critic(output.invariant)[valid]
    frames = (-logsigmoid(logits) - logsigmoid(-logits)).sum()
    generator = frames / (len(valid) if reduction == "sum" else valid.sum())
    config = reference.config
    loss = (
        cross_entropy(output.logits, batch["labels"])
        + config.auxiliary_weight * (config.detection_weight * output.detection_loss + output.correction_loss)
        + config.adversarial_weight * generator
        + config.contrastive_weight * output.contrastive_loss
    )
    rest_optimizer.zero_grad()
    loss.backward()
    rest_optimizer.step()

    assert largest_difference(untouched, parameters_of(model)) > 5e-4, "the step did nothing"
    assert largest_difference(parameters_of(reference), parameters_of(model)) < 1e-6
    # L_G is logged as it was descended, against the moved D and as a mean over frames; L_D and L_GAN before D's step.
    logged, mean = trainer.state.log_history[0], (frames / valid.sum()).item()
    assert abs(mean - ambiguity.item()) > 1e-4
    expected = {"generator": mean, "discriminator": modality.item(), "adversarial": (modality + ambiguity).item()}
    assert {name: logged[f"loss_{name}"] for name in expected} == pytest.approx(expected, abs=1e-6)


def test_a_given_emotion_loss_is_what_is_learned_and_logged(tmp_path):
    runs = []
    for loss in (None, lambda logits, labels: 3 * cross_entropy(logits, labels)):
        model = deterministic_model(use_contrastive=False, use_error_detection=False, use_error_correction=False)
        trainer = tiny_trainer(
            tmp_path, model, tiny_corpus(8), max_steps=1, logging_steps=1, emotion_loss_func=loss, max_grad_norm=0.0
        )
        trainer.train()
        runs.append((trainer.state.log_history[0], parameters_of(model)))
    (plain, first), (tripled, second) = runs
    assert tripled["loss_emotion"] == pytest.approx(3 * plain["loss_emotion"], rel=1e-6)
    assert tripled["loss"] - plain["loss"] == pytest.approx(2 * plain["loss_emotion"], abs=1e-4)
    assert largest_difference(first, second) > 1e-9


@pytest.mark.parametrize(
    ("rows", "batch_size", "accumulation", "reduction"), [(16, 4, 2, "mean"), (10, 2, 4, "mean"), (10, 2, 4, "sum")]
)
def test_accumulation_equals_one_big_batch(tmp_path, rows, batch_size, accumulation, reduction):
    """Means run over the whole update, so uneven token and frame counts per micro-batch change nothing.

    Of 10 utterances, every second update has 2.
    """
    results = []
    for size, steps in ((8, 1), (batch_size, accumulation)):
        model = deterministic_model(use_contrastive=False, adversarial_reduction=reduction)
        start = parameters_of(model)
        trainer = tiny_trainer(
            tmp_path / str(size),
            model,
            tiny_corpus(rows),
            per_device_train_batch_size=size,
            gradient_accumulation_steps=steps,
            num_train_epochs=3,
            learning_rate=1e-3,
            # D moves before the last micro-batch's L_G, so that the others see it as it was: a sum shows that.
            discriminator_learning_rate=1e-3 if reduction == "mean" else 1e-12,
        )
        trainer.train()
        assert trainer.state.global_step == 6
        results.append((parameters_of(model), trainer.state.log_history))
        assert largest_difference(start, parameters_of(model)) > 1e-3
    (first, first_log), (second, second_log) = results
    assert largest_difference(first, second) < 1e-5
    assert first_log[-1]["train_loss"] == pytest.approx(second_log[-1]["train_loss"], abs=1e-5)


def test_the_contrastive_losses_of_the_micro_batches_are_averaged(tmp_path):
    """Each compares the utterances of its own forward pass; an update takes their mean, not their sum."""
    model = deterministic_model(use_error_detection=False, use_error_correction=False, adversarial_weight=0.0)
    arguments = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "max_steps": 1}
    trainer = tiny_trainer(tmp_path, model, tiny_corpus(8), logging_steps=1, **arguments)
    order = [int(index) for index in trainer._get_train_sampler()]
    rows = [tiny_corpus(8)[index] for index in order]
    with torch.no_grad():
        parts = [model(**trainer.data_collator(rows[start : start + 4])).contrastive_loss.item() for start in (0, 4)]
    assert min(parts) > 0
    trainer.train()
    assert trainer.state.log_history[0]["loss_contrastive"] == pytest.approx(sum(parts) / 2, abs=1e-6)


@pytest.mark.parametrize("also", [{}, {"ema_decay": 0.9}], ids=["plain", "averaged and standardised"])
def test_resume_from_mid_epoch_is_bit_identical(tmp_path, also):
    """With dropout and length grouping on: a run cut in its second epoch ends as the uninterrupted one."""
    arguments = {
        "num_train_epochs": 2,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "save_strategy": "steps",
        "save_steps": 6,
        "logging_steps": 4,
        **also,
    }
    whole, again = (tiny_model("hubert", seed=seed, standardize_features=bool(also)) for seed in (0, 1))
    uninterrupted = tiny_trainer(tmp_path / "whole", whole, **arguments)
    uninterrupted.train()
    assert uninterrupted.state.global_step == 8
    resumed = tiny_trainer(tmp_path / "resumed", again, **arguments)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "run" / "checkpoint-6"))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    states = (run.adversary.optimizer.state_dict()["state"].values() for run in (uninterrupted, resumed))
    assert all(torch.equal(one[key], other[key]) for one, other in zip(*states, strict=True) for key in one)


def test_every_loss_is_logged_by_name_and_adds_up(tmp_path):
    model = deterministic_model(adversarial_reduction="mean")
    trainer = tiny_trainer(tmp_path, model, logging_steps=2, num_train_epochs=2)
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(logs) == 2
    for entry in logs:
        parts = {name: entry[f"loss_{name}"] for name in ("emotion", "detection", "correction", "contrastive")}
        total = model.combine_losses(**parts, adversarial=entry["loss_generator"])
        assert entry["loss"] == pytest.approx(total, abs=1e-4)
        assert entry["loss_generator"] >= 2 * np.log(2) - 1e-6
        assert entry["loss_discriminator"] <= 0


def test_training_without_any_error_to_correct(tmp_path):
    data = tiny_corpus(4).map(lambda row: {"hypothesis": row["transcript"]})
    trainer = tiny_trainer(tmp_path, tiny_model("whisper"), data, logging_steps=1, max_steps=2)
    trainer.train()
    entry = trainer.state.log_history[0]
    assert entry["loss_correction"] == 0
    assert np.isfinite(entry["loss"])


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_ablation_trains(tmp_path, name):
    model = tiny_model("whisper", **ABLATIONS[name])
    before = parameters_of(model)
    trainer = tiny_trainer(tmp_path, model, max_steps=1, save_strategy="steps", save_steps=1)
    trainer.train()
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    assert "classifier.weight" in changed(before, model)
    assert (tmp_path / "run" / "checkpoint-1" / DISCRIMINATOR_OPTIMIZER_FILE).exists() == model.config.use_adversarial


def test_plain_training_arguments_are_refused(tmp_path):
    from transformers import TrainingArguments

    with pytest.raises(ValueError, match="M4SERTrainingArguments"):
        M4SERTrainer(tiny_model("whisper"), TrainingArguments(output_dir=str(tmp_path), use_cpu=True), list)


# ---------------------------------------------------------------------- data sets of one's own


def own(corpus, names=None):
    """A corpus as a user has it, its labels in words, or as classes with `names` in another order."""
    mine = Dataset.from_list(
        [
            {"file": row["audio"]["bytes"], "text": row["hypothesis"], "label": EMOTIONS[row["emotion"]]}
            for row in corpus
        ]
    )
    return mine if names is None else mine.cast_column("label", ClassLabel(names=names))


def test_a_data_set_of_ones_own_trains_as_the_prepared_corpus_does(tmp_path):
    """With columns, labels and durations of its own; the updates are the same to the last bit."""
    corpus = tiny_corpus(12, with_transcripts=False)
    reordered = own(corpus, ["sad", "neutral", "happy", "angry"])
    results = []
    for name, data in (("corpus", corpus), ("words", own(corpus)), ("classes", reordered)):
        model = deterministic_model()
        trainer = tiny_trainer(tmp_path / name, model, data, per_device_train_batch_size=4, eval_data={"mine": data})
        trainer.train()
        results.append((parameters_of(model), trainer.evaluate()["eval_mine_loss"], trainer.predict(data).label_ids))
    for parameters, loss, labels in results[1:]:
        assert largest_difference(results[0][0], parameters) == 0
        assert loss == results[0][1]
        assert labels.tolist() == corpus["emotion"][:]


def test_data_given_later_is_read_too(tmp_path):
    corpus = tiny_corpus(8, with_transcripts=False)
    mine = own(corpus, ["sad", "neutral", "happy", "angry"])
    trainer = tiny_trainer(tmp_path, deterministic_model(), corpus, eval_data=corpus, max_steps=1)
    expected = trainer.evaluate()["eval_loss"]
    for given, loss in ((mine, "eval_loss"), ({"x": mine}, "eval_x_loss")):
        assert trainer.evaluate(given)[loss] == expected
        trainer.eval_dataset = given
        assert trainer.evaluate()[loss] == expected
    assert trainer.predict(mine.remove_columns("label")).label_ids is None
    trainer.train_dataset = own(corpus)
    assert trainer.train().global_step == 1


def test_a_class_that_the_model_does_not_have_stops_before_the_first_step(tmp_path):
    good, model = own(tiny_corpus(8)), tiny_model("whisper")
    bad = good.map(lambda row: {"label": "bored"})
    for place, use in {
        "train_dataset": lambda: tiny_trainer(tmp_path, model, bad),
        r"eval_dataset\['x'\]": lambda: tiny_trainer(tmp_path, model, good, eval_data={"x": bad}),
        "test_dataset": lambda: tiny_trainer(tmp_path, model, good).predict(bad),
    }.items():
        with pytest.raises(ValueError, match=rf"^{place}\[0\] has the label 'bored', which the model does not have"):
            use()


def test_the_collator_of_someone_else_gets_the_rows_as_they_are(tmp_path):
    rows = [{"odd": 1}]
    trainer = made(tmp_path, model=tiny_model("whisper"), data_collator=list, train_dataset=rows, eval_dataset=rows)
    assert trainer.get_eval_dataloader().dataset is rows


def test_a_stream_trains_in_its_own_order(tmp_path, caplog):
    corpus = tiny_corpus(8, with_transcripts=False)
    stream = own(corpus, ["sad", "neutral", "happy", "angry"]).to_iterable_dataset(num_shards=2)
    model, batches = deterministic_model(), []
    trainer = tiny_trainer(
        tmp_path, model, stream, eval_data=stream, max_steps=3, logging_steps=1, per_device_train_batch_size=4
    )
    collate = trainer.data_collator
    trainer.data_collator = lambda rows: batches.append([row["emotion"] for row in rows]) or collate(rows)
    trainer.train()
    assert batches[:2] == [corpus["emotion"][:4], corpus["emotion"][4:]]
    assert sum("is a stream" in record.getMessage() for record in caplog.records) == 1
    prepared = tiny_trainer(tmp_path / "b", model, corpus, eval_data=corpus).evaluate()["eval_loss"]
    assert trainer.evaluate()["eval_loss"] == pytest.approx(prepared, rel=1e-6)
    with pytest.raises(ValueError, match="max_steps"):
        tiny_trainer(tmp_path, model, stream)


def test_metrics_by_batches_are_those_of_the_whole(tmp_path):
    corpus, results = tiny_corpus(10), []
    for by_batches in (False, True):
        options = {"eval_data": corpus, "per_device_eval_batch_size": 3, "batch_eval_metrics": by_batches}
        trainer = tiny_trainer(tmp_path, tiny_model("whisper", spread=True), corpus, **options)
        trainer.compute_metrics = compute_emotion_metrics(EMOTIONS)
        if by_batches:  # an evaluation that was interrupted
            trainer.compute_metrics(EvalPrediction(np.eye(4), np.zeros(4, dtype=int)), compute_result=False)
        metrics = trainer.evaluate()
        results.append({name: value for name, value in metrics.items() if re.search("wa|ua|f1|recall", name)})
    assert results[0] == results[1]
    assert 0 < results[0]["eval_wa"] < 1


# ---------------------------------------------------------------------- models and optimizers made by the trainer


def made(tmp_path, arguments=(), **given):
    """A trainer of two steps on a tiny corpus."""
    (tmp_path / "run").mkdir(exist_ok=True)
    own = {"output_dir": str(tmp_path / "run"), "use_cpu": True, "max_steps": 2, "save_strategy": "no", "seed": 3}
    own |= {"per_device_train_batch_size": 4, "learning_rate": 1e-3, "disable_tqdm": True, **dict(arguments)}
    collator = M4SERDataCollator(tiny_processor(tmp_path, "whisper"), tiny_config("whisper"))
    options = {"data_collator": collator, "train_dataset": tiny_corpus(8), **given}
    return M4SERTrainer(args=M4SERTrainingArguments(**own), **options)


def test_every_run_of_model_init_is_that_of_a_new_model(tmp_path):
    """With all that hangs on a model: D's optimizer, the counts, the moving average, the measured features."""
    arguments, seeds = {"ema_decay": 0.9}, []

    def new_model():
        seeds.append(torch.initial_seed())
        return deterministic_model(standardize_features=True).float()

    given = deterministic_model(standardize_features=True).float()
    made(tmp_path, arguments, model=given).train()
    trainer, models = made(tmp_path, arguments, model_init=new_model), []
    for _ in range(2):
        trainer.train()
        models.append(trainer.model)
        assert largest_difference(parameters_of(given), parameters_of(trainer.model)) == 0
        assert len(trainer.adversary.optimizer.state) == len(list(trainer.model.discriminator.parameters()))
    assert models[0] is not models[1]
    assert set(seeds) == {3}


def test_a_trial_sets_the_rate_of_the_discriminator_too(tmp_path):
    trainer = made(tmp_path, {"ema_decay": 0.5}, model_init=lambda trial: tiny_model("whisper"))
    trainer.hp_search_backend = "ray"
    for trial, expected in (
        ({"learning_rate": 0.5}, 0.5),
        ({"learning_rate": 0.25, "ema_decay": 0.9}, 0.25),
        ({"learning_rate": 0.125, "discriminator_learning_rate": 0.75}, 0.75),
    ):
        trainer._hp_search_setup(trial)
        assert trainer.adversary.optimizer.param_groups[0]["lr"] == expected
        assert trainer.adversary.accelerator is trainer.accelerator
        assert [each.decay for each in trainer.callback_handler.callbacks if hasattr(each, "decay")] == [
            trainer.args.ema_decay
        ]


def test_an_optimizer_of_another_class_has_rates_by_part(tmp_path):
    arguments = {"encoder_learning_rate": 0.0, "classifier_learning_rate": 0.02, "discriminator_learning_rate": 0.0}
    model = tiny_model("whisper")
    before = parameters_of(model)
    trainer = made(tmp_path, arguments, model=model, optimizer_cls_and_kwargs=(torch.optim.SGD, {"lr": 0.01}))
    trainer.train()
    assert type(trainer.optimizer.optimizer) is torch.optim.SGD
    assert {group["lr"] for group in trainer.optimizer.param_groups} == {0.0, 0.01, 0.02}
    moved = changed(before, model)
    assert "classifier.weight" in moved
    assert not any("encoder.model" in name or "discriminator" in name for name in moved)


def test_columns_that_the_collator_reads_are_not_unused(tmp_path):
    for data in (tiny_corpus(8), own(tiny_corpus(8)), list(own(tiny_corpus(8)))):
        losses = []
        for remove in (False, True):
            arguments = {"remove_unused_columns": remove, "max_steps": 1}
            trainer = made(tmp_path, arguments, model=deterministic_model().float(), train_dataset=data)
            losses.append((trainer.train().training_loss, trainer.evaluate(data)["eval_loss"]))
        assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"optimizers": torch.optim.Adam([torch.ones(1)])}, "^optimizers is a pair"),
        ({"data_collator": None}, "^data_collator is missing"),
        ({"compute_metrics": compute_emotion_metrics(EMOTIONS[::-1])}, "^compute_metrics names the classes"),
    ],
)
def test_what_would_train_something_else_is_refused(tmp_path, given, message):
    with pytest.raises(ValueError, match=message):
        made(tmp_path, model=tiny_model("whisper"), **given)


def test_the_name_of_no_evaluation_set_is_no_data_set(tmp_path):
    trainer = made(tmp_path, model=tiny_model("whisper"), eval_dataset={"mine": tiny_corpus(4)})
    assert "eval_loss" in trainer.evaluate("mine")
    with pytest.raises(ValueError, match=r"^eval_dataset\b.*type str, which is no data set"):
        trainer.evaluate("other")


def test_the_card_of_a_trainer_says_nothing_that_is_not_so(tmp_path):
    trainer = made(tmp_path, model=tiny_model("whisper"))
    trainer.create_model_card()
    card = (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
    assert "This model is an M4SER, trained on an unknown dataset." in card
    assert "Use adamw_torch_fused with betas" in card
    assert "license" not in card
