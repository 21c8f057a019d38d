"""Lengths are those of what is decoded, whatever headers say; tracks; addresses of files."""

import struct

import numpy as np
import pytest

from modeling_m4ser import decoding_m4ser
from modeling_m4ser.audio_m4ser import AudioError, audio_duration, decode_audio, load_audio, stream_audio
from modeling_m4ser.levels_m4ser import TooLongError
from modeling_m4ser.parts_m4ser import Part, PartError
from tests.modeling_m4ser.test_audio import NOISE, encoded, frequency, tone, tracks


def stale(whole, order="<I", **sizes):
    """A file whose chunks state other sizes."""
    data = bytearray(whole)
    for name, size in sizes.items():
        struct.pack_into(order, data, whole.index(name.encode()) + 4, size)
    return bytes(data)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF])
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_wav_whose_recorder_died_is_read_to_its_end(size, subtype, channels, caplog):
    whole = encoded(np.stack([tone()] * channels, axis=1), subtype=subtype)
    for riff in (size, 36):
        died = stale(whole, data=size, RIFF=riff)
        np.testing.assert_array_equal(load_audio(died), load_audio(whole))
        assert audio_duration(died) == 0.5
    assert ("its header counts 0 bytes of samples, but" in caplog.text) == (size == 0)


def test_a_died_rf64_is_read_to_its_end():
    whole = encoded(tone(), form="RF64")
    died = bytearray(stale(whole, data=0xFFFFFFFF))
    struct.pack_into("<QQQ", died, whole.index(b"ds64") + 8, 0, 0, 0)
    np.testing.assert_array_equal(load_audio(bytes(died)), load_audio(whole))


@pytest.mark.parametrize("after", [b"", b"LIST\x04\0\0\0INFO", b"LIST\x05\0\0\0INFOx"])
def test_a_wav_without_samples_stays_empty(after):
    with pytest.raises(AudioError, match="its length is zero"):
        load_audio(encoded(np.zeros(0)) + after)


@pytest.mark.parametrize(
    ("whole", "counted"),
    [
        (encoded(tone()), lambda whole: stale(whole, data=8000)),
        (encoded(tone(), subtype="FLOAT"), lambda whole: stale(whole, data=8)),
        (encoded(tone(), endian="BIG"), lambda whole: stale(whole, ">I", data=8000)),
        (encoded(tone(), form="AIFF"), lambda whole: stale(whole, ">I", SSND=8008)),
        (encoded(tone(), form="AIFF"), lambda whole: stale(whole, ">I", SSND=0)),
        (encoded(tone(), form="RF64"), lambda whole: whole.replace(struct.pack("<Q", 16000), struct.pack("<Q", 4000))),
    ],
    ids=["WAV", "float WAV", "RIFX", "AIFF", "AIFF of 0", "RF64"],
)
def test_samples_that_a_header_does_not_count_are_read(whole, counted, caplog):
    np.testing.assert_array_equal(load_audio(counted(whole)), load_audio(whole))
    assert audio_duration(counted(whole)) == 0.5
    assert "more follow, as where a recorder was switched off before it could finish" in caplog.text


def test_samples_in_several_pieces_are_refused():
    """As decoders read the first alone."""
    piece = encoded(tone())[36:]
    with pytest.raises(AudioError, match="the audio bytes holds its samples in several pieces: export it again as one"):
        load_audio(encoded(tone()) + b"LIST\x04\0\0\0INFO" + piece)


ID3 = b"ID3\x04\0\0\0\0\x02\x01" + bytes(257)
XML = b"iXML\x88\x13\0\0" + b"<x/>" * 1250  # longer than what may be notes of any form
APE = b"APETAGEX" + struct.pack("<IIII8x", 2000, 32, 0, 0x80000000)


@pytest.mark.parametrize(
    "after", [b"LIST\x04\0\0\0INFO", b"LIST\xff\0\0\0INFO", b"TAG" + bytes(125), APE, XML, bytes(999), b"notes" * 99]
)
@pytest.mark.parametrize("odd", [0, 1])
def test_what_follows_the_samples_is_none(after, odd, caplog):
    """Whole or cut, with and without the byte that pads an odd size."""
    whole = encoded(tone()[: 8000 - odd], subtype="PCM_U8")
    for data in (whole + after, whole[: 44 + 8000 - odd] + after):
        np.testing.assert_array_equal(load_audio(data), load_audio(whole))
    assert "more follow" not in caplog.text


