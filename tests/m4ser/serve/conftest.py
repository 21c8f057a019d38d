"""A server in this process, at an address of this machine, with a tiny model; and recordings in several formats."""

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import sleep

import numpy as np
import pytest
import requests
import soundfile
from transformers import pipeline

from m4ser.serve import Settings
from modeling_m4ser import PIPELINE_TASK, SpeechTextEmotionPipeline
from tests.helpers.tiny import tiny_pretrained

uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("fastapi")
RATE = 16000


def wave(seconds: float, seed: int = 0, channels: int = 1) -> np.ndarray:
    """Noise that swells and fades, (samples, channels)."""
    samples = np.random.default_rng(seed).normal(size=(int(seconds * RATE), channels))
    return (0.1 * samples * np.hanning(len(samples))[:, None]).astype(np.float32)


def encode(samples: np.ndarray, form: str = "WAV", rate: int = RATE) -> bytes:
    """A file of a format of soundfile."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form)
    return file.getvalue()


def hear(waveform: np.ndarray) -> str:
    """A recognizer whose words tell the length of what it heard."""
    return " ".join(["we go home", "i am happy", "not now"][: 1 + len(waveform) % 3])


@pytest.fixture(scope="session")
def pipe(tmp_path_factory):
    """A pipeline with `hear` as its recognizer."""
    folder = tiny_pretrained(tmp_path_factory.mktemp("served") / "model")
    return pipeline(PIPELINE_TASK, model=str(folder), pipeline_class=SpeechTextEmotionPipeline, asr=hear)


def stand_in(pipe, answer: Callable) -> Callable:
    """What loads a pipeline that answers with a function of ours."""
    own = {"processor": pipe.processor, "device": pipe.device, "_preprocess_params": pipe._preprocess_params}
    return type("StandIn", (), {"__call__": staticmethod(answer), "timeline": staticmethod(answer), **own})


@contextmanager
def serving(load: Callable, until_ready: bool = True, **settings) -> Iterator[str]:
    """The address of a server with the given settings, which loads its pipeline so."""
    from m4ser.serve.app import create_app

    failures: list[Exception] = []
    app = create_app(Settings(**settings), load, failures.append)
    server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", 0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            sleep(0.01)
        address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        while until_ready and not requests.get(f"{address}/ready").ok:
            sleep(0.01)
        yield address
    finally:
        server.should_exit = True
        thread.join()
    assert not failures


@pytest.fixture(scope="session")
def address(pipe):
    """The address of a server without a token."""
    with serving(lambda: pipe) as address:
        yield address
