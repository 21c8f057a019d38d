"""A tiny corpus in the canonical schema, in memory: noise of different lengths, transcripts and faulty hypotheses."""

import io

import numpy as np
import soundfile
import torch
from datasets import Dataset

from data_scripts.schema import build_dataset
from modeling_m4ser import M4SERForEmotionClassification, M4SERProcessor
from tests.helpers.tiny import EMOTIONS, text_config, tiny_model, tiny_processor
from trainer import M4SERDataCollator, M4SERTrainer, M4SERTrainingArguments

PAIRS = (
    ("i am so happy", "i am happy"),
    ("can you believe it", "can believe it not"),
    ("we go home now", "we go home now"),
    ("not the sad home", "the the sad"),
    ("you believe", "we can believe you now"),
    ("i am not sad", "i am not"),
)

#: Nothing random in a forward pass.
NO_DROPOUT = {"fusion_dropout": 0.0, "classifier_dropout": 0.0}


def tiny_corpus(size: int = 16, seed: int = 0, with_transcripts: bool = True) -> Dataset:
    """`size` rows; every clip has its own length (0.2 to 0.5 s) and its emotion is `index % 4`."""
    rng = np.random.default_rng(seed)
    rows = []
    for index in range(size):
        samples = rng.normal(scale=0.1, size=int(rng.integers(3200, 8000))).astype(np.float32)
        file = io.BytesIO()
        soundfile.write(file, samples, 16000, format="FLAC")
        transcript, hypothesis = PAIRS[index % len(PAIRS)]
        rows.append(
            {
                "id": f"clip{index:02d}",
                "audio": {"path": f"clip{index:02d}.flac", "bytes": file.getvalue()},
                "duration": len(samples) / 16000,
                "speaker": f"speaker{index % 3}",
                "session": None,
                "emotion": EMOTIONS[index % len(EMOTIONS)],
                "transcript": transcript if with_transcripts else None,
                "hypothesis": hypothesis,
                "asr_model": "none",
            }
        )
    return build_dataset(rows, EMOTIONS)


class DoubleCollator(M4SERDataCollator):
    """Float64 inputs, so that what ought to be equal is not hidden by rounding."""

    def __call__(self, rows):
        batch = super().__call__(rows)
        return {name: value.double() if value.is_floating_point() else value for name, value in batch.items()}


def deterministic_model(**overrides) -> M4SERForEmotionClassification:
    """A float64 model without dropout; its Whisper encoder has no SpecAugment."""
    text = text_config(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return tiny_model("whisper", text_config=text, **{**NO_DROPOUT, **overrides}).double()


def tiny_trainer(
    folder,
    model,
    data=None,
    processor: M4SERProcessor | None = None,
    eval_data=None,
    emotion_loss_func=None,
    **arguments,
) -> M4SERTrainer:
    """A trainer of `model` on the CPU; float64 models get float64 inputs."""
    folder.mkdir(parents=True, exist_ok=True)
    kind = model.config.speech_config.model_type if model.config.uses_speech else "whisper"
    processor = processor or tiny_processor(folder, kind)
    collator = DoubleCollator if model.dtype == torch.float64 else M4SERDataCollator
    defaults = {
        "output_dir": str(folder / "run"),
        "use_cpu": True,
        "per_device_train_batch_size": 8,
        "learning_rate": 1e-3,
        "save_strategy": "no",
        "disable_tqdm": True,
        "num_train_epochs": 1,
        "dataloader_pin_memory": False,
    }
    return M4SERTrainer(
        model=model,
        args=M4SERTrainingArguments(**{**defaults, **arguments}),
        train_dataset=tiny_corpus() if data is None else data,
        eval_dataset=eval_data,
        data_collator=collator(processor, model.config),
        processing_class=processor,
        emotion_loss_func=emotion_loss_func,
    )
