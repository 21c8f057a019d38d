"""The discriminator's life: its update by hand, its objective, its optimizer in checkpoints."""

import pytest
import torch
from torch.nn.functional import logsigmoid

from modeling_m4ser import M4SEROutput
from tests.helpers.corpus import deterministic_model, tiny_trainer
from tests.helpers.tiny import parameters_of, ragged_batch, tiny_model
from trainer.adversary import DISCRIMINATOR_OPTIMIZER_FILE, Adversary


@pytest.fixture
def adversary_of(tmp_path):
    def make(model, **arguments):
        return tiny_trainer(tmp_path, model, **arguments).adversary

    return make


def gradients_by_hand(model, outputs, objective):
    """The gradients of D's objective on detached features, clipped to norm 0.5."""
    critic, valid = model.discriminator, outputs.frame_mask
    speech, text, invariant = (
        critic(part.detach())[valid] for part in (outputs.speech_specific, outputs.text_specific, outputs.invariant)
    )
    gain = (logsigmoid(speech) + logsigmoid(-text)).mean()
    if objective == "paper":
        gain = gain + (-logsigmoid(invariant) - logsigmoid(-invariant)).mean()
    gradients = torch.autograd.grad(-gain, list(critic.parameters()))
    norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
    return [gradient * min(1.0, 0.5 / (norm.item() + 1e-6)) for gradient in gradients]


@pytest.mark.parametrize("objective", ["paper", "modality"])
def test_the_configured_objective_is_what_the_discriminator_ascends(adversary_of, objective):
    model = deterministic_model(discriminator_objective=objective)
    for parameter in model.discriminator.parameters():
        torch.nn.init.normal_(parameter, std=0.5)  # at the initial weights L_G is at its minimum, without a gradient
    adversary = adversary_of(model, discriminator_learning_rate=1e-2, discriminator_max_grad_norm=0.5)
    outputs = model(**ragged_batch(model))
    expected = gradients_by_hand(model, outputs, objective)
    other = gradients_by_hand(model, outputs, "modality" if objective == "paper" else "paper")
    assert any((one - two).abs().max() > 1e-3 for one, two in zip(expected, other, strict=True))
    seen = []
    adversary.optimizer.register_step_pre_hook(
        lambda *_: seen.extend(parameter.grad.clone() for parameter in model.discriminator.parameters())
    )
    adversary.update(outputs, torch.tensor(1.0), step=True)
    for gradient, wanted in zip(seen, expected, strict=True):
        torch.testing.assert_close(gradient, wanted, atol=1e-6, rtol=0)


def test_it_moves_alone_and_with_the_last_micro_batch(adversary_of):
    model = deterministic_model().train()
    adversary = adversary_of(model, discriminator_learning_rate=1e-2)
    before, outputs = parameters_of(model), model(**ragged_batch(model))

    def changed():
        return {name for name, value in parameters_of(model).items() if not torch.equal(value, before[name])}

    adversary.update(outputs, torch.tensor(0.5), step=False)
    assert not changed()
    assert all(parameter.grad is not None for parameter in model.discriminator.parameters())
    adversary.update(outputs, torch.tensor(0.5), step=True)
    assert changed() == {name for name in before if name.startswith("discriminator.")}
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


def test_state_survives_a_checkpoint(adversary_of, tmp_path):
    model = deterministic_model()
    adversary = adversary_of(model)
    adversary.update(model(**ragged_batch(model)), torch.tensor(1.0), step=True)
    adversary.save(str(tmp_path))
    other = adversary_of(deterministic_model())
    other.load(str(tmp_path))
    states = (one.optimizer.state_dict()["state"] for one in (adversary, other))
    for first, second in zip(*(state.values() for state in states), strict=True):
        assert all(torch.equal(first[key], second[key]) for key in first)
    (tmp_path / DISCRIMINATOR_OPTIMIZER_FILE).unlink()
    with pytest.raises(ValueError, match="use_adversarial=False"):
        other.load(str(tmp_path))


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
