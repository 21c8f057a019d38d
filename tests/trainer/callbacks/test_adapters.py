"""PEFT: the adapters train on frozen encoders, and with them all that is new; both are saved and read back."""

import copy

import numpy as np
import pytest
import torch

from modeling_m4ser import M4SERForEmotionClassification
from tests.helpers.corpus import NO_DROPOUT, tiny_corpus, tiny_trainer
from tests.helpers.tiny import parameters_of, tiny_model
from trainer.callbacks.adapters import NEW_MODULES, active_copy, train_new_modules

peft = pytest.importorskip("peft")

ENCODERS = ("q_proj", "v_proj", "query", "value")
HEADS = {"classifier", "detector", "corrector", "discriminator"}


def lora(**options):
    return peft.LoraConfig(**{"target_modules": list(ENCODERS), "r": 2, **options})


def with_adapters(model, how="get_peft_model", **options):
    if how == "get_peft_model":
        return peft.get_peft_model(model, lora(**options))
    model.add_adapter(lora(**options))
    return model


def other_model_on_the_same_encoders(model):
    """As `from_encoders_pretrained` gives it in another process: fusion and heads start anew."""
    other = tiny_model("whisper", seed=7, **NO_DROPOUT)
    for name in ("speech_encoder", "text_encoder"):
        other.m4ser.get_submodule(name).load_state_dict(model.m4ser.get_submodule(name).state_dict())
    return other


def logits(folder, model):
    return tiny_trainer(folder, model).predict(tiny_corpus(6)).predictions


@pytest.mark.parametrize("how", ["get_peft_model", "add_adapter"])
def test_adapters_and_all_that_is_new_move_and_the_encoders_do_not(tmp_path, how, caplog):
    model = with_adapters(tiny_model("whisper"), how)
    trainer = tiny_trainer(tmp_path, model, max_steps=2)
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "PEFT had frozen fusion, classifier, detector, corrector, discriminator, which"
    )
    before = parameters_of(model)
    trainer.train()
    moved = {
        name.removeprefix("base_model.model.") for name, p in model.named_parameters() if not p.equal(before[name])
    }
    names = {name.removeprefix("base_model.model.") for name in before}
    in_encoders = {name for name in names if "_encoder." in name}
    assert {name for name in moved if name in in_encoders} == {name for name in in_encoders if ".lora_" in name}
    new = {name for name in names - in_encoders if ".modules_to_save.default." in name}
    assert moved - in_encoders == new
    assert {name.removeprefix("m4ser.").split(".")[0] for name in new} == {"fusion", *HEADS}


@pytest.mark.parametrize("how", ["get_peft_model", "add_adapter"])
def test_what_was_trained_is_saved_and_read_back(tmp_path, how):
    plain = tiny_model("whisper", **NO_DROPOUT)
    other = other_model_on_the_same_encoders(plain)
    model = with_adapters(plain, how)
    trainer = tiny_trainer(tmp_path, model, max_steps=3, learning_rate=1e-2)
    trainer.train()
    expected = logits(tmp_path, model)
    trainer.save_model(str(tmp_path / "saved"))
    if how == "get_peft_model":
        other = peft.PeftModel.from_pretrained(other, tmp_path / "saved")
    else:
        other.load_adapter(str(tmp_path / "saved"))
    np.testing.assert_allclose(logits(tmp_path, other), expected, atol=1e-6)
    assert np.abs(logits(tmp_path, tiny_model("whisper", **NO_DROPOUT)) - expected).max() > 1e-2
    trained = active_copy(model.discriminator).state_dict()
    assert all(value.equal(active_copy(other.discriminator).state_dict()[name]) for name, value in trained.items())


