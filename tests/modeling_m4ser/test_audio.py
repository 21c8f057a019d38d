"""Audio input: every kind that is accepted gives the same waveform; every bad one a message that names it."""

import contextlib
import functools
import io
import math
import os
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch

from modeling_m4ser import audio_m4ser
from modeling_m4ser.audio_m4ser import AudioError, audio_duration, audio_name, load_audio
from modeling_m4ser.parts_m4ser import Part

RATE = 16000


def tone(seconds=0.5, rate=RATE, hertz=440.0):
    """A sine of amplitude 0.5, float32 (samples,)."""
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def encoded(samples, rate=RATE, form="WAV", **options):
    """The bytes of an audio file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=form, **options)
    return buffer.getvalue()


def tracks(sounds, form="mp4", codec="aac", target=None, **options):
    """The bytes of a file with a track for each of some sounds (samples,), or with a black picture and no sound."""
    target = target or io.BytesIO()
    with av.open(target, "w", format=form, options=options) as container:
        streams = [container.add_stream(codec, rate=RATE, layout="mono") for _ in sounds]
        for stream, samples in zip(streams, sounds, strict=True):
            frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), format="fltp", layout="mono")
            frame.rate, frame.pts = RATE, 0
            resampled = av.AudioResampler(stream.format.name).resample(frame)
            container.mux([packet for part in [*resampled, None] for packet in stream.encode(part)])
        if not sounds:
            stream = container.add_stream("mpeg4", rate=10, width=32, height=32)
            container.mux([p for part in (av.VideoFrame(32, 32, "yuv420p"), None) for p in stream.encode(part)])
    return target.getvalue() if isinstance(target, io.BytesIO) else Path(target).read_bytes()


def frequency(samples, rate=RATE):
    """The strongest frequency, in hertz."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum)) * rate / len(samples)


class Decoder:
    """What torchcodec gives in place of audio."""

    def __init__(self, samples, rate):
        self.data, self.sample_rate = torch.from_numpy(samples.T.copy()), rate

    def get_all_samples(self):
        return self


class Upload:
    """A file of a web framework: its `read` is asynchronous, the file itself is inside."""

    def __init__(self, read=None, data=None):
        self.filename = "a.wav"
        self.read = read or self._read
        if data is not None:
            self.file = io.BytesIO(data)

    async def _read(self):
        return self.file.read()


def written(path, data):
    path.write_bytes(data)
    return path


def pcm(samples, rate):
    return encoded(samples, rate, subtype="FLOAT")


#: Every form of audio: (samples (n, channels), rate, folder) -> it, and whether it states its rate.
FORMS = {
    "path": lambda x, rate, folder: written(folder / "a.wav", pcm(x, rate)),
    "string": lambda x, rate, folder: str(written(folder / "a.wav", pcm(x, rate))),
    "file address": lambda x, rate, folder: written(folder / "a.wav", pcm(x, rate)).as_uri(),
    "bytes": lambda x, rate, _: pcm(x, rate),
    "bytearray": lambda x, rate, _: bytearray(pcm(x, rate)),
    "memoryview": lambda x, rate, _: memoryview(pcm(x, rate)),
    "file object": lambda x, rate, _: io.BytesIO(pcm(x, rate)),
    "upload": lambda x, rate, _: Upload(data=pcm(x, rate)),
    "open file": lambda x, rate, folder: written(folder / "a.wav", pcm(x, rate)).open("rb"),
    "path dictionary": lambda x, rate, folder: {"path": str(written(folder / "a.wav", pcm(x, rate))), "bytes": None},
    "bytes dictionary": lambda x, rate, _: {"path": "gone.wav", "bytes": pcm(x, rate)},
    "array dictionary": lambda x, rate, _: {"path": "gone.wav", "array": x, "sampling_rate": rate},
    "raw dictionary": lambda x, rate, _: {"raw": x.T, "sampling_rate": rate},
    "decoder": lambda x, rate, _: Decoder(x, rate),
    "channels last": lambda x, rate, _: x,
    "channels first": lambda x, rate, _: x.T,
    "float64": lambda x, rate, _: x.astype(np.float64),
    "tensor": lambda x, rate, _: torch.from_numpy(x),
    "list": lambda x, rate, _: x.T.tolist(),
}
BARE = ("channels last", "channels first", "float64", "tensor", "list")


