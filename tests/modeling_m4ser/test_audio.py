"""Audio input: every kind that is accepted gives the same waveform; every bad one a message that names it."""

import contextlib
import io
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch

from modeling_m4ser import audio_m4ser
from modeling_m4ser.audio_m4ser import AudioError, audio_duration, audio_name, decode_audio, load_audio

RATE = 16000


def tone(seconds=0.5, rate=RATE, hertz=440.0):
    """A sine of amplitude 0.5, float32 (samples,)."""
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def encoded(samples, rate=RATE, form="WAV", **options):
    """The bytes of an audio file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=form, **options)
    return buffer.getvalue()


def mp4(samples, rate=RATE, video=False, target=None, form="mp4", **options):
    """The bytes of an mp4 (or other) file with AAC sound (samples,), or with a black picture and no sound."""
    target = target or io.BytesIO()
    with av.open(target, "w", format=form, options=options) as container:
        if video:
            stream = container.add_stream("mpeg4", rate=10)
            stream.width = stream.height = 32
            frames = [av.VideoFrame(32, 32, "yuv420p") for _ in range(5)]
        else:
            stream = container.add_stream("aac", rate=rate)
            stream.layout = "mono"
            frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
            frame.rate = rate
            frames = [frame]
        for frame in [*frames, None]:
            container.mux(stream.encode(frame))
    return target.getvalue() if isinstance(target, io.BytesIO) else Path(target).read_bytes()


def frequency(samples, rate=RATE):
    """The strongest frequency, in hertz."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum)) * rate / len(samples)


@pytest.fixture
def wav(tmp_path):
    """A file of half a second."""
    path = tmp_path / "tone.wav"
    path.write_bytes(encoded(tone(), subtype="FLOAT"))
    return path


def test_every_kind_of_input_gives_the_same_waveform(wav):
    data, samples = wav.read_bytes(), tone()
    kinds = {
        "path": load_audio(wav),
        "string": load_audio(str(wav)),
        "bytes": load_audio(data),
        "bytearray": load_audio(bytearray(data)),
        "file object": load_audio(io.BytesIO(data)),
        "array": load_audio(samples, source_rate=RATE),
        "float64": load_audio(samples.astype(np.float64), source_rate=RATE),
        "tensor": load_audio(torch.from_numpy(samples), source_rate=RATE),
        "list": load_audio(samples.tolist(), source_rate=RATE),
        "path dictionary": load_audio({"path": str(wav), "bytes": None}),
        "bytes dictionary": load_audio({"path": "gone.wav", "bytes": data}),
        "array dictionary": load_audio({"path": "gone.wav", "array": samples, "sampling_rate": RATE}),
        "raw dictionary": load_audio({"raw": samples, "sampling_rate": RATE}),
    }
    with open(wav, "rb") as file:
        kinds["open file"] = load_audio(file)
    for kind, loaded in kinds.items():
        assert loaded.dtype == np.float32, kind
        assert loaded.shape == (8000,), kind
        np.testing.assert_array_equal(loaded, samples, err_msg=kind)


def test_torchcodec_decoders_are_read():
    class Decoder:
        def get_all_samples(self):
            return type("Samples", (), {"data": torch.ones(2, 80), "sample_rate": RATE})

    np.testing.assert_array_equal(load_audio(Decoder()), np.ones(80, np.float32))


