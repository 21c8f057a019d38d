"""Hostile files end a command with one line, status 2 and little memory, or their row without an answer."""

import io
import json
import multiprocessing
import os
import resource
import shutil
import struct
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
import torch
from safetensors.torch import load_file, save_file

import trainer.experiments.run_folder  # noqa: F401  what is loaded here every copy of this process has
from m4ser.__main__ import main
from tests.helpers.layouts import write_wav
from tests.helpers.tiny import tiny_pretrained

MEMORY = 700 * 2**20  # bytes that a command may ask for, over what this process has
SECONDS = 120
HEAD = "audio,emotion,text\n"


def run(log: Path, *words) -> tuple[int, list[str]]:
    """Run a command in a copy of this process, in bounded memory; its status and what it wrote."""

    def command():
        sys.stdout = sys.stderr = open(log, "w", encoding="utf-8", buffering=1)  # noqa: SIM115  until this process ends
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY,) * 2)
        raise SystemExit(main([str(word) for word in words]))

    process = multiprocessing.get_context("fork").Process(target=command)
    process.start()
    process.join(SECONDS)
    if process.is_alive():
        process.kill()
    process.join()
    return process.exitcode, log.read_text(encoding="utf-8", errors="replace").splitlines()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_pretrained(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture
def predict(model, tmp_path):
    """Run m4ser predict; see `run`."""
    return lambda place, name=model: run(
        tmp_path / "log", "predict", place, "--model", name, "--output_dir", tmp_path / "out"
    )


@pytest.fixture
def prepare(tmp_path):
    """Run m4ser prepare on a manifest, or on a zip of RAVDESS; see `run`."""
    return lambda place, corpus="manifest": run(
        tmp_path / "log", "prepare", corpus, "--data_dir", place, "--output_dir", tmp_path / "prepared"
    )


# Models


def _weights(change):
    """Change the tensors of a model's file."""

    def edit(folder):
        file = folder / "model.safetensors"
        save_file(change(load_file(file)), file, metadata={"format": "pt"})

    return edit


def _config(**fields):
    """Change fields of a model's configuration."""

    def edit(folder):
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | fields))

    return edit


def _file(name, data):
    return lambda folder: (folder / name).write_bytes(data)


def _pickled(folder):
    (folder / "model.safetensors").unlink()
    torch.save({"a": os.system}, folder / "pytorch_model.bin")


def _shorter(folder):
    file = folder / "model.safetensors"
    os.truncate(file, file.stat().st_size - 100)


MODELS = {
    "config cut": (_file("config.json", b"{"), "is no model: "),
    "config of another kind": (_file("config.json", b"[]"), "is no model: "),
    "config of brackets": (_file("config.json", b"[" * 200_000), "is no model: RecursionError"),
    "config with a long number": (_file("config.json", b'{"hidden_size":' + b"9" * 9999 + b"}"), "is no model: "),
    "a size that is text": (_config(hidden_size="x"), "'hidden_size' with value 'x'"),
    "no heads": (_config(num_attention_heads=0), "is no model: "),
    "a size of terabytes": (_config(intermediate_size=2**40), "cannot be loaded: "),
    "weights cut": (_shorter, "cannot be loaded: SafetensorError"),
    "weights of a header": (_file("model.safetensors", struct.pack("<Q", 2**60) + b"{}"), "cannot be loaded: Safe"),
    "weights of other shapes": (_weights(lambda w: {name: torch.ones(3) for name in w}), "no weights that fit"),
    "weights missing": (_weights(lambda w: {"a": torch.ones(3)}), "no weights that fit its config.json for "),
    "weights in a pickle": (_pickled, "no file named model.safetensors"),
    "a processor of another kind": (_file("processor_config.json", b"[]"), "cannot be loaded: "),
    "no words in the tokenizer": (_file("tokenizer.json", b"{}"), "cannot be loaded: KeyError"),
}


@pytest.mark.parametrize("case", MODELS)
def test_a_model_that_cannot_be_one_is_told(case, predict, model, tmp_path):
    change, message = MODELS[case]
    shutil.copytree(model, tmp_path / "broken")
    change(tmp_path / "broken")
    (tmp_path / "rows.csv").write_text("audio,text\na.wav,so\n")
    status, lines = predict(tmp_path / "rows.csv", tmp_path / "broken")
    assert (status, lines[-1][:7]) == (2, "error: "), lines
    assert message in lines[-1]
    assert not list((tmp_path / "out").glob("predictions*"))


