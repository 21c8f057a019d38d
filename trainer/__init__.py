"""Training M4SER: the two-phase Trainer, its arguments, the data collator, metrics and whole experiments."""

from trainer.arguments import M4SERTrainingArguments
from trainer.collator import M4SERDataCollator
from trainer.evaluation.metrics import EmotionMetrics, compute_emotion_metrics, emotion_metrics
from trainer.m4ser_trainer import M4SERTrainer

__all__ = [
    "EmotionMetrics",
    "M4SERDataCollator",
    "M4SERTrainer",
    "M4SERTrainingArguments",
    "compute_emotion_metrics",
    "emotion_metrics",
]
