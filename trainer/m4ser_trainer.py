"""The Trainer whose step is Algorithm 1: update the discriminator, then the rest against the updated one."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import EvalPrediction, ProcessorMixin, Trainer
from transformers.trainer_callback import TrainerCallback
from transformers.trainer_utils import has_length

from modeling_m4ser import M4SERForEmotionClassification
from modeling_m4ser.losses_m4ser import LOSSES
from trainer.adversary import Adversary
from trainer.arguments import M4SERTrainingArguments
from trainer.callbacks.adapters import check_checkpoints_load, train_new_modules
from trainer.callbacks.feature_statistics import FeatureStatisticsCallback
from trainer.callbacks.normalization import LossLog, UpdateNormalizer
from trainer.callbacks.weight_averaging import WeightAveragingMixin
from trainer.collator import M4SERDataCollator
from trainer.errors import TrainingError
from trainer.inputs.rows import RowReader
from trainer.inputs.sampling import LongestFirstEvaluationMixin, SamplerEpochCallback, length_grouped_sampler
from trainer.optimization import set_learning_rate

logger = logging.getLogger(__name__)

EmotionLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class M4SERTrainer(WeightAveragingMixin, LongestFirstEvaluationMixin, Trainer):
    """[`transformers.Trainer`] for [`M4SERForEmotionClassification`].

    One forward pass per step. On its detached features the discriminator D takes a step of its own optimizer
    (Algorithm 1, line 23); then, with D updated and frozen, everything else takes a step on Eq. 22 (line 25).
    With gradient accumulation D moves once per update, before the last micro-batch's L_G.

    Every loss is a mean over the *whole* update: over all micro-batches and processes, not the mean of their means.
    (The contrastive loss compares the utterances of one forward pass, of all processes.)
    Each is logged under its name: `loss_emotion`, `loss_detection`, `loss_correction`, `loss_contrastive`,
    `loss_generator` (L_G), `loss_discriminator` (L_D) and `loss_adversarial` (L_GAN), unweighted.

    Evaluation and prediction read the data longest first (column `args.length_column_name`), and answer in its order.

    Args:
        model: the model to train.
        args: training arguments.
        data_collator: makes batches of the data sets' rows, see [`M4SERDataCollator`].
        train_dataset: rows of a prepared corpus, or of a data set of your own; where `data_collator` is an
            [`M4SERDataCollator`], [`trainer.inputs.rows.RowReader`] finds its columns and labels.
        eval_dataset: as `train_dataset`, or several by name.
        processing_class: the model's processor, saved with it.
        compute_metrics: e.g. `compute_emotion_metrics(labels)`.
        callbacks: further callbacks.
        optimizers: a ready main optimizer and scheduler; D's own optimizer is always made here.
        preprocess_logits_for_metrics: as in [`transformers.Trainer`].
        emotion_loss_func: (logits (B, e), labels (B,)) -> mean over utterances, in place of L_ER's plain cross-entropy;
            e.g. [`trainer.losses.BalancedCrossEntropy`].

    Raises:
        ValueError: arguments of another class; a column that is missing or a label that the model does not have;
            metrics whose classes are in another order than the model's; adapters of PEFT that reach into new modules;
            or FSDP, DeepSpeed or `nn.DataParallel`, which this two-optimizer step does not support.
    """

    model: M4SERForEmotionClassification
    args: M4SERTrainingArguments

    def __init__(
        self,
        model: M4SERForEmotionClassification,
        args: M4SERTrainingArguments,
        data_collator: Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]],
        train_dataset: Any | None = None,
        eval_dataset: Any | dict[str, Any] | None = None,
        processing_class: ProcessorMixin | None = None,
        compute_metrics: Callable[[EvalPrediction], dict[str, float]] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[torch.optim.Optimizer | None, Any] = (None, None),
        preprocess_logits_for_metrics: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
        emotion_loss_func: EmotionLoss | None = None,
    ):
        if not isinstance(args, M4SERTrainingArguments):
            raise ValueError(f"M4SERTrainer needs M4SERTrainingArguments, not {type(args).__name__}.")
        train_new_modules(model, own_optimizer=optimizers[0] is not None)
        if args.load_best_model_at_end:
            check_checkpoints_load(model)
        self._reader = None
        if isinstance(data_collator, M4SERDataCollator):
            self._reader = RowReader(model.config, data_collator.text_column)
        train_dataset = self._read(train_dataset, "train_dataset", training=True)
        eval_dataset = self._read(eval_dataset, "eval_dataset")
        self._check_class_order(model, compute_metrics)
        super().__init__(
            model=model,
            args=args,
            data_collator=data_collator,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            compute_metrics=compute_metrics,
            callbacks=callbacks,
            optimizers=optimizers,
            preprocess_logits_for_metrics=preprocess_logits_for_metrics,
        )
        self._refuse_unsupported()
        self.emotion_loss_func = emotion_loss_func
        has_discriminator = self.model.discriminator is not None
        self.adversary = Adversary(self.model, self.args, self.accelerator) if has_discriminator else None
        self._normalizer = UpdateNormalizer(self.model, self.accelerator)
        self._loss_log = LossLog()
        self._sampler_epoch = SamplerEpochCallback()
        self.add_callback(self._sampler_epoch)
        if self.model.config.standardize_features and train_dataset is not None:
            self.add_callback(FeatureStatisticsCallback(train_dataset, data_collator))
        if args.ema_decay is not None:
            with self._without_discriminator():
                trained = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
            self.average_weights(trained, args.ema_decay)

    def _refuse_unsupported(self) -> None:
        for used, name in (
            (self.is_fsdp_enabled, "FSDP"),
            (self.is_deepspeed_enabled, "DeepSpeed"),
            (self.args.n_gpu > 1, "nn.DataParallel (several GPUs in one process)"),
        ):
            if used:
                raise TrainingError(
                    f"M4SERTrainer does not run under {name}: its discriminator has an optimizer of its own. Launch "
                    "one process per GPU instead: `accelerate launch --multi_gpu your_script.py`."
                )

    # ------------------------------------------------------------------ the step

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch=None) -> torch.Tensor:
        """Run one micro-batch of Algorithm 1; returns its share of the update's loss, detached."""
        model.train()
        inputs = self._prepare_inputs(inputs)
        share = self._normalizer.shares(inputs)
        with self.compute_loss_context_manager():
            outputs = model(**inputs)
        if self.emotion_loss_func is not None and "labels" in inputs:
            outputs.emotion_loss = self.emotion_loss_func(outputs.logits, inputs["labels"])
        losses = {name: _scaled(outputs.get(f"{name}_loss"), share[loss.counted_by]) for name, loss in LOSSES.items()}
        self._loss_log.add(**losses)
        if self.adversary is not None:
            self.adversary.follow_schedule(cast(torch.optim.Optimizer, self.optimizer))
            terms = self.adversary.update(outputs, share["frames"], step=self.accelerator.sync_gradients)
            with self.compute_loss_context_manager():
                generator_loss = self.adversary.generator_loss(outputs) * share["frames"]
            losses["adversarial"] = generator_loss
            if self.model.config.adversarial_reduction == "sum":
                losses["adversarial"] = generator_loss * self._normalizer.frames_per_utterance(inputs)
            self._loss_log.add(
                generator=generator_loss,
                discriminator=terms["discriminator"],
                adversarial=terms["discriminator"] + terms["generator"],
            )
        loss = self.model.combine_losses(**losses)
        if loss is None:
            raise TrainingError("No labels in the batch: the training data needs an `emotion` for every row.")
        self.accelerator.backward(loss)
        if self.accelerator.sync_gradients:
            self._loss_log.end_update()
        return loss.detach()

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """Return the micro-batches of one update, counted before the first of them is run."""
        batches, items_in_batch = super().get_batch_samples(epoch_iterator, num_batches, device)
        if batches:
            self._normalizer.begin_update(batches, device)
        return batches, items_in_batch

    def log(self, logs: dict[str, float], *args, **kwargs) -> None:
        """Add each loss by name to a training log."""
        if "loss" in logs:
            logs = {**logs, **{f"loss_{name}": mean for name, mean in self._loss_log.means(self.accelerator).items()}}
        super().log(logs, *args, **kwargs)

    # ------------------------------------------------------------------ the two optimizers

    def create_optimizer(self, *args) -> torch.optim.Optimizer:
        """Make the main optimizer, of everything but D, with learning rates by part."""
        fresh = self.optimizer is None
        with self._without_discriminator():
            optimizer = super().create_optimizer(*args)
        if fresh:
            encoders = (self.model.m4ser.speech_encoder, self.model.m4ser.text_encoder)
            set_learning_rate(optimizer, encoders, self.args.encoder_learning_rate)
            set_learning_rate(optimizer, (self.model.classifier,), self.args.classifier_learning_rate)
        return optimizer

    def _without_discriminator(self) -> AbstractContextManager:
        """Inside, the parameters that ask for a gradient are the main optimizer's."""
        return nullcontext() if self.adversary is None else self.adversary.frozen()

    def _wrap_model(self, model: nn.Module, training: bool = True, **kwargs) -> nn.Module:
        if training and self.adversary is not None and self.args.world_size > 1:
            self.adversary.leave_data_parallel(self.model)
        return super()._wrap_model(model, training=training, **kwargs)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.adversary is not None and self.args.should_save:
            self.adversary.save(output_dir)

    def _load_from_checkpoint(self, *args, **kwargs) -> None:
        check_checkpoints_load(self.model)
        super()._load_from_checkpoint(*args, **kwargs)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if self.adversary is not None and checkpoint is not None:
            self.adversary.load(checkpoint)

    # ------------------------------------------------------------------ the data

    def _read(self, dataset: Any, name: str, training: bool = False) -> Any:
        """A data set, or several by name, in the collator's columns."""
        if self._reader is None or dataset is None or isinstance(dataset, str):
            return dataset
        if isinstance(dataset, dict):
            return {key: self._read(part, f"{name}[{key!r}]") for key, part in dataset.items()}
        return self._reader.read(dataset, name, training)

    @staticmethod
    def _check_class_order(model: M4SERForEmotionClassification, compute_metrics: Any) -> None:
        """Labels are the model's numbers: metrics that name them in another order would be wrong."""
        names, own = getattr(compute_metrics, "label_names", []), list((model.config.id2label or {}).values())
        if list(names) != own and sorted(names) == sorted(own):
            raise TrainingError(
                f"compute_metrics names the classes {', '.join(names)}, in another order than the model: "
                f"{', '.join(own)}. Use compute_emotion_metrics(list(model.config.id2label.values()))."
            )

    def get_train_dataloader(self) -> DataLoader:
        """Return the batches of the training data; it may have been exchanged since the trainer was made."""
        self.train_dataset = self._read(self.train_dataset, "train_dataset", training=True)
        if self.args.train_sampling_strategy == "group_by_length" and not has_length(self.train_dataset):
            logger.warning(
                "The training data is a stream: it comes in its own order, and batches are not of utterances of "
                "similar length. dataset.shuffle(seed=…, buffer_size=…) mixes a stream of `datasets`."
            )
        return super().get_train_dataloader()

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """Return the batches of an evaluation, on a data set in columns of its own too."""
        self._forget_batches()
        self.eval_dataset = self._read(self.eval_dataset, "eval_dataset")
        return super().get_eval_dataloader(self._read(eval_dataset, "eval_dataset"))

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader:
        """Return the batches of a prediction, on a data set in columns of its own too."""
        self._forget_batches()
        return super().get_test_dataloader(self._read(test_dataset, "test_dataset"))

    def _forget_batches(self) -> None:
        """Metrics by batches (`batch_eval_metrics`) start anew, also after an evaluation that was interrupted."""
        reset = getattr(self.compute_metrics, "reset", None)
        if callable(reset):
            reset()

    def _get_train_sampler(self, train_dataset: Any = None):
        train_dataset = cast(Any, self.train_dataset) if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        self._sampler_epoch.sampler = length_grouped_sampler(train_dataset, self.args)
        return self._sampler_epoch.sampler


def _scaled(loss: torch.Tensor | None, weight: torch.Tensor | float) -> torch.Tensor | None:
    return None if loss is None else loss * weight
