"""Decoding audio files, which `opening_m4ser.py` opens; `audio_m4ser.py` is the way in.

soundfile decodes WAV, FLAC, OGG and AIFF, and PyAV the rest (MP3, mp4, m4a …). Both carry their own codecs: no FFmpeg
installation is needed. What is decoded tells the length of a recording; what a header says of it is believed where its
format states exact sizes, and then a recording that ends before is truncated.
"""

import contextlib
import functools
import io
import itertools
import logging
import math
import mmap
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from .levels_m4ser import AudioError, TooLongError, check_rate, silence_reason
from .opening_m4ser import START_BYTES
from .parts_m4ser import Part

try:
    import soundfile
except (ImportError, OSError):  # OSError: the package is there, its libsndfile is not
    soundfile: Any = None

try:
    import av
except ImportError:
    av: Any = None

# One for all: a process may hold this code several times, from saved models, and each would warn again.
logger: Any = logging.getLogger("modeling_m4ser")
if not hasattr(logger, "warning_once"):  # which transformers gives to loggers, where it is imported
    logging.Logger.warning_once = functools.cache(logging.Logger.warning)  # pyright: ignore

#: Takes a sentence on what was repaired or left out of audio that is read all the same.
Tell = Callable[[str], None]

#: Frames decoded at a time.
BLOCK_FRAMES = 1 << 20
_UNKNOWN_BYTES = 0x7FFF0000  # programs that stream a WAV into a pipe leave sizes from here on in its header
_TRAILER_BYTES = 4096  # so few bytes after the samples may be some program's own notes
_UNKNOWN_FRAMES = 0x7FFFFFFFFFFFFFFF  # what libsndfile says of a streamed FLAC, and then cannot read
_EXACT_FORMATS = ("WAV", "WAVEX", "RF64", "AIFF", "FLAC")  # of soundfile: their headers state the samples there are
_SEPARATE_SAMPLES = ("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW")  # not decoded from those before, in an exact format
_CONTAINERS_STATING_LENGTH = ("mov,mp4", "matroska")  # FFmpeg may guess that of others from the bit rate
_BIG_ENDIAN = (b"FORM", b"RIFX")
_OGG_PAGE = re.compile(rb"OggS\0(.).{20}(.)", re.DOTALL)  # its flags, how many bytes of sizes follow
# How files begin that players and decoders end at the size or count they state: the same again is another file.
_HEADERS = tuple(
    re.compile(header, re.DOTALL)
    for header in (
        *(
            rb"R(?:IF[FX]|F64).{4}WAVE",
            rb"BW64.{4}WAVE",
            rb"riff\x2e\x91\xcf\x11",
            rb"FORM.{4}(?:AIF[FC]|8SVX|16SV)",
            rb"caff\0\x01\0\0",
        ),
        *(rb"fLaC[\0\x80]\0\0\x22", rb"\.snd\0.{7}\0\0\0.\0", rb"NIST_1A\n", rb"Creative Voice File\x1a"),
        *(rb"\0\0\0.ftyp", rb"FLV\x01.\0\0\0\x09", rb"TTA1[\x01\x02]\0", rb"#!AMR(?:-WB)?\n"),
    )
)
# What follows the samples of a WAV or AIFF without being samples, also where it was cut: tags and padding.
_NO_SAMPLES = re.compile(rb"\0*(?:LIST|id3 |ID3|TAG|APETAGEX|JUNK|PAD |\Z)")
# What libsndfile writes into its log of a file that is shorter than its header says, and what NIST headers say.
_CUT_IN_LOG = re.compile(r"(\d+) \(should be (\d+)\)|truncated file")
_NIST_SAMPLES = re.compile(rb"sample_count -i (\d+)")
_MP3_TAGS = 4096  # bytes that tags without a picture and a first frame without sound may take
# The tag in an MP3's first frame: which numbers it has, the frames and the bytes of the file.
_XING_TAG = re.compile(rb"(?:Xing|Info)\0\0\0[\x03\x07\x0b\x0f](....)(....)", re.DOTALL)


def _check_length(frames: int, rate: float, label: str, longest: float) -> None:
    if frames > longest * rate:
        raise TooLongError(f"{label} lasts longer than {longest:g} s")


