"""Training arguments: Table I, and what they refuse."""

import pytest
import torch

from trainer import ExperimentArguments, M4SERTrainingArguments
from trainer.experiments.cross_validation import args_for_run


def arguments(tmp_path, **changes):
    return ExperimentArguments(output_dir=str(tmp_path), **changes)


def test_defaults_are_table_1(tmp_path):
    args = arguments(tmp_path)
    assert (args.learning_rate, args.per_device_train_batch_size, args.num_train_epochs) == (1e-5, 16, 100)
    assert args.lr_scheduler_type == "constant"
    assert args.weight_decay == 0
    assert args.warmup_steps == 0
    assert args.discriminator_learning_rate == args.learning_rate
    assert (args.discriminator_max_grad_norm, args.max_grad_norm) == (1.0, 1.0)
    extras = (args.encoder_learning_rate, args.classifier_learning_rate, args.speed_perturbation, args.ema_decay)
    assert extras == (None, None, None, None)
    assert args.balance_classes is False


def test_the_token_of_the_hub_goes_into_no_file(tmp_path):
    args = arguments(tmp_path, hub_token="hf_secret")
    torch.save(args, tmp_path / "training_args.bin")
    assert b"hf_secret" not in (tmp_path / "training_args.bin").read_bytes()
    assert (args.hub_token, args_for_run(args, tmp_path / "run", 7).hub_token) == ("hf_secret", "hf_secret")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("speed_perturbation", []),
        ("speed_perturbation", [1.0, 0.0]),
        ("speed_perturbation", [-1.1]),
        ("decision_coverage", 0.0),
        ("set_coverage", 1.0),
        ("ema_decay", 1.0),
        ("ema_decay", -0.1),
        ("discriminator_max_grad_norm", 0.0),
        ("label_smoothing_factor", 0.1),
        ("torch_compile", True),
    ],
)
def test_impossible_values_are_refused_by_name(tmp_path, name, value):
    with pytest.raises(ValueError, match=name):
        arguments(tmp_path, **{name: value, "use_cpu": True})


def test_a_backend_that_compiles_on_a_cpu_may(tmp_path):
    assert arguments(tmp_path, use_cpu=True, torch_compile=True, torch_compile_backend="eager").torch_compile


def test_experiments_test_the_best_epoch_and_a_trainer_of_ones_own_needs_none(tmp_path):
    args, own = arguments(tmp_path), M4SERTrainingArguments(output_dir=str(tmp_path))
    assert (args.load_best_model_at_end, args.metric_for_best_model, args.greater_is_better) == (True, "ua", True)
    assert (args.eval_strategy, args.save_strategy, args.save_total_limit) == ("epoch", "epoch", 1)
    assert (own.eval_strategy, own.load_best_model_at_end) == ("no", False)
    assert own.dataloader_pin_memory == (own.device.type != "cpu"), "nothing is pinned for a CPU"
