"""Reading requests: every shape of a body, and what is refused: with a status that is documented, and never a 500."""

import base64
import json
import os
import socket
import tempfile

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.m4ser.serve.conftest import encode, serving, wave

CLIP = encode(wave(0.4))
IN_BASE64 = base64.b64encode(CLIP).decode()
FLAC = encode(wave(0.4), "FLAC")
PROMISES = FLAC[:21] + bytes([FLAC[21] | 0x0F]) + b"\xff" * 4 + FLAC[26:]  # 2^36 - 1 samples, in its header
JSON = {"Content-Type": "application/json"}
TEXT = "i can’t believe it"


def test_every_shape_of_a_body_gives_the_same(address, pipe):
    expected = pipe({"audio": CLIP, "text": TEXT})[:2]
    header = {"X-Text": "i can%E2%80%99t believe it"}
    parameters = {"text": TEXT, "top_k": 2}
    for answer in (
        requests.post(address, CLIP, params={"top_k": 2}, headers=header),
        requests.post(
            address, CLIP, params={"top_k": 2}, headers={"X-Text": TEXT.encode(), "Content-Type": "audio/wav"}
        ),
        requests.post(address, json={"inputs": IN_BASE64, "parameters": parameters}),
        requests.post(address, files={"file": ("a.wav", CLIP)}, data=parameters),
    ):
        assert answer.status_code == 200, answer.text
        assert [(each["label"], pytest.approx(each["score"], abs=1e-6)) for each in answer.json()] == [
            (each["label"], each["score"]) for each in expected
        ]


@pytest.mark.parametrize(
    ("body", "options", "message"),
    [
        (b"", {}, "no recording"),
        (b"no sound", {}, "is text, not audio"),
        (CLIP[:3000], {}, "is truncated"),
        (encode(wave(31), "FLAC"), {}, "at most 30 s"),
        (encode(wave(31), "MP3"), {}, "at most 30 s"),
        (PROMISES, {}, "is truncated"),
        (CLIP, {"params": {"top_k": 0}}, "top_k: Input should be greater than 0"),
        (CLIP, {"params": {"topk": 1}}, "topk: Extra inputs"),
        (CLIP, {"params": {"channel": 7}}, "channel=7 is not there"),
        (b"{", {"headers": JSON}, "not JSON"),
        (b"[" * 100_000, {"headers": JSON}, "not JSON"),
        (b"[1]", {"headers": JSON}, "JSON is"),
        (json.dumps({"inputs": "file:///etc/passwd"}), {"headers": JSON}, "no address is opened"),
        (json.dumps({"inputs": IN_BASE64, "parameters": {"text": 3}}), {"headers": JSON}, "text: Input should be a"),
        (CLIP, {"headers": {"Content-Type": "multipart/form-data"}}, "Missing boundary"),
        (CLIP, {"headers": {"Content-Type": "multipart/form-data; boundary=x"}}, "the form cannot be read"),
    ],
)
def test_what_is_refused(address, body, options, message):
    answer = requests.post(address, body, **options)
    assert answer.status_code == (413 if "at most" in message else 422)
    assert message in answer.json()["error"]


def test_no_address_is_opened_and_no_file_is_written(address, monkeypatch, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/a.wav"
        playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{url}\n"
        manifest = f"<MPD><Period><BaseURL>{url}</BaseURL></Period></MPD>"
        session = f"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=audio {listener.getsockname()[1]} RTP/AVP 0\n"
        for body in (playlist, manifest, session, f"ffconcat version 1.0\nfile {url}\n", url):
            assert requests.post(address, body.encode()).status_code == 422
            assert requests.post(address, json={"inputs": body}).status_code == 422
        listener.settimeout(0.05)
        with pytest.raises(TimeoutError):
            listener.accept()
    monkeypatch.setattr(tempfile, "_get_default_tempdir", lambda: pytest.fail("a file is written"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    large = encode(wave(28, channels=2))
    assert len(large) > 1 << 20  # from where others write uploads to the disk
    assert requests.post(address, files={"file": ("a.wav", large)}, data={"text": "so"}).status_code == 200


WORDS = st.sampled_from(["text", "top_k", "channel", "return_decision", "format", "window", "hop", "stream", "é"])
VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers(), max_size=2))
PIECES = st.sampled_from([CLIP, CLIP[:44], b"RIFF\0\0\0\0WAVE", b"fLaC", b"OggS", b"ID3", b"--x\r\n", b"\r\n\r\n"])
PARAMETERS = st.dictionaries(WORDS, VALUES)
IN_JSON = st.fixed_dictionaries({"inputs": VALUES | st.just(IN_BASE64)}, optional={"parameters": VALUES | PARAMETERS})
BODIES = st.one_of(
    st.lists(PIECES | st.binary(max_size=99), max_size=4).map(b"".join),
    IN_JSON.map(lambda given: json.dumps(given).encode()),
)
KINDS = ["application/json", "multipart/form-data; boundary=x", "multipart/form-data; charset=é", "audio/wav", "é;é"]
HEADERS = st.dictionaries(
    st.sampled_from(["X-Text", "Authorization", "Accept", "Range", "Content-Encoding", "X-Odd"]),
    st.binary(max_size=20).map(lambda value: bytes(byte for byte in value.strip() if 32 < byte != 127)),
    max_size=3,
)
PATHS = ["/", "/timeline", "/v1/audio/transcriptions", "/nothing"]


@settings(
    max_examples=int(os.environ.get("M4SER_FUZZ", 60)), suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(PATHS), BODIES, st.sampled_from(KINDS), HEADERS, st.dictionaries(WORDS, st.text(), max_size=2))
def test_no_body_or_header_makes_the_server_fail(address, path, body, kind, headers, query):
    headers = {**headers, "Content-Type": kind.encode()}
    answer = requests.post(address + path, body, headers=headers, params=query)
    assert answer.status_code in {200, 400, 404, 413, 422}, answer.text


def test_a_body_that_does_not_arrive_is_given_up(pipe, monkeypatch):
    monkeypatch.setattr("m4ser.serve.bodies._BODY_SECONDS", 0.1)
    with (
        serving(lambda: pipe) as address,
        socket.create_connection(("127.0.0.1", int(address.split(":")[-1]))) as client,
    ):
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc")
        assert client.recv(99).startswith(b"HTTP/1.1 408 ")