def warn(label: str) -> Tell:
    """Return what tells the user, once, of audio that messages call `label`."""
    return lambda sentence: logger.warning_once(f"{label}: {sentence}")


def decode_file(
    handle: BinaryIO, label: str, tell: Tell, max_seconds: float = math.inf, part: Part | None = None
) -> tuple[np.ndarray, float]:
    """Decode what `open_audio` opened, or a part of it: samples (frames, channels), float32, and their rate in hertz.

    Files that were joined give one recording. What cannot be decoded to its end raises `AudioError`, and what lasts
    longer than `max_seconds` raises `TooLongError` when so much of it is decoded, whatever its header promises. A part
    of a WAV, AIFF or FLAC with an end is decoded alone, and of others cut from the whole.
    """
    if part is not None and (found := _decode_part(handle, label, part)) is not None:
        return found
    decoded = []
    for file in _parts(handle, label):
        decoded.append(_decode_one(file, label, tell, max_seconds))
        _check_length(sum(len(samples) for samples, _ in decoded), decoded[0][1], label, max_seconds)
    check_rate(decoded[0][1], "its sampling rate", label)
    if len({(samples.shape[1], rate) for samples, rate in decoded}) > 1:
        raise AudioError(f"{label} is joined of recordings with different rates or channels: split it")
    samples, rate = np.concatenate([samples for samples, _ in decoded]), decoded[0][1]
    return samples if part is None else samples[part.frames(len(samples), rate, label)], rate


def _decode_part(handle: BinaryIO, label: str, part: Part) -> tuple[np.ndarray, float] | None:
    """Decode a part alone; None where that is not exact, or where it may not lie in the samples of the header."""
    if part.end is None:
        return None
    with contextlib.suppress(AudioError, RuntimeError):  # which the whole raises again, soundfile's in our words
        if _with_all_samples(handle, label, lambda _: None) is handle and (file := _open_soundfile(handle)) is not None:
            with file:
                frames = part.frames(file.frames, check_rate(file.samplerate, "its sampling rate", label), label)
                if file.format in _EXACT_FORMATS and file.subtype.startswith(_SEPARATE_SAMPLES):
                    file.seek(frames.start)
                    samples = file.read(frames.stop - frames.start, dtype="float32", always_2d=True)
                    if len(samples) == frames.stop - frames.start:  # else what is joined to the file may go on
                        return samples, file.samplerate
    handle.seek(0)
    return None


def stream_file(
    handle: BinaryIO, label: str, tell: Tell, max_seconds: float = math.inf
) -> Iterator[tuple[np.ndarray, float]]:
    """Yield what `decode_file` returns, in blocks of about a minute where soundfile reads the format, else at once."""
    first, *others = _parts(handle, label)
    whole = first if others else _with_all_samples(first, label, tell)
    file = None if others else _open_soundfile(whole)
    if file is None or file.format == "MP3":
        handle.seek(0)
        yield decode_file(handle, label, tell, max_seconds)
        return
    check_rate(file.samplerate, "its sampling rate", label)
    yield from ((block, file.samplerate) for block in _soundfile_blocks(file, whole, label, max_seconds))


def _parts(handle: BinaryIO, label: str) -> list[BinaryIO]:
    """The files that a file is joined of; mostly that file alone. MP3, Matroska and streams are read on as they are."""
    try:
        content: Any = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)  # films need not lie in memory
    except OSError:  # bytes in memory
        content = handle.read()
    tag = _tag_bytes(content)
    places: list[int] = []
    if content[tag : tag + 4] == b"OggS":
        places, went_on, end = [tag], False, 0
        for page in _OGG_PAGE.finditer(content, tag):
            begins = bool(page[1][0] & 2)
            if begins and went_on:
                places.append(page.start())
            went_on = not begins
            end = page.end() + page[2][0] + sum(content[page.end() : page.end() + page[2][0]])
        if end > len(content):
            raise AudioError(f"{label} is truncated: it ends within a page; copy it again")
    elif header := next((header for header in _HEADERS if header.match(content, tag)), None):
        places = [begin.start() for begin in header.finditer(content, tag)]
    handle.seek(0)
    if places in ([], [0]):
        return [handle]
    return [io.BytesIO(content[a:b]) for a, b in zip(places, [*places[1:], len(content)], strict=True)]


