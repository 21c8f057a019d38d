"""Training arguments: Table I as defaults, the discriminator's own few, and what experiments add."""

from dataclasses import dataclass, field

from transformers import TrainingArguments


@dataclass
class M4SERTrainingArguments(TrainingArguments):
    """[`transformers.TrainingArguments`] with the paper's settings (Table I, IEMOCAP) and what M4SER needs.

    Defaults that differ: `learning_rate` 1e-5 and constant, `num_train_epochs` 100, `per_device_train_batch_size` 16,
    batches grouped by length (`train_sampling_strategy`, on the corpus column `duration`), `label_names` (the auxiliary
    labels are optional), `remove_unused_columns=False` (the collator reads the corpus columns), `report_to` "none",
    `logging_nan_inf_filter=False` (a loss that is not finite stops training). The library's `optim`, AdamW in one fused
    kernel, is Adam with its `weight_decay` of 0.

    Args:
        encoder_learning_rate: of the two pretrained encoders; `learning_rate` by default, as in the paper. On little
            data, new layers need a higher rate than pretrained ones.
        classifier_learning_rate: of the emotion classifier; `learning_rate` by default, as in the paper. This linear
            layer needs large weights, which Adam takes thousands of steps to reach: short runs want about 1e-2.
        discriminator_learning_rate: of the discriminator's own Adam; `learning_rate` by default. It follows the
            schedule of the others: a discriminator of constant rate would run away from a generator that stands still.
        discriminator_max_grad_norm: the discriminator's gradient is clipped to this norm. Since it has its own Adam, γ
            does not restrain it, and Eq. 20 has no upper bound in its logits.
        ema_decay: evaluate, choose and keep an exponential moving average of the weights, of about
            1 / (1 − ema_decay) updates, e.g. 0.98 or 0.999. With small batches, the average gives steadier and better
            validation scores than the weights of a single update. Not in the paper.

    Raises:
        ValueError: `fp16` or `torch_compile` on a CPU, `discriminator_max_grad_norm` is not positive, `ema_decay` is
            outside [0, 1), or `label_smoothing_factor` is set, which M4SER's losses do not have.
    """

    learning_rate: float = field(default=1e-5, metadata={"help": "Learning rate, Table I."})
    num_train_epochs: float = field(default=100.0, metadata={"help": "Passes over the training data, Table I."})
    per_device_train_batch_size: int = field(default=16, metadata={"help": "Batch size of one process, Table I."})
    per_device_eval_batch_size: int = field(default=16, metadata={"help": "Batch size of one process in evaluation."})
    lr_scheduler_type: str = field(default="constant", metadata={"help": "Learning rate schedule, Section IV-B."})
    train_sampling_strategy: str = field(
        default="group_by_length", metadata={"help": "Batches of utterances of similar length, seeded by epoch."}
    )
    length_column_name: str = field(default="duration", metadata={"help": "Column to group by, in seconds."})
    label_names: list[str] | None = field(
        default_factory=lambda: ["labels"], metadata={"help": "Labels an evaluation cannot do without."}
    )
    remove_unused_columns: bool | None = field(default=False, metadata={"help": "The collator reads raw columns."})
    logging_steps: float = field(default=10, metadata={"help": "Log every so many steps."})
    logging_nan_inf_filter: bool = field(
        default=False, metadata={"help": "Leave losses that are not finite out of the log; they stop training anyway."}
    )
    # In the library's own order, which HfArgumentParser relies on.
    report_to: None | str | list[str] = field(  # noqa: RUF036
        default="none", metadata={"help": "Where to report, e.g. tensorboard."}
    )
    encoder_learning_rate: float | None = field(
        default=None, metadata={"help": "Learning rate of the pretrained encoders; learning_rate by default."}
    )
    classifier_learning_rate: float | None = field(
        default=None, metadata={"help": "Learning rate of the emotion classifier; learning_rate by default."}
    )
    discriminator_learning_rate: float | None = field(
        default=None, metadata={"help": "Learning rate of the discriminator; learning_rate by default."}
    )
    discriminator_max_grad_norm: float = field(
        default=1.0, metadata={"help": "Norm to which the discriminator's gradient is clipped."}
    )
    ema_decay: float | None = field(
        default=None, metadata={"help": "Keep a moving average of the weights with this decay, e.g. 0.98."}
    )

    def __post_init__(self):
        super().__post_init__()
        if self.device.type == "cpu":
            self.dataloader_pin_memory = False  # pinning serves copies to an accelerator
        if self.fp16 and self.device.type == "cpu":
            raise ValueError("fp16 needs a GPU: leave it out, or use bf16 with use_cpu.")
        # Known to who tries other learning rates.
        self.discriminator_follows = self.discriminator_learning_rate is None
        if self.discriminator_learning_rate is None:
            self.discriminator_learning_rate = self.learning_rate
        if self.discriminator_max_grad_norm <= 0:
            raise ValueError(f"discriminator_max_grad_norm must be positive, not {self.discriminator_max_grad_norm}.")
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1), e.g. 0.98, not {self.ema_decay}.")
        if self.torch_compile and self.torch_compile_backend == "inductor" and self.device.type == "cpu":
            raise ValueError(
                "torch_compile fails on a CPU, where inductor does not take batches of changing lengths: leave it out, "
                "train on a GPU, or set torch_compile_backend to 'eager'."
            )
        if self.label_smoothing_factor:
            raise ValueError("M4SER trains on plain cross-entropy (Eq. 19): leave label_smoothing_factor at 0.")

    def __getstate__(self):
        """Return what is pickled beside every checkpoint, as `training_args.bin`: the Hub's token stays out."""
        return {**self.__dict__, "hub_token": None}


