"""Small corpora in the layouts of IEMOCAP, MELD and RAVDESS, made by hand: a few noises in the real folders."""

import csv
import itertools
import zipfile
from pathlib import Path

import av
import numpy as np
import soundfile

APPLE_DOUBLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        \xff\xfe\x80"


def noise(seconds: float, rate: int = 16000, seed: int = 0) -> np.ndarray:
    """A noise that sounds at no other rate, length or seed."""
    return np.random.default_rng(seed).uniform(-0.3, 0.3, int(seconds * rate)).astype(np.float32)


def write_bytes(path: Path, data: bytes) -> Path:
    """Write a file, its folders being made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def write_wav(path: Path, seconds: float = 0.2, rate: int = 16000, seed: int = 0) -> Path:
    """Write a short mono recording."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise(seconds, rate, seed), rate)
    return path


def write_mp4(path: Path, seconds: float = 0.4, rate: int = 44100, audio: bool = True, seed: int = 0) -> Path:
    """Write a clip as PyAV makes it: a little video, and stereo AAC unless told otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        picture = container.add_stream("mpeg4", rate=10)
        picture.width = picture.height = 32
        picture.pix_fmt = "yuv420p"
        sound = container.add_stream("aac", rate=rate, layout="stereo") if audio else None
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            container.mux(picture.encode(frame))
        container.mux(picture.encode(None))
        if sound is not None:
            samples = np.stack([noise(seconds, rate, seed)] * 2)
            for start in range(0, samples.shape[1], 1024):
                block = np.ascontiguousarray(samples[:, start : start + 1024])
                frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="stereo")
                frame.sample_rate, frame.pts = rate, start
                container.mux(sound.encode(frame))
            container.mux(sound.encode(None))
    return path


def drop_reasons(report) -> dict[str, str]:
    """The dropped items of a preparation report, and why."""
    return {note["id"]: note["reason"] for note in report.dropped}


def make_ravdess(root: Path) -> Path:
    """RAVDESS speech of two actors with every emotion and statement once; emotion n lasts n tenths of a second."""
    for actor in ("01", "02"):
        for emotion in range(1, 9):
            for statement in ("01", "02"):
                name = f"03-01-{emotion:02d}-01-{statement}-01-{actor}.wav"
                write_wav(root / f"Actor_{actor}" / name, seconds=0.1 * emotion)
    return root


def zip_ravdess(folder: Path, archive: Path) -> Path:
    """A folder of RAVDESS as the zip that is released; it may not lie in that folder."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.rglob("*")):  # with an entry for each folder
            file.write(path, path.relative_to(folder))
    return archive


def make_iemocap(
    root: Path, sessions=("1", "2", "3", "4", "5"), codes=("neu", "hap", "exc", "ang", "sad"), dialogs=("F_impro01",)
) -> Path:
    """IEMOCAP_full_release: these dialogs in each session, with one utterance of each code by each speaker."""
    for session, ending in itertools.product(sessions, dialogs):
        folder, dialog = root / f"Session{session}", f"Ses{int(session):02d}{ending}"
        labels, texts = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""], []
        for number, code in enumerate(codes):
            for speaker in "FM":
                name = f"{dialog}_{speaker}{number:03d}"
                seed = int(session) * 100 + number
                write_wav(folder / "sentences" / "wav" / dialog / f"{name}.wav", 0.2 + 0.01 * number, seed=seed)
                labels += [f"[6.2901 - 8.2357]\t{name}\t{code}\t[2.5000, 2.5000, 2.5000]", "C-E2:\tNeutral;\t()", ""]
                texts.insert(0, f"{name} [006.2901-008.2357]: Words of {name}.")  # another order than the labels'
        write_bytes(folder / "dialog" / "EmoEvaluation" / f"{dialog}.txt", "\n".join(labels).encode())
        write_bytes(folder / "dialog" / "transcriptions" / f"{dialog}.txt", "\n".join(texts).encode())
    return root


MELD_HEADER = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\r\n"
MELD_FOLDERS = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}


def meld_row(dialogue: int, utterance: int, emotion: str, text: str = "Hey, Mon.", speaker: str = "Ross") -> tuple:
    """One row of MELD's CSVs."""
    return (1, text, speaker, emotion, "neutral", dialogue, utterance, 3, 6, "00:05:50,350", "00:05:51,433")


def write_meld_csv(path: Path, rows, encoding: str = "utf-8") -> Path:
    """MELD's CSV: 11 columns, CRLF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding=encoding, newline="") as file:
        file.write(MELD_HEADER)
        csv.writer(file).writerows(rows)  # ends its lines with CRLF
    return path


def make_meld(root: Path) -> Path:
    """MELD.Raw with dia0_utt0 and dia0_utt1 in every split, different in each."""
    for number, (split, folder) in enumerate(MELD_FOLDERS.items()):
        rows = [meld_row(0, 0, "neutral", f"First of {split}."), meld_row(0, 1, "joy", "You’re a genius!", "Joey")]
        write_meld_csv(root / f"{split}_sent_emo.csv", rows)
        for utterance in (0, 1):
            write_mp4(root / folder / f"dia0_utt{utterance}.mp4", 0.4 + 0.2 * number, seed=number)
    return root
