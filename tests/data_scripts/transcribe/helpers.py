"""What the tests of transcribing share: recognisers that need no model, tiny models, and noise to recognise."""

import io
import zlib

import numpy as np
import pytest
import soundfile
import torch
from datasets import DatasetDict
from tokenizers import pre_tokenizers
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

from data_scripts.schema import build_dataset
from tests.helpers import SHARED

REAL_MODEL = SHARED / "models" / "whisper-tiny.en"
RAVDESS = SHARED / "data" / "ravdess"
needs_real_model = pytest.mark.skipif(
    not (REAL_MODEL.is_dir() and RAVDESS.is_dir()), reason="needs models/whisper-tiny.en and data/ravdess in ../shared"
)
EMOTIONS = ["neutral", "happy"]
SPECIAL_TOKENS = [
    f"<|{name}|>"
    for name in (
        *("endoftext", "startoftranscript", "en", "translate", "transcribe"),
        *("startoflm", "startofprev", "nospeech", "notimestamps"),
    )
]


class EchoRecognizer:
    """Stands in for Whisper: a transcript is a checksum. Fails at batch `fail_at`."""

    def __init__(self, *_, name="echo", seed=0, fail_at=None, language=None, **__):
        self.name, self.settings = name or "echo", {"model": name or "echo", "seed": seed}
        self.fail_at, self.language, self.batches = fail_at, language, []

    def transcribe(self, batch):
        if len(self.batches) == self.fail_at:
            raise RuntimeError("the machine went down")
        self.batches.append(len(batch))
        # The batch size goes into the text: an output that is equal was decoded in equal batches.
        return [f"checksum {zlib.crc32(clip.tobytes())} in a batch of {len(batch)}" for clip in batch]


def flac(samples):
    """FLAC bytes of a 16 kHz waveform."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, 16_000, format="FLAC")
    return buffer.getvalue()


def make_dataset(sizes=(("train", 7), ("test", 4)), broken=("test", 2)):
    """Canonical dataset of noise, ids repeated across splits, one clip of it undecodable."""
    generator = np.random.default_rng(0)
    splits = {}
    for split, size in sizes:
        rows = []
        for i in range(size):
            samples = 0.1 * generator.standard_normal(int(generator.integers(1600, 6400)))
            audio = b"not audio" if (split, i) == broken else flac(samples)
            rows.append(
                {
                    "id": f"utt{i}",
                    "audio": {"path": f"utt{i}.flac", "bytes": audio},
                    "duration": len(samples) / 16_000,
                    "speaker": "a",
                    "emotion": EMOTIONS[i % 2],
                    "transcript": f"Sentence number {i}, colour.",
                }
            )
        splits[split] = build_dataset(rows, EMOTIONS)
    return DatasetDict(splits)


def make_tiny_whisper(folder, seconds, letter_scale=1, positions=40):
    """An English-only Whisper with random weights, a byte vocabulary and a window of so many seconds.

    `positions` are those of the decoder, four of them for its prompt.
    """
    vocabulary = {symbol: i for i, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = WhisperTokenizer(vocab=vocabulary, merges=[], pad_token="<|endoftext|>")
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIAL_TOKENS[1:]})
    tokenizer.add_tokens([f"<|{0.02 * i:.2f}|>" for i in range(1501)])
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    special = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), ids["<|endoftext|>"])
    special["decoder_start_token_id"] = ids["<|startoftranscript|>"]
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        d_model=64,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_layers=1,
        decoder_layers=1,
        max_source_positions=50 * seconds,
        max_target_positions=positions,
        suppress_tokens=None,
        begin_suppress_tokens=None,
        **special,
    )
    model = WhisperForConditionalGeneration(config)
    model.model.decoder.embed_tokens.weight.data[: len(vocabulary)] *= letter_scale
    model.generation_config = GenerationConfig(
        no_timestamps_token_id=ids["<|notimestamps|>"],
        prev_sot_token_id=ids["<|startofprev|>"],
        is_multilingual=False,
        return_timestamps=False,
        max_length=positions,
        **special,
    )
    model.save_pretrained(folder)
    WhisperProcessor(WhisperFeatureExtractor(chunk_length=seconds), tokenizer).save_pretrained(folder)
    return folder


def noises(*lengths):
    """Reproducible noise of these lengths in samples."""
    generator = np.random.default_rng(1)
    return [(0.1 * generator.standard_normal(length)).astype(np.float32) for length in lengths]
