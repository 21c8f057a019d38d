"""The Trainer whose step is Algorithm 1: update the discriminator, then the rest against the updated one."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import SequentialSampler
from transformers import Trainer
from transformers.trainer_callback import TrainerCallback
from transformers.trainer_pt_utils import LengthGroupedSampler

from modeling_m4ser import IGNORE_INDEX
from modeling_m4ser.losses_m4ser import AdversarialLoss, at_least_float32
from trainer.arguments import M4SERTrainingArguments
from trainer.augmentation import with_speeds
from trainer.callbacks.feature_statistics import FeatureStatisticsCallback
from trainer.callbacks.weight_averaging import MOVING_WEIGHTS, WeightAveragingCallback

DISCRIMINATOR_OPTIMIZER = "discriminator_optimizer.pt"
#: What a batch is counted by. Each loss is a mean over one of them.
ITEMS = ("utterances", "frames", "detection_tokens", "correction_tokens")


class EpochSampler(LengthGroupedSampler):
    """Length-grouped order that depends on seed and epoch alone, so that a resumed run sees the same batches."""

    def __init__(self, batch_size: int, lengths: list[float], seed: int):
        super().__init__(batch_size, lengths=lengths)
        self.seed = seed
        self.epoch = 0

    def __iter__(self) -> Iterator[int]:
        self.generator = torch.Generator().manual_seed(self.seed + self.epoch)
        return super().__iter__()


class _SetEpoch(TrainerCallback):
    """Tells the sampler the epoch, however deep the data loader has wrapped it."""

    def __init__(self, trainer: "M4SERTrainer"):
        self.trainer = trainer

    def on_epoch_begin(self, args, state, control, **kwargs):
        if self.trainer.epoch_sampler is not None:
            self.trainer.epoch_sampler.epoch = int(state.epoch or 0)


class M4SERTrainer(Trainer):
    """
    [`transformers.Trainer`] for [`M4SERForEmotionClassification`].

    One forward pass per step. On its detached features the discriminator D takes a step of its own optimizer
    (Algorithm 1, line 23); then, with D updated and frozen, everything else takes a step on Eq. 22 (line 25).
    With gradient accumulation D moves once per update, before the last micro-batch's L_G.

    Every loss is a mean over the *whole* update: over all micro-batches and processes, not the mean of their means.
    (The contrastive loss compares the utterances of one forward pass, of all processes.)
    Each is logged under its name: `loss_emotion`, `loss_detection`, `loss_correction`, `loss_contrastive`,
    `loss_generator` (L_G), `loss_discriminator` (L_D) and `loss_adversarial` (L_GAN), unweighted.

    Raises:
        ValueError: under FSDP, DeepSpeed or `nn.DataParallel`, which this two-optimizer step does not support.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if not isinstance(self.args, M4SERTrainingArguments):
            raise ValueError(f"M4SERTrainer needs M4SERTrainingArguments, not {type(self.args).__name__}.")
        self._refuse_unsupported()
        if self.args.speed_perturbation and self.train_dataset is not None and self.model.config.uses_speech:
            self.train_dataset = with_speeds(self.train_dataset, self.args.speed_perturbation)
        self.discriminator_optimizer: torch.optim.Optimizer | None = None
        self.epoch_sampler: EpochSampler | None = None
        self._adversarial = AdversarialLoss(self.model.config.discriminator_objective)
        self._class_weights = self._balanced_weights() if self.args.balance_classes else None
        self._update_items: torch.Tensor | None = None
        self._loss_sums: dict[str, torch.Tensor] = {}
        self._updates_summed = 0
        self.add_callback(_SetEpoch(self))
        if self.model.config.standardize_features:
            self.add_callback(FeatureStatisticsCallback(self))
        self._average: WeightAveragingCallback | None = None
        if self.args.ema_decay is not None:
            self._average = WeightAveragingCallback(self._main_parameters(), self.args.ema_decay)
            self.add_callback(self._average)

    @property
    def discriminator(self) -> nn.Module | None:
        """D, or None in the ablation without it."""
        return self.model.discriminator

    def _refuse_unsupported(self) -> None:
        for used, name in (
            (self.is_fsdp_enabled, "FSDP"),
            (self.is_deepspeed_enabled, "DeepSpeed"),
            (self.args.n_gpu > 1, "nn.DataParallel (several GPUs in one process)"),
        ):
            if used:
                raise ValueError(
                    f"M4SERTrainer does not run under {name}: its discriminator has an optimizer of its own. Launch "
                    "one process per GPU instead: `accelerate launch --multi_gpu your_script.py`."
                )

    # ------------------------------------------------------------------ data

    def _get_train_sampler(self, train_dataset=None):
        train_dataset = self.train_dataset if train_dataset is None else train_dataset
        column = self.args.length_column_name
        columns = getattr(train_dataset, "column_names", [])
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        if column not in columns:
            raise ValueError(
                f"The training data has no column {column!r} to group batches by (columns: {', '.join(columns)}). Name "
                "one with length_column_name or set train_sampling_strategy='random'."
            )
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        update_size = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        self.epoch_sampler = EpochSampler(update_size, train_dataset[column], seed)
        return self.epoch_sampler

    def _get_eval_sampler(self, eval_dataset):
        # Predictions must come in the order of the data.
        return SequentialSampler(eval_dataset)

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """The micro-batches of one update, counted (over all processes) before the first of them is run."""
        batches, items_in_batch = super().get_batch_samples(epoch_iterator, num_batches, device)
        if batches:
            counted = sum(self._count_items(batch) for batch in batches).to(device)
            self._update_items = self.accelerator.reduce(counted, "sum")
        return batches, items_in_batch

    def _count_items(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """(4,) counts of a batch, in the order of `ITEMS`."""
        some_input = next(iter(batch.values()))
        counts = [torch.tensor(len(some_input), device=some_input.device)]
        encoder, mask = self.model.m4ser.speech_encoder, batch.get("speech_attention_mask")
        counts.append(counts[0] * 0 if encoder is None or mask is None else encoder.frame_lengths(mask).sum())
        for name in ("detection_labels", "correction_labels"):
            counts.append((batch[name] != IGNORE_INDEX).sum() if name in batch else counts[0] * 0)
        return torch.stack([count.to(torch.float32) for count in counts])

    # ------------------------------------------------------------------ the step

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch=None) -> torch.Tensor:
        """One micro-batch of Algorithm 1. Returns its share of the update's loss, detached."""
        model.train()
        inputs = self._prepare_inputs(inputs)
        share = self._shares(inputs)
        with self.compute_loss_context_manager():
            outputs = model(**inputs)
        losses = {
            "emotion": _scaled(self._emotion_loss(outputs, inputs.get("labels")), share["utterances"]),
            "detection": _scaled(outputs.detection_loss, share["detection_tokens"]),
            "correction": _scaled(outputs.correction_loss, share["correction_tokens"]),
            "contrastive": _scaled(outputs.contrastive_loss, 1 / self.current_gradient_accumulation_steps),
        }
        if self.discriminator is not None:
            terms = self._discriminator_phase(outputs, share["frames"])
            with _frozen(self.discriminator), self.compute_loss_context_manager():
                generator_loss = self._adversarial.generator_loss(
                    self.discriminator, outputs.invariant, outputs.frame_mask
                )
            losses["adversarial"] = _scaled(generator_loss, share["frames"])
            self._record(discriminator=terms["discriminator"], adversarial=terms["discriminator"] + terms["generator"])
            self._record(generator=losses["adversarial"])
        loss = self.model.combine_losses(**losses)
        if loss is None:
            raise ValueError("No labels in the batch: the training data needs an `emotion` for every row.")
        self.accelerator.backward(loss)
        self._record(**{name: value for name, value in losses.items() if name != "adversarial"})
        if self.accelerator.sync_gradients:
            self._updates_summed += 1
        return loss.detach()

    def _balanced_weights(self) -> torch.Tensor:
        """(e,) weight of each class, inverse to its share of the training data; their mean over that data is 1."""
        columns = getattr(self.train_dataset, "column_names", [])
        if "emotion" not in columns:
            raise ValueError(
                "balance_classes=True counts the training data's column 'emotion', which is not there (columns: "
                f"{', '.join(columns)}). Add it or set balance_classes=False."
            )
        emotions = torch.tensor(self.train_dataset["emotion"][:])
        counts = torch.bincount(emotions, minlength=self.model.config.num_labels)
        return len(emotions) / (counts.clamp(min=1) * (counts > 0).sum())

    def _emotion_loss(self, outputs, labels: torch.Tensor | None) -> torch.Tensor | None:
        """L_ER: the model's own, or the mean over utterances weighted by class."""
        if self._class_weights is None or labels is None:
            return outputs.emotion_loss
        logits = at_least_float32(outputs.logits)
        losses = nn.functional.cross_entropy(logits, labels, weight=self._class_weights.to(logits), reduction="none")
        return losses.mean()

    def _shares(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """
        The weight that turns this micro-batch's means into its part of the update's mean.

        Local count over the update's count; times the number of processes, since gradients are averaged over them.
        """
        local = self._count_items(inputs)
        total = local if self._update_items is None else self._update_items
        weights = local * self.accelerator.num_processes / total.clamp(min=1)
        return dict(zip(ITEMS, weights, strict=True))

    def _discriminator_phase(self, outputs, share: torch.Tensor) -> dict[str, torch.Tensor]:
        """Algorithm 1, line 23. Touches D alone; its step comes with the update's last micro-batch."""
        discriminator = self.discriminator
        terms = self._adversarial.discriminator_loss(
            discriminator, outputs.speech_specific, outputs.text_specific, outputs.invariant, outputs.frame_mask
        )
        terms = {name: value * share for name, value in terms.items()}
        # Not through the accelerator: D stays in full precision and outside the main loss scaling.
        terms["loss"].backward()
        if self.accelerator.sync_gradients:
            for parameter in discriminator.parameters():
                parameter.grad = self.accelerator.reduce(parameter.grad, "mean")
            nn.utils.clip_grad_norm_(discriminator.parameters(), self.args.discriminator_max_grad_norm)
            self.discriminator_optimizer.step()
            self.discriminator_optimizer.zero_grad()
        return terms

    # ------------------------------------------------------------------ logging

    def _record(self, **losses: torch.Tensor | None) -> None:
        """Add to the running sums, on the device: no step waits for the host."""
        for name, value in losses.items():
            if value is not None:
                self._loss_sums[name] = self._loss_sums.get(name, 0) + value.detach()

    def log(self, logs: dict[str, float], *args, **kwargs) -> None:
        """Add each loss by name to a training log."""
        if "loss" in logs and self._loss_sums and self._updates_summed:
            names = sorted(self._loss_sums)
            sums = torch.stack([self._loss_sums[name].float() for name in names])
            means = self.accelerator.reduce(sums, "mean") / self._updates_summed
            logs = {**logs, **{f"loss_{name}": value for name, value in zip(names, means.tolist(), strict=True)}}
            self._loss_sums, self._updates_summed = {}, 0
        super().log(logs, *args, **kwargs)

    # ------------------------------------------------------------------ the two optimizers

    def create_optimizer(self, *args):
        """The main optimizer of everything but D, with learning rates by part, and D's own Adam."""
        fresh = self.optimizer is None
        with _frozen(self.discriminator):
            optimizer = super().create_optimizer(*args)
        if fresh:
            encoders = (self.model.m4ser.speech_encoder, self.model.m4ser.text_encoder)
            self._set_learning_rate(optimizer, encoders, self.args.encoder_learning_rate)
            self._set_learning_rate(optimizer, (self.model.classifier,), self.args.classifier_learning_rate)
        if self.discriminator is not None and self.discriminator_optimizer is None:
            self.discriminator_optimizer = torch.optim.Adam(
                self.discriminator.parameters(),
                lr=self.args.discriminator_learning_rate,
                betas=(self.args.adam_beta1, self.args.adam_beta2),
                eps=self.args.adam_epsilon,
            )
        return optimizer

    def _main_parameters(self) -> dict[str, nn.Parameter]:
        """Name -> parameter of what the main optimizer trains: all that is not frozen but D."""
        with _frozen(self.discriminator):
            return {name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad}

    def _set_learning_rate(
        self, optimizer: torch.optim.Optimizer, modules: Iterable[nn.Module | None], learning_rate: float | None
    ) -> None:
        """Give the modules' parameters groups of their own, unless no rate is set for them."""
        if learning_rate is None:
            return
        theirs = {id(parameter) for module in modules if module is not None for parameter in module.parameters()}
        for group in list(optimizer.param_groups):
            apart = [parameter for parameter in group["params"] if id(parameter) in theirs]
            group["params"] = [parameter for parameter in group["params"] if id(parameter) not in theirs]
            if apart:
                optimizer.add_param_group({**group, "params": apart, "lr": learning_rate})

    def _wrap_model(self, model: nn.Module, training: bool = True, **kwargs) -> nn.Module:
        """Keep D out of data-parallel wrapping: it is run outside the wrapped forward and averaged by hand."""
        if training and self.discriminator is not None and self.args.world_size > 1:
            ours = {id(parameter) for parameter in self.discriminator.parameters()}
            names = [name for name, parameter in self.model.named_parameters() if id(parameter) in ours]
            DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(self.model, names)
            # What is not wrapped is not broadcast either: start all processes from the first one's D.
            for parameter in self.discriminator.parameters():
                torch.distributed.broadcast(parameter.data, src=0)
        return super()._wrap_model(model, training=training, **kwargs)

    # ------------------------------------------------------------------ the average of the weights

    def _averaged(self) -> contextlib.AbstractContextManager:
        """Inside, the model is what it would be if training ended now."""
        return contextlib.nullcontext() if self._average is None else self._average.applied()

    def evaluation_loop(self, *args, **kwargs):
        """The library's loop, on the average of the weights where there is one."""
        with self._averaged():
            return super().evaluation_loop(*args, **kwargs)

    def save_model(self, *args, **kwargs) -> None:
        """Save the average of the weights where there is one."""
        with self._averaged():
            super().save_model(*args, **kwargs)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        if self._average is not None:
            # The best checkpoint's average is in the model now, and stays there.
            self._average.stop()

    # ------------------------------------------------------------------ checkpoints

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self._average is not None and self.args.should_save:
            self._average.save_moving(output_dir)
        if self.discriminator_optimizer is not None and self.args.should_save:
            torch.save(self.discriminator_optimizer.state_dict(), os.path.join(output_dir, DISCRIMINATOR_OPTIMIZER))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        if os.path.isfile(os.path.join(checkpoint, MOVING_WEIGHTS)) != (self._average is not None):
            raise ValueError(
                f"{checkpoint} was written with another ema_decay than {self.args.ema_decay}: one of the two "
                "runs averages its weights and the other does not. Resume with the setting it was started with."
            )
        if self._average is not None:
            self._average.resume(checkpoint)
        if self.discriminator_optimizer is None:
            return
        path = os.path.join(checkpoint, DISCRIMINATOR_OPTIMIZER)
        if not os.path.isfile(path):
            raise ValueError(
                f"{checkpoint} holds no {DISCRIMINATOR_OPTIMIZER}: it is no checkpoint of an adversarial M4SER run, or "
                "an incomplete one. Resume from another checkpoint or set use_adversarial=False."
            )
        state = torch.load(path, map_location=self.args.device, weights_only=True)
        self.discriminator_optimizer.load_state_dict(state)


def _scaled(loss: torch.Tensor | None, weight: torch.Tensor | float) -> torch.Tensor | None:
    return None if loss is None else loss * weight


@contextlib.contextmanager
def _frozen(module: nn.Module | None) -> Iterator[None]:
    """The module's parameters, if there is one, take no gradient inside."""
    if module is not None:
        module.requires_grad_(False)
    try:
        yield
    finally:
        if module is not None:
            module.requires_grad_(True)