def unstated(flac):
    """A FLAC whose count of samples was left open."""
    return flac[:21] + bytes([flac[21] & 0xF0]) + bytes(4) + flac[26:]


KINDS = {
    **{form: lambda x, form=form: encoded(x, form=form) for form in ("WAV", "RF64", "AIFF", "FLAC", "OGG", "MP3")},
    **{form: lambda x, form=form: encoded(x, form=form) for form in ("W64", "CAF", "AU", "NIST", "VOC")},
    "RIFX": lambda x: encoded(x, endian="BIG"),
    "BW64": lambda x: encoded(x, form="RF64").replace(b"RF64", b"BW64"),
    "SVX": lambda x: encoded(x, form="SVX", subtype="PCM_16"),
    "Opus": lambda x: encoded(x, form="OGG", subtype="OPUS"),
    "AIFC": lambda x: encoded(x, form="AIFF", subtype="FLOAT"),
    "little-endian AIFC": lambda x: encoded(x, form="AIFF", endian="LITTLE"),
    "8 bits without padding": lambda x: encoded(x[:-1], subtype="PCM_U8")[:-1],
    "WAV with tags": lambda x: ID3 + ID3 + encoded(x) + b"LIST\x04\0\0\0INFO",
    "FLAC with tags": lambda x: ID3 + ID3 + encoded(x, form="FLAC") + APE,
    "MP3 with tags": lambda x: ID3 + encoded(x, form="MP3") + APE + b"TAG" + bytes(125),
    "MP3 in WAV": lambda x: tracks([x], "wav", "libmp3lame"),
    "unstated FLAC": lambda x: unstated(encoded(x, form="FLAC")),
    **{form: lambda x, form=form: tracks([x], form, "aac") for form in ("mp4", "mov", "flv", "adts", "mpegts")},
    "tta": lambda x: tracks([x], "tta", "tta"),
    "mkv": lambda x: tracks([x], "matroska", "flac"),
    "avi": lambda x: tracks([x], "avi", "pcm_s16le"),
}
#: Samples that players of a whole file cut off its ends, and that stay inside a joined one.
SLACK = {"MP3": 2600, "MP3 with tags": 2600, "MP3 in WAV": 2600, "adts": 2048, "mpegts": 2048}


@pytest.mark.parametrize("kind", KINDS)
def test_joined_files_are_read_to_their_end(kind):
    parts = [KINDS[kind](tone(0.5)), KINDS[kind](tone(0.4, hertz=900))]
    alone = [load_audio(part) for part in parts]
    assert len(alone[0]) == pytest.approx(8000, abs=2600)
    assert frequency(alone[0]) == pytest.approx(440, abs=5)
    joined = b"".join(parts)
    loaded, slack = load_audio(joined), SLACK.get(kind, 0)
    assert len(loaded) == pytest.approx(sum(map(len, alone)), abs=slack)
    np.testing.assert_allclose(loaded[: len(alone[0])], alone[0], atol=1e-6)
    if not slack:
        np.testing.assert_array_equal(loaded[len(alone[0]) :], alone[1])
    assert audio_duration(joined) == pytest.approx(len(loaded) / 16000)
    assert audio_duration(parts[0]) == pytest.approx(len(alone[0]) / 16000)


