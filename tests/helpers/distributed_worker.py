"""Ten training steps of a tiny model, as one of several processes or alone; each process saves what it has then.

python tests/helpers/distributed_worker.py OUTPUT_FOLDER BATCH_SIZE_PER_PROCESS [EMA_DECAY]
"""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.helpers.corpus import deterministic_model, tiny_corpus, tiny_trainer


def main(folder: Path, batch_size: int, ema_decay: float | None = None) -> None:
    """
    Train, validate, predict and save; rank 1 starts with another discriminator, as an unlucky launch would.

    With the average of the weights comes what else needs the processes to agree: the statistics of the encoders.
    """
    torch.set_num_threads(1)
    model = deterministic_model(standardize_features=ema_decay is not None)
    trainer = tiny_trainer(
        folder / f"process{torch.distributed.get_rank() if torch.distributed.is_initialized() else 0}",
        model,
        tiny_corpus(16),
        eval_data=tiny_corpus(4),
        eval_strategy="steps",
        eval_steps=4,
        ema_decay=ema_decay,
        per_device_train_batch_size=batch_size,
        per_device_eval_batch_size=2,
        max_steps=10,
        logging_steps=5,
    )
    if trainer.args.process_index == 1:
        torch.nn.init.normal_(model.discriminator.hidden.weight)
    trainer.train()
    predicted = trainer.predict(tiny_corpus(11, seed=1))
    state = {
        "parameters": model.state_dict(),
        "log": trainer.state.log_history,
        "world": trainer.args.world_size,
        "logits": torch.from_numpy(predicted.predictions),
        "labels": torch.from_numpy(predicted.label_ids),
    }
    torch.save(state, folder / f"rank{trainer.args.process_index}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), *map(float, sys.argv[3:]))
