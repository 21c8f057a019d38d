"""What a user of a trained model writes: nothing here imports this project.

python examples/demo/use.py MODEL_FOLDER TEST_PARQUET
"""

import sys

import pandas
from transformers import AutoModel, pipeline
from transformers.utils import logging

logging.disable_progress_bar()
folder, table = sys.argv[1:3]
rows = pandas.read_parquet(table).groupby("emotion").head(2).to_dict("records")

model = AutoModel.from_pretrained(folder, trust_remote_code=True)
size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
print(f"   AutoModel gave a {type(model).__name__} with {size:.1f} M parameters\n")

pipe = pipeline("speech-text-emotion-recognition", model=folder, trust_remote_code=True)
pairs = [{"audio": row["audio"], "text": row["hypothesis"]} for row in rows]
answers = pipe(pairs, batch_size=4, return_corrections=True)

labels = list(model.config.id2label.values())
print("   " + "".join(f"{name:>9}" for name in labels) + "   true      ASR transcript")
for row, answer in zip(rows, answers, strict=True):
    scores = {item["label"]: item["score"] for item in answer["emotions"]}
    cells = "".join(f"{100 * scores[name]:>8.0f}%" for name in labels)
    print(f"   {cells}   {labels[row['emotion']]:<9} {answer['text']}")

changed = [(row, answer) for row, answer in zip(rows, answers, strict=True) if answer["corrections"]]
print(f"\n   Error correction changes {len(changed)} of these {len(rows)} transcripts.")
for row, answer in changed:
    print(f"   ASR       {answer['text']}\n   corrected {answer['corrected_text']}\n   human     {row['transcript']}")
