"""The dataset card: the README.md of a prepared folder, which also tells `datasets` where each split lies."""

import json

from data_scripts.corpora.base import CorpusRecord
from data_scripts.corpora.report import PreparationReport
from data_scripts.schema import TABLES_LINE

CARD_MARK = "<!-- written by data_scripts.prepare -->"

_COLUMNS_SECTION = """\
| column | |
|---|---|
| `id` | unique within its split |
| `audio` | `{"path", "bytes"}`, 16 kHz mono WAV or FLAC |
| `duration` | seconds |
| `speaker`, `session` | who, and in which recording session; may be null |
| `emotion` | class label |
| `transcript` | written by people; may be null |
| `hypothesis`, `asr_model` | of a speech recogniser, and which one; null until `data_scripts.transcribe` has run |
| `content` | the same in rows whose recordings are copies of one another |
"""

_LOADING_SECTION = """\
```python
from datasets import load_dataset
dataset = load_dataset("this folder or repository")

from modeling_m4ser.audio_m4ser import load_audio  # needs neither torchcodec nor FFmpeg
split = next(iter(dataset.values()))
waveform = load_audio(split[0]["audio"])  # float32, mono, 16 kHz
```
"""


def dataset_card(record: CorpusRecord, report: PreparationReport, embedded: bool, tables: str) -> str:
    """Return the card of a prepared corpus; `tables` is what `data_scripts.schema.tables_digest` says of its files."""
    kept = (
        "The audio is inside the Parquet files."
        if embedded
        else "The Parquet files refer to the audio by absolute paths on the machine that prepared it; after moving "
        "anything, prepare again, or once with `--embed_audio`."
    )
    # Without its data_files, `datasets` would take the FLACs in audio/ for the dataset.
    header = ["---", f"pretty_name: {json.dumps(record.title)}"]
    header += [f"license: {record.license}"] if record.license else []
    header += ["task_categories:", "- audio-classification", "tags:", "- speech-emotion-recognition", "- m4ser"]
    header += ["configs:", "- config_name: default", "  data_files:"]
    for split in report.splits:
        header += [f"  - split: {split}", f"    path: {split}.parquet"]
    parts = [
        *header,
        f"{TABLES_LINE}{tables}",
        "---\n",
        CARD_MARK,
        f"# {record.title}, prepared for speech emotion recognition\n",
        f"{record.about}\n",
        f"Prepared with `python -m data_scripts.prepare {report.corpus}` of M4SER. {kept}\n",
        "## What is in it\n",
        f"```\n{report.table()}\n```\n",
        "`report.json` lists every item that was dropped, repaired or noted, with its reason.\n",
        "## Columns\n",
        _COLUMNS_SECTION,
        "## Loading\n",
        _LOADING_SECTION,
    ]
    return "\n".join(parts)
