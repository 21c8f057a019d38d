"""Parts: whatever comes, in whatever order, and wherever it is interrupted, there is one row an id."""

import os
import random

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_scripts.errors import UserError
from m4ser.predict import parts as parts_module
from m4ser.predict.parts import Parts, table_schema

SCHEMA = table_schema(["angry", "sad"], corrections=True, embeddings=True)
IDS = [f"u{number}" for number in range(12)]
DIGESTS = {name: f"digest of {name}" for name in IDS}


def answer(name, ok=True):
    """What a model answers to an id: always the same."""
    score = int(name[1:]) / 64  # as float32, too
    if not ok:
        return {"id": name, "ok": False, "error_type": "AudioError", "error": f"{name} is cut off"}
    words = [{"start": 0, "end": 2, "text": "we", "replacement": "he", "confidence": score}]
    scores = {"probability_angry": score, "probability_sad": 1 - score, "confidence": 1 - score, "label": "sad"}
    return {"id": name, "ok": True, **scores, "labels": ["sad"], "corrections": words, "embedding": [score, 0.5]}


def table_of(parts):
    return pa.concat_tables([*parts.rows(), SCHEMA.empty_table()]).to_pylist()


@settings(max_examples=15)
@given(
    order=st.permutations(IDS),
    sizes=st.lists(st.integers(1, 5), min_size=1),
    workers=st.integers(1, 3),
    kills=st.lists(st.integers(0, 12), max_size=3),
    broken=st.sets(st.sampled_from(IDS), max_size=3),
)
def test_order_chunks_workers_and_interruptions_do_not_show(tmp_path_factory, order, sizes, workers, kills, broken):
    folder = tmp_path_factory.mktemp("folder")
    for answers_left in [*kills, len(IDS)]:
        processes = [Parts(folder, SCHEMA, DIGESTS) for _ in range(workers)]
        left = [name for name in order if list(DIGESTS).index(name) in processes[0].unanswered()]
        rng = random.Random(answers_left)
        for turn, name in enumerate(left[:answers_left]):
            process = processes[turn % workers]
            process.append([answer(name, name not in broken)])
            if rng.randrange(sizes[turn % len(sizes)]) == 0:
                process.flush()
        if answers_left == len(IDS):  # every other time the last answers are lost
            for process in processes:
                process.flush()
    found = table_of(Parts(folder, SCHEMA, DIGESTS))
    assert [row["id"] for row in found] == IDS
    assert all(row["tries"] >= 1 for row in found)
    expected = [dict.fromkeys(SCHEMA.names) | answer(name, name not in broken) for name in IDS]
    assert [row | {"tries": None} for row in found] == expected


def test_a_success_beats_a_failure_and_failures_are_counted(tmp_path):
    for ok in (False, False, True):
        parts = Parts(tmp_path, SCHEMA, DIGESTS)
        assert parts.unanswered() == list(range(12))
        parts.append([answer("u1", ok)])
        parts.append([answer("u2", False)])
        parts.flush()
    found = {row["id"]: row for row in table_of(parts)}
    assert {name: (row["ok"], row["tries"]) for name, row in found.items()} == {"u1": (True, 3), "u2": (False, 3)}
    assert parts.failures() == {"AudioError": 1}
    assert Parts(tmp_path, SCHEMA, DIGESTS).unanswered() == [0, *range(2, 12)]


def test_answers_to_another_input_of_the_same_id_do_not_count(tmp_path):
    parts = Parts(tmp_path, SCHEMA, DIGESTS)
    parts.append([answer("u1"), answer("u2")])
    parts.flush()
    changed = Parts(tmp_path, SCHEMA, DIGESTS | {"u2": "another text"})
    assert changed.unanswered() == [0, *range(2, 12)]
    assert [row["id"] for row in table_of(changed)] == ["u1"]


def test_a_part_is_whole_or_not_there(tmp_path, monkeypatch):
    parts = Parts(tmp_path, SCHEMA, DIGESTS)
    synced = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.readlink(f"/proc/self/fd/{handle}")))
    monkeypatch.setattr(os, "replace", lambda source, target: (_ for _ in ()).throw(KeyboardInterrupt))
    parts.append([answer("u1")])
    with pytest.raises(KeyboardInterrupt):
        parts.flush()
    assert synced[0].endswith(".parquet.tmp")
    assert not parts.paths()


def test_a_part_is_written_when_there_is_enough_or_it_is_time(tmp_path, monkeypatch):
    parts = Parts(tmp_path, SCHEMA, DIGESTS)
    monkeypatch.setattr(parts_module, "_ROWS", 2)
    for name in IDS[:5]:
        parts.append([answer(name)])
    assert len(parts.paths()) == 2
    monkeypatch.setattr(parts_module, "_SECONDS", 0.0)
    parts.append([answer(IDS[5])])
    assert len(parts.paths()) == 3


def test_the_table_comes_in_blocks_and_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(parts_module, "_BLOCK", 5)
    parts = Parts(tmp_path, SCHEMA, DIGESTS)
    for name in reversed(IDS):
        parts.append([answer(name)])
        parts.flush()
    blocks = list(parts.rows())
    assert [len(block) for block in blocks] == [5, 5, 2]
    assert [name for block in blocks for name in block["id"].to_pylist()] == IDS


def test_a_damaged_part_is_named(tmp_path):
    parts = Parts(tmp_path, SCHEMA, DIGESTS)
    (tmp_path / "parts" / "part-1-x.parquet").write_bytes(b"no parquet at all")
    with pytest.raises(UserError, match=r"part-1-x\.parquet is damaged .*delete it"):
        parts.best()
