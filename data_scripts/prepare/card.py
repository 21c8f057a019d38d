"""The dataset card: the README.md of a prepared folder, which also tells `datasets` where each split lies."""

import json

from data_scripts.corpora.report import PreparationReport

CARD_MARK = "<!-- written by data_scripts.prepare -->"

# Name, licence (an identifier of the Hub), and what the corpus's makers ask of its users.
_ABOUT = {
    "iemocap": (
        "IEMOCAP",
        "other",
        "Busso et al. 2008, *IEMOCAP: interactive emotional dyadic motion capture database*. Its licence, which comes "
        "from the University of Southern California, does not allow passing the recordings on: keep this copy private.",
    ),
    "meld": (
        "MELD",
        "gpl-3.0",
        "Poria et al. 2019, *MELD: a multimodal multi-party dataset for emotion recognition in conversations*. Text "
        "and labels are GPL-3.0; the clips come from a television series, so keep this copy private.",
    ),
    "ravdess": (
        "RAVDESS speech",
        "cc-by-nc-sa-4.0",
        "Livingstone & Russo 2018, PLoS ONE 13(5): e0196391. CC BY-NC-SA 4.0.",
    ),
}

_COLUMNS = """\
| column | |
|---|---|
| `id` | unique within its split |
| `audio` | `{"path", "bytes"}`, 16 kHz mono WAV or FLAC |
| `duration` | seconds |
| `speaker`, `session` | who, and in which recording session; may be null |
| `emotion` | class label |
| `transcript` | written by people; may be null |
| `hypothesis`, `asr_model` | of a speech recogniser, and which one; null until `data_scripts.transcribe` has run |
"""

_LOADING = """\
```python
from datasets import load_dataset
dataset = load_dataset("this folder or repository")

from modeling_m4ser.audio_m4ser import load_audio  # needs neither torchcodec nor FFmpeg
split = next(iter(dataset.values()))
waveform = load_audio(split[0]["audio"])  # float32, mono, 16 kHz
```
"""


def dataset_card(report: PreparationReport, embedded: bool) -> str:
    """Return the card of a prepared corpus.

    Args:
        report: of its preparation.
        embedded: whether the Parquet files hold the audio.
    """
    name, licence, about = _ABOUT.get(report.corpus, ("Speech emotion corpus", None, "Made from a manifest."))
    kept = (
        "The audio is inside the Parquet files."
        if embedded
        else "The Parquet files refer to the audio by absolute paths on the machine that prepared it; after moving "
        "anything, prepare again, or once with `--embed_audio`."
    )
    parts = [
        _header(report, name, licence),
        CARD_MARK,
        f"# {name}, prepared for speech emotion recognition\n",
        f"{about}\n",
        f"Prepared with `python -m data_scripts.prepare {report.corpus}` of M4SER. {kept}\n",
        "## What is in it\n",
        f"```\n{report.table()}\n```\n",
        "`report.json` lists every item that was dropped, repaired or noted, with its reason.\n",
        "## Columns\n",
        _COLUMNS,
        "## Loading\n",
        _LOADING,
    ]
    return "\n".join(parts)


def _header(report: PreparationReport, name: str, licence: str | None) -> str:
    """The YAML head. Without its data_files, `datasets` would take the FLACs in audio/ for the dataset."""
    lines = ["---", f"pretty_name: {json.dumps(name)}", *([f"license: {licence}"] if licence else [])]
    lines += ["task_categories:", "- audio-classification", "tags:", "- speech-emotion-recognition", "- m4ser"]
    lines += ["configs:", "- config_name: default", "  data_files:"]
    for split in report.splits:
        lines += [f"  - split: {split}", f"    path: {split}.parquet"]
    return "\n".join([*lines, "---", ""])
