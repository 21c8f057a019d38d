"""The server's answers: those of the pipeline, for many clients at a time, and in the shapes that clients speak."""

import io
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from m4ser.serve import CPU_WORKERS, Settings
from tests.m4ser.serve.conftest import RATE, encode, serving, stand_in, wave

FILES = [
    encode(wave(0.2 + 0.13 * number, number, 1 + number % 2), form, RATE if number % 3 else 22050)
    for number, form in enumerate(["WAV", "FLAC", "OGG", "AIFF", "MP3", "WAV"])
]


def test_answers_of_many_clients_are_those_of_the_pipeline(address, pipe):
    jobs = [(file, text) for file in FILES for text in (None, "we go home now")] + [(b"broken", None)]
    expected = [pipe({"audio": file, "text": text}, return_decision=True) for file, text in jobs[:-1]]

    def ask(number):
        file, text = jobs[number % len(jobs)]
        fields = {"return_decision": "true"} | ({} if text is None else {"text": text})
        return number % len(jobs), requests.post(address, files={"file": ("a", file)}, data=fields)

    with ThreadPoolExecutor(16) as clients:
        answers = list(clients.map(ask, range(5 * len(jobs))))
    for job, answer in answers:
        if job == len(expected):
            assert answer.status_code == 422
            continue
        given, wanted = answer.json(), expected[job]
        scores = {each["label"]: each["score"] for each in given["emotions"]}
        assert scores == pytest.approx({each["label"]: each["score"] for each in wanted["emotions"]}, abs=1e-5)
        assert given["seconds"] == pytest.approx(wanted["seconds"], abs=1e-9)
        assert (given["decision"], given["text"]) == (wanted["decision"], wanted["text"])
    sizes = requests.get(address + "/metrics").text
    total, batches = (float(sizes.split(f"m4ser_batch_size_{name} ")[1].split()[0]) for name in ("sum", "count"))
    assert total > batches  # some were answered together


def test_a_timeline(address, pipe, monkeypatch):
    from modeling_m4ser import answering_m4ser

    turns = [{"start": 0.5, "end": 2.0}, {"start": 2.0, "end": 3.5}]  # as speech would be found
    timeline = answering_m4ser.timeline
    monkeypatch.setattr(answering_m4ser, "timeline", lambda *args, **kw: timeline(*args, **{**kw, "segments": turns}))
    call = encode(wave(4.0))
    expected = pipe.timeline(call)
    given = requests.post(address + "/timeline", call).json()
    assert [row["text"] for row in given] == [row["text"] for row in expected]
    assert [row["scores"] for row in given] == [pytest.approx(row["scores"], abs=1e-5) for row in expected]
    captions = requests.post(address + "/timeline?format=srt", call).text
    assert captions.count(" --> ") == 2
    transcript = requests.post(
        address + "/v1/audio/transcriptions",
        files={"file": call},
        data={"model": "m", "response_format": "verbose_json"},
    ).json()
    assert [(each["emotion"], each["scores"]) for each in transcript["segments"]] == [
        (row["label"], pytest.approx(row["scores"], abs=1e-5)) for row in expected
    ]
    refused = requests.post(address + "/v1/audio/transcriptions", files={"file": call}, data={"stream": "true"})
    assert (refused.status_code, refused.json()["error"]["type"]) == (422, "invalid_request_error")


def test_what_the_server_was_told_reaches_what_answers(pipe, monkeypatch):
    from m4ser.serve.app import Service

    made, asked = [], []
    service = Service(Settings(batch_size=3, batch_ms=20.0))
    monkeypatch.setattr("m4ser.serve.app.Batcher", lambda _, *settings: made.append(settings))
    service.load(lambda: pipe, None)
    assert made == [(3, 0.02, CPU_WORKERS)]
    monkeypatch.undo()
    told = {"segments": "whisper", "batch_size": 3}
    with serving(stand_in(pipe, lambda _, **options: asked.append(options) or []), **told) as address:
        assert requests.post(address + "/timeline?max_seconds=5&channel=each&hop=0.5&window=2", FILES[0]).json() == []
    assert asked == [told | {"max_seconds": 5.0, "channel": "each", "hop": 0.5, "window": 2.0}]


def test_limits_of_time(pipe):
    def slow(clips, **options):
        time.sleep(0.5)
        return pipe(clips, **options)

    with serving(stand_in(pipe, slow), timeout=0.1, max_seconds=0.5) as address:
        assert requests.post(address, FILES[0]).status_code == 504
        assert requests.post(address, FILES[5]).json() == {"error": "a recording has at most 0.5 s here"}
        assert requests.post(address + "/timeline", FILES[5]).status_code == 413


def test_a_server_without_a_recognizer_says_so(pipe, monkeypatch):
    monkeypatch.delitem(pipe._preprocess_params, "asr")
    with serving(lambda: pipe) as address:
        assert requests.post(address + "/v1/audio/transcriptions", files={"file": FILES[0]}).status_code == 501
        assert "No transcript was given" in requests.post(address, FILES[0]).json()["error"]
        assert "reads what is said" in requests.post(address + "/timeline", FILES[0]).json()["error"]


def test_the_client_of_hugging_face(address, pipe, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # the address is of this machine
    from huggingface_hub import InferenceClient
    from huggingface_hub.errors import HfHubHTTPError

    client = InferenceClient(model=address)
    expected = pipe(FILES[1])
    assert [each.label for each in client.audio_classification(FILES[1])] == [each["label"] for each in expected]
    (best,) = client.audio_classification(FILES[1], top_k=1)
    assert (best.label, best.score) == (expected[0]["label"], pytest.approx(expected[0]["score"], abs=1e-5))
    with pytest.raises(HfHubHTTPError, match="is text, not audio"):
        client.audio_classification(b"broken")


def test_the_client_of_openai(address):
    openai = pytest.importorskip("openai")
    pytest.importorskip("silero_vad")
    client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
    file = io.BytesIO(encode(wave(1.0)))
    file.name = "a.wav"
    transcript = client.audio.transcriptions.create(model="m4ser", file=file, response_format="verbose_json")
    assert (transcript.duration, transcript.segments) == (1.0, [])  # noise: nobody speaks
    with pytest.raises(openai.UnprocessableEntityError, match="is text, not audio"):
        client.audio.transcriptions.create(model="m4ser", file=("a.wav", b"broken"))


def test_the_openapi_page_tells_of_every_address(address):
    paths = requests.get(address + "/openapi.json").json()["paths"]
    assert paths.keys() == {"/", "/timeline", "/v1/audio/transcriptions", "/health", "/ready", "/metrics"}
    form = paths["/"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    assert {"file", "text", "top_k"} <= form.keys()
