"""What is done to a waveform and to a transcript before features are made of them: normal text, levels, limits."""

import re
import unicodedata
from typing import Any

import numpy as np

from .audio_m4ser import normalize_rms, trim_silence
from .decoding_m4ser import logger

# Of limited length: brackets that nobody closes would be searched to the end of the text, each of them.
TAGS = re.compile(r"\[[^\]]{0,300}\]|\([^)]{0,300}\)|<[^>]{0,300}>")
#: Characters that stand for an apostrophe -> the plain one, for `str.translate`.
LIKE_APOSTROPHE = dict.fromkeys(map(ord, "‘’‚‛ʼ′`´"), "'")
_LIKE_QUOTE = dict.fromkeys(map(ord, "“”„‟″«»"), '"')
_LIKE_HYPHEN = dict.fromkeys(map(ord, "‐‑‒–—―−"), "-")
_TYPOGRAPHIC = LIKE_APOSTROPHE | _LIKE_QUOTE | _LIKE_HYPHEN
_OUTER_APOSTROPHE = re.compile(r"(?<!\w)'|'(?!\w)")


def is_apostrophe(character: str) -> bool:
    """Return whether a character is an apostrophe, or becomes one by [`normalize_text`]."""
    return character.translate(LIKE_APOSTROPHE) == "'"


def normalize_text(text: str, lowercase: bool = True, keep_punctuation: bool = False) -> str:
    """Bring ASR hypotheses, human references and transcripts at inference into one form.

    Typographic quotes and dashes become ASCII, tags such as `[LAUGHTER]` or `(sighs)` go, white space becomes single.
    Hypotheses and references are punctuated by different habits, which would count as ASR errors: punctuation goes too,
    except for apostrophes inside words. Letters, digits and symbols of every script stay; halves of a surrogate pair
    become their character, and a lone one U+FFFD.

    Args:
        text (`str`): a transcript.
        lowercase (`bool`, defaults to `True`): whether to write it in lower case.
        keep_punctuation (`bool`, defaults to `False`): whether punctuation stays.
    """
    # A lone half of a surrogate pair, as in text cut between the halves, is no character; two halves are one.
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    # Twice: NFKC loses some typographic signs and makes others, and lower case can compose what upper case cannot.
    text = unicodedata.normalize("NFKC", text.translate(_TYPOGRAPHIC))
    if lowercase:
        text = unicodedata.normalize("NFKC", text.lower())
    text = TAGS.sub(" ", text.translate(_TYPOGRAPHIC))
    if not keep_punctuation:
        kept = (c if c == "'" or not unicodedata.category(c).startswith("P") else " " for c in text)
        text = _OUTER_APOSTROPHE.sub(" ", "".join(kept))
    return " ".join(text.split())


class Preparation:
    """What processors with torch and without it share; the fields are those of [`M4SERProcessor`]."""

    sampling_rate: Any
    lowercase: bool
    keep_punctuation: bool
    max_audio_seconds: float
    max_text_length: int
    trim_silence_db: float | None
    target_dbfs: float | None

    def normalize_text(self, text: str) -> str:
        """Normalize a transcript by this processor's rule, see [`normalize_text`]."""
        return normalize_text(text, self.lowercase, self.keep_punctuation)

    def prepare_waveform(self, waveform: np.ndarray, name: str | None = None, shortest: int = 0) -> np.ndarray:
        """Return a waveform (samples,) trimmed, scaled and cut as the fields say, with zeros up to `shortest` samples.

        `name` is what a warning calls it.
        """
        waveform = np.asarray(waveform, dtype=np.float32)
        if waveform.ndim != 1 or waveform.size == 0:
            raise ValueError(f"Audio must be one-dimensional (samples,) and not empty; got shape {waveform.shape}.")
        if self.trim_silence_db is not None:
            waveform = trim_silence(waveform, self.sampling_rate, self.trim_silence_db)
        if self.target_dbfs is not None:
            waveform = normalize_rms(waveform, self.target_dbfs)
        longest, rate = int(self.max_audio_seconds * self.sampling_rate), self.sampling_rate
        if len(waveform) > longest:
            logger.warning_once(
                f"{name or 'An audio clip'} lasts {len(waveform) / rate:.1f} s, longer than max_audio_seconds="
                f"{self.max_audio_seconds}: its last {(len(waveform) - longest) / rate:.1f} s are not read.",
            )
            waveform = waveform[:longest]
        return np.pad(waveform, (0, max(0, shortest - len(waveform))))

    def cut_ids(self, ids: list[int], text: str) -> list[int]:
        """Return the ids of a normalized text cut to `max_text_length`, the special token at their end kept."""
        limit = self.max_text_length
        if len(ids) <= limit:
            return ids
        logger.warning_once(
            f"The transcript {text[:40]!r}… is longer than max_text_length={limit} word pieces: its last "
            f"{len(ids) - limit} are not read."
        )
        return [*ids[: limit - 1], ids[-1]]
