"""Algorithm 1 in the Trainer: the two phases, the two optimizers, accumulation, resuming, logging, evaluation."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, logsigmoid

from tests.helpers.corpus import DoubleCollator, deterministic_model, tiny_corpus, tiny_trainer
from tests.helpers.tiny import parameters_of, tiny_model
from trainer.adversary import DISCRIMINATOR_OPTIMIZER_FILE
from trainer.experiments.ablations import ABLATIONS


def changed(before, model):
    return {name for name, parameter in model.named_parameters() if not torch.equal(before[name], parameter)}


def largest_difference(first, second):
    return max((first[name] - second[name]).abs().max().item() for name in first)


def test_discriminator_phase_changes_only_the_discriminator(tmp_path):
    model = tiny_model("whisper")
    before = parameters_of(model)
    tiny_trainer(tmp_path, model, learning_rate=0.0, discriminator_learning_rate=1e-3, max_steps=2).train()
    expected = {name for name in before if name.startswith("discriminator.")}
    assert changed(before, model) == expected
    assert len(expected) == 4


def test_main_phase_leaves_the_discriminator_bit_identical(tmp_path):
    model = tiny_model("whisper")
    before = parameters_of(model)
    tiny_trainer(tmp_path, model, learning_rate=1e-3, discriminator_learning_rate=0.0, max_steps=2).train()
    moved = changed(before, model)
    assert not any(name.startswith("discriminator.") for name in moved)
    untrained = {name for name in before if "pooler" in name or "embed_positions" in name}
    assert moved >= {name for name in before if not name.startswith("discriminator.")} - untrained


def test_optimizers_are_disjoint_and_complete(tmp_path):
    model = tiny_model("whisper")
    trainer = tiny_trainer(tmp_path, model)
    trainer.create_optimizer()
    main = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    adversary = {id(p) for group in trainer.adversary.optimizer.param_groups for p in group["params"]}
    assert adversary == {id(p) for p in model.discriminator.parameters()}
    assert not main & adversary
    assert main | adversary == {id(p) for p in model.parameters() if p.requires_grad}


def test_encoders_can_have_a_learning_rate_of_their_own(tmp_path):
    model = tiny_model("whisper")
    before = parameters_of(model)
    trainer = tiny_trainer(tmp_path, model, learning_rate=1e-3, encoder_learning_rate=0.0, max_steps=2)
    trainer.train()
    moved = changed(before, model)
    assert "classifier.weight" in moved
    assert "discriminator.output.weight" in moved
    assert not any("_encoder." in name for name in moved)
    optimized = [id(p) for group in trainer.optimizer.param_groups for p in group["params"]]
    assert len(optimized) == len(set(optimized))
    discriminator = {id(p) for p in model.discriminator.parameters()}
    assert set(optimized) == {id(p) for p in model.parameters() if p.requires_grad} - discriminator


def test_the_classifier_can_have_a_learning_rate_of_its_own(tmp_path):
    model = tiny_model("whisper")
    before = parameters_of(model)
    trainer = tiny_trainer(
        tmp_path, model, learning_rate=0.0, classifier_learning_rate=1e-2, encoder_learning_rate=1e-3, max_steps=1
    )
    trainer.train()
    moved = changed(before, model)
    assert {name for name in moved if "_encoder." not in name} == {"classifier.weight", "classifier.bias"}
    assert any("_encoder." in name for name in moved)
    # Adam's first step is as long as its learning rate.
    step = (model.classifier.bias - before["classifier.bias"]).abs()
    torch.testing.assert_close(step, torch.full_like(step, 1e-2), rtol=1e-3, atol=0)


def test_one_step_is_algorithm_1_by_hand(tmp_path):
    """Lines 22-25 written out: D on detached features first, then the rest against the updated D."""
    model = deterministic_model(adversarial_weight=0.7)
    reference = copy.deepcopy(model).train()
    trainer = tiny_trainer(tmp_path, model, tiny_corpus(8), max_steps=1, max_grad_norm=0.0)
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
    (-(modality + ambiguity)).backward()
    torch.nn.utils.clip_grad_norm_(critic.parameters(), 1.0)
    critic_optimizer.step()
    logits = critic(output.invariant)[valid]
    generator = (-logsigmoid(logits) - logsigmoid(-logits)).mean()
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

    untouched = deterministic_model(adversarial_weight=0.7)
    assert largest_difference(parameters_of(untouched), parameters_of(model)) > 5e-4, "the step did nothing"
    assert largest_difference(parameters_of(reference), parameters_of(model)) < 1e-6


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


@pytest.mark.parametrize(("batch_size", "accumulation"), [(4, 2), (2, 4)])
def test_accumulation_equals_one_big_batch(tmp_path, batch_size, accumulation):
    """Means run over the whole update, so uneven token and frame counts per micro-batch change nothing."""
    results = []
    for size, steps in ((8, 1), (batch_size, accumulation)):
        model = deterministic_model(use_contrastive=False)
        start = parameters_of(model)
        trainer = tiny_trainer(
            tmp_path / str(size),
            model,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=steps,
            num_train_epochs=3,
            learning_rate=1e-3,
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


def test_last_short_group_counts_by_its_own_items(tmp_path):
    """10 utterances: the second update has 2, whatever the accumulation."""
    results = []
    for size, steps in ((8, 1), (2, 4)):
        model = deterministic_model(use_contrastive=False)
        tiny_trainer(
            tmp_path / str(size),
            model,
            tiny_corpus(10),
            per_device_train_batch_size=size,
            gradient_accumulation_steps=steps,
        ).train()
        results.append(parameters_of(model))
    assert largest_difference(*results) < 1e-5


def test_resume_from_mid_epoch_is_bit_identical(tmp_path):
    """With dropout and length grouping on: a run cut in its second epoch ends as the uninterrupted one."""
    arguments = {
        "num_train_epochs": 3,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "save_strategy": "steps",
        "save_steps": 6,
        "logging_steps": 4,
    }
    whole = tiny_model("hubert")
    uninterrupted = tiny_trainer(tmp_path / "whole", whole, **arguments)
    uninterrupted.train()
    assert uninterrupted.state.global_step == 12
    checkpoint = tmp_path / "whole" / "run" / "checkpoint-6"
    assert (checkpoint / DISCRIMINATOR_OPTIMIZER_FILE).is_file()

    resumed_model = tiny_model("hubert", seed=1)
    resumed = tiny_trainer(tmp_path / "resumed", resumed_model, **arguments)
    resumed.train(resume_from_checkpoint=str(checkpoint))
    for name, parameter in parameters_of(whole).items():
        assert torch.equal(parameter, parameters_of(resumed_model)[name]), name
    for one, other in zip(
        uninterrupted.adversary.optimizer.state_dict()["state"].values(),
        resumed.adversary.optimizer.state_dict()["state"].values(),
        strict=True,
    ):
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_checkpoint_without_the_second_optimizer_is_refused(tmp_path):
    arguments = {"save_strategy": "steps", "save_steps": 1, "max_steps": 1}
    trainer = tiny_trainer(tmp_path, tiny_model("whisper"), **arguments)
    trainer.train()
    checkpoint = tmp_path / "run" / "checkpoint-1"
    (checkpoint / DISCRIMINATOR_OPTIMIZER_FILE).unlink()
    with pytest.raises(ValueError, match=DISCRIMINATOR_OPTIMIZER_FILE):
        tiny_trainer(tmp_path, tiny_model("whisper"), **arguments).train(resume_from_checkpoint=str(checkpoint))


def test_every_loss_is_logged_by_name_and_adds_up(tmp_path):
    model = deterministic_model()
    trainer = tiny_trainer(tmp_path, model, logging_steps=2, num_train_epochs=2)
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(logs) == 2
    config = model.config
    for entry in logs:
        total = (
            entry["loss_emotion"]
            + config.auxiliary_weight * (config.detection_weight * entry["loss_detection"] + entry["loss_correction"])
            + config.adversarial_weight * entry["loss_generator"]
            + config.contrastive_weight * entry["loss_contrastive"]
        )
        assert entry["loss"] == pytest.approx(total, abs=1e-4)
        assert entry["loss_generator"] >= 2 * np.log(2) - 1e-6
        assert entry["loss_discriminator"] <= 0


def test_evaluation_needs_no_auxiliary_labels_and_keeps_the_order(tmp_path):
    data = tiny_corpus(10, with_transcripts=False)
    model = deterministic_model()
    trainer = tiny_trainer(tmp_path, model, data, per_device_eval_batch_size=4)
    assert "eval_loss" in trainer.evaluate(data)
    output = trainer.predict(data)
    assert output.predictions.shape == (10, 4)
    assert output.label_ids.tolist() == data["emotion"][:]
    model.eval()
    with torch.no_grad():
        for index in range(10):
            alone = model(**trainer.data_collator([data[index]])).logits[0].numpy()
            np.testing.assert_allclose(output.predictions[index], alone, atol=1e-9)


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


def test_frozen_encoders_stay_and_the_rest_learns(tmp_path):
    model = tiny_model("hubert")
    model.freeze_encoders()
    before = parameters_of(model)
    tiny_trainer(tmp_path, model, max_steps=2).train()
    moved = changed(before, model)
    assert "classifier.weight" in moved
    assert not any("_encoder." in name for name in moved)


def test_missing_length_column_is_named(tmp_path):
    data = tiny_corpus(8).remove_columns("duration")
    with pytest.raises(ValueError, match="duration"):
        tiny_trainer(tmp_path, tiny_model("whisper"), data).train()


def test_plain_training_arguments_are_refused(tmp_path):
    from transformers import TrainingArguments

    from trainer import M4SERTrainer

    with pytest.raises(ValueError, match="M4SERTrainingArguments"):
        M4SERTrainer(tiny_model("whisper"), TrainingArguments(output_dir=str(tmp_path), use_cpu=True), list)


def test_adversary_is_watched_by_clipping(tmp_path):
    """D's gradient norm never exceeds the limit, so that one step of plain size is bounded by Adam alone."""
    model = deterministic_model()
    trainer = tiny_trainer(tmp_path, model, tiny_corpus(8), max_steps=1, discriminator_max_grad_norm=1e-12)
    before = parameters_of(model)
    trainer.train()
    # Adam divides by max(sqrt(v), eps): with a gradient far below eps its step vanishes.
    moved = max(
        (before[f"discriminator.{n}"] - p).abs().max().item() for n, p in model.discriminator.named_parameters()
    )
    assert moved < 1e-6
    assert isinstance(trainer.data_collator, DoubleCollator)
    assert Path(trainer.args.output_dir).name == "run"