@pytest.fixture(params=FORMS)
def load(request, tmp_path):
    """(samples (n,) or (n, channels), rate, options) -> `load_audio` of them in one form."""

    def read(samples, rate=RATE, **options):
        samples = samples[:, None] if samples.ndim == 1 else samples
        options |= {"source_rate": rate} if request.param in BARE else {}
        audio = FORMS[request.param](samples, rate, tmp_path)
        with audio if request.param == "open file" else contextlib.nullcontext():
            return load_audio(audio, **options)

    return read


def test_every_form_gives_the_same_waveform(load):
    samples, other = tone(), tone(hertz=880.0)
    stereo = np.stack([samples, other], axis=1)
    loaded = load(samples)
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded, samples)
    np.testing.assert_array_equal(load(samples * 15), samples * 15, err_msg="floats over full scale stay")
    np.testing.assert_allclose(load(stereo), (samples + other) / 2, atol=1e-7)
    for channel, expected in ((0, samples), (np.int64(1), other)):
        np.testing.assert_array_equal(load(stereo, channel=channel), expected)
    np.testing.assert_array_equal(load(samples, channel=0), samples)
    slow = load(tone(rate=44100), 44100)
    assert slow.size == 8000
    assert slow.dtype == np.float32
    assert frequency(slow) == pytest.approx(440, abs=2)
    assert np.abs(slow[1000:7000]).max() == pytest.approx(0.5, abs=0.01)
    assert load(samples, sampling_rate=8000).size == 4000
    np.testing.assert_array_equal(load(np.stack([samples, samples * np.nan], 1), channel=0), samples)


def test_any_sound_is_the_same_in_every_form(load):
    """Of any rate, length, level and channels, silent and opposite ones among them."""
    rng = np.random.default_rng(7)
    for _ in range(12):
        rate = 10 * round(float(np.exp(rng.uniform(np.log(400), np.log(9600)))))
        length, channels = int(np.exp(rng.uniform(np.log(99), np.log(rate)))), int(rng.integers(1, 5))
        wave = rng.normal(size=(length, 1 if rng.random() < 0.3 else channels)) * rng.choice([0, 1, -1], channels)
        level = np.exp(rng.uniform(np.log(1), np.log(60000)))  # over 32767 it clips
        samples = np.clip(np.rint(wave * level), -32768, 32767).astype(np.int16)
        channel = None if rng.random() < 0.8 else int(rng.integers(channels))
        expected = load_audio(samples, source_rate=rate, channel=channel)
        loaded = load((samples / 32768).astype(np.float32), rate, channel=channel)
        np.testing.assert_allclose(loaded, expected, atol=1e-6, err_msg=f"{samples.shape} at {rate}")


def test_a_wav_cut_anywhere_is_refused():
    whole = encoded(tone(0.02))
    for cut in range(len(whole)):
        # But as where the header is counted among the samples.
        if len(whole) - cut not in (44, 36):
            with pytest.raises(AudioError):
                load_audio(whole[:cut])


