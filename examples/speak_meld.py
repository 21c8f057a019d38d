"""Speak the rows of MELD that have no clip, by speech synthesis: a stand-in where the series' audio cannot be had.

    apt install flite espeak-ng    # the voices (Debian 12: flite 2.2, espeak-ng 1.51)
    python examples/speak_meld.py --data_dir MELD.Raw --splits test [--max_rows N] [--seed S]

`--data_dir` is laid out as MELD.Raw. Each row of its CSVs without a clip gets one, by whole dialogues in the CSV's
order; a clip that is there stays as it is, so the same command goes on where it was stopped. A row's clip depends on
`--seed`, its split, its numbers, its speaker and the programs' versions, not on what else lies in the folder.
`synthesis.csv` there takes the settings of every clip spoken.
The audio is SYNTHETIC: the label shifts tempo, pitch and level a little, and a score says nothing about human speech.
"""

import argparse
import functools
import hashlib
import re
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import av
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from data_scripts.constants import SAMPLING_RATE
from data_scripts.corpora.meld import CLIP_FOLDERS
from data_scripts.corpora.registry import SYNTHESIS_FILE
from data_scripts.errors import CorpusError, run_command
from data_scripts.files import replace_together
from data_scripts.parsers import CommandParser
from data_scripts.synthesis import require_programs, say
from data_scripts.tables import Row, read_table

# Program, its voice, and semitones against that voice's own pitch.
VOICES = {
    "m_rms": ("flite", "rms", 0),
    "m_rms_up": ("flite", "rms", 2),
    "m_awb": ("flite", "awb", 0),
    "m_kal16": ("flite", "kal16", 0),
    "m_espeak_m3": ("espeak-ng", "en-us+m3", 0),
    "m_espeak_m7": ("espeak-ng", "en-gb+m7", 0),
    "f_slt": ("flite", "slt", 0),
    "f_slt_up": ("flite", "slt", 2),
    "f_slt_down": ("flite", "slt", -2),
    "f_espeak_f4": ("espeak-ng", "en-us+f4", 0),
    "f_espeak_f2": ("espeak-ng", "en-us+f2", 0),
}
MAIN_SPEAKERS = {"Chandler": "m_kal16", "Joey": "m_rms", "Ross": "m_awb"}
MAIN_SPEAKERS |= {"Monica": "f_slt_up", "Phoebe": "f_slt_down", "Rachel": "f_slt"}
# Mean and standard deviation of: the logarithm of the tempo, times the voice's own; semitones; gain in dB.
# Fitted on the settings of the 2,703 clips (1,802 train, 300 dev, 601 test) of the earlier part of this corpus.
PROSODY = {
    "neutral": ((0.002, 0.117), (-0.03, 1.50), (0.11, 3.00)),
    "joy": ((0.063, 0.118), (1.15, 1.45), (0.21, 2.76)),
    "sadness": ((-0.107, 0.127), (-0.92, 1.44), (-2.14, 3.00)),
    "surprise": ((0.003, 0.120), (1.29, 1.49), (2.03, 2.92)),
    "disgust": ((-0.092, 0.118), (-0.65, 1.45), (1.92, 3.12)),
    "anger": ((0.082, 0.115), (0.00, 1.41), (2.32, 3.00)),
    "fear": ((0.086, 0.112), (1.24, 1.50), (-2.14, 3.01)),
}
LIMIT = 2.3  # standard deviations: no clip is farther from its label's mean
PAUSE_S = (0.08, 0.35)  # before and after the words
NOISES = {"none": 0.408, "white": 0.364, "babble": 0.228}  # shares of the clips
SNR_DB = (10.0, 30.0)  # of the noisy ones; the square of a uniform number lies between, so low ratios are frequent
SPEECH_DB = -27.0  # of full scale: the root mean square of the words at a gain of 0
PEAK = 0.99  # a louder clip is scaled to it: `clip_guard`
# Babble is some of these lines at once, each in its own voice.
BABBLE = (
    "The kettle has been on the stove since you went out to the garden.",
    "We could take the early bus and walk along the river for a while.",
    "She said the parcel was left with the neighbours on the third floor.",
    "There is a new bakery around the corner that opens before seven.",
    "I think the blue paint would look better on the other wall.",
    "They moved the meeting because nobody could find the right room.",
    "His brother plays the trumpet in a small band on the weekends.",
    "You should bring a coat, it gets cold up there after sunset.",
    "The museum is closed on Mondays, so we went to the market instead.",
    "My aunt grows tomatoes on her balcony and gives most of them away.",
    "It took us an hour to find a place where we could leave the car.",
)
BABBLE_VOICES = 4

