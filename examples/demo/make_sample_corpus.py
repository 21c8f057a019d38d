"""Make `sample_corpus/`: short synthetic utterances in four emotions, with what a real Whisper heard in them.

The corpus is committed; this script is here so that anyone can see how it came about, and make it again:

    apt-get install espeak-ng flite    # the voices (Debian 12: espeak-ng 1.51, flite 2.2); nothing else needs them
    python examples/demo/make_sample_corpus.py --asr openai/whisper-tiny.en

The same seed and the same versions of both synthesisers give the same audio.
It is SYNTHETIC: a score on it says that the software works and nothing about human emotion.

Words and voice each carry part of the emotion, and neither all of it. Of the six clips that a voice speaks in an
emotion, four say a sentence that fits it, one a sentence of everyday life that is spoken in every emotion, and one
another of those or a sentence that fits another emotion. The voice follows the emotion in rate, pitch, pitch range,
loudness and brightness, each varied at random from clip to clip. Most clips have pink noise or babble behind them, so
that recognition makes real errors; a clip of which not one word was understood is recorded again with less noise.
"""

import argparse
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from xml.sax.saxutils import escape

import numpy as np
import pandas as pd
import soundfile
import yaml
from tqdm.auto import tqdm

from data_scripts.constants import SAMPLING_RATE
from data_scripts.errors import run_command
from data_scripts.parsers import CommandParser
from data_scripts.synthesis import require_programs, say

if TYPE_CHECKING:
    from data_scripts.transcribe.whisper import WhisperRecognizer

FOLDER = Path(__file__).resolve().parent / "sample_corpus"
SENTENCES = Path(__file__).resolve().parent / "sentences.yaml"  # one list for each emotion, and `everyday` for all
ASR_NAME = "openai/whisper-tiny.en"
COLUMNS = ["id", "audio", "emotion", "transcript", "hypothesis", "speaker", "split", "asr_model"]
PEAK = 0.25  # of the loudest possible clip: a modest level keeps the FLAC files small
NOISY_SHARE = 0.85  # of the clips
SNR_RANGE = (6.0, 17.0)  # dB
TAKES = 4  # at most: a clip in which nothing is understood is recorded again,
RAISED_PER_TAKE = 4.0  # dB clearer each time
BATCH_SIZE = 16
SEED = 20


class Voice(NamedTuple):
    """A synthetic speaker of one of the two programs."""

    name: str
    engine: str  # the program
    voice: str  # its name there
    split: str
    rate: float  # espeak-ng: words a minute; flite: stretch of all durations
    pitch: float  # espeak-ng: its 0-99 scale; flite: mean fundamental frequency in hertz


VOICES = [
    Voice("slt", "flite", "slt", "train", 1.0, 175),
    Voice("awb", "flite", "awb", "train", 0.88, 125),
    Voice("kal", "flite", "kal16", "train", 0.92, 105),
    Voice("us_m3", "espeak-ng", "en-us+m3", "train", 165, 42),
    Voice("gb_f2", "espeak-ng", "en-gb+f2", "train", 165, 52),
    Voice("us_m7", "espeak-ng", "en-us+m7", "validation", 160, 45),
    Voice("rms", "flite", "rms", "test", 0.88, 100),
    Voice("us_f4", "espeak-ng", "en-us+f4", "test", 165, 50),
]


class Prosody(NamedTuple):
    """What an emotion does to a voice."""

    rate: float  # speaking rate, times the voice's own
    pitch: float  # mean pitch, likewise
    pitch_range: float  # pitch movement, likewise
    gain: float  # dB
    tilt: float  # dB per octave above 500 Hz


PROSODY = {
    "neutral": Prosody(1.00, 1.00, 1.0, 0.0, 0.0),
    "happy": Prosody(1.10, 1.30, 2.2, 2.0, 0.8),
    "sad": Prosody(0.80, 0.88, 0.4, -6.0, -2.5),
    "angry": Prosody(1.16, 1.05, 1.3, 5.0, 3.0),
}


class Clip(NamedTuple):
    """One utterance before it is spoken."""

    name: str
    voice: Voice
    emotion: str
    text: str


