"""A saved folder is all anyone needs: it works where our packages cannot be imported, and re-saves itself whole."""

import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

from modeling_m4ser import M4SERForEmotionClassification, SpeechTextEmotionPipeline
from tests.helpers.tiny import tiny_pretrained, tiny_processor

RATE = 16000
TEXTS = ["I can’t believe it", "so"]

# Run in a process of its own. sitecustomize refuses our packages, installed or not, before anything else runs.
BLOCKER = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"modeling_m4ser", "trainer", "data_scripts", "examples", "tests"}:
            raise ModuleNotFoundError(f"No module named {name!r} (refused)")

sys.meta_path.insert(0, Refuse())
"""
SCRIPT = """
import sys
import numpy as np, soundfile, torch
torch.set_num_threads(1)
from transformers import AutoConfig, AutoModel, AutoModelForAudioClassification, AutoProcessor, pipeline

for name in ("modeling_m4ser", "trainer", "data_scripts"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{name} is importable: this test would prove nothing")

folder, audio, resaved, answers = sys.argv[1:]
config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
model = AutoModel.from_pretrained(folder, trust_remote_code=True)
other = AutoModelForAudioClassification.from_pretrained(folder, trust_remote_code=True)
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
pipe = pipeline("speech-text-emotion-recognition", model=folder, trust_remote_code=True)

copies = [module for name, module in sys.modules.items() if name.endswith(".audio_m4ser")]
for module in copies:
    module.load_audio(np.zeros(1600), source_rate=16000)

samples = [soundfile.read(audio, dtype="float32")[0], np.zeros(300, np.float32)]
batch = processor(audio=samples, text=["I can’t believe it", "so"], sampling_rate=16000)
with torch.no_grad():
    outputs = [each(**batch).logits for each in (model, other)]
model.save_pretrained(resaved)
processor.save_pretrained(resaved)
hears = lambda samples: "I can’t believe it"
by_task = pipeline("audio-classification", model=folder, trust_remote_code=True, asr=hears)(audio)
torch.save(
    {
        "by_task": [by_task, pipeline(model=folder, trust_remote_code=True, asr=hears)(audio)],
        "copies": len(copies),
        "logits": outputs,
        "batch": dict(batch),
        "scores": [pipe((audio, "I can’t believe it")), pipe({"audio": audio, "text": "so"}, return_corrections=True)],
        "classes": [type(each).__name__ for each in (config, model, other, processor, pipe)],
        "modules": sorted({type(each).__module__ for each in (config, model, other, processor, pipe)}),
        "emotions": config.id2label,
    },
    answers,
)
"""


def run_without_us(tmp_path, folder, audio, resaved):
    """SCRIPT in a fresh process and folder, with an empty module cache; what it saved."""
    sitecustomize = tmp_path / "blocker"
    elsewhere = tmp_path / "elsewhere"
    for created in (sitecustomize, elsewhere):
        created.mkdir(exist_ok=True)
    (sitecustomize / "sitecustomize.py").write_text(BLOCKER)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {
        "PYTHONPATH": str(sitecustomize),
        "HF_HOME": str(tmp_path / "hub"),
        "HF_MODULES_CACHE": str(tmp_path / "modules"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    answers = tmp_path / "answers.pt"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), str(audio), str(resaved), str(answers)],
        cwd=elsewhere,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return torch.load(answers) | {"printed": done.stderr}


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    path = tmp_path_factory.mktemp("audio") / "a.wav"
    samples = np.random.default_rng(0).normal(size=5000).astype(np.float32) * 0.1
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    return path


def code_of(folder):
    return {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.py")}


@pytest.mark.parametrize("kind", [pytest.param("hubert", marks=pytest.mark.slow), "whisper"])
def test_folder_works_without_this_package(tmp_path, audio, kind):
    folder, resaved = tiny_pretrained(tmp_path / "model", kind), tmp_path / "resaved"
    answers = run_without_us(tmp_path, folder, audio, resaved)
    assert answers["classes"] == [
        "M4SERConfig",
        *["M4SERForEmotionClassification"] * 2,
        "M4SERProcessor",
        "SpeechTextEmotionPipeline",
    ]
    assert all(name.startswith("transformers_modules.") for name in answers["modules"]), answers["modules"]

    model, processor = M4SERForEmotionClassification.from_pretrained(folder), tiny_processor(tmp_path, kind)
    samples = [soundfile.read(audio, dtype="float32")[0], np.zeros(300, np.float32)]
    batch = processor(audio=samples, text=TEXTS, sampling_rate=RATE)
    assert batch.keys() == answers["batch"].keys()
    assert all(torch.equal(batch[name], answers["batch"][name]) for name in batch)
    with torch.no_grad():
        logits = model(**batch).logits
    for other in answers["logits"]:
        torch.testing.assert_close(other, logits, rtol=0, atol=1e-6)
    pipe = SpeechTextEmotionPipeline(model=model, processor=processor)
    first, second = answers["scores"]
    ours = [pipe((str(audio), TEXTS[0])), pipe((str(audio), TEXTS[1]), return_corrections=True)]
    assert [item["label"] for item in first] == [item["label"] for item in ours[0]]
    assert [item["score"] for item in first] == pytest.approx([item["score"] for item in ours[0]], abs=1e-6)
    assert {**second, "emotions": None} == {**ours[1], "emotions": None}
    assert answers["copies"] > 1, "the code is there once: whether all warn once is not seen"
    assert answers["printed"].count("holds no sound") == 1
    assert answers["emotions"] == model.config.id2label
    assert answers["by_task"] == [first, first]

    # Saved again from there, nothing is lost; and a third generation still answers the same.
    assert code_of(resaved) == code_of(folder)
    again = run_without_us(tmp_path, resaved, audio, tmp_path / "third") if kind == "hubert" else answers
    torch.testing.assert_close(again["logits"][0], answers["logits"][0], rtol=0, atol=0)
