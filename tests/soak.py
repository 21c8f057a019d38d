"""Training, prediction and the server side by side; kills, a full disk, wrong clocks, slow clients: `make soak`.

It ends with status 0 where nothing was lost, doubled or changed, and nothing leaked. M4SER_SOAK_MINUTES says for how
long it runs (30); M4SER_SOAK_SEED which accidents come. The full disk is a small tmpfs: it needs root and is left out
without.
"""

import contextlib
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import pandas as pd
import requests
import torch

import trainer.experiments.custom  # noqa: F401  what is loaded here every copy of this process has
from m4ser.__main__ import main
from tests.helpers.experiments import encoder_folders, write_manifest
from tests.helpers.layouts import write_wav
from tests.helpers.tiny import tiny_pretrained

MINUTES, SEED = float(os.environ.get("M4SER_SOAK_MINUTES", "30")), int(os.environ.get("M4SER_SOAK_SEED", "0"))
ROWS = 300
with socket.create_server(("127.0.0.1", 0)) as free:
    PORT = free.getsockname()[1]
ADDRESS = f"http://127.0.0.1:{PORT}"
FINE = {0: "ended", 2: "told why not", -9: "killed", -15: "stopped", 143: "stopped with a checkpoint"}
dice, count, faults = random.Random(SEED), Counter(), []


class Job:
    """A command that runs in a copy of this process, again and again, and what is checked each time it ended well."""

    def __init__(self, name: str, words: list, folder: Path, check):
        self.name, self.folder, self.check = name, folder, check
        self.log = folder.parent.parent / f"{name}.log"
        self.words, self.process = [*map(str, words)], None

    def start(self) -> None:
        self.process = multiprocessing.get_context("fork").Process(target=self._run)
        self.process.start()

    def _run(self) -> None:
        sys.stdout = sys.stderr = open(self.log, "w", encoding="utf-8", buffering=1)  # noqa: SIM115  until the end
        sys.argv = ["m4ser", *self.words]
        raise SystemExit(main(self.words))

    def step(self) -> None:
        """Look at it: judge it where it has ended, and start it again."""
        if self.process is not None and self.process.is_alive():
            return
        if self.process is not None:
            status = self.process.exitcode
            count[f"{self.name}: {FINE.get(status, status)}"] += 1
            lines = self.log.read_text(errors="replace").splitlines() or [""]
            if status not in FINE or (status == 2 and not lines[-1].startswith("error: ")):
                faults.append(f"{self.name} ended with {status}: {' | '.join(lines[-4:])[-600:]}")
            if status == 0 and self.check is not None:
                if (wrong := self.check(self.folder)) is not None:
                    faults.append(f"{self.name}: {wrong}")
                shutil.rmtree(self.folder)
        self.start()

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self.process is not None and self.process.is_alive():
            os.kill(self.process.pid, number)


def weights(folder: Path) -> str:
    """The digest of the only model of a training."""
    (file,) = folder.glob("*/seed*/model.safetensors")
    return hashlib.sha256(file.read_bytes()).hexdigest()


def answers(folder: Path) -> pd.DataFrame:
    """The scores of a prediction by the ids of its rows."""
    table = pd.read_parquet(folder / "predictions.parquet").set_index("id")
    return table[[name for name in table if name.startswith("probability_")]]


def differs(found: pd.DataFrame, expected: pd.DataFrame) -> str | None:
    """What is lost, doubled or changed in a prediction."""
    if list(found.index) != list(expected.index):
        return f"{len(found)} rows in place of {len(expected)}, or in another order"
    return None if np.allclose(found, expected, rtol=0, atol=1e-5) else "other answers"


def ask_for_ever(file: Path, expected: dict, log: Path) -> None:
    """A client that asks without end, now and then slowly or for nonsense, and writes down what it got."""
    own, body = random.Random(SEED + 1), file.read_bytes()
    while True:
        kind = own.choice(("usual", "usual", "usual", "slow", "broken"))
        try:
            if kind == "slow":
                told = ask_slowly(body)
            else:
                data = {"text": "so happy", "return_decision": "true"}
                given = requests.post(ADDRESS, files={"file": body if kind == "usual" else b"x"}, data=data, timeout=60)
                told = given.status_code
                if told == 200:
                    scores = {each["label"]: each["score"] for each in given.json()["emotions"]}
                    told = "right" if all(abs(scores[k] - v) < 1e-5 for k, v in expected.items()) else "WRONG"
        except (OSError, requests.RequestException):
            told = "not reached"
            time.sleep(0.2)
        with open(log, "a", encoding="utf-8") as out:
            out.write(f"{kind}: {told}\n")