def _tag_bytes(content: Any) -> int:
    """Return how many bytes of a file its ID3 tags take; each states its size in four times seven bits."""
    place = 0
    while content[place : place + 3] == b"ID3":
        place += 10 + sum(byte << 7 * (3 - n) for n, byte in enumerate(content[place + 6 : place + 10]))
    return place


def _decode_one(handle: BinaryIO, label: str, tell: Tell, longest: float) -> tuple[np.ndarray, float]:
    """Return samples (frames, channels) and rate of one file."""
    handle = _with_all_samples(handle, label, tell)
    return _decode_soundfile(handle, label, tell, longest) or _decode_av(handle, label, tell, longest)


def _with_all_samples(handle: BinaryIO, label: str, tell: Tell) -> BinaryIO:
    """Return a WAV or AIFF file with the size corrected that leaves samples out; others, and right ones, as they are.

    Raise where it is shorter than it says it is: decoders would take its end for the end.
    """
    end, long_size = handle.seek(0, io.SEEK_END), None
    for name, place, size in _chunks(handle):
        if name == b"ds64":  # RF64 states sizes over 4 GB apart from the chunk itself
            long_size = struct.unpack("<8xQ", handle.read(16).ljust(16, b"\0"))[0]
        if name not in (b"data", b"SSND"):
            continue
        there = end - place
        is_open = size >= _UNKNOWN_BYTES and long_size is None
        size = long_size if size == 0xFFFFFFFF and long_size is not None else size
        # Some programs count the header among the samples.
        if is_open or size in (end, end - 8):
            break
        if there < size:
            raise AudioError(f"{label} is truncated: {there} of {size} bytes of samples are there; copy it again")
        handle.seek(place + size)
        after = handle.read(START_BYTES)
        if _OGG_PAGE.match(after) or any(header.match(after) for header in _HEADERS):
            raise AudioError(f"{label} is joined of recordings of different formats: split it")
        if (
            0 < size > there - _TRAILER_BYTES
            or _only_chunks(handle, place + size)
            or _only_chunks(handle, place + size + 1)
        ):
            later = _chunks(handle, place + size + size % 2)
            if name in (chunk[0] for chunk in itertools.takewhile(lambda chunk: any(chunk[0]), later)):  # up to padding
                raise AudioError(f"{label} holds its samples in several pieces: export it again as one")
            break
        tell(
            f"its header counts {size} bytes of samples, but {there - size} more follow, as where a recorder "
            "was switched off before it could finish the file; they are read too."
        )
        handle.seek(0)
        content = bytearray(handle.read())
        if name == b"data":  # As of a WAV that is streamed: decoders read such a one to its end.
            content[:4] = content[:4].replace(b"RF64", b"RIFF").replace(b"BW64", b"RIFF")
            content[4:8] = content[place - 4 : place] = b"\xff" * 4
        else:
            content[place - 4 : place] = struct.pack(">I", there)
        return io.BytesIO(content)
    handle.seek(0)
    return handle