@contextlib.contextmanager
def served(data):
    """The address of a local server that answers /tone.wav with `data` and anything else with 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            found = self.path == "/tone.wav"
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", str(len(data) if found else 0))
            self.end_headers()
            if found:
                self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_url(wav):
    with served(wav.read_bytes()) as address:
        np.testing.assert_array_equal(load_audio(f"{address}/tone.wav"), tone())
        with pytest.raises(AudioError, match=r"other.wav cannot be downloaded.*404"):
            load_audio(f"{address}/other.wav")
    with pytest.raises(AudioError, match="cannot be downloaded"):
        load_audio(f"{address}/tone.wav")


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3", "AIFF", "RF64"])
def test_formats_of_soundfile(form):
    loaded = load_audio(encoded(tone(), form=form))
    assert loaded.shape == (8000,)
    assert frequency(loaded) == pytest.approx(440, abs=2)


def test_mp4_goes_through_pyav():
    data = mp4(tone())
    loaded = load_audio(data)
    assert 8000 <= loaded.size <= 8000 + 3 * 1024  # AAC fills whole packets
    assert frequency(loaded[1024:8000]) == pytest.approx(440, abs=3)
    assert audio_duration(data) == pytest.approx(0.5, abs=0.2)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_any_rate_is_resampled(rate):
    for loaded in (load_audio(encoded(tone(rate=rate), rate)), load_audio(tone(rate=rate), source_rate=rate)):
        assert loaded.dtype == np.float32
        assert abs(loaded.size - 8000) <= 1
        assert frequency(loaded) == pytest.approx(440, abs=2)
        assert np.abs(loaded[1000:7000]).max() == pytest.approx(0.5, abs=0.01)
    assert load_audio(tone(), sampling_rate=rate, source_rate=RATE).size == pytest.approx(rate / 2, abs=1)


def test_channels_are_averaged():
    left, right = tone(), np.zeros(8000, np.float32)
    stereo = np.stack([left, right], axis=1)
    for loaded in (
        load_audio(encoded(stereo, subtype="FLOAT")),
        load_audio(stereo, source_rate=RATE),
        load_audio(stereo.T, source_rate=RATE),
    ):
        np.testing.assert_allclose(loaded, left / 2, atol=1e-7)
    np.testing.assert_array_equal(load_audio(left[None], source_rate=RATE), left)


def test_a_channel_can_be_chosen():
    left, right = tone(), tone(hertz=880.0)
    stereo = np.stack([left, right], axis=1)
    kinds = {
        "file": (encoded(stereo, subtype="FLOAT"), {}),
        "channels last": (stereo, {"source_rate": RATE}),
        "channels first": (stereo.T, {"source_rate": RATE}),
        "tensor": (torch.from_numpy(stereo), {"source_rate": RATE}),
        "dictionary": ({"array": stereo.T, "sampling_rate": RATE}, {}),
    }
    for kind, (audio, options) in kinds.items():
        for channel, expected in ((0, left), (1, right), (np.int64(1), right)):
            np.testing.assert_array_equal(load_audio(audio, channel=channel, **options), expected, err_msg=kind)
            samples, rate = decode_audio(audio, channel=channel, **options)
            np.testing.assert_array_equal(samples, expected, err_msg=kind)
            assert rate == RATE
        with pytest.raises(AudioError, match="clip 7 has 2 channels: channel=2 is not there"):
            load_audio(audio, channel=2, name="clip 7", **options)
    for mono in (encoded(left, subtype="FLOAT"), {"array": left, "sampling_rate": RATE}):
        np.testing.assert_array_equal(load_audio(mono, channel=0), left)
        with pytest.raises(AudioError, match="has 1 channel: channel=1 is not there"):
            load_audio(mono, channel=1)
    assert frequency(load_audio(encoded(stereo), sampling_rate=8000, channel=1), 8000) == pytest.approx(880, abs=2)


def test_what_is_wrong_with_another_channel_does_not_matter():
    broken = np.stack([tone(), np.full(8000, np.nan, np.float32)])
    np.testing.assert_array_equal(load_audio(broken, source_rate=RATE, channel=0), tone())
    for channel in (None, 1):
        with pytest.raises(AudioError, match="NaN or infinite"):
            load_audio(broken, source_rate=RATE, channel=channel)


@pytest.mark.parametrize("channel", [-1, True, 0.0, "0", [0]])
def test_a_channel_is_a_whole_number_from_zero(channel):
    with pytest.raises(AudioError, match="channel must be a whole number, counted from 0, got"):
        load_audio(np.ones((2, 100)), source_rate=RATE, channel=channel)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([-(2**15), 0, 2**14], np.int16), [-1, 0, 0.5]),
        (np.array([-(2**31), 0, 2**30], np.int32), [-1, 0, 0.5]),
        (np.array([-128, 0, 64], np.int8), [-1, 0, 0.5]),
        (np.array([0, 128, 192], np.uint8), [-1, 0, 0.5]),
        ([0, 0, 1], [0, 0, 1]),
    ],
    ids=["int16", "int32", "int8", "uint8", "plain integers within [-1, 1]"],
)
def test_integers_are_scaled_to_one(values, expected):
    np.testing.assert_allclose(load_audio(values, source_rate=RATE), expected, atol=1e-9)
    if isinstance(values, np.ndarray) and values.dtype == np.int16:
        stereo = np.stack([values] * 2)
        np.testing.assert_allclose(load_audio(torch.from_numpy(stereo), source_rate=RATE), expected, atol=1e-9)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_integers_stored_as_floats_are_refused(dtype):
    stored = np.round(tone() * 32767).astype(dtype)
    kinds = [stored, stored.tolist(), torch.from_numpy(stored), np.stack([stored] * 2)]
    for audio in kinds:
        with pytest.raises(AudioError, match=r"clip 7 holds floats up to 163\d\d, .*divide them by 32768 .* int16"):
            load_audio(audio, source_rate=RATE, name="clip 7")
    np.testing.assert_allclose(load_audio(stored / 32768, source_rate=RATE), tone(), atol=1e-3)


def test_a_file_of_integers_stored_as_floats_is_refused(tmp_path):
    path = tmp_path / "as floats.wav"
    path.write_bytes(encoded(np.round(tone() * 32767), subtype="DOUBLE"))
    with pytest.raises(AudioError, match=r"as floats\.wav holds floats up to 163"):
        load_audio(path)


def test_floats_over_full_scale_stay():
    np.testing.assert_array_equal(load_audio(tone() * 15, source_rate=RATE), tone() * 15)
    np.testing.assert_array_equal(load_audio(encoded(tone() * 15, subtype="FLOAT")), tone() * 15)


def test_sixteen_bits_in_wider_integers_are_refused():
    stored = np.round(tone() * 32767).astype(np.int32)
    for audio in (stored, torch.from_numpy(stored)):
        with pytest.raises(AudioError, match=r"the audio array holds 32-bit integers up to 163.*convert it to int16"):
            load_audio(audio, source_rate=RATE)
    np.testing.assert_allclose(load_audio(stored << 16, source_rate=RATE), tone(), atol=1e-3)


def test_channels_that_cancel_are_read_one_at_a_time(tmp_path, caplog):
    stereo = np.stack([0.8 * tone(), -tone()], axis=1)
    path = tmp_path / "poles.wav"
    path.write_bytes(encoded(stereo, subtype="FLOAT"))
    given = {"source_rate": RATE}
    kinds = [(path, {}), (path, {}), (stereo, given), (stereo.T, given), (torch.from_numpy(stereo), given)]
    for audio, options in kinds:
        np.testing.assert_array_equal(load_audio(audio, **options), stereo[:, 1])
    warned = [record.getMessage() for record in caplog.records]
    assert len(warned) == 2, "once for the file, once for the samples without a name"
    assert warned[0].startswith(f"{path}: its 2 channels cancel each other")
    assert "channel 1, the strongest, is read alone" in warned[0]
    assert warned[1].startswith("the audio array: its 2 channels cancel")
    np.testing.assert_array_equal(load_audio(path, channel=0), stereo[:, 0])
    assert len(caplog.records) == 2


@pytest.mark.parametrize("rate", [RATE, 44100])
def test_a_recording_without_sound_is_read_with_one_warning(tmp_path, caplog, rate):
    paths = [tmp_path / name for name in ("off.wav", "off too.wav", "current.wav")]
    for path, level in zip(paths, (0.0, 0.0, 0.25), strict=True):
        path.write_bytes(encoded(np.full(rate, level), rate))
        for _ in range(2):
            assert load_audio(path).shape == (RATE,)
    warned = [record.getMessage() for record in caplog.records]
    assert [text.split(" holds no sound (")[0] for text in warned] == [str(path) for path in paths]
    assert "silent: every sample is zero" in warned[0]
    assert "constant: every sample is the same" in warned[2]
    decode_audio(encoded(np.zeros(123)))
    load_audio(tone(), source_rate=rate)
    assert len(caplog.records) == 3, "decode_audio leaves silence to its caller"


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
        ("", None),
        (np.zeros(3), None),
    ],
)
def test_the_name_of_audio(audio, name):
    assert audio_name(audio) == name


def test_silence_and_ten_milliseconds_are_audio():
    assert load_audio(encoded(np.zeros(16000))).tolist() == [0.0] * 16000
    assert load_audio(encoded(tone(0.01))).size == 160
    assert load_audio(encoded(tone(0.01, rate=48000), 48000)).size == 160


@pytest.mark.parametrize("read", [load_audio, audio_duration])
class TestBadFiles:
    """Each is refused by name, whether decoded or only measured."""

    def refuse(self, read, path, message):
        with pytest.raises(AudioError, match=message) as caught:
            read(path)
        assert path.name in str(caught.value)

    def written(self, folder, data, name="bad.wav"):
        path = folder / name
        path.write_bytes(data)
        return path

    def test_missing(self, read, tmp_path):
        self.refuse(read, tmp_path / "gone.wav", "no such audio file; check the path")

    def test_folder(self, read, tmp_path):
        self.refuse(read, tmp_path, "is a folder")

    def test_empty(self, read, tmp_path):
        self.refuse(read, self.written(tmp_path, b""), "empty .0 bytes.")

    def test_not_audio(self, read, tmp_path):
        self.refuse(read, self.written(tmp_path, b"Dear diary, " * 500), "not audio")

    def test_random_bytes(self, read, tmp_path):
        self.refuse(read, self.written(tmp_path, np.random.default_rng(0).bytes(5000)), "not audio")

    @pytest.mark.parametrize("form", ["WAV", "AIFF", "RF64"])
    @pytest.mark.parametrize("share", [0.5, 0.99])
    def test_cut_off(self, read, tmp_path, form, share):
        data = encoded(tone(2), form=form)
        self.refuse(read, self.written(tmp_path, data[: int(share * len(data))]), "truncated: .* bytes of samples")

    def test_header_alone(self, read, tmp_path):
        self.refuse(read, self.written(tmp_path, encoded(np.zeros(0))), "no audio samples")

    def test_no_sound_in_a_video(self, read, tmp_path):
        self.refuse(read, self.written(tmp_path, mp4(None, video=True), "silent film.mp4"), "no audio stream")

    def test_mp4_without_its_end(self, read, tmp_path):
        data = mp4(tone(2))
        self.refuse(read, self.written(tmp_path, data[: len(data) // 2], "cut.mp4"), "truncated")


@pytest.mark.parametrize("form", ["FLAC", "MP3"])
@pytest.mark.parametrize("share", [0.5, 0.95])
def test_a_cut_compressed_file_is_not_half_a_recording(tmp_path, form, share):
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 32000)
    data = encoded(noise, form=form)
    path = tmp_path / f"cut.{form.lower()}"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(AudioError, match=r"cut.*truncated"):
        load_audio(path)


def test_a_cut_mp4_with_its_index_in_front_is_not_half_a_recording(tmp_path):
    data = mp4(tone(4), target=str(tmp_path / "whole.mp4"), movflags="faststart")
    assert load_audio(data).size >= 64000
    with pytest.raises(AudioError, match="truncated"):
        load_audio(data[: len(data) // 2])


def test_a_cut_matroska_file_is_not_half_a_recording():
    data = mp4(tone(4), form="matroska")
    assert load_audio(data).size >= 64000
    with pytest.raises(AudioError, match=r"truncated: .* of 4.* seconds could be decoded"):
        load_audio(data[: len(data) // 2])


def test_a_length_guessed_from_the_bit_rate_is_not_believed():
    # FFmpeg takes the bit rate of the start for all of a bare AAC stream; here silence precedes noise.
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 16000).astype(np.float32)
    data = mp4(np.concatenate([np.zeros(64000, np.float32), noise]), form="adts")
    assert load_audio(data).size == pytest.approx(80000, abs=3 * 1024)
    assert audio_duration(data) == pytest.approx(5, abs=0.2)


def test_lengths_that_a_stream_left_open_are_no_cut():
    wav, flac = bytearray(encoded(tone())), bytearray(encoded(tone(), form="FLAC"))
    wav[4:8] = wav[40:44] = b"\xff" * 4  # sizes a program writing into a pipe cannot know
    flac[21] &= 0xF0
    flac[22:26] = bytes(4)
    for data in (wav, flac):
        assert load_audio(data).size == 8000
        assert audio_duration(data) == 0.5


def test_a_playlist_cannot_reach_other_files(tmp_path):
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(mp4(tone()))
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret.as_uri()}\n#EXT-X-ENDLIST\n"
    (tmp_path / "a.m3u8").write_text(playlist)
    (tmp_path / "a.ffconcat").write_text("ffconcat version 1.0\nfile secret.mp4\n")
    for name in ("a.m3u8", "a.ffconcat"):
        with pytest.raises(AudioError, match=f"{name} is text, not audio"):
            load_audio(tmp_path / name)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers(tmp_path, bad):
    samples = tone()
    samples[100] = bad
    path = tmp_path / "overflow.wav"
    path.write_bytes(encoded(samples, subtype="FLOAT"))
    with pytest.raises(AudioError, match=r"overflow.wav holds NaN or infinite samples"):
        load_audio(path)
    with pytest.raises(AudioError, match="clip 7 holds NaN or infinite samples"):
        load_audio(samples, source_rate=RATE, name="clip 7")


@pytest.mark.parametrize(
    ("audio", "options", "message"),
    [
        (tone(), {}, "sampling rate of the waveform is missing; pass source_rate"),
        ({"array": tone()}, {}, 'missing; add its "sampling_rate" to the dictionary'),
        ({"raw": tone(), "path": "a.wav"}, {}, "a.wav: the sampling rate"),
        (tone(), {"source_rate": 0}, "sampling rate must be a positive number of hertz, got 0"),
        (tone(), {"source_rate": -16000}, "positive number of hertz, got -16000"),
        (tone(), {"source_rate": "16k"}, "positive number of hertz, got '16k'"),
        (tone(), {"source_rate": float("nan")}, "positive number of hertz"),
        (tone(), {"source_rate": RATE, "sampling_rate": 0}, "sampling_rate must be a positive"),
        ([], {"source_rate": RATE}, "no audio samples"),
        (np.zeros((2, 0)), {"source_rate": RATE}, "no audio samples"),
        (np.zeros(1), {"source_rate": 48000}, "too few to resample"),
        (np.zeros((80, 300)), {"source_rate": RATE}, r"shape \(80, 300\) is no waveform"),
        (np.zeros((1, 2, 300)), {"source_rate": RATE}, "is no waveform"),
        (np.array(["a"]), {"source_rate": RATE}, "a waveform holds floats"),
        ([[1.0], [1.0, 2.0]], {"source_rate": RATE}, "not a waveform"),
        (np.array([0, 12000]), {"source_rate": RATE}, "64-bit integers, whose full scale is unknown"),
        ({"path": None, "bytes": None}, {}, 'needs a value under "path", "bytes" or "array"'),
        ({"text": "hello"}, {}, "its keys: 'text'"),
        ("", {}, "empty string"),
        (b"", {}, "the audio bytes is empty"),
        (None, {}, "not NoneType"),
        (io.StringIO("words"), {}, "binary mode"),
    ],
)
def test_bad_arguments(audio, options, message):
    with pytest.raises(AudioError, match=message):
        load_audio(audio, **options)


def test_duration(wav):
    assert audio_duration(wav) == 0.5
    assert audio_duration(encoded(tone(0.25, 48000), 48000, "FLAC")) == 0.25
    assert audio_duration({"array": np.zeros((2, 4000)), "sampling_rate": 8000}) == 0.5
    assert audio_duration(np.zeros(100), source_rate=1000) == pytest.approx(0.1)


def test_duration_comes_from_the_header(monkeypatch, wav):
    monkeypatch.setattr(audio_m4ser, "decode_audio", None)
    assert audio_duration(wav) == 0.5


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