Key = tuple[str, int, int]  # of a row: split, dialogue, utterance


@dataclass(frozen=True)
class Settings:
    """A clip's line in `synthesis.csv`, its columns in order."""

    split: str
    dialogue_id: int
    utterance_id: int
    voice: str
    tempo: float
    semitones: float
    gain_db: float
    lead_s: float
    tail_s: float
    noise: str
    snr_db: float | str  # empty without noise
    clip_guard: int = 0
    duration_s: float = 0.0


COLUMNS = [field.name for field in fields(Settings)]


def _digest(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(" ".join(map(str, parts)).encode()).digest())


def draw_settings(key: Key, emotion: str, voice: str, generator: np.random.Generator) -> Settings:
    """Draw how a row is spoken, rounded as the settings file shows it; CorpusError for a label that MELD lacks."""
    if emotion not in PROSODY:
        raise CorpusError(f"{key[0]} dia{key[1]}_utt{key[2]}: {emotion!r} is no emotion of MELD ({', '.join(PROSODY)})")
    tempo, semitones, gain = (
        mean + deviation * float(np.clip(generator.standard_normal(), -LIMIT, LIMIT))
        for mean, deviation in PROSODY[emotion]
    )
    lead, tail = (round(float(pause), 3) for pause in generator.uniform(*PAUSE_S, size=2))
    noise = str(generator.choice(list(NOISES), p=list(NOISES.values())))
    snr = round(SNR_DB[0] + (SNR_DB[1] - SNR_DB[0]) * generator.random() ** 2, 1)
    prosody = round(float(np.exp(tempo)), 3), round(semitones, 2), round(gain, 2)
    return Settings(*key, voice, *prosody, lead, tail, noise, "" if noise == "none" else snr)


def choose_voice(speaker: str) -> str:
    """Return a speaker's voice, the same in every run: a main one's own, else any."""
    return MAIN_SPEAKERS.get(speaker) or sorted(VOICES)[_digest(speaker) % len(VOICES)]


def sayable(text: str) -> str:
    """Return a transcript as the programs can read it: ASCII on one line; empty where there is no word to say."""
    from modeling_m4ser import normalize_text  # imports torch, which --help need not wait for

    text = unicodedata.normalize("NFKD", normalize_text(text, lowercase=False, keep_punctuation=True))
    text = text.encode("ascii", "ignore").decode().lstrip("- ")
    return text if re.search(r"[A-Za-z0-9]", text) else ""


def synthesize(text: str, voice: str, tempo: float = 1.0, semitones: float = 0.0) -> np.ndarray:
    """Speak a text: float64 mono at 16 kHz, shape `(samples,)`, without the silence at its ends, of RMS 1.

    The pitch is shifted by playing faster or slower (the formants go with it), for which the program's rate makes up.
    """
    program, name, own_semitones = VOICES[voice]
    shift = 2 ** ((semitones + own_semitones) / 12)
    options = ["-voice", name, "--setf", f"duration_stretch={shift / tempo:.4f}", "-t", text]
    if program == "espeak-ng":
        options = ["-v", name, "-s", f"{175 * tempo / shift:.0f}", "--", text]
    samples = say(program, options, shift)
    return samples / np.sqrt(np.mean(samples**2))


@functools.cache
def _babble_line(number: int) -> np.ndarray:
    return synthesize(BABBLE[number], list(VOICES)[number % len(VOICES)])


def make_noise(kind: str, length: int, generator: np.random.Generator) -> np.ndarray:
    """Return `length` samples of white noise or babble, of RMS 1."""
    noise = generator.standard_normal(length) if kind == "white" else np.zeros(length)
    for number in generator.choice(len(BABBLE), BABBLE_VOICES, replace=False) if kind == "babble" else ():
        line = _babble_line(int(number))
        noise += np.resize(np.roll(line, -generator.integers(len(line))), length)
    return noise / np.sqrt(np.mean(noise**2))


def mix(speech: np.ndarray, settings: Settings, generator: np.random.Generator) -> tuple[np.ndarray, Settings]:
    """Return a clip from words of RMS 1, and its settings with how it came out; the noise ratio is to the words."""
    level = 10 ** ((SPEECH_DB + settings.gain_db) / 20)
    clip = np.pad(level * speech, [round(pause * SAMPLING_RATE) for pause in (settings.lead_s, settings.tail_s)])
    if settings.noise != "none":
        clip += make_noise(settings.noise, len(clip), generator) * level * 10 ** (-float(settings.snr_db) / 20)
    scale = min(1.0, PEAK / np.abs(clip).max())
    duration = round(len(clip) / SAMPLING_RATE, 3)
    return clip * scale, replace(settings, clip_guard=int(scale < 1), duration_s=duration)


