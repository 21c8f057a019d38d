"""Training M4SER: the two-phase Trainer, its arguments, the data collator, metrics and whole experiments."""

from typing import TYPE_CHECKING

from data_scripts.lazy import lazy_exports

if TYPE_CHECKING:
    from trainer.arguments import ExperimentArguments as ExperimentArguments
    from trainer.arguments import M4SERTrainingArguments as M4SERTrainingArguments
    from trainer.collator import M4SERDataCollator as M4SERDataCollator
    from trainer.evaluation.metrics import EmotionMetrics as EmotionMetrics
    from trainer.evaluation.metrics import compute_emotion_metrics as compute_emotion_metrics
    from trainer.evaluation.metrics import emotion_metrics as emotion_metrics
    from trainer.losses import BalancedCrossEntropy as BalancedCrossEntropy
    from trainer.m4ser_trainer import M4SERTrainer as M4SERTrainer

__all__, __getattr__, __dir__ = lazy_exports(__name__, __file__)
