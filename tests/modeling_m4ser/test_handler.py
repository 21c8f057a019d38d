"""`handler.py` of a saved model, started as Inference Endpoints start it."""

import base64
import importlib.util
import json

import pytest
from transformers import pipeline

from modeling_m4ser import PIPELINE_TASK
from modeling_m4ser.handler_m4ser import REQUIREMENTS
from tests.helpers.layouts import write_wav
from tests.helpers.tiny import tiny_pretrained

SPEECH = {"modalities": "speech", "fusion": "concat", "use_modality_specific": False, "use_modality_invariant": False}
SPEECH |= {"use_error_detection": False, "use_error_correction": False, "use_adversarial": False}


def start(folder):
    """The endpoint's handler of a folder."""
    spec = importlib.util.spec_from_file_location("handler", folder / "handler.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.EndpointHandler(str(folder))


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    return write_wav(tmp_path_factory.mktemp("audio") / "a.wav", 0.4).read_bytes()


def test_requests_are_answered_as_the_pipeline_answers(tmp_path, audio):
    folder = tiny_pretrained(tmp_path / "model")
    handler, pipe = start(folder), pipeline(PIPELINE_TASK, model=str(folder), trust_remote_code=True)
    expected = pipe((audio, "so sad"))
    assert handler({"inputs": audio, "parameters": {"text": "so sad"}}) == expected
    text = base64.b64encode(audio).decode()
    parameters = {"text": "so sad", "top_k": 1, "return_decision": True, "return_embedding": True}
    answer = json.loads(json.dumps(handler({"inputs": text, "parameters": parameters})))
    assert answer["emotions"] == expected[:1]
    assert answer["decision"] == expected[0]["label"]
    assert len(answer["embedding"]) == pipe.model.config.hidden_size
    for request, problem in (
        ({"inputs": audio}, "No transcript was given"),
        ({"inputs": "http://127.0.0.1/a.wav"}, "inputs must be the bytes of an audio file"),
        ({"inputs": audio, "parameters": {"asr": "someone/model"}}, "parameters has no asr; it may have channel, "),
    ):
        with pytest.raises(ValueError, match=problem):
            handler(request)


def test_the_hubs_task_takes_speech_alone_and_a_recognizer(tmp_path, audio):
    speech = tiny_pretrained(tmp_path / "speech", **SPEECH)
    alone = pipeline("audio-classification", model=str(speech), trust_remote_code=True)
    assert start(speech)({"inputs": audio}) == alone(audio)
    both = str(tiny_pretrained(tmp_path / "both"))
    heard = pipeline("audio-classification", model=both, trust_remote_code=True, asr=lambda samples: "so sad")
    expected = pipeline(PIPELINE_TASK, model=both, trust_remote_code=True)((audio, "so sad"))
    assert heard(audio) == expected


def test_requirements_are_those_of_the_package(repo_root):
    wanted = (repo_root / "setup.cfg").read_text(encoding="utf-8").split("install_requires =")[1].split()
    assert set(REQUIREMENTS) <= set(wanted)