def plan_clips(generator: np.random.Generator) -> list[Clip]:
    """Decide who says what in which emotion; sentences are dealt out in turn, so all of them are used."""
    sentences = yaml.safe_load(SENTENCES.read_text(encoding="utf-8"))
    decks: dict[str, list[str]] = {}

    def deal(kind: str) -> str:
        if not decks.get(kind):
            decks[kind] = [str(text) for text in generator.permutation(sentences[kind])]
        return decks[kind].pop()

    clips = []
    for voice in VOICES:
        for emotion in PROSODY:
            others = [other for other in PROSODY if other != emotion]
            kinds = [emotion] * 4 + ["everyday", str(generator.choice(["everyday", *others]))]
            for number, kind in enumerate(kinds):
                clips.append(Clip(f"{voice.name}_{emotion}_{number}", voice, emotion, deal(kind)))
    return clips


def speak(clip: Clip, generator: np.random.Generator) -> np.ndarray:
    """Synthesise a clip: float64 mono at 16 kHz, shape `(samples,)`, silence trimmed, loudness and brightness set."""
    prosody, voice = PROSODY[clip.emotion], clip.voice
    rate = prosody.rate * generator.normal(1.0, 0.07)
    pitch = prosody.pitch * generator.normal(1.0, 0.07)
    movement = prosody.pitch_range * np.exp(generator.normal(0.0, 0.25))
    gain = prosody.gain + generator.normal(0.0, 2.0)
    tilt = prosody.tilt + generator.normal(0.0, 0.8)
    if voice.engine == "flite":
        options = ["-voice", voice.voice, "--setf", f"duration_stretch={voice.rate / rate:.4f}"]
        options += ["--setf", f"int_f0_target_mean={voice.pitch * pitch:.4f}"]
        options += ["--setf", f"int_f0_target_stddev={0.14 * voice.pitch * movement:.4f}", "-t", clip.text]
    else:
        # Its pitch scale is nearly linear in hertz: 50 is the voice's own.
        scaled = np.clip(voice.pitch + 75 * (pitch - 1.0), 0, 99)
        marked = f'<prosody range="{100 * movement:.0f}%">{escape(clip.text)}</prosody>'
        options = ["-m", "-v", voice.voice, "-s", f"{voice.rate * rate:.0f}", "-p", f"{scaled:.0f}", marked]
    samples = _tilted(say(voice.engine, options, margin=0.05), tilt)
    loudest = max(p.gain for p in PROSODY.values()) + 4.0
    return samples / np.abs(samples).max() * PEAK * 10 ** (min(gain - loudest, 0.0) / 20)


def _tilted(samples: np.ndarray, tilt: float) -> np.ndarray:
    """`samples` with the spectrum above 500 Hz raised by `tilt` dB per octave."""
    frequencies = np.fft.rfftfreq(len(samples), 1 / SAMPLING_RATE)
    octaves = np.log2(np.maximum(frequencies, 500.0) / 500.0)
    return np.fft.irfft(np.fft.rfft(samples) * 10 ** (tilt * octaves / 20), len(samples))


def pink_noise(length: int, generator: np.random.Generator) -> np.ndarray:
    """`length` samples of noise whose power falls by 3 dB per octave (flat below 100 Hz)."""
    spectrum = np.fft.rfft(generator.standard_normal(length))
    frequencies = np.fft.rfftfreq(length, 1 / SAMPLING_RATE)
    return np.fft.irfft(spectrum / np.sqrt(np.maximum(frequencies, 100.0)), length)


def babble(length: int, spoken: list[np.ndarray], generator: np.random.Generator) -> np.ndarray:
    """`length` samples of four clips of the corpus at once, each from a random point, at equal power."""
    mixture = np.zeros(length)
    for index in generator.choice(len(spoken), size=4, replace=False):
        voice = np.resize(np.roll(spoken[index], int(generator.integers(len(spoken[index])))), length)
        mixture += voice / np.sqrt(np.mean(voice**2))
    return mixture


