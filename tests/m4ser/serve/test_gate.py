"""What is refused before a body is read, and what is counted."""

import threading

import pytest
import requests

from tests.m4ser.serve.conftest import encode, serving, wave

CLIP = encode(wave(0.3))


def test_the_token(pipe):
    with serving(lambda: pipe, token="sésame".encode().hex()) as address:
        right = {"Authorization": "Bearer " + "sésame".encode().hex()}
        assert requests.post(address, CLIP, headers=right).status_code == 200
        for wrong in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Bearer é".encode()}, {"X": "y"}):
            answer = requests.post(address, CLIP, headers=wrong)
            assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert [requests.get(address + path).status_code for path in ("/health", "/metrics", "/docs")] == [
            200,
            401,
            401,
        ]


def test_while_the_model_is_loaded_all_but_health_say_so(pipe):
    loaded = threading.Event()

    def load():
        loaded.wait(30)
        return pipe

    with serving(load, until_ready=False) as address:
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
    entered, go = threading.Semaphore(0), threading.Event()

    def slow(clips, **options):
        entered.release()
        assert go.wait(30)
        return answer(clips, **options)

    answer = pipe.__call__
    stand_in = type("Slow", (), {"__call__": staticmethod(slow), "processor": pipe.processor, "device": pipe.device})
    with serving(stand_in, max_requests=2, batch_size=1) as address:
        statuses = []
        threads = [
            threading.Thread(target=lambda: statuses.append(requests.post(address, CLIP).status_code)) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        assert entered.acquire(timeout=30)
        while "m4ser_in_flight 2.0" not in requests.get(address + "/metrics").text:
            pass
        assert requests.post(address, CLIP).status_code == 429
        go.set()
        for thread in threads:
            thread.join()
        assert statuses == [200, 200]
        counted = requests.get(address + "/metrics").text
        assert 'm4ser_requests_total{path="/",status="429"} 1.0' in counted
        assert 'm4ser_requests_total{path="/",status="200"} 2.0' in counted
        assert "m4ser_in_flight 0.0" in counted


def test_large_bodies(pipe):
    with serving(lambda: pipe, max_mb=0.1) as address:
        for body in (bytes(200_000), iter([bytes(60_000)] * 3)):  # stated, and in pieces
            answer = requests.post(address, body)
            assert (answer.status_code, answer.json()) == (413, {"error": "a body has at most 104857 bytes"})


def test_a_failure_of_ours_is_500_in_both_shapes_and_tells_nothing(pipe, capfd):
    class Broken:
        processor, device = pipe.processor, pipe.device
        _preprocess_params = pipe._preprocess_params

        def __call__(self, *_, **__):
            raise RuntimeError("secret")

        timeline = __call__

    with serving(Broken) as address:
        hf, openai = (
            requests.post(address, CLIP),
            requests.post(address + "/v1/audio/transcriptions", files={"file": CLIP}),
        )
    assert (hf.status_code, openai.status_code) == (500, 500)
    assert (hf.json(), openai.json()["error"]["message"]) == ({"error": "the server failed"}, "the server failed")
    assert "secret" in capfd.readouterr().err  # the log has it


@pytest.mark.parametrize(("origins", "allowed"), [((), None), (("http://page",), "http://page")])
def test_pages_of_other_origins_are_allowed_by_name_alone(pipe, origins, allowed):
    asked = {"Origin": "http://page", "Access-Control-Request-Method": "POST"}
    with serving(lambda: pipe, cors_origins=origins, token="x") as address:
        assert requests.options(address, headers=asked).headers.get("Access-Control-Allow-Origin") == allowed