def _chunks(handle: BinaryIO, place: int = 0) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, place and size of the chunks of a RIFF or AIFF file; its own header is the first, of size 4."""
    end = handle.seek(0, io.SEEK_END)
    handle.seek(0)
    kind = handle.read(4)
    if kind not in (b"RIFF", b"RF64", b"BW64", *_BIG_ENDIAN):
        return
    while place + 8 <= end:
        handle.seek(place)
        name, size = struct.unpack(">4sI" if kind in _BIG_ENDIAN else "<4sI", handle.read(8))
        size = size if place else 4  # the kind of file; chunks follow
        yield name, place + 8, size
        place += 8 + size + size % 2


def _only_chunks(handle: BinaryIO, place: int) -> bool:
    """Return whether all from a place on is whole chunks with readable names, a tag, or nothing: no samples."""
    end = handle.seek(0, io.SEEK_END)
    handle.seek(place)
    if place + 8 > end or _NO_SAMPLES.match(handle.read()):
        return True
    for name, start, size in _chunks(handle, place):
        if not (name.isascii() and name.decode("ascii").isprintable()):
            return False
        place = start + size
    return place <= end + 1  # the last one may lack its padding


def _decode_soundfile(handle: BinaryIO, label: str, tell: Tell, longest: float) -> tuple[np.ndarray, float] | None:
    """Return samples (frames, channels) and rate; None where libsndfile does not know the format."""
    file = _open_soundfile(handle)
    if file is None:
        return None
    if file.format == "MP3" and av is not None:
        file.close()
        handle.seek(0)
        return _decode_av(handle, label, tell, longest, "mp3")  # libsndfile reads as many frames as it guesses
    blocks = list(_soundfile_blocks(file, handle, label, longest))
    return np.concatenate(blocks) if blocks else np.zeros((0, file.channels), np.float32), file.samplerate


def _soundfile_blocks(file: Any, handle: BinaryIO, label: str, longest: float) -> Iterator[np.ndarray]:
    """Yield the samples (frames, channels) of an open file and close it; raise at the end where it was cut."""
    log, frames = file.extra_info, 0
    # In blocks, since a damaged header may promise more frames than memory holds.
    with file:
        try:
            while len(block := file.read(BLOCK_FRAMES, dtype="float32", always_2d=True)):
                frames += len(block)
                _check_length(frames, file.samplerate, label, longest)
                yield block
        except soundfile.SoundFileError as error:
            raise AudioError(f"{label} is truncated or corrupted: {error} Copy or export it again") from error
    handle.seek(0)
    nist = _NIST_SAMPLES.search(handle.read(START_BYTES) if file.format == "NIST" else b"")
    cut = None if file.format in _EXACT_FORMATS else _CUT_IN_LOG.search(log)
    is_cut = cut is not None and (cut.lastindex is None or int(cut[1]) > int(cut[2]))
    if is_cut or (nist is not None and int(nist[1]) > frames):
        raise AudioError(f"{label} is truncated: its header states more samples than are there; copy it again")


def _open_soundfile(handle: BinaryIO) -> Any:
    """Open a file with soundfile; None, and the stream at its start again, where soundfile cannot."""
    if soundfile is not None:
        # TypeError: it wants to be told the format of headerless .raw files.
        with contextlib.suppress(soundfile.SoundFileError, TypeError):
            file = soundfile.SoundFile(handle)
            if file.frames != _UNKNOWN_FRAMES:
                return file
            file.close()
    handle.seek(0)
    return None


@dataclass
class _Track:
    """An audio stream, and what was decoded of it: blocks (frames, channels), of so many packets and bytes."""

    name: str
    rate: int
    seconds: float | None  # stated by the container
    blocks: list[np.ndarray] = field(default_factory=list)
    frames: int = 0
    packets: int = 0
    size: int = 0


def _decode_av(
    handle: BinaryIO, label: str, tell: Tell, longest: float, form: str | None = None
) -> tuple[np.ndarray, float]:
    """Return samples (frames, channels) and rate of the audio stream, through PyAV; `form` is known, or found."""
    if av is None:
        missing = "av" if soundfile is not None else "soundfile and av"
        raise ImportError(f"reading {label} needs {missing}: pip install {missing.replace(' and', '')}")
    try:
        # A playlist (HLS, concat) may name other files and addresses, which FFmpeg would open: allow no protocol.
        with av.open(handle, format=form, options={"protocol_whitelist": "none"}) as container:
            tracks = _decode_tracks(container, label, longest, lenient=form == "mp3")
            if not tracks:
                raise AudioError(
                    f"{label} has no audio stream that can be decoded (its format: {container.format.long_name})"
                )
    except AudioError:
        raise
    except (av.FFmpegError, EOFError, ValueError) as error:  # ValueError: the stream changes on its way
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"{label} is not audio, or is truncated: {reason}; copy or export it again") from error
    samples, track = _pick_track(tracks, label)
    if form == "mp3":
        _check_mp3(handle, track, label, tell)
    seconds = len(samples) / track.rate
    # Containers round lengths to packets: only a real gap is a cut.
    if seconds and track.seconds and track.seconds - seconds > max(0.25, 0.02 * track.seconds):
        raise AudioError(
            f"{label} is truncated: {seconds:.2f} of {track.seconds:.2f} seconds could be decoded; copy it again"
        )
    return samples, track.rate


def _decode_tracks(container: Any, label: str, longest: float, lenient: bool) -> list[_Track]:
    """Decode the audio streams of a container; lenient: leave out packets that are damaged."""
    # Those without a decoder, as the spatial sound that some telephones add, have no codec context; empty ones no rate.
    streams = [stream for stream in container.streams.audio if stream.codec_context is not None and stream.rate]
    tracks = {}
    for stream in streams:
        about = (stream.metadata.get("language"), stream.metadata.get("title"), stream.codec_context.name)
        tracks[stream.index] = _Track(", ".join(filter(None, about)), stream.rate, _stated_seconds(container, stream))
    resamplers = {index: av.AudioResampler(format="fltp") for index in tracks}
    for packet in container.demux(streams) if streams else ():
        track, as_float = tracks[packet.stream.index], resamplers[packet.stream.index]
        try:
            for frame in packet.decode():
                track.blocks += [part.to_ndarray().T for part in as_float.resample(frame)]
                track.frames += frame.samples
            _check_length(track.frames, track.rate, label, longest)
            track.packets += packet.size > 0
            track.size += packet.size
        except av.error.InvalidDataError:
            if not lenient:
                raise
    return list(tracks.values())


def _pick_track(tracks: list[_Track], label: str) -> tuple[np.ndarray, _Track]:
    """Return the samples (frames, channels) of the one track that holds sound, or of the first where none does."""
    decoded = [np.concatenate(track.blocks) if track.blocks else np.zeros((0, 1), np.float32) for track in tracks]
    heard = [number for number, samples in enumerate(decoded) if len(tracks) == 1 or silence_reason(samples) is None]
    if any(not np.array_equal(decoded[number], decoded[heard[0]]) for number in heard[1:]):
        named = "; ".join(f"{number}: {tracks[number].name}" for number in heard)
        raise AudioError(
            f"{label} has {len(heard)} different audio tracks ({named}): keep one of them, as "
            f"`ffmpeg -i FILE -map 0:a:{heard[0]} NEW.wav` does"
        )
    number = heard[0] if heard else 0
    return decoded[number], tracks[number]


def _check_mp3(handle: BinaryIO, track: _Track, label: str, tell: Tell) -> None:
    """Raise where an MP3 has fewer bytes and fewer frames than the tag in its first frame says; either may be wrong."""
    end = handle.seek(0, io.SEEK_END)
    handle.seek(0)
    tag = _tag_bytes(handle.read())
    handle.seek(tag)
    if found := _XING_TAG.search(handle.read(64)):
        frames, size = (struct.unpack(">I", number)[0] for number in found.groups())
        if track.packets < frames and end - tag < size:
            raise AudioError(f"{label} is truncated: {track.packets} of {frames} frames are there; copy it again")
    lost = end - tag - track.size
    if lost > _MP3_TAGS + 0.05 * end:
        tell(
            f"{lost} of its {end} bytes are damaged, or no sound, and are left out; copy it again if it is "
            "longer than what is read."
        )


def _stated_seconds(container: Any, stream: Any) -> float | None:
    """Return the length in seconds that the container's header states; None where there is only FFmpeg's guess."""
    if container.format.name in ("avi", "caf"):  # of a part, FFmpeg takes the part's end for its length
        return float(stream.frames * stream.time_base)
    if not container.format.name.startswith(_CONTAINERS_STATING_LENGTH):
        return None
    if stream.duration:
        return float(stream.duration * stream.time_base)
    # Matroska and WebM state one length for all; with a picture, it may be the picture's.
    return container.duration / av.time_base if container.duration and len(container.streams) == 1 else None


def stated_duration(handle: BinaryIO, label: str) -> float | None:
    """Return the length in seconds of a file whose header states it exactly; None of others."""
    first, *others = _parts(handle, label)
    file = None if others else _open_soundfile(_with_all_samples(first, label, warn(label)))
    if file is None:
        return None
    with file:
        rate = check_rate(file.samplerate, "its sampling rate", label)
        is_exact = file.format in _EXACT_FORMATS and not file.subtype.startswith("MPEG")
        return file.frames / rate if is_exact else None