def test_every_form_is_checked(load, caplog):
    """What is wrong is named; what is odd is warned of once."""
    samples = tone()
    broken = samples.copy()
    broken[100] = np.nan
    stored = np.round(samples * 32767)
    for audio, channel, message in (
        (broken, None, "clip 7 holds NaN or infinite samples"),
        (np.stack([samples, -np.inf * np.ones_like(samples)], 1), 1, "clip 7 holds NaN or infinite samples"),
        (stored, None, r"clip 7 holds floats up to 163\d\d, .*divide them by 32768 .* int16"),
        (np.zeros((0, 1), np.float32), None, "clip 7 holds no audio samples"),
        (np.stack([samples] * 2, 1), 2, "clip 7 has 2 channels: channel=2 is not there"),
        (samples, 1, "clip 7 has 1 channel: channel=1 is not there"),
    ):
        with pytest.raises(AudioError, match=message):
            load(audio, name="clip 7", channel=channel)
    poles = np.stack([0.8 * samples, -samples], axis=1)
    for _ in range(2):
        assert load(np.zeros(44100, np.float32), 44100, name="off").shape == (RATE,)
        load(np.full(44100, 0.25, np.float32), 44100, name="current")
        np.testing.assert_array_equal(load(poles, name="poles"), poles[:, 1])
    np.testing.assert_array_equal(load(poles, name="poles", channel=0), poles[:, 0])
    warned = [record.getMessage() for record in caplog.records]
    assert len(warned) == 3
    assert warned[0].startswith("off holds no sound (silent: every sample is zero): what is recognised in it means")
    assert warned[1].startswith("current holds no sound (constant: every sample is the same)")
    assert warned[2].startswith("poles: its 2 channels cancel each other")
    assert "channel 1, the strongest, is read alone" in warned[2]


@pytest.mark.parametrize("kind", ["file object", "open file", "upload"])
def test_an_open_file_is_read_from_its_start(kind, tmp_path):
    """Where a form's writer, or a reading before, left it; a stream that cannot go back from where it is."""
    audio = FORMS[kind](tone()[:, None], RATE, tmp_path)
    file = getattr(audio, "file", audio)
    with file:
        for place in (0, 99, 10**6):
            file.seek(place)
            np.testing.assert_array_equal(load_audio({"bytes": audio}), tone())
            assert audio_duration(audio) == 0.5
    reading, writing = os.pipe()
    with open(reading, "rb") as pipe:
        with open(writing, "wb") as end:
            end.write(pcm(tone(), RATE))
        np.testing.assert_array_equal(load_audio(pipe), tone())


@pytest.mark.parametrize("rate", [16000, 16000.0, np.int32(16000), np.array([16000.0]), torch.tensor([16000])])
def test_a_rate_is_any_one_number(rate):
    stated = load_audio({"array": tone(), "sampling_rate": rate}, source_rate=8000)  # of bare waveforms
    np.testing.assert_array_equal(stated, tone())


@pytest.fixture
def wav(tmp_path):
    """A file of half a second."""
    return written(tmp_path / "tone.wav", encoded(tone(), subtype="FLOAT"))


def test_url(wav):
    handler = functools.partial(SimpleHTTPRequestHandler, directory=wav.parent)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        np.testing.assert_array_equal(load_audio(f"{address}/tone.wav"), tone())
        with pytest.raises(AudioError, match=r"other.wav cannot be downloaded.*404"):
            load_audio(f"{address}/other.wav")
        server.shutdown()
    with pytest.raises(AudioError, match="cannot be downloaded"):
        load_audio(f"{address}/tone.wav")


@pytest.mark.parametrize(
    ("audio", "name"),
    [
        ("a.wav", "a.wav"),
        (Path("b/a.wav"), str(Path("b/a.wav"))),
        ({"path": "a.wav", "bytes": b"x"}, "a.wav"),
        ({"path": None, "bytes": b"x"}, None),
        ({"array": [0.0], "sampling_rate": RATE}, None),
        (b"x", None),
        (io.BytesIO(b"x"), None),
        (Upload(data=b"x"), "a.wav"),
        ("", None),
        (np.zeros(3), None),
    ],
)
def test_the_name_of_audio(audio, name):
    assert audio_name(audio) == name


def share(data, part):
    return data[: int(part * len(data))]


NOISE = np.random.default_rng(0).uniform(-0.3, 0.3, 32000).astype(np.float32)
BAD_FILES = {
    "not audio": (lambda: b"\0Dear diary, " * 500, "not audio"),
    "random": (lambda: np.random.default_rng(0).bytes(5000), "not audio"),
    "empty": (lambda: b"", "empty .0 bytes."),
    "header": (lambda: encoded(np.zeros(0)), "no audio samples"),
    "most.wav": (lambda: share(encoded(NOISE), 0.99), "truncated: .* bytes of samples"),
    "half.aiff": (lambda: share(encoded(NOISE, form="AIFF"), 0.5), "truncated: .* bytes of samples"),
    "most.rf64": (lambda: share(encoded(NOISE, form="RF64"), 0.99), "truncated: .* bytes of samples"),
    "most.mp3": (lambda: share(encoded(NOISE, form="MP3"), 0.95), "truncated: .* of .* frames"),
    "most.mkv": (lambda: share(tracks([tone(4)], "matroska"), 0.9), r"truncated: .* of 4.* seconds could be decoded"),
    "silent film.mp4": (lambda: tracks([]), "no audio stream"),
}


