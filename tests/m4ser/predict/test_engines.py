"""Engines: processes share the rows, and Ray gives the same answers."""

import subprocess
import sys

import pandas as pd
import pytest

from m4ser.predict.engines import processes, run_local, run_ray
from m4ser.predict.inputs import Inputs
from m4ser.predict.predictor import Settings
from tests.helpers import ROOT


def by_id(chunks):
    return {answer["id"]: answer for chunk in chunks for answer in chunk}


@pytest.fixture
def work(model, table, monkeypatch):
    monkeypatch.setattr(Settings, "chunk_size", 3)
    return Settings(str(model), batch_size=2, num_workers=1), Inputs([str(table)]), list(range(1, 16))


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, answer in theirs.items():
        assert ours[name]["ok"] == answer["ok"]
        assert ours[name].get("probability_sad") == pytest.approx(answer.get("probability_sad"), abs=1e-5)


def test_processes_share_the_rows(work):
    shares = [by_id(run_local(*work, rank, 3)) for rank in range(3)]
    assert [len(share) for share in shares] == [6, 6, 3]
    together = {name: answer for share in shares for name, answer in share.items()}
    assert_same(together, by_id(run_local(*work, 0, 1)))


def test_one_process_waits_for_nobody():
    with processes() as (rank, count, wait):
        assert (rank, count, wait()) == (0, 1, None)


def test_ray_gives_the_same(work, monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        assert_same(by_id(run_ray(*work, 0, 1)), by_id(run_local(*work, 0, 1)))
    finally:
        ray.shutdown()


@pytest.mark.slow
def test_a_launch_of_two_processes_writes_one_table(model, table, tmp_path):
    command = [
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        "2",
        "--master_port",
        "29517",
        "-m",
        "m4ser",
        "predict",
    ]
    words = [str(table), "--model", str(model), "--output_dir", str(tmp_path / "out"), "--batch_size", "1"]
    done = subprocess.run([sys.executable, *command, *words], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    found = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    assert (list(found["id"]), found["ok"].sum()) == ([f"r{row}" for row in range(16)], 8)