def add_noise(
    samples: np.ndarray, spoken: list[np.ndarray], generator: np.random.Generator, raised: float = 0.0
) -> np.ndarray:
    """Put pink noise or babble behind most clips, at a random ratio plus `raised` dB; the rest stay clean."""
    if generator.random() > NOISY_SHARE:
        return samples
    pink = generator.random() < 0.5
    noise = pink_noise(len(samples), generator) if pink else babble(len(samples), spoken, generator)
    ratio = np.mean(samples**2) / np.mean(noise**2) / 10 ** ((generator.uniform(*SNR_RANGE) + raised) / 10)
    return samples + noise * np.sqrt(ratio)


def unusable(text: str, hypothesis: str) -> bool:
    """Whether not one word of the sentence was heard, or a word was that does not belong in an example."""
    said, heard = (set(re.findall(r"[a-z']+", words.lower())) for words in (text, hypothesis))
    return not said & heard or any(word.startswith(("fuck", "shit")) for word in heard)


def learn_vocabulary(texts: list[str], folder: Path) -> None:
    """Write the `vocab.txt` of a WordPiece tokenizer that was trained on these texts.

    It is committed with the corpus, since the training breaks ties at random: two runs give two vocabularies.
    """
    from tokenizers import BertWordPieceTokenizer

    from modeling_m4ser import normalize_text

    learner = BertWordPieceTokenizer(lowercase=True)
    learner.train_from_iterator(map(normalize_text, texts), vocab_size=800, min_frequency=1, show_progress=False)
    learner.save_model(str(folder))


def record(
    clips: list[Clip], files: list[Path], recognizer: "WhisperRecognizer", generator: np.random.Generator
) -> list[str]:
    """Write the clips' audio; what the recogniser hears in each, as a reader of the corpus will hear it."""
    spoken = [speak(clip, generator) for clip in clips]
    hypotheses = [""] * len(clips)
    for take in range(TAKES):
        again = [i for i, clip in enumerate(clips) if unusable(clip.text, hypotheses[i])]
        for i in again:
            noisy = add_noise(spoken[i], spoken, generator, raised=RAISED_PER_TAKE * take)
            soundfile.write(files[i], np.clip(noisy, -1, 1), SAMPLING_RATE, subtype="PCM_16", compression_level=1.0)
        for start in tqdm(range(0, len(again), BATCH_SIZE), desc="recognising", unit="batch", disable=not again):
            batch = again[start : start + BATCH_SIZE]
            texts = recognizer.transcribe([soundfile.read(files[i], dtype="float32")[0] for i in batch])
            for i, text in zip(batch, texts, strict=True):
                hypotheses[i] = text
    return hypotheses


def parse_arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = CommandParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--asr", metavar="NAME", default=ASR_NAME, help="Whisper's repository id, or its folder")
    parser.add_argument("--output_dir", metavar="FOLDER", type=Path, default=FOLDER)
    return parser.parse_args()


def main(options: argparse.Namespace) -> None:
    """Write the audio, the manifest and the vocabulary."""
    from data_scripts.transcribe.whisper import WhisperRecognizer  # imports torch, which --help need not wait for

    require_programs()
    recognizer = WhisperRecognizer(options.asr, device="cpu")
    generator = np.random.default_rng(SEED)
    clips = plan_clips(generator)
    audio = options.output_dir / "audio"
    shutil.rmtree(audio, ignore_errors=True)
    audio.mkdir(parents=True)
    files = [audio / f"{clip.name}.flac" for clip in clips]
    hypotheses = record(clips, files, recognizer, generator)
    rows = [
        (clip.name, f"audio/{file.name}", clip.emotion, clip.text, text, clip.voice.name, clip.voice.split, ASR_NAME)
        for clip, file, text in zip(clips, files, hypotheses, strict=True)
    ]
    table = pd.DataFrame(rows, columns=COLUMNS)
    table.to_csv(options.output_dir / "manifest.csv", index=False, lineterminator="\n")
    train = table.loc[table["split"] == "train", ["transcript", "hypothesis"]].to_numpy().ravel()
    learn_vocabulary([text for text in train if text], options.output_dir)
    print(f"{len(files)} clips, {sum(file.stat().st_size for file in files) / 1e6:.2f} MB in {options.output_dir}")


if __name__ == "__main__":
    chosen_options = parse_arguments()
    sys.exit(run_command(lambda: main(chosen_options)))
