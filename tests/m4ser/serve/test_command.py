"""The command: what stops it at once, what its page shows, and that SIGTERM loses nothing."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
import requests

from m4ser.__main__ import main
from m4ser.serve import CPU_THREADS, Settings, command
from tests.docs.markdown import blocks, commands
from tests.helpers import ROOT
from tests.helpers.tiny import tiny_pretrained
from tests.m4ser.serve.conftest import encode, wave

PAGE = ROOT / "docs" / "how-to" / "server.md"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


@pytest.mark.parametrize(("token", "message"), [(" ", "M4SER_TOKEN is empty"), (None, "no_model")])
def test_what_stops_it(token, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    if token:
        monkeypatch.setenv("M4SER_TOKEN", token)
    assert main(["serve", "--model", "no_model", "--port", str(free_port())]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {message}")


@pytest.mark.parametrize(("runtime", "threads"), [("torch", {}), ("onnx", {"num_threads": CPU_THREADS})])
def test_the_options_reach_the_pipeline(monkeypatch, runtime, threads):
    monkeypatch.setattr("m4ser.runtimes.load_pipeline", lambda *given, **named: (given, named))
    kept, made = [], []
    monkeypatch.setattr(command, "keep_torch_out", kept.append)
    monkeypatch.setattr("m4ser.serve.app.create_app", lambda settings, load, _: made.append((settings, load())))
    monkeypatch.setattr("uvicorn.Server.run", lambda _: None)
    words = ["--model", "mine", "--asr", "whisper", "--device", "cuda:1", "--runtime", runtime]
    assert main(["serve", *words, "--batch_size", "3", "--batch_ms", "5", "--segments", "whisper"]) == 0
    settings = Settings(batch_size=3, batch_ms=5.0, segments="whisper", cors_origins=())
    loaded = ("mine", runtime, "cuda:1"), {"asr": "whisper", **threads}
    assert (kept, made) == ([runtime], [(settings, loaded)])


def test_a_missing_package_is_named(capsys, monkeypatch):
    monkeypatch.setattr(command, "find_spec", lambda name: None if name == "fastapi" else name)
    assert main(["serve", "--model", "none"]) == 2
    assert capsys.readouterr().err == "error: m4ser serve needs fastapi: pip install -e '.[serve]'\n"


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_what_the_page_shows(address, tmp_path, monkeypatch):
    pytest.importorskip("openai")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # the address is of this machine
    for name in ("a.wav", "call.wav"):
        (tmp_path / name).write_bytes(encode(wave(1.0)))
    count = 0
    for block in blocks(PAGE):
        text = block.text.replace("http://127.0.0.1:8000", address)
        if block.language == "python":
            exec(compile(text, "server.md", "exec"), {})
        for words in commands(replace(block, text=text)) if block.language == "bash" else ():
            if words[0] == "curl":
                subprocess.run([*words, "--fail", "--silent"], check=True, capture_output=True)
                count += 1
    assert count == 5


def ready(address: str) -> bool:
    with contextlib.suppress(requests.ConnectionError):
        return requests.get(address + "/ready").ok
    return False


@pytest.mark.slow  # torch takes its time to trace even a tiny model
def test_an_exported_model_is_served_without_torch(tmp_path, pipe):
    pytest.importorskip("onnxscript")
    model, folder = tiny_pretrained(tmp_path / "model"), str(tmp_path / "onnx")
    assert main(["export", str(model), "--output_dir", folder]) == 0
    port, clip = free_port(), encode(wave(0.5))
    code = "import sys; from m4ser.__main__ import main; main(sys.argv[1:]); assert not sys.modules.get('torch')"
    words = ["serve", "--runtime", "onnx", "--model", folder, "--port", str(port)]
    server = subprocess.Popen([sys.executable, "-c", code, *words], cwd=ROOT, env=os.environ)
    try:
        while not ready(f"http://127.0.0.1:{port}"):
            assert server.poll() is None
        given = requests.post(f"http://127.0.0.1:{port}", clip, headers={"X-Text": "we go home"}).json()
    finally:
        server.send_signal(signal.SIGTERM)
    expected = pipe({"audio": clip, "text": "we go home"})
    assert {each["label"]: each["score"] for each in given} == pytest.approx(
        {each["label"]: each["score"] for each in expected}, abs=1e-4
    )
    assert server.wait(30) in (0, -signal.SIGTERM)


@pytest.mark.slow
def test_sigterm_loses_no_request(tmp_path):
    port, clip = free_port(), encode(wave(0.5))
    words = ["serve", "--model", str(tiny_pretrained(tmp_path / "model")), "--port", str(port)]
    server = subprocess.Popen([sys.executable, "-m", "m4ser", *words], cwd=ROOT, env=os.environ)
    address, answers = f"http://127.0.0.1:{port}", []

    def ask():
        while True:
            try:
                answers.append(requests.post(address, files={"file": clip}, data={"text": "so"}).status_code)
            except requests.ConnectionError as error:
                answers.append(error)
                return

    while not ready(address):
        assert server.poll() is None
    clients = [threading.Thread(target=ask) for _ in range(16)]
    for client in clients:
        client.start()
    while len(answers) < 50:
        pass
    server.send_signal(signal.SIGTERM)
    for client in clients:
        client.join()
    assert server.wait(30) in (0, -signal.SIGTERM)
    assert {answer for answer in answers if isinstance(answer, int)} == {200}
    # The rest never reached the server: nobody listened any more.
    lost = [answer for answer in answers if not isinstance(answer, int)]
    assert len(lost) == 16
    assert all("refused" in str(answer) or "reset" in str(answer).lower() for answer in lost), lost