def write_clip(path: Path, samples: np.ndarray) -> None:
    """Write samples at 16 kHz as an mp4 with one stream, AAC mono."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=SAMPLING_RATE, layout="mono")
        stream.bit_rate = 32_000
        frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = SAMPLING_RATE, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def read_rows(data_dir: Path, split: str) -> dict[Key, Row]:
    """Return the rows of a split's CSV; of two rows of one utterance the first. CorpusError where it is not MELD's."""
    path = data_dir / f"{split}_sent_emo.csv"
    if not path.is_file():
        raise CorpusError(f"{path} is missing: put MELD's CSV there")
    rows: dict[Key, Row] = {}
    try:
        for row in read_table(path):
            text = {column: row[column].strip() for column in ("Utterance", "Speaker", "Emotion")}
            rows.setdefault((split, int(row["Dialogue_ID"]), int(row["Utterance_ID"])), text)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CorpusError(f"{path} is not MELD's CSV ({error!r}): download it again") from error
    return rows


def clip_path(data_dir: Path, key: Key) -> Path:
    """Return where a row's clip belongs."""
    return data_dir / CLIP_FOLDERS[key[0]] / f"dia{key[1]}_utt{key[2]}.mp4"


def choose_rows(data_dir: Path, rows: Iterable[Key], max_rows: int | None = None) -> list[Key]:
    """Return the rows without a clip (a `final_videos_test` twin is one), by whole dialogues, at most `max_rows`."""
    dialogues: dict[tuple[str, int], list[Key]] = {}
    for key in rows:
        path = clip_path(data_dir, key)
        if not path.exists() and not path.with_name(f"final_videos_test{path.name}").exists():
            dialogues.setdefault(key[:2], []).append(key)
    chosen: list[Key] = []
    for dialogue in dialogues.values():
        if max_rows is not None and len(chosen) + len(dialogue) > max_rows:
            break
        chosen += dialogue
    return chosen


def read_settings(path: Path) -> dict[Key, Row]:
    """Return a settings file's lines by row; none where there is no file. CorpusError where its columns are others."""
    lines = read_table(path) if path.exists() else []
    if lines and list(lines[0]) != COLUMNS:
        raise CorpusError(f"{path} has the columns {', '.join(lines[0])}, not {', '.join(COLUMNS)}: move it away")
    return {(line["split"], int(line["dialogue_id"]), int(line["utterance_id"])): line for line in lines}


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = CommandParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data_dir", type=Path, required=True, help="folder in the layout of MELD.Raw")
    parser.add_argument("--splits", nargs="+", choices=list(CLIP_FOLDERS), default=list(CLIP_FOLDERS))
    parser.add_argument("--max_rows", type=int, help="speak at most this many rows, by whole dialogues (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of every draw (default 0)")
    return parser.parse_args(arguments)


def main(options: argparse.Namespace) -> None:
    """Speak the rows without a clip."""
    data_dir, table = options.data_dir, options.data_dir / SYNTHESIS_FILE
    rows = {key: row for split in options.splits for key, row in read_rows(data_dir, split).items()}
    lines = read_settings(table)
    chosen = choose_rows(data_dir, rows, options.max_rows)
    require_programs()
    silent = 0
    for key in tqdm(chosen, desc="speaking", unit="clip"):
        row, generator = rows[key], np.random.default_rng(_digest(options.seed, *key))
        if not (text := sayable(row["Utterance"])):
            silent += 1
            continue
        drawn = draw_settings(key, row["Emotion"].lower(), choose_voice(row["Speaker"]), generator)
        samples, settings = mix(synthesize(text, drawn.voice, drawn.tempo, drawn.semitones), drawn, generator)
        lines[key] = asdict(settings)
        # The table first: a stop between the two leaves a line without its clip, which the next run speaks again.
        with replace_together([table, clip_path(data_dir, key)]) as (new_table, new_clip):
            pd.DataFrame(lines.values(), columns=COLUMNS).to_csv(new_table, index=False, lineterminator="\n")
            write_clip(new_clip, samples)
    print(f"{len(chosen) - silent} clips spoken in {data_dir}; {silent} rows have no word to say")


if __name__ == "__main__":
    chosen_options = parse_arguments()
    sys.exit(run_command(lambda: main(chosen_options)))
