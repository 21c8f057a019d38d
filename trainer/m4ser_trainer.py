"""The Trainer whose step is Algorithm 1: update the discriminator, then the rest against the updated one."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import DistributedType
from torch import nn
from torch.distributed.tensor import DTensor
from transformers import EvalPrediction, ProcessorMixin, Trainer
from transformers.trainer_callback import TrainerCallback
from transformers.training_args import OptimizerNames

from modeling_m4ser import M4SERForEmotionClassification
from modeling_m4ser.losses_m4ser import LOSSES
from trainer.adversary import Adversary
from trainer.arguments import M4SERTrainingArguments
from trainer.callbacks.adapters import check_checkpoints_load, train_new_modules
from trainer.callbacks.checkpoints import CheckpointMixin
from trainer.callbacks.divergence import DivergenceCallback
from trainer.callbacks.feature_statistics import measure_new_model
from trainer.callbacks.normalization import LossLog, UpdateNormalizer
from trainer.callbacks.sharding import ShardingMixin, prepare_sharding, run_all_layers
from trainer.callbacks.weight_averaging import WeightAveragingMixin
from trainer.collator import M4SERDataCollator
from trainer.compatibility import check_classes, check_launch
from trainer.errors import TrainingError
from trainer.inputs.dataloaders import ROW_IDS, AnyDataMixin
from trainer.inputs.rows import RowReader
from trainer.optimizers import check_optimizers, set_learning_rate

EmotionLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class M4SERTrainer(WeightAveragingMixin, ShardingMixin, CheckpointMixin, AnyDataMixin, Trainer):
    """[`transformers.Trainer`] for [`M4SERForEmotionClassification`].

    One forward pass per step. On its detached features the discriminator D takes a step of its own optimizer
    (Algorithm 1, line 23); then, with D updated and frozen, everything else takes a step on Eq. 22 (line 25).
    With gradient accumulation D moves once per update, before the last micro-batch's L_G.

    Every loss but the contrastive one, which compares the utterances of a forward pass, is a mean over the *whole*
    update: over all micro-batches and processes, not the mean of their means. Each is logged under its name,
    unweighted: `loss_emotion`, `loss_detection`, `loss_correction`, `loss_contrastive`, `loss_generator` (L_G),
    `loss_discriminator` (L_D) and `loss_adversarial` (L_GAN).

    A loss or gradient that is not finite stops training, see [`trainer.callbacks.divergence.DivergenceCallback`]; so
    does SIGTERM, after a checkpoint, see [`trainer.callbacks.checkpoints.CheckpointMixin`].

    Args:
        model: the model to train; or `model_init`.
        args: training arguments.
        data_collator: makes batches of the data sets' rows, see [`M4SERDataCollator`].
        train_dataset: rows of a prepared corpus, or of a data set of your own, whose columns and labels are found where
            `data_collator` is an [`M4SERDataCollator`].
        eval_dataset: as `train_dataset`, or several by name.
        processing_class: the model's processor, saved with it.
        compute_metrics: e.g. `compute_emotion_metrics(labels)`.
        callbacks: further callbacks.
        optimizers: a ready main optimizer and scheduler; D's own optimizer is always made here.
        model_init: makes a model for each call of `train`, for [`~transformers.Trainer.hyperparameter_search`].
        optimizer_cls_and_kwargs: the class of the main optimizer and its arguments, in place of `args.optim`.
        preprocess_logits_for_metrics: as in [`transformers.Trainer`].
        emotion_loss_func: (logits (B, e), labels (B,)) -> mean over utterances, in place of L_ER's plain cross-entropy;
            e.g. [`trainer.losses.BalancedCrossEntropy`].

    Raises:
        ValueError: arguments of another class; a column that is missing or a label that the model does not have;
            metrics or a collator whose classes are not the model's; `optimizers` that are of another model, or beside
            learning rates by part; adapters of PEFT that reach into new modules; or FSDP1, DeepSpeed or
            `nn.DataParallel`, which this two-optimizer step does not support, or FSDP2 with
            `cpu_ram_efficient_loading`.
    """

    model: M4SERForEmotionClassification
    args: M4SERTrainingArguments

    def __init__(
        self,
        model: M4SERForEmotionClassification | None = None,
        args: M4SERTrainingArguments | None = None,
        data_collator: Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]] | None = None,
        train_dataset: Any | None = None,
        eval_dataset: Any | dict[str, Any] | None = None,
        processing_class: ProcessorMixin | None = None,
        compute_metrics: Callable[[EvalPrediction], dict[str, float]] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[torch.optim.Optimizer | None, Any] = (None, None),
        preprocess_logits_for_metrics: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
        emotion_loss_func: EmotionLoss | None = None,
        model_init: Callable[..., M4SERForEmotionClassification] | None = None,
        optimizer_cls_and_kwargs: tuple[type[torch.optim.Optimizer], dict[str, Any]] | None = None,
    ):
        if not isinstance(args, M4SERTrainingArguments):
            raise ValueError(f"M4SERTrainer needs M4SERTrainingArguments, not {type(args).__name__}.")
        if data_collator is None:
            raise TrainingError("data_collator is missing: M4SERDataCollator(processor, model.config) makes batches.")
        check_optimizers(optimizers, model, args)
        check_launch(args)
        train_new_modules(model, own_optimizer=optimizers[0] is not None)
        if args.load_best_model_at_end:
            check_checkpoints_load(model)
        if isinstance(data_collator, M4SERDataCollator):
            self.row_reader = RowReader(data_collator.config, data_collator.text_column)
        super().__init__(
            model=model,
            args=args,
            data_collator=data_collator,
            train_dataset=self.read_data(train_dataset, "train_dataset", training=True),
            eval_dataset=self.read_data(eval_dataset, "eval_dataset"),
            processing_class=processing_class,
            model_init=model_init,
            compute_metrics=compute_metrics,
            callbacks=callbacks,
            optimizers=optimizers,
            optimizer_cls_and_kwargs=optimizer_cls_and_kwargs,
            preprocess_logits_for_metrics=preprocess_logits_for_metrics,
        )
        prepare_sharding(self.accelerator)
        self.emotion_loss_func = emotion_loss_func
        self._loss_log = LossLog()
        self._divergence = DivergenceCallback(self.accelerator)
        self.add_callback(self._divergence)
        self._attend_to_model()

    def _attend_to_model(self) -> None:
        """Check the model, and make what belongs to it: D's optimizer, the counts of a batch, the moving average."""
        check_classes(self.model, self.data_collator, self.compute_metrics)
        has_discriminator = self.model.discriminator is not None
        self.adversary = Adversary(self.model, self.args, self.accelerator) if has_discriminator else None
        self._normalizer = UpdateNormalizer(self.model, self.accelerator)
        self._divergence.accelerator = self.accelerator
        with self._without_discriminator():
            trained = [name for name, p in self.model.named_parameters() if p.requires_grad]
        self.average_weights(trained, self.args.ema_decay)

    def call_model_init(self, *args) -> M4SERForEmotionClassification:
        """Return a new model of `model_init`."""
        model = cast(M4SERForEmotionClassification, super().call_model_init(*args))
        train_new_modules(model)
        if self.args.load_best_model_at_end:
            check_checkpoints_load(model)
        return model

    def _hp_search_setup(self, *args) -> None:
        before = self.args.discriminator_learning_rate
        follows = self.args.discriminator_follows and before == self.args.learning_rate
        super()._hp_search_setup(*args)  # a trial's arguments are set here, and its accelerator is new
        if follows and self.args.discriminator_learning_rate == before:
            self.args.discriminator_learning_rate = self.args.learning_rate
        if self.model_init is not None:
            self._attend_to_model()

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
        named = dict(losses)
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
            named |= {"generator": generator_loss, "discriminator": terms["discriminator"]}
        loss = self.model.combine_losses(**losses)
        if loss is None:
            raise TrainingError("No labels in the batch: the training data needs an `emotion` for every row.")
        self._divergence.add_losses(self.state.global_step + 1, {**named, "loss": loss})
        self.accelerator.backward(loss)
        if self.accelerator.sync_gradients:
            self._loss_log.end_update()
        return loss.detach()

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """Return the micro-batches of one update, counted before the first of them is run."""
        batches, items_in_batch = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._divergence.begin_update([batch.pop(ROW_IDS, None) for batch in batches])
        if batches:
            self._normalizer.begin_update(batches, device)
        return batches, items_in_batch

    def _get_grad_norm(self, *args, **kwargs):
        norm = super()._get_grad_norm(*args, **kwargs)
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        # A gradient scaler skips the updates that overflow, and goes on with a smaller scale.
        if isinstance(norm, torch.Tensor) and self.accelerator.scaler is None:
            self._divergence.add_gradient(self.state.global_step + 1, norm)
        return norm

    def log(self, logs: dict[str, float], *args, **kwargs) -> None:
        """Add each loss by name to a training log."""
        if "loss" in logs:
            logs = {**logs, **{f"loss_{name}": mean for name, mean in self._loss_log.means(self.accelerator).items()}}
        super().log(logs, *args, **kwargs)

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
        if training:
            measure_new_model(self.model, self.train_dataset, self.data_collator, self.args)
        if training and self.accelerator.is_fsdp2:
            run_all_layers(self.model)
        if training and self.adversary is not None and self.accelerator.distributed_type != DistributedType.NO:
            self.adversary.leave_data_parallel(self.model)
        return super()._wrap_model(model, training=training, **kwargs)

    def create_model_card(self, *args, **kwargs) -> None:
        """Write transformers' card, without what it fills in for what it does not know."""
        super().create_model_card(*args, **kwargs)
        if self.is_world_process_zero():
            path = Path(str(self.args.output_dir)) / "README.md"
            card = path.read_text(encoding="utf-8")
            for written, meant in {
                "a fine-tuned version of [](https://huggingface.co/) on": "an M4SER, trained on",
                "the None dataset": "an unknown dataset",
                f"{self.args.optim}": OptimizerNames(self.args.optim).value,
            }.items():
                card = card.replace(written, meant)
            path.write_text(card, encoding="utf-8")

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


def _scaled(loss: torch.Tensor | None, weight: torch.Tensor | float) -> torch.Tensor | None:
    return None if loss is None else loss * weight
