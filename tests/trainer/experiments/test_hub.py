"""A finished run goes to the Hub by the real client; the Hub is a server on this machine."""

import os
import subprocess
import sys

from tests.helpers.tiny import tiny_pretrained

# Run in a process of its own, whose libraries are sent to the server it starts.
SCRIPT = """
import json, os, sys
shared, folder = sys.argv[1:]
sys.path.insert(0, shared + "/tools")
import minihub, threading

body = minihub.H.body
def read(self):  # newer clients say "visibility" for "private"
    data = body(self)
    if self.path == "/api/repos/create":
        asked = json.loads(data)
        data = json.dumps({**asked, "private": asked.get("visibility") == "private"}).encode()
    return data
minihub.H.body = read
server = minihub.serve(folder + "/hub")
threading.Thread(target=server.serve_forever, daemon=True).start()
os.environ |= {"HF_ENDPOINT": server.url, "HF_HOME": folder + "/home", "HF_HUB_OFFLINE": "0"}
os.environ |= {"HF_HUB_DISABLE_XET": "1", "HF_TOKEN": server.token}

import huggingface_hub.utils._http as http
import numpy as np, torch
from modeling_m4ser import M4SERForEmotionClassification, M4SERProcessor
from trainer.errors import ExperimentError
from trainer.experiments.hub import push_run

http.time.sleep = lambda seconds: None
run, repository = folder + "/run", "tester/model"

def refused(**options):
    try:
        push_run(run, repository, **options)
    except ExperimentError as error:
        flags = " --private" * ("private" in options)
        assert str(error).startswith(f"{run} is finished, and not pushed now: m4ser push {run} {repository}{flags} (")
        return str(error)
    raise AssertionError("it was pushed")

def stored():
    data = server.store.load("model", repository)
    return data and data["commits"][data["refs"]["main"]]["files"]

assert "401" in refused(token="hf_wrong")
assert stored() is None

put, uploads = minihub.H.do_PUT, []
def breaks(self):  # the connection is cut in the middle of the weights, every time
    uploads.append(self.path)
    self.rfile.read(1000)
    self.connection.close()
minihub.H.do_PUT = breaks
refused(private=True)
assert uploads and set(stored()) == {".gitattributes"}, stored()
assert server.store.load("model", repository)["private"]

minihub.H.do_PUT = put
server.faults = [True, True, False, True, True]  # a storm: it is asked again
push_run(run, repository)
lean = stored()
server.trace.clear()
push_run(run, repository, full=True)
full = stored()
assert lean["model.safetensors"]["size"] < full["model.safetensors"]["size"]
assert set(lean) == set(full), set(lean) ^ set(full)

samples = np.random.default_rng(0).normal(size=5000).astype(np.float32)
def logits(place, **options):
    model = M4SERForEmotionClassification.from_pretrained(place, **options)
    processor = M4SERProcessor.from_pretrained(place, **options)
    with torch.no_grad():
        return model, model(**processor(audio=samples, text="so sad", sampling_rate=16000)).logits

whole, expected = logits(run)
commits = [commit.commit_id for commit in __import__("huggingface_hub").list_repo_commits(repository)]
first, got = logits(repository, revision=commits[1])
assert first.detector is None and first.corrector is None and first.discriminator is None
torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)
latest, got = logits(repository)
assert latest.corrector is not None
torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)
try:
    M4SERForEmotionClassification.from_pretrained(repository, token=False, force_download=True)
except OSError:
    pass
else:
    raise AssertionError("a private repository was read without a token")

card = server.store.blob(lean["README.md"]["oid"]).read_text()
assert card == 'pipeline("x", model="tester/model", trust_remote_code=True)', card
print(*sorted(lean))
"""


def test_a_run_is_pushed_whatever_the_connection_does(tmp_path, shared_dir, repo_root):
    run = tiny_pretrained(tmp_path / "run", "whisper")
    (run / "README.md").write_text('pipeline("x", model="path/to", trust_remote_code=True)', encoding="utf-8")
    (run / "results.json").write_text('{"emotions": []}', encoding="utf-8")
    for name in ("confusion_matrix.png", "predictions.parquet", "training_args.bin"):
        (run / name).write_text("{}", encoding="utf-8")
    (run / "checkpoint-3").mkdir()
    environment = os.environ | {"PYTHONPATH": str(repo_root)}
    command = [sys.executable, "-c", SCRIPT, str(shared_dir), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    pushed = set(done.stdout.split())
    needed = {"model.safetensors", "config.json", "modeling_m4ser.py", "handler.py", "requirements.txt"}
    needed |= {"processor_config.json", "tokenizer.json", "tokenizer_config.json"}
    needed |= {"README.md", "results.json", "confusion_matrix.png"}
    assert needed <= pushed, needed - pushed
    assert not [name for name in pushed if "predictions" in name or "checkpoint" in name or name.endswith(".bin")]