def test_merged_it_is_a_plain_m4ser(tmp_path):
    model = with_adapters(tiny_model("whisper", **NO_DROPOUT))
    tiny_trainer(tmp_path, model, max_steps=2, learning_rate=1e-2).train()
    expected = logits(tmp_path, model)
    merged = model.merge_and_unload()
    merged.drop_auxiliary_heads().save_pretrained(tmp_path / "merged")
    loaded = M4SERForEmotionClassification.from_pretrained(tmp_path / "merged")
    names = set(loaded.state_dict())
    plain = tiny_model("whisper", use_error_detection=False, use_error_correction=False, use_adversarial=False)
    assert names == set(plain.state_dict())
    np.testing.assert_allclose(logits(tmp_path, loaded), expected, atol=1e-5)


def test_a_run_is_resumed_and_its_best_epoch_kept(tmp_path):
    arguments = {
        "num_train_epochs": 2,
        "eval_data": tiny_corpus(6),
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "load_best_model_at_end": True,
        "ema_decay": 0.5,
        "learning_rate": 1e-2,
    }
    torch.manual_seed(0)
    whole = with_adapters(tiny_model("whisper"))
    again = copy.deepcopy(whole)
    trainer = tiny_trainer(tmp_path / "whole", whole, **arguments)
    trainer.train()
    best = trainer.state.best_model_checkpoint
    loss = min(entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(loss, rel=1e-5)
    assert best.startswith(str(tmp_path / "whole"))
    resumed = tiny_trainer(tmp_path / "resumed", again, **arguments)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "run" / "checkpoint-2"))
    assert all(p.equal(parameters_of(again)[name]) for name, p in parameters_of(whole).items())


def test_what_joined_already_stays_as_it_is(caplog):
    names = [name.rpartition(".")[2] for name in NEW_MODULES]
    model = with_adapters(tiny_model("whisper"), target_modules="all-linear", modules_to_save=names)
    fusion = model.m4ser.fusion
    train_new_modules(model)
    assert model.m4ser.fusion is fusion
    assert not caplog.records
    # Projections exist where an encoder has another size than the model.
    some = with_adapters(tiny_model("whisper", hidden_size=32), modules_to_save=["classifier"])
    train_new_modules(some)
    assert some.peft_config["default"].modules_to_save == ["classifier", *(n for n in names if n != "classifier")]
    assert all(p.requires_grad for p in active_copy(some.m4ser.speech_projection).parameters())
    plain = tiny_model("whisper")
    train_new_modules(plain, own_optimizer=True)
    assert set(dict(plain.named_parameters())) == set(dict(tiny_model("whisper").named_parameters()))


@pytest.mark.parametrize(
    ("standardize", "adapters", "options", "message"),
    [
        (False, {"target_modules": "all-linear"}, {}, "The adapters reach into m4ser.fusion, classifier, detector"),
        (
            False,
            {},
            {"own_optimizer": True},
            r"The optimizer was made before.*modules_to_save=\['fusion', 'classifier'",
        ),
        (True, {}, {}, "standardize_features measures the encoders, which PEFT does not save"),
    ],
)
def test_what_would_not_be_trained_as_meant_is_refused(standardize, adapters, options, message):
    model = with_adapters(tiny_model("whisper", standardize_features=standardize), **adapters)
    with pytest.raises(ValueError, match=message):
        train_new_modules(model, **options)


def test_a_trainer_does_not_load_what_add_adapter_saved(tmp_path):
    message = "A trainer does not load checkpoints of model.add_adapter"
    arguments = {"eval_strategy": "steps", "save_strategy": "steps", "save_steps": 1, "eval_steps": 1, "max_steps": 1}
    data = tiny_corpus(6)
    model = with_adapters(tiny_model("whisper"), "add_adapter")
    with pytest.raises(ValueError, match=message):
        tiny_trainer(tmp_path, model, eval_data=data, load_best_model_at_end=True, **arguments)
    trainer = tiny_trainer(tmp_path, with_adapters(tiny_model("whisper"), "add_adapter"), eval_data=data, **arguments)
    trainer.train()
    with pytest.raises(ValueError, match=message):
        trainer.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-1"))