def ask_slowly(body: bytes) -> int:
    """Send a body in twenty parts, and read the answer a byte at a time; its status."""
    with socket.create_connection(("127.0.0.1", PORT), timeout=60) as line:
        head = "POST /?text=so HTTP/1.1", "Host: x", "Connection: close", f"Content-Length: {len(body)}", "", ""
        line.sendall("\r\n".join(head).encode())
        for start in range(0, len(body), len(body) // 20 + 1):
            line.sendall(body[start : start + len(body) // 20 + 1])
            time.sleep(0.05)
        told = b""
        while byte := line.recv(1):
            told += byte
    return int(told.split()[1]) if told else 0


def held(process) -> dict[str, int]:
    """What a process holds of this machine."""
    place = Path("/proc", str(process.pid))
    memory = int((place / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 2**20
    return {"files": len(os.listdir(place / "fd")), "threads": len(os.listdir(place / "task")), "MB": memory}


def fill(disk: Path) -> None:
    """Leave no room on a disk for some seconds."""
    with contextlib.suppress(OSError), open(disk / "filler", "wb", buffering=0) as file:
        while True:
            file.write(bytes(2**18))
    time.sleep(dice.uniform(2, 6))
    (disk / "filler").unlink()


def turn_clocks(disk: Path) -> None:
    """Let every file be of another day."""
    for path in disk.rglob("*"):
        with contextlib.suppress(OSError):
            os.utime(path, (moment := time.time() + dice.uniform(-9e4, 9e4), moment))


def soak(work: Path, disk: Path, has_disk: bool) -> None:
    """Train, predict and serve for MINUTES; what goes wrong is in `faults`."""
    write_manifest(work)
    speech, text = encoder_folders(work)
    model, rows = tiny_pretrained(work / "model"), []
    for number in range(ROWS):
        file = write_wav(work / "clips" / f"{number}.wav", 0.1 + number % 17 / 20, seed=number)
        rows.append(f"r{number},clips/{file.name},so happy")
    (work / "rows.csv").write_text("\n".join(["id,audio,text", *rows]))
    train = ["train", "--corpus", "manifest", "--data_dir", work / "manifest.csv", "--speech_encoder", speech]
    train += ["--text_encoder", text, "--num_train_epochs", 12, "--per_device_train_batch_size", 4, "--folds", 1]
    train += ["--num_folds", 3, "--model_options", '{"num_attention_heads": 4}', "--use_cpu", "--disable_tqdm", "true"]
    train += ["--save_total_limit", 2, "--output_dir"]
    predict = ["predict", work / "rows.csv", "--model", model, "--batch_size", 4, "--output_dir"]
    calm = work / "calm"
    assert main([*map(str, train), str(calm / "train")]) == main([*map(str, predict), str(calm / "predict")]) == 0
    expected_weights, expected = weights(calm / "train"), answers(calm / "predict")
    wanted = {name.removeprefix("probability_"): value for name, value in expected.loc["r40"].items()}
    same = {True: None, False: "the weights are others than without accidents"}
    jobs = [
        Job("train", [*train, disk / "train"], disk / "train", lambda at: same[weights(at) == expected_weights]),
        Job("predict", [*predict, disk / "predict"], disk / "predict", lambda at: differs(answers(at), expected)),
    ]
    server = Job("serve", ["serve", "--model", model, "--port", PORT], disk / "serve", None)
    server.start()
    asked = work / "asked.txt"
    client = multiprocessing.get_context("fork").Process(
        target=ask_for_ever, args=(work / "clips" / "40.wav", wanted, asked), daemon=True
    )
    client.start()
    begun, first, last = time.monotonic(), None, None
    while (passed := (time.monotonic() - begun) / 60) < MINUTES:
        for job in (*jobs, server):
            job.step()
        time.sleep(dice.uniform(0.2, 4))
        if dice.random() < 0.3:
            dice.choice(jobs).kill(dice.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)))
        if passed < 0.6 * MINUTES:  # long enough to see what it gathers
            first = held(server.process) if first is None and passed > 0.15 * MINUTES else first
            last = held(server.process)
        elif dice.random() < 0.05:
            server.kill(dice.choice((signal.SIGTERM, signal.SIGKILL)))
        if dice.random() < 0.1:
            turn_clocks(disk)
        if has_disk and dice.random() < 0.05:
            count["full disk"] += 1
            fill(disk)
    client.kill()
    for job in jobs:  # to their end, without accidents
        job.process.join()
        while job.process.exitcode != 0 and not faults:
            job.step()
            job.process.join()
        job.step()
    for job in (*jobs, server):
        job.kill()
    told = Counter(asked.read_text().splitlines())
    report = {**count, **{f"asked {name}": number for name, number in told.items()}, "server": [first, last]}
    print(json.dumps(report, indent=2))
    faults.extend(f"the server: {name}" for name in told if "WRONG" in name or ": 500" in name)
    if first and last:
        grown = {name: last[name] - first[name] for name in first}
        if grown["files"] > 20 or grown["threads"] > 20 or grown["MB"] > 150:
            faults.append(f"the server has gathered {grown}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        (disk := Path(place, "disk")).mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", disk], capture_output=True)
        print("no full disk: mounting a tmpfs needs root" if mounted.returncode else "a disk of 24 MB", flush=True)
        try:
            soak(Path(place), disk, mounted.returncode == 0)
        finally:
            if mounted.returncode == 0:
                subprocess.run(["umount", "-l", disk], check=False)
    print(*faults or ["nothing was lost, doubled or changed, and nothing leaked"], sep="\n")
    sys.exit(bool(faults))
