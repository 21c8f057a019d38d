"""What [`M4SERTrainer`] is given must go together: the launch, and the classes of the model, its data and metrics."""

import os
from typing import Any

from transformers.utils.generic import strtobool

from modeling_m4ser import M4SERForEmotionClassification
from trainer.arguments import M4SERTrainingArguments
from trainer.collator import M4SERDataCollator
from trainer.errors import TrainingError


def check_launch(args: M4SERTrainingArguments) -> None:
    """Raise `TrainingError` where the processes of a launch share the work in a way that two optimizers cannot."""
    used = {
        "DeepSpeed": args.deepspeed or strtobool(os.environ.get("ACCELERATE_USE_DEEPSPEED", "false")),
        "nn.DataParallel (several GPUs in one process)": args.n_gpu > 1,
    }
    for name, is_used in used.items():
        if is_used:
            raise TrainingError(
                f"M4SERTrainer does not run under {name}: its discriminator has an optimizer of its own. Launch "
                "one process per GPU instead: `accelerate launch --multi_gpu your_script.py`, or `--use_fsdp` to shard."
            )


def check_classes(model: M4SERForEmotionClassification, data_collator: Any, compute_metrics: Any) -> None:
    """Raise `TrainingError` where a collator or metrics name the model's classes otherwise: labels are its numbers."""
    own = list((model.config.id2label or {}).values())
    if isinstance(data_collator, M4SERDataCollator):
        theirs = list((data_collator.config.id2label or {}).values())
        if theirs != own:
            raise TrainingError(
                f"data_collator was made for the classes {', '.join(theirs)}, the model has {', '.join(own)}: make it "
                "with the model's own configuration, M4SERDataCollator(processor, model.config)."
            )
    names = getattr(compute_metrics, "label_names", [])
    if list(names) != own and sorted(names) == sorted(own):
        raise TrainingError(
            f"compute_metrics names the classes {', '.join(names)}, in another order than the model: "
            f"{', '.join(own)}. Use compute_emotion_metrics(list(model.config.id2label.values()))."
        )
