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
import csv
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

import numpy as np
import soundfile
import soxr
from tqdm.auto import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from data_scripts.constants import SAMPLING_RATE

if TYPE_CHECKING:
    from data_scripts.transcribe.whisper import WhisperRecognizer

FOLDER = Path(__file__).resolve().parent / "sample_corpus"
COLUMNS = ["id", "audio", "emotion", "transcript", "hypothesis", "speaker", "split", "asr_model"]
PEAK = 0.25  # of the loudest possible clip: a modest level keeps the FLAC files small
NOISY_SHARE = 0.85  # of the clips
SNR_RANGE = (6.0, 17.0)  # dB
TAKES = 4  # at most: a clip in which nothing is understood is recorded again,
RAISED_PER_TAKE = 4.0  # dB clearer each time
BATCH_SIZE = 16


@dataclass(frozen=True)
class Voice:
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


@dataclass(frozen=True)
class Prosody:
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

# Spoken in every emotion: the words give nothing away.
EVERYDAY = [
    "I saw you at the station.",
    "They are coming home today.",
    "She called me last night.",
    "The letter came this morning.",
    "He told me about the job.",
    "We are moving in the spring.",
    "You left the door open.",
    "My brother has a new car.",
    "It is raining again.",
    "I spoke to the doctor.",
]
FITTING = {
    "neutral": [
        "The meeting starts at noon.",
        "Please put the box on the table.",
        "The next train leaves at nine.",
        "Turn left at the corner.",
        "The report is on the table.",
        "The shop opens at nine.",
        "There are ten chairs in the room.",
        "The bus stops at the corner.",
        "Please sign the second page.",
        "The room is on the second floor.",
        "The number is on the box.",
        "The meeting is on the first floor.",
    ],
    "happy": [
        "I am so happy for you!",
        "What a wonderful surprise!",
        "We won, this is great!",
        "I love this song so much!",
        "This is the best day ever!",
        "Thank you, it is wonderful!",
        "I love it, thank you!",
        "Great news, we got the house!",
        "It was so much fun!",
        "You are the best, thank you!",
        "What a beautiful day!",
        "I am so glad you came!",
    ],
    "sad": [
        "I miss her so much.",
        "He is gone and I am alone.",
        "I am sorry, we lost him.",
        "Nobody ever calls me.",
        "I cried all night.",
        "My dog died last week.",
        "I feel so alone.",
        "It hurts to say goodbye.",
        "We lost everything.",
        "I am so sorry for your loss.",
        "She is gone, I miss her.",
        "I have nothing left.",
    ],
    "angry": [
        "Get out of my house!",
        "How dare you say that!",
        "I hate it when you lie!",
        "Stop it right now!",
        "You lied to me again!",
        "Shut up and get out!",
        "This is your fault!",
        "Leave me alone, I hate you!",
        "Don't you dare lie to me!",
        "I am sick of your excuses!",
        "Stop shouting at me!",
        "You ruined it, get out!",
    ],
}


@dataclass(frozen=True)
class Clip:
    """One utterance before it is spoken."""

    name: str
    voice: Voice
    emotion: str
    text: str


def plan_clips(generator: np.random.Generator) -> list[Clip]:
    """Decide who says what in which emotion; sentences are dealt out in turn, so all of them are used."""
    decks: dict[str, list[str]] = {}

    def deal(deck: str) -> str:
        if not decks.get(deck):
            decks[deck] = [
                str(text) for text in generator.permutation(EVERYDAY if deck == "everyday" else FITTING[deck])
            ]
        return decks[deck].pop()

    clips = []
    for voice in VOICES:
        for emotion in PROSODY:
            others = [other for other in PROSODY if other != emotion]
            kinds = [emotion] * 4 + ["everyday", str(generator.choice(["everyday", *others]))]
            for number, kind in enumerate(kinds):
                clips.append(Clip(f"{voice.name}_{emotion}_{number}", voice, emotion, deal(kind)))
    return clips


def speak(clip: Clip, generator: np.random.Generator, scratch: Path) -> np.ndarray:
    """Synthesise a clip: float64 mono at 16 kHz, shape `(samples,)`, silence trimmed, loudness and brightness set."""
    prosody = PROSODY[clip.emotion]
    rate = prosody.rate * generator.normal(1.0, 0.07)
    pitch = prosody.pitch * generator.normal(1.0, 0.07)
    movement = prosody.pitch_range * np.exp(generator.normal(0.0, 0.25))
    gain = prosody.gain + generator.normal(0.0, 2.0)
    tilt = prosody.tilt + generator.normal(0.0, 0.8)
    voice, wav = clip.voice, scratch / "clip.wav"
    if voice.engine == "flite":
        settings = {
            "duration_stretch": voice.rate / rate,
            "int_f0_target_mean": voice.pitch * pitch,
            "int_f0_target_stddev": 0.14 * voice.pitch * movement,
        }
        options = [item for name, value in settings.items() for item in ("--setf", f"{name}={value:.4f}")]
        command = ["flite", "-voice", voice.voice, *options, "-t", clip.text, "-o", str(wav)]
    else:
        marked = f'<prosody range="{100 * movement:.0f}%">{escape(clip.text)}</prosody>'
        scaled = np.clip(
            voice.pitch + 75 * (pitch - 1.0), 0, 99
        )  # its scale is nearly linear in hertz: 50 is the voice's own
        command = ["espeak-ng", "-m", "-v", voice.voice, "-s", f"{voice.rate * rate:.0f}", "-p", f"{scaled:.0f}"]
        command += ["-w", str(wav), marked]
    subprocess.run(command, check=True, capture_output=True)
    samples, source_rate = soundfile.read(wav)
    samples = _tilted(_trimmed(soxr.resample(samples, source_rate, SAMPLING_RATE)), tilt)
    loudest = max(p.gain for p in PROSODY.values()) + 4.0
    return samples / np.abs(samples).max() * PEAK * 10 ** (min(gain - loudest, 0.0) / 20)