@pytest.mark.parametrize("read", [load_audio, audio_duration])
@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_refused_by_name(tmp_path, name, read):
    """Whether decoded or only measured."""
    make, message = BAD_FILES[name]
    with pytest.raises(AudioError, match=f"{name}.*{message}"):
        read(written(tmp_path / name, make()))


@pytest.mark.parametrize("read", [load_audio, audio_duration])
def test_what_is_no_file_is_refused_by_name(tmp_path, read):
    for path, message in ((tmp_path / "gone.wav", "no such audio file; check the path"), (tmp_path, "is a folder")):
        with pytest.raises(AudioError, match=f"{path.name}.*{message}"):
            read(path)


@pytest.mark.parametrize("part", [0.5, 0.95])
def test_a_cut_flac_is_not_half_a_recording(part):
    with pytest.raises(AudioError, match="truncated"):
        load_audio(share(encoded(NOISE, form="FLAC"), part))


def test_a_cut_mp4_with_its_index_in_front_is_not_half_a_recording(tmp_path):
    data = tracks([tone(4)], target=str(tmp_path / "whole.mp4"), movflags="faststart")
    assert load_audio(data).size >= 64000
    with pytest.raises(AudioError, match="truncated"):
        load_audio(share(data, 0.5))


def test_a_length_guessed_from_the_bit_rate_is_not_believed():
    # FFmpeg takes the bit rate of the start for all of a bare AAC stream; here silence precedes noise.
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 16000).astype(np.float32)
    data = tracks([np.concatenate([np.zeros(64000, np.float32), noise])], "adts")
    assert load_audio(data).size == pytest.approx(80000, abs=3 * 1024)
    assert audio_duration(data) == pytest.approx(5, abs=0.2)


def test_a_playlist_cannot_reach_other_files(tmp_path):
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(tracks([tone()]))
    for odd, message in (("", "is text, not audio"), ("#\1\n", "is not audio")):  # with the sign it is no text
        playlist = f"#EXTM3U\n{odd}#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret.as_uri()}\n#EXT-X-ENDLIST\n"
        (tmp_path / "a.m3u8").write_text(playlist)
        (tmp_path / "a.ffconcat").write_text(f"ffconcat version 1.0\n{odd}file secret.mp4\n")
        for name in ("a.m3u8", "a.ffconcat"):
            with pytest.raises(AudioError, match=f"{name} {message}"):
                load_audio(tmp_path / name)


def closed(file):
    file.close()
    return file


UNREADABLE = (torch.rand(9).to_sparse(), torch.rand(9, device="meta"))
BAD_RATES = (0, -16000, "16k", math.nan, np.zeros(2), torch.tensor([8000] * 2), [RATE], True, 16, 3999, 768001, 1e6)


