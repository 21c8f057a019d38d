"""The folder in which the documentation's commands run: what they name is there, but tiny."""

import csv
from pathlib import Path

from transformers import AutoModel, Wav2Vec2FeatureExtractor

from data_scripts.corpora.ravdess import EMOTIONS as RAVDESS_EMOTIONS
from tests.data_scripts.transcribe.helpers import make_tiny_whisper
from tests.helpers import ROOT
from tests.helpers.experiments import encoder_folders
from tests.helpers.layouts import make_iemocap, make_meld, write_wav
from tests.helpers.tiny import speech_config, tiny_pretrained

#: Tiny models by their kind -> the names on the Hub, in pages and presets, that they stand for.
HUB_NAMES = {
    "hubert": ("facebook/hubert-base-ls960", "facebook/hubert-large-ll60k", "facebook/wav2vec2-xls-r-300m"),
    "text": ("google-bert/bert-base-uncased", "sentence-transformers/all-MiniLM-L6-v2", "FacebookAI/xlm-roberta-base"),
    "recogniser": (*(f"openai/whisper-{size}.en" for size in ("tiny", "small", "medium")), "openai/whisper-small"),
}


def make_hub(folder: Path) -> None:
    """Folders with the names of models on the Hub: from here, transformers takes them for what is meant."""
    models = folder / "models"
    AutoModel.from_config(speech_config("hubert")).save_pretrained(models / "hubert")
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True).save_pretrained(models / "hubert")
    encoder_folders(models)
    make_tiny_whisper(models / "recogniser", seconds=3, positions=8)
    for kind, names in HUB_NAMES.items():
        for name in names:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).symlink_to(models / kind)


def write_csv(path: Path, *rows: tuple[str, ...]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def make_materials(folder: Path) -> Path:
    """What the pages read: recordings, corpora in their own layouts, models, the example scripts."""
    make_hub(folder)
    for name in ("a.wav", "b.wav"):
        write_wav(folder / name, 0.3)
    write_wav(folder / "call.wav", 6)
    turns = "1\n00:00:01,000 --> 00:00:02,500\n[Ann]: I can't believe it\n"
    (folder / "call.srt").write_text(turns, encoding="utf-8")
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
