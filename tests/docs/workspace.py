"""The folder in which the documentation's commands run: what they name is there, but tiny."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from transformers import AutoModel, Wav2Vec2FeatureExtractor

from data_scripts.corpora.ravdess import EMOTIONS as RAVDESS_EMOTIONS
from tests.data_scripts.transcribe.helpers import make_tiny_whisper
from tests.helpers import ROOT
from tests.helpers.experiments import encoder_folders
from tests.helpers.layouts import make_iemocap, make_meld, noise, write_wav
from tests.helpers.tiny import speech_config, tiny_pretrained

#: Every name on the Hub that the pages use -> the kind of tiny model that stands for it.
HUB_NAMES = {
    "facebook/hubert-base-ls960": "hubert",
    "facebook/wav2vec2-xls-r-300m": "hubert",
    "google-bert/bert-base-uncased": "text",
    "sentence-transformers/all-MiniLM-L6-v2": "text",
    "FacebookAI/xlm-roberta-base": "text",
    "openai/whisper-tiny.en": "recogniser",
    "openai/whisper-small.en": "recogniser",
    "openai/whisper-medium.en": "recogniser",
    "openai/whisper-small": "recogniser",
}


@dataclass(frozen=True)
class Encoders:
    """Folders with tiny models: two speech encoders, a text encoder, and a recogniser."""

    hubert: Path
    whisper: Path
    text: Path
    recogniser: Path

    @classmethod
    def make(cls, folder: Path) -> "Encoders":
        """Write them."""
        hubert = folder / "hubert"
        AutoModel.from_config(speech_config("hubert")).save_pretrained(hubert)
        Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True).save_pretrained(hubert)
        whisper, text = encoder_folders(folder)
        return cls(hubert, whisper, text, make_tiny_whisper(folder / "recogniser", seconds=3, positions=8))

    def substitute(self, text: str) -> str:
        """The folders in place of names on the Hub."""
        for name, kind in HUB_NAMES.items():
            text = text.replace(name, str(getattr(self, kind)))
        return text


def write_csv(path: Path, *rows: tuple[str, ...]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def make_materials(folder: Path) -> Path:
    """What the pages read: recordings, corpora in their own layouts, a trained model, the example scripts."""
    for name in ("a.wav", "b.wav"):
        write_wav(folder / name, 0.3)
    (folder / "runs" / "demo").mkdir(parents=True)
    tiny_pretrained(folder / "runs" / "demo" / "model", "whisper")
    make_iemocap(folder / "IEMOCAP_full_release")
    make_meld(folder / "MELD.Raw")
    for actor in range(1, 13):  # RAVDESS: twelve actors, each with one clip of each emotion
        for emotion in range(1, len(RAVDESS_EMOTIONS) + 1):
            clip = f"Actor_{actor:02d}/03-01-{emotion:02d}-01-01-01-{actor:02d}.wav"
            write_wav(folder / "RAVDESS" / clip, seed=emotion)
    make_own_corpus(folder / "my_corpus")
    heard = [("Ses01F_impro01_F000", "words of it"), ("excited/anna_excited.wav", "i am")]
    write_csv(folder / "hypotheses.csv", ("id", "hypothesis"), *heard)
    make_pairs(folder / "pairs.csv")
    (folder / "examples").symlink_to(ROOT / "examples")
    return folder


def make_own_corpus(folder: Path) -> None:
    """A manifest as the README shows it, without hypotheses, over a folder for each class; `--label_map` maps them."""
    rows = []
    for number, speaker in enumerate(("anna", "ben", "cleo", "dan", "eve", "fred")):
        for emotion in ("excited", "fru"):
            clip = write_wav(folder / emotion / f"{speaker}_{emotion}.wav", seed=number)
            rows.append((clip.relative_to(folder).as_posix(), emotion, speaker, f"i am {emotion}"))
    write_csv(folder / "manifest.csv", ("audio", "emotion", "speaker", "transcript"), *rows)


def make_pairs(path: Path) -> None:
    """Pairs of three sources; every second hypothesis has an error."""
    rows = []
    for number in range(60):
        text = f"we go home {'now ' * (number % 7)}{'so ' * (number % 11)}i am"
        heard = text if number % 2 else text.replace("home", "now")
        rows.append((heard, text, ("books", "calls", "podcasts")[number % 3]))
    write_csv(path, ("hypothesis", "reference", "source"), *rows)


def make_clips_of(manifest: Path) -> None:
    """Recordings of a second for every row of a manifest."""
    with open(manifest, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            path = manifest.parent / row["audio"]
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, np.asarray(noise(1.0)), 16000)


def link(materials: Path, folder: Path) -> Path:
    """A fresh working folder with the materials in it; what is written there stays there."""
    for item in materials.iterdir():
        if item.name != "runs":
            (folder / item.name).symlink_to(item)
    (folder / "runs" / "demo").mkdir(parents=True)
    (folder / "runs" / "demo" / "model").symlink_to(materials / "runs" / "demo" / "model")
    return folder