@pytest.mark.parametrize(
    ("audio", "options", "message"),
    [
        (tone(), {}, 'sampling rate of the waveform is missing; write {"array": …, "sampling_rate": …} in its place'),
        ({"array": tone()}, {}, 'missing; add its "sampling_rate" to the dictionary'),
        ({"raw": tone(), "path": "a.wav"}, {}, "a.wav: the sampling rate"),
        *(
            (tone(), {"source_rate": rate}, "rate must be a number of hertz from 4000 to 768000, such as 16000, got")
            for rate in BAD_RATES
        ),
        ({"array": tone(), "sampling_rate": 16}, {}, "sampling rate must be a number of hertz from 4000 .* got 16"),
        (tone(), {"sampling_rate": 0}, "sampling_rate must be a number"),
        *((np.ones((2, 9)), {"channel": channel}, "counted from 0, got") for channel in (-1, True, 0.0, "0", [0])),
        ([], {}, "no audio samples"),
        (np.zeros((2, 0)), {}, "no audio samples"),
        (np.zeros(1), {"source_rate": 48000}, "too few to resample"),
        *((np.zeros(shape), {}, "is no waveform") for shape in ((33, 99), (99, 33), (1, 2, 300), ())),
        (np.array(["a"]), {}, "a waveform holds floats"),
        ([[1.0], [1.0, 2.0]], {}, "not a waveform"),
        *((tensor, {}, r"a tensor that numpy cannot read \(torch.*dense.*dequantize") for tensor in UNREADABLE),
        (np.ma.masked_less(tone(), 0), {}, "holds masked samples"),
        (tone(), {"source_rate": np.ma.array(RATE, mask=True)}, "rate must be a number"),
        (tone(), {"source_rate": torch.empty(1, device="meta")}, "rate must be a number"),
        ({"path": "a\nb.wav"}, {}, "^a b.wav: no such audio file.*$"),
        (np.array([0, 12000]), {}, "64-bit integers, whose full scale is unknown"),
        ({"path": None, "bytes": None}, {}, 'needs a value under "path", "bytes" or "array"'),
        ({"text": "hello"}, {}, "its keys: 'text'"),
        ("", {}, "empty string"),
        ("/dev/null", {}, "null is a pipe or a device"),
        (b"", {}, "the audio bytes is empty"),
        (None, {}, "not NoneType"),
        (io.StringIO("words"), {}, "binary mode"),
        (closed(io.BytesIO(b"x")), {}, "is a closed file"),
        (Upload(lambda: [1]), {}, "gives list, not bytes"),
    ],
)
def test_bad_arguments(audio, options, message):
    if "missing" not in message and "sampling rate" not in message:
        options = {"source_rate": RATE, **options}
    with pytest.raises(AudioError, match=message):
        load_audio(audio, **options)


@pytest.mark.parametrize("read", [load_audio, audio_duration])
@pytest.mark.parametrize(("rate", "fits"), [(4000, True), (768_000, True), (1000, False), (1_000_000, False)])
def test_files_at_rates_that_are_none(rate, fits, read):
    with contextlib.nullcontext() if fits else pytest.raises(AudioError, match=f"its sampling rate .* got {rate}"):
        read(encoded(tone(rate=4000), rate), name="clip 7")


def test_duration(monkeypatch, wav):
    assert audio_duration({"array": np.zeros((2, 4000)), "sampling_rate": 8000}) == 0.5
    assert audio_duration(np.zeros(400), source_rate=4000) == pytest.approx(0.1)
    monkeypatch.setattr(audio_m4ser, "decode_audio", None)  # headers tell the rest
    assert audio_duration(wav) == 0.5
    assert audio_duration("absent.wav", part=Part(1.0, 3.5)) == 2.5, "it says so itself"
    assert audio_duration(encoded(tone(0.25, 48000), 48000, "FLAC")) == 0.25


def test_without_the_packages_arrays_work_and_files_say_what_to_install(wav):
    code = (
        "import sys\n"
        "for name in ('soundfile', 'soxr', 'av'): sys.modules[name] = None\n"
        "import importlib, types, numpy as np\n"
        "package = sys.modules['copied'] = types.ModuleType('copied')\n"
        "package.__path__ = [sys.argv[1]]\n"
        "audio = importlib.import_module('copied.audio_m4ser')\n"
        "print(audio.load_audio(np.ones(5), source_rate=16000).shape)\n"
        "for options in ({'audio': sys.argv[2]}, {'audio': np.ones(5), 'source_rate': 8000}):\n"
        "    try: audio.load_audio(**options)\n"
        "    except ImportError as error: print(error)\n"
    )
    folder = Path(audio_m4ser.__file__).parent
    done = subprocess.run([sys.executable, "-c", code, folder, wav], capture_output=True, text=True, check=True)
    first, second, third = done.stdout.splitlines()
    assert first == "(5,)"
    assert "tone.wav needs soundfile and av: pip install soundfile av" in second
    assert "needs soxr: pip install soxr" in third