def _trimmed(samples: np.ndarray, margin: float = 0.05) -> np.ndarray:
    """`samples` without the silence at both ends, but for `margin` seconds."""
    loud = np.flatnonzero(np.abs(samples) > 0.02 * np.abs(samples).max())
    pad = int(margin * SAMPLING_RATE)
    return samples[max(loud[0] - pad, 0) : loud[-1] + pad]


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


def recognize(recognizer: "WhisperRecognizer", files: list[Path]) -> list[str]:
    """What the recogniser hears in the files, as a reader of the corpus will hear them."""
    texts: list[str] = []
    for start in tqdm(range(0, len(files), BATCH_SIZE), desc="recognising", unit="batch"):
        batch = files[start : start + BATCH_SIZE]
        texts += recognizer.transcribe([soundfile.read(file, dtype="float32")[0] for file in batch])
    return texts


def learn_vocabulary(texts: list[str], folder: Path) -> None:
    """Write the `vocab.txt` of a WordPiece tokenizer that was trained on these texts.

    It is committed with the corpus, since the training breaks ties at random: two runs give two vocabularies.
    """
    from tokenizers import BertWordPieceTokenizer

    from modeling_m4ser import normalize_text

    learner = BertWordPieceTokenizer(lowercase=True)
    learner.train_from_iterator(map(normalize_text, texts), vocab_size=800, min_frequency=1, show_progress=False)
    learner.save_model(str(folder))


def main() -> None:
    """Write the audio, the manifest and the vocabulary."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--asr", default="openai/whisper-tiny.en", help="Whisper repository id or folder")
    parser.add_argument("--asr_name", default="openai/whisper-tiny.en", help="what the manifest calls it")
    parser.add_argument("--output_dir", type=Path, default=FOLDER)
    parser.add_argument("--seed", type=int, default=20)
    options = parser.parse_args()
    missing = [program for program in ("flite", "espeak-ng") if shutil.which(program) is None]
    if missing:
        sys.exit(
            f"make_sample_corpus: {' and '.join(missing)} not found; on Debian: apt-get install {' '.join(missing)}"
        )

    from data_scripts.transcribe.whisper import WhisperRecognizer  # imports torch, which --help need not wait for

    generator = np.random.default_rng(options.seed)
    clips = plan_clips(generator)
    with tempfile.TemporaryDirectory() as scratch:
        spoken = [speak(clip, generator, Path(scratch)) for clip in clips]
    audio = options.output_dir / "audio"
    shutil.rmtree(audio, ignore_errors=True)
    audio.mkdir(parents=True)
    files = [audio / f"{clip.name}.flac" for clip in clips]
    hypotheses = [""] * len(clips)
    recognizer = WhisperRecognizer(options.asr, device="cpu", name=options.asr_name)
    for take in range(TAKES):
        again = [i for i, clip in enumerate(clips) if unusable(clip.text, hypotheses[i])]
        if not again:
            break
        for i in again:
            noisy = add_noise(spoken[i], spoken, generator, raised=RAISED_PER_TAKE * take)
            soundfile.write(files[i], np.clip(noisy, -1, 1), SAMPLING_RATE, subtype="PCM_16", compression_level=1.0)
        for i, text in zip(again, recognize(recognizer, [files[i] for i in again]), strict=True):
            hypotheses[i] = text
    with open(options.output_dir / "manifest.csv", "w", encoding="utf-8", newline="") as table:
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(COLUMNS)
        for clip, file, text in zip(clips, files, hypotheses, strict=True):
            path = file.relative_to(options.output_dir).as_posix()
            speaker, split = clip.voice.name, clip.voice.split
            writer.writerow([clip.name, path, clip.emotion, clip.text, text, speaker, split, options.asr_name])
    pairs = [(clip.text, text) for clip, text in zip(clips, hypotheses, strict=True) if clip.voice.split == "train"]
    learn_vocabulary([text for pair in pairs for text in pair if text], options.output_dir)
    print(f"{len(files)} clips, {sum(file.stat().st_size for file in files) / 1e6:.2f} MB in {options.output_dir}")


if __name__ == "__main__":
    main()
