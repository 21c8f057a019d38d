"""Training M4SER: the two-phase Trainer, its arguments, the data collator, metrics and whole experiments."""

from .arguments import M4SERTrainingArguments
from .collator import M4SERDataCollator
from .m4ser_trainer import M4SERTrainer
from .metrics import EmotionMetrics, compute_emotion_metrics, emotion_metrics

__all__ = [
    "EmotionMetrics",
    "M4SERDataCollator",
    "M4SERTrainer",
    "M4SERTrainingArguments",
    "compute_emotion_metrics",
    "emotion_metrics",
]