@dataclass
class ExperimentArguments(M4SERTrainingArguments):
    """[`M4SERTrainingArguments`] of a whole experiment, which validates after each epoch and tests the best one.

    Defaults that differ: `eval_strategy` and `save_strategy` "epoch", `load_best_model_at_end`,
    `metric_for_best_model` "ua", `save_total_limit` 1 (the best and the last checkpoint stay), `hub_strategy` "end" (a
    model is pushed once, with its card and results).

    Args:
        balance_classes: weigh each utterance in L_ER by the inverse of its class's share of the training data
            ([`trainer.losses.BalancedCrossEntropy`]), so that rare classes (MELD's fear and disgust) count as much as
            frequent ones. For UA and macro F1; not in the paper.
        speed_perturbation: train on each utterance at each of these speeds, e.g. 0.9, 1.0 and 1.1; an epoch is then
            three times as long. It keeps the model from learning a corpus's few speakers by heart; not in the paper.
        cache_features: compute what a frozen speech encoder gives once for each recording, keep it on disk, and train
            on that. The results are the same.
        feature_cache_dir: where; by default `.features` in the prepared corpus, so that all runs on it share them.
        figure_format: what figures are written as: `png`, `pdf`, `svg`, or several of them.
        decision_coverage: the share of validation utterances that are sure enough for a label; the model calls what is
            less sure "uncertain".
        set_coverage: the share of validation utterances whose set of labels holds the true one.
        hub_all_heads: whether `push_to_hub` publishes error detection, error correction and the discriminator, too,
            which recognizing emotions does not use.

    Raises:
        ValueError: a speed is not positive, a coverage is no share, or `push_to_hub` has no `hub_model_id`.
    """

    eval_strategy: str = field(default="epoch", metadata={"help": "When to validate."})
    save_strategy: str = field(default="epoch", metadata={"help": "When to keep a checkpoint."})
    save_total_limit: int | None = field(default=1, metadata={"help": "Checkpoints kept besides the best one."})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "Test the epoch that was best in validation."})
    metric_for_best_model: str | None = field(default="ua", metadata={"help": "The validation metric that says so."})
    hub_strategy: str = field(default="end", metadata={"help": "When to push: end, with card and results."})
    figure_format: list[str] = field(
        default_factory=lambda: ["png"], metadata={"help": "Figures are written as png, pdf, svg, or several of them."}
    )
    balance_classes: bool = field(
        default=False, metadata={"help": "Weigh each class in L_ER by the inverse of its share of the training data."}
    )
    speed_perturbation: list[float] | None = field(
        default=None, metadata={"help": "Train on each utterance at each of these speeds, e.g. 0.9 1.0 1.1."}
    )
    cache_features: bool = field(
        default=False, metadata={"help": "Run a frozen speech encoder once for each recording and keep what it gives."}
    )
    feature_cache_dir: str | None = field(
        default=None, metadata={"help": "Folder for --cache_features, by default in the prepared corpus."}
    )
    decision_coverage: float = field(
        default=0.8, metadata={"help": "Share of validation utterances sure enough for a label; others are uncertain."}
    )
    set_coverage: float = field(
        default=0.9, metadata={"help": "Share of validation utterances whose set of labels holds the true one."}
    )
    hub_all_heads: bool = field(
        default=False, metadata={"help": "Push the heads, too, which recognizing emotions does not use."}
    )

    def __post_init__(self):
        super().__post_init__()
        if self.push_to_hub and self.hub_model_id is None:
            raise ValueError("push_to_hub needs the name of the repository: --hub_model_id you/your-model.")
        if self.speed_perturbation is not None and not (self.speed_perturbation and min(self.speed_perturbation) > 0):
            raise ValueError(
                f"speed_perturbation must be positive numbers such as 0.9 1.0 1.1, not {self.speed_perturbation}."
            )
        if not (0 < self.decision_coverage <= 1 and 0 < self.set_coverage < 1):
            raise ValueError(
                f"decision_coverage={self.decision_coverage} and set_coverage={self.set_coverage} are shares of the "
                "validation utterances: above 0 and at most 1, the latter below 1, e.g. 0.8 and 0.9."
            )
