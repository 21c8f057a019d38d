"""The discriminator's life: its update by hand, its objective, its optimizer in checkpoints."""

import pytest
import torch
from accelerate.state import AcceleratorState
from transformers import TrainerCallback

from modeling_m4ser import M4SEROutput
from modeling_m4ser.losses_m4ser import discriminator_loss
from tests.helpers.corpus import NO_DROPOUT, deterministic_model, tiny_trainer
from tests.helpers.tiny import parameters_of, ragged_batch, tiny_model
from trainer.adversary import Adversary


@pytest.fixture
def adversary_of(tmp_path):
    def make(model, **arguments):
        return tiny_trainer(tmp_path, model, **arguments).adversary

    return make


def test_its_gradient_is_clipped_and_it_moves_with_the_last_micro_batch(adversary_of):
    model = deterministic_model().train()
    critic = model.discriminator
    for parameter in critic.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    adversary = adversary_of(model, discriminator_learning_rate=1e-2, discriminator_max_grad_norm=0.25)
    before, outputs, seen = parameters_of(critic), model(**ragged_batch(model)), []
    features = (outputs[name] for name in ("speech_specific", "text_specific", "invariant", "frame_mask"))
    gradients = torch.autograd.grad(discriminator_loss(critic, *features)["loss"], list(critic.parameters()))
    norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
    assert norm > 0.3
    adversary.optimizer.register_step_pre_hook(lambda *_: seen.extend(p.grad.clone() for p in critic.parameters()))
    adversary.update(outputs, torch.tensor(0.5), step=False)
    assert all(value.equal(before[name]) for name, value in critic.named_parameters())
    adversary.update(outputs, torch.tensor(0.5), step=True)
    for gradient, whole in zip(seen, gradients, strict=True):
        torch.testing.assert_close(gradient, 0.25 / norm * whole, atol=1e-5, rtol=0)
    assert not any(value.equal(before[name]) for name, value in critic.named_parameters())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_generator_loss_reaches_the_features_and_not_the_discriminator(adversary_of):
    model = deterministic_model()
    adversary = adversary_of(model)
    invariant = torch.randn(2, 5, model.config.hidden_size, dtype=torch.float64, requires_grad=True)
    outputs = M4SEROutput(invariant=invariant, frame_mask=torch.ones(2, 5, dtype=torch.bool))
    adversary.generator_loss(outputs).backward()
    assert invariant.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in model.discriminator.parameters())
    assert all(parameter.requires_grad for parameter in model.discriminator.parameters())


def test_its_optimizer_uses_the_arguments_of_its_own(adversary_of):
    adversary = adversary_of(
        deterministic_model(), learning_rate=1e-3, discriminator_learning_rate=2e-4, adam_beta1=0.5, adam_epsilon=1e-6
    )
    (group,) = adversary.optimizer.param_groups
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (2e-4, (0.5, 0.999), 1e-6, 0)


def test_a_checkpoint_without_its_optimizer_is_refused(adversary_of, tmp_path):
    with pytest.raises(ValueError, match="use_adversarial=False"):
        adversary_of(deterministic_model()).load(str(tmp_path))


@pytest.mark.parametrize(("schedule", "factors"), [("constant", [1, 1, 1, 1]), ("linear", [1, 0.75, 0.5, 0.25])])
def test_the_discriminator_follows_the_schedule(tmp_path, monkeypatch, schedule, factors):
    rates = []
    step = Adversary.update
    monkeypatch.setattr(
        Adversary,
        "update",
        lambda self, *a, **k: rates.append(self.optimizer.param_groups[0]["lr"]) or step(self, *a, **k),
    )
    options = {"learning_rate": 1e-3, "encoder_learning_rate": 1e-5, "discriminator_learning_rate": 4e-4}
    tiny_trainer(tmp_path, tiny_model("whisper"), max_steps=4, lr_scheduler_type=schedule, **options).train()
    assert rates == pytest.approx([4e-4 * factor for factor in factors])


class Gradients(TrainerCallback):
    """Keeps the gradient of each update of the main optimizer, before it is applied."""

    def __init__(self):
        self.seen = []

    def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
        self.seen.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))


@pytest.fixture
def half(monkeypatch):
    """Lets a trainer use fp16 and a gradient scaler, which accelerate offers on GPUs only."""

    def use(trainer):
        monkeypatch.setitem(AcceleratorState._shared_state, "_mixed_precision", "fp16")
        trainer.accelerator.native_amp, trainer.accelerator.scaler = True, torch.amp.GradScaler("cpu", init_scale=1024)
        return trainer

    return use


def test_in_fp16_the_rest_has_the_gradient_of_fp32(tmp_path, half):
    """The scaler's work on the accumulated gradient is done once: D's update does not take part in it."""
    gradients = []
    for change in (lambda trainer: trainer, half):
        model = tiny_model("whisper", text_config=deterministic_model().config.text_config, **NO_DROPOUT)
        arguments = {"max_steps": 1, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
        trainer = change(tiny_trainer(tmp_path, model, max_grad_norm=0, **arguments))
        trainer.add_callback(watch := Gradients())
        trainer.train()
        gradients += watch.seen
    full, reduced = gradients
    assert 0 < (reduced - full).norm() < 1e-2 * full.norm()


def test_in_fp16_an_update_that_overflows_is_skipped_and_the_schedule_goes_on(tmp_path, half):
    model = tiny_model("whisper")
    trainer = half(tiny_trainer(tmp_path, model, max_steps=3, lr_scheduler_type="linear"))
    before, updates = parameters_of(model.discriminator), []
    trainer.adversary.optimizer.register_step_pre_hook(lambda *_: updates.append(trainer.state.global_step))
    weight = model.discriminator.hidden.weight
    weight.register_hook(lambda gradient: gradient * float("inf") if trainer.state.global_step == 1 else gradient)
    trainer.train()
    assert updates == [0, 2]
    assert trainer.lr_scheduler.last_epoch == 3
    assert all(value.isfinite().all() for value in model.parameters())
    assert not weight.equal(before["hidden.weight"])