def test_weights_that_are_no_numbers_give_no_answer(predict, model, tmp_path):
    shutil.copytree(model, tmp_path / "broken")
    _weights(lambda weights: {name: value * float("nan") for name, value in weights.items()})(tmp_path / "broken")
    write_wav(tmp_path / "a.wav")
    (tmp_path / "rows.csv").write_text("audio,text\na.wav,so\n")
    assert predict(tmp_path / "rows.csv", tmp_path / "broken")[0] == 0
    (row,) = pd.read_parquet(tmp_path / "out" / "predictions.parquet").to_dict("records")
    assert (row["ok"], row["error"][:26]) == (False, "The model gives no numbers")


# Tables


def _sparse(start):
    def write(file):
        file.write_bytes(start)
        os.truncate(file, 3 * 2**30)

    return write


def _text(text):
    return lambda file: file.write_text(text, encoding="utf-8")


def _packed(file):
    """A sheet of a file of 100 kB that has gigabytes when it is unpacked, by what the archive says."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", " " * 100_000)
    data, real = bytearray(file.read_bytes()), struct.pack("<I", 100_000)
    data[data.rindex(real) : data.rindex(real) + 4] = struct.pack("<I", 2**32 - 2)
    file.write_bytes(data)


def _repeated(file):
    column = pyarrow.DictionaryArray.from_arrays(pyarrow.array(np.zeros(3_000_000, np.int32)), ["a" * 2000])
    pyarrow.parquet.write_table(pyarrow.table({"audio": column, "emotion": column}), file)


TABLES = {
    "deep.json": (_text("[" * 200_000), "not JSON (maximum recursion depth"),
    "deep.jsonl": (_text('{"audio": ' + "[" * 200_000), "line 1: not JSON (maximum recursion depth"),
    "number.json": (_text('[{"audio": ' + "9" * 9999 + "}]"), "not JSON (Exceeds the limit"),
    "uneven.json": (_text('{"data": [[1, 2]], "columns": ["audio"]}'), "do not fit each other"),
    "names.json": (_text('{"data": [[1]], "columns": 5}'), "do not fit each other"),
    "cells.json": (_text('{"data": [1], "columns": ["audio"]}'), "do not fit each other"),
    "numbered.json": (_text('{"data": [[1]], "columns": [1]}'), "its columns: 1"),
    "quote.csv": (_text(HEAD + '"a.wav,happy,so\n' + "x,y,z\n" * 9999), "unexpected end of data"),
    "large.csv": (_sparse(HEAD.encode()), "holds 3,221 MB, and tables of more than 2,000 MB are not read"),
    "large.json": (_sparse(b'[{"audio": "'), "set M4SER_MAX_TABLE_MB in the environment"),
    "packed.xlsx": (_packed, "holds 4,295 MB"),
    "large.parquet": (_sparse(b"PAR1"), "cannot be read as Parquet"),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_cannot_be_one_is_told(name, predict, prepare, tmp_path):
    write, message = TABLES[name]
    write(tmp_path / name)
    told = []
    for command in (prepare, predict) if name.endswith("n") else (prepare,):
        status, lines = command(tmp_path / name)
        assert (status, lines[-1][:7]) == (2, "error: "), lines
        told.append(lines[-1])
    assert message in told[0] or "holds 3,221 MB" in told[0]


@pytest.mark.slow
def test_a_table_that_repeats_itself_is_not_unfolded(prepare, tmp_path):
    _repeated(tmp_path / "rows.parquet")
    assert (tmp_path / "rows.parquet").stat().st_size < 2_000_000
    status, lines = prepare(tmp_path / "rows.parquet")
    assert (status, lines[-1][:7]) == (2, "error: ")


# Rows and archives


def test_rows_lead_nowhere_and_may_be_large(predict, prepare, tmp_path):
    """Paths out of the folder, a name with a zero, 10,000 columns, a megabyte of text: answered, or said why not."""
    corpus = tmp_path / "deep" / "er" / "corpus"
    corpus.mkdir(parents=True)
    write_wav(corpus / "a.wav")
    others = {f"c{number}": number for number in range(10_000)}
    rows = [
        {"id": "../../../evil", "audio": "a.wav", "text": "so"},
        {"id": "/evil", "audio": "../../../../../../../../etc/passwd", "text": "so"},
        {"id": "zero", "audio": "a\0.wav", "text": "so"},
        {"id": "text", "audio": "a.wav", "text": "word " * 200_000},
        {"id": "open", "audio": "a.wav", "text": "([<" * 300_000},
    ]
    rows[0] |= others
    lines = [json.dumps({"emotion": "happy", **row}) for row in rows]
    (corpus / "rows.jsonl").write_text("\n".join(lines))
    for command in (predict, prepare):
        status, told = command(corpus / "rows.jsonl")
        assert status == 0, told
    answers = pd.read_parquet(tmp_path / "out" / "predictions.parquet").set_index("id")
    assert answers["ok"].to_dict() == {row["id"]: row["id"] not in ("/evil", "zero") for row in rows}
    allowed = {tmp_path / name for name in ("out", "prepared", "deep")}
    written = {path for path in tmp_path.rglob("*") if path.is_file() and not allowed & {*path.parents}}
    assert written == {tmp_path / "log"}
    assert not Path("/evil").exists()


def test_names_in_archives_lead_nowhere(predict, prepare, tmp_path):
    (tmp_path / "in").mkdir()
    sound = write_wav(tmp_path / "in" / "a.wav").read_bytes()
    names = ("../../03-01-03-01-01-01-01.wav", "/tmp/evil/03-01-04-01-01-01-02.wav", "03-01-05-01-01-01-03.wav")
    with zipfile.ZipFile(tmp_path / "in" / "r.zip", "w") as archive:
        for name in names:
            archive.writestr(name, sound)
    with tarfile.open(tmp_path / "in" / "r.tar", "w") as archive:
        for name in names:
            for ending, data in (("wav", sound), ("txt", b"so")):
                info = tarfile.TarInfo(name.replace("wav", ending))
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("link.wav")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert prepare(tmp_path / "in" / "r.zip", "ravdess")[0] == 0
    assert predict(tmp_path / "in" / "r.tar")[0] == 0
    assert pd.read_parquet(tmp_path / "out" / "predictions.parquet")["ok"].tolist() == [True] * 3
    assert {path.name for path in tmp_path.iterdir()} == {"in", "log", "out", "prepared"}
    assert not [*tmp_path.parent.glob("03-01*"), *Path("/tmp").glob("evil*")]


def test_a_recording_in_an_archive_that_unpacks_without_end(prepare, tmp_path):
    with zipfile.ZipFile(tmp_path / "r.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("03-01-05-01-01-01-03.wav", bytes(2**20))
    data, real = bytearray((tmp_path / "r.zip").read_bytes()), struct.pack("<I", 2**20)
    data[data.rindex(real) : data.rindex(real) + 4] = struct.pack("<I", 2**31)
    (tmp_path / "r.zip").write_bytes(data)
    status, lines = prepare(tmp_path / "r.zip", "ravdess")
    assert status == 2, lines
    assert "none of RAVDESS is so large" in "".join(lines)


def test_a_recording_that_says_it_lasts_for_ever(predict, tmp_path):
    """Three hours of a file that is not there on the disk, and a FLAC that promises 2**36 samples."""
    samples = 3 * 3600 * 16000
    form = b"WAVEfmt ", 16, 1, 1, 16000, 32000, 2, 16, b"data"
    header = struct.pack("<4sI8sIHHIIHH4sI", b"RIFF", 36 + 2 * samples, *form, 2 * samples)
    (tmp_path / "long.wav").write_bytes(header)
    os.truncate(tmp_path / "long.wav", len(header) + 2 * samples)
    from tests.modeling_m4ser.test_audio import encoded

    flac = bytearray(encoded(np.zeros(8000, np.int16), form="FLAC"))
    flac[21] |= 15
    flac[22:26] = b"\xff" * 4
    (tmp_path / "promise.flac").write_bytes(flac)
    (tmp_path / "rows.csv").write_text("audio,text\nlong.wav,so\npromise.flac,so\n")
    assert predict(tmp_path / "rows.csv")[0] == 0
    answers = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    assert answers["ok"].tolist() == [False, False]
    assert all(answers["error"])