@pytest.mark.parametrize(
    "kind", ["RIFX", "BW64", "W64", "CAF", "AU", "NIST", "VOC", "SVX", "OGG", "Opus", "avi", "mp4", "mkv", "tta"]
)
@pytest.mark.parametrize("read", [load_audio, audio_duration])
def test_cut_files_are_refused(kind, read):
    whole = KINDS[kind](np.random.default_rng(0).uniform(-0.3, 0.3, 96000).astype(np.float32))
    with pytest.raises(AudioError, match="is truncated"):
        read(whole[: len(whole) * 2 // 3])


SILENCE = np.zeros(8000, np.float32)


@pytest.mark.parametrize("form", ["mp4", "matroska", "mpegts"])
def test_the_track_with_sound_is_read(form):
    alone = load_audio(tracks([tone()], form))
    for sounds in ([SILENCE, tone()], [tone(), SILENCE], [SILENCE, tone(), SILENCE], [tone(), tone()]):
        np.testing.assert_array_equal(load_audio(tracks(sounds, form)), alone)
    assert not load_audio(tracks([SILENCE, SILENCE], form)).any()
    with pytest.raises(AudioError, match=r"has 2 different audio tracks \(1: .*aac; 2: .*aac\): keep one.*-map 0:a:1"):
        load_audio(tracks([SILENCE, tone(), tone(hertz=900)], form))


def test_a_track_that_cannot_be_decoded_is_left_out():
    data = tracks([tone(), tone(hertz=900)])
    place, details = data.rindex(b"mp4a"), data.rindex(b"esds")
    data = data[:place] + b"apac" + data[place + 4 : details] + b"free" + data[details + 4 :]
    np.testing.assert_array_equal(load_audio(data), load_audio(tracks([tone()])))


@pytest.mark.parametrize("form", ["WAV", "OGG"])
def test_joined_files_that_do_not_fit_are_refused(form):
    for other in (encoded(np.stack([tone()] * 2, 1), form=form), encoded(tone(), 22050, form)):
        with pytest.raises(AudioError, match="the audio bytes is joined of recordings with different rates or channel"):
            load_audio(encoded(tone(), form=form) + other)


@pytest.mark.parametrize("form", ["FLAC", "OGG", "AIFF"])
def test_a_wav_joined_with_another_format_is_not_read_as_its_samples(form):
    with pytest.raises(AudioError, match="the audio bytes is joined of recordings of different formats: split it"):
        load_audio(encoded(tone()) + encoded(tone(), form=form))


def mp3(seconds=2.0):
    """An MP3 of noise with a changing bit rate, and the place of the tag in its first frame."""
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, int(16000 * seconds)) * np.linspace(0, 1, int(16000 * seconds))
    data = encoded(noise, form="MP3", bitrate_mode="VARIABLE", compression_level=0.3)
    return data, data.index(b"Xing")


def test_an_mp3_without_a_tag_is_read_to_its_end():
    data, place = mp3()
    untagged = data[data.index(data[:2], place) :]
    for cut, seconds in ((len(untagged), 2.0), (len(untagged) // 2, 1.2)):
        assert load_audio(untagged[:cut]).size == pytest.approx(16000 * seconds, abs=2600)
        assert audio_duration(untagged[:cut]) == pytest.approx(seconds, abs=0.17)


@pytest.mark.parametrize(
    ("at", "value"),
    [(8, 5), (8, 4000), (12, 5), (12, 99999), (0, 0x61626364)],
    ids=["fewer frames", "more frames", "fewer bytes", "more bytes", "damaged frame"],
)
def test_an_mp3_whose_tag_is_wrong_is_read_to_its_end(at, value):
    data, place = mp3()
    wrong = bytearray(data)
    struct.pack_into(">I", wrong, place + at, value)
    assert load_audio(bytes(wrong)).size == pytest.approx(32000, abs=2600)


@pytest.mark.parametrize("damage", [bytes(9000), np.random.default_rng(1).bytes(9000)], ids=["zeros", "noise"])
@pytest.mark.parametrize("tagged", [True, False])
def test_an_mp3_that_is_damaged_inside_is_told(damage, tagged, caplog):
    data, place = mp3(6)
    data = ID3 + (data if tagged else data[data.index(data[:2], place) :])
    assert load_audio(data).size == pytest.approx(96000, abs=2600)
    assert "left out" not in caplog.text
    assert 32000 < load_audio(data[:9000] + damage + data[18000:], name=f"{tagged}{damage[:3]}").size < 90000
    assert f"of its {len(data)} bytes are damaged, or no sound, and are left out" in caplog.text


def test_an_mp3_shorter_than_its_tag_is_truncated():
    data, _ = mp3()
    np.testing.assert_array_equal(load_audio(ID3 + data), load_audio(data))
    for whole in (data, ID3 + data):
        np.testing.assert_array_equal(load_audio(whole[:-1]), load_audio(data))  # the last byte only pads
        with pytest.raises(AudioError, match="is truncated: 57 of 58 frames are there"):
            load_audio(whole[:-100])


@pytest.mark.parametrize("counted", [0, 8])
def test_a_data_size_that_counts_the_header_is_no_cut(counted):
    whole = encoded(tone())
    wrong = stale(whole, data=len(whole) - counted)
    np.testing.assert_array_equal(load_audio(wrong), load_audio(whole))
    assert audio_duration(wrong) == 0.5
    with pytest.raises(AudioError, match="truncated: 16000 of 16002 bytes"):
        load_audio(stale(whole, data=16002, RIFF=16002))


def test_a_header_of_text_and_zeros_in_front_are_audio():
    sphere = encoded(tone(), form="NIST")
    header = sphere[:1024].rstrip(b"\0").ljust(1024)
    np.testing.assert_array_equal(load_audio(header + sphere[1024:]), load_audio(sphere))
    assert load_audio(bytes(9000) + encoded(tone(), form="MP3")).size == pytest.approx(8000, abs=2600)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "Opus", "MP3", "adts", "mp4", "mkv", "joined WAV"])
def test_no_more_is_decoded_than_may_be(kind, monkeypatch):
    long = KINDS["WAV"](tone(0.9)) * 12 if kind == "joined WAV" else KINDS[kind](tone(10.0))
    with monkeypatch.context() as patch:
        patch.setattr(decoding_m4ser, "BLOCK_FRAMES", 4000)
        decoded, check = [], decoding_m4ser._check_length
        patch.setattr(decoding_m4ser, "_check_length", lambda n, *args: (decoded.append(n), check(n, *args)))
        for read in (decode_audio, lambda audio, **options: list(stream_audio(audio, **options))):
            with pytest.raises(TooLongError, match="the audio bytes lasts longer than 1 s"):
                read(long, max_seconds=1.0)
        assert max(decoded) < 2.5 * 48000  # Opus has 48 kHz
    assert len(decode_audio(long, max_seconds=11.0)[0]) > 9 * 16000


def test_a_flac_that_promises_hours_is_truncated():
    flac = encoded(tone(), form="FLAC")
    promises = flac[:21] + bytes([flac[21] | 0x0F]) + b"\xff" * 4 + flac[26:]  # 2^36 - 1 samples
    with pytest.raises(AudioError, match="is truncated"):
        decode_audio(promises, max_seconds=1.0)


STORED = [("WAV", subtype) for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")]
STORED += [("RF64", "PCM_16"), ("WAVEX", "PCM_16"), ("AIFF", "PCM_16"), ("AIFF", "FLOAT"), ("FLAC", "PCM_24")]
CODED = [("WAV", "IMA_ADPCM"), ("WAV", "GSM610"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None)]


@pytest.mark.parametrize(("form", "subtype"), [*STORED, ("FLAC", None), *CODED])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_part_is_what_the_whole_has_there(form, subtype, channels, monkeypatch):
    """And comes alone from a decoder that can go to it."""
    if (subtype, channels) == ("GSM610", 2):
        pytest.skip("it has one channel")
    data = encoded(NOISE.repeat(channels).reshape(-1, channels), form=form, subtype=subtype)
    whole, rate = decode_audio(data)
    random = np.random.default_rng(0)
    with monkeypatch.context() as patch:
        if (form, subtype) not in CODED:
            patch.setattr(decoding_m4ser, "_decode_one", None)
        for _ in range(3):
            start, end = sorted(random.choice(len(whole), 2, replace=False).tolist())
            np.testing.assert_array_equal(decode_audio(data, part=Part(start, end, True))[0], whole[start:end])
    for last in (Part(len(whole) - 9, None, True), Part((len(whole) - 9) / rate, len(whole) / rate + 0.009)):
        np.testing.assert_array_equal(decode_audio(data, part=last)[0], whole[-9:])


def test_parts_of_files_that_are_not_as_their_headers_say(caplog):
    for encode in (KINDS["WAV"], KINDS["FLAC"], KINDS["AIFF"]):
        joined = encode(NOISE[:9000]) + encode(NOISE[9000:])
        for part in (Part(0.1, 0.2), Part(0.5, 0.6), Part(0.6, 1.0), Part(0.1), Part(0.1, 0.565)):
            samples = part.frames(len(NOISE), 16000, "")
            np.testing.assert_allclose(load_audio(joined, part=part), NOISE[samples], atol=1e-4)
    died = stale(encoded(NOISE), data=2000, RIFF=2036)
    for start, end in ((160, 320), (8000, 9600)):
        np.testing.assert_allclose(load_audio(died, part=Part(start, end, True)), NOISE[start:end], atol=1e-4)
        assert caplog.text.count("more follow") == 1
    for cut in (encoded(NOISE)[:-9], encoded(NOISE, form="FLAC")[:-20000]):
        with pytest.raises(AudioError, match="is truncated"):
            load_audio(cut, part=Part(1.8, 1.9))
    with pytest.raises(PartError, match="not inside the recording"):
        load_audio(encoded(NOISE), part=Part(1.8, 2.2))
