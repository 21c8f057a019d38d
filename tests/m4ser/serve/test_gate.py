"""What is refused before a body is read, and what is counted."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.m4ser.serve.conftest import encode, serving, stand_in, wave

CLIP = encode(wave(0.3))


def test_the_token(pipe, caplog):
    with serving(lambda: pipe, token="secret") as address:
        for given, status in ((b"Bearer secret", 200), (b"", 401), (b"Bearer x", 401), ("Bearer é".encode(), 401)):
            assert requests.post(address, CLIP, headers={"Authorization": given}).status_code == status
        assert requests.get(address + "/metrics").headers["WWW-Authenticate"] == "Bearer"
        assert requests.get(address + "/health").ok
        known = {"Authorization": "Bearer secret"}
        told = [requests.get(address + path, headers=known).text for path in ("/metrics", "/openapi.json", "/")]
        assert not [text for text in (*told, caplog.text) if "secret" in text]


def test_while_the_model_is_loaded_all_but_health_say_so(pipe):
    loaded = threading.Event()
    with serving(lambda: pipe if loaded.wait(30) else None, until_ready=False) as address:
        assert requests.get(address + "/health").status_code == 200
        assert requests.get(address + "/ready").status_code == 503
        refused = requests.post(address + "/v1/audio/transcriptions", files={"file": CLIP})
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        assert refused.json()["error"]["type"] == "server_error"
        loaded.set()
        while requests.get(address + "/ready").status_code == 503:
            pass
        assert requests.post(address, CLIP).status_code == 200


def test_more_requests_than_allowed_are_refused_and_the_others_answered(pipe):
    go = threading.Event()
    slow = stand_in(pipe, lambda *clips, **options: go.wait(30) and pipe(*clips, **options))
    with serving(slow, max_requests=2, batch_size=1) as address, ThreadPoolExecutor(2) as clients:
        asked = [clients.submit(requests.post, address, CLIP) for _ in range(2)]
        while "m4ser_in_flight 2.0" not in requests.get(address + "/metrics").text:
            pass
        assert requests.post(address, CLIP).status_code == 429
        go.set()
        assert [each.result().status_code for each in asked] == [200, 200]
        counted = requests.get(address + "/metrics").text
        for status, count in ((200, 2), (429, 1)):
            assert f'm4ser_requests_total{{path="/",status="{status}"}} {count}.0' in counted
        assert "m4ser_in_flight 0.0" in counted


def test_large_bodies(pipe):
    with serving(lambda: pipe, max_mb=0.1) as address:
        for body in (bytes(200_000), iter([bytes(60_000)] * 3)):  # stated, and in pieces
            answer = requests.post(address, body)
            assert (answer.status_code, answer.json()) == (413, {"error": "a body has at most 104857 bytes"})


def test_a_failure_of_ours_is_500_in_both_shapes_and_tells_nothing(pipe, capfd):
    def fail(*_, **__):
        raise RuntimeError("secret")

    with serving(stand_in(pipe, fail)) as address:
        answers = [requests.post(address + path, files={"file": CLIP}) for path in ("/", "/v1/audio/transcriptions")]
    assert [answer.status_code for answer in answers] == [500, 500]
    errors = [answer.json()["error"] for answer in answers]
    assert [errors[0], errors[1]["message"]] == ["the server failed"] * 2
    assert "secret" in capfd.readouterr().err  # the log has it


@pytest.mark.parametrize(("origins", "allowed"), [((), None), (("http://page",), "http://page")])
def test_pages_of_other_origins_are_allowed_by_name_alone(pipe, origins, allowed):
    asked = {"Origin": "http://page", "Access-Control-Request-Method": "POST"}
    with serving(lambda: pipe, cors_origins=origins, token="x") as address:
        assert requests.options(address, headers=asked).headers.get("Access-Control-Allow-Origin") == allowed
