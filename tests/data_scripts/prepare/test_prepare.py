"""The command `python -m data_scripts.prepare`: files written, table printed, mistakes told in one line."""

import os
import shutil
import socket
import subprocess
import sys
import time
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile
from datasets import DatasetDict, load_dataset

from data_scripts.corpora.report import PreparationReport
from data_scripts.files import explain
from data_scripts.prepare import folder as preparation
from data_scripts.prepare import recordings
from data_scripts.prepare.__main__ import main
from data_scripts.prepare.folder import prepare_folder, push_to_hub
from data_scripts.prepare.recordings import encode_flac, flac_name, is_direct
from data_scripts.schema import CorpusError, load_prepared, save_prepared
from modeling_m4ser.audio_m4ser import decode_audio, load_audio
from tests.helpers import ROOT
from tests.helpers.layouts import make_iemocap, make_meld, noise, write_wav


@pytest.fixture
def corpus(tmp_path):
    """A RAVDESS of one actor, four recordings of which one is broken."""
    folder = tmp_path / "ravdess" / "Actor_01"
    folder.mkdir(parents=True)
    for emotion in ("03", "04", "05"):
        soundfile.write(folder / f"03-01-{emotion}-01-01-01-01.wav", np.zeros(1600), 16000)
    (folder / "03-01-05-01-01-02-01.wav").write_bytes(b"broken")
    return tmp_path / "ravdess"


def test_it_writes_everything(corpus, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--data_dir", str(corpus), "--output_dir", str(out), "--emotions", "happy", "angry"]
    assert main(["ravdess", *options]) == 0
    printed = capsys.readouterr().out
    assert "ravdess: 2 utterances kept" in printed and "1  emotion not selected" in printed and str(out) in printed
    assert sorted(os.listdir(out)) == [".prepare.jsonl", "README.md", "report.json", "train.parquet"]
    train = load_prepared(out)["train"]
    assert train.features["emotion"].names == ["happy", "angry"] and list(train["emotion"]) == [0, 1]
    report = PreparationReport.from_json((out / "report.json").read_text(encoding="utf-8"))
    assert report.kept == 2 and len(report.dropped) == 2


@pytest.mark.parametrize(
    ("corpus_name", "extra", "message"),
    [
        ("ravdess", ["--emotions", "bored"], "RAVDESS has no emotion bored"),
        ("ravdess", ["--data_dir", "nowhere"], "nowhere does not exist"),
        ("ravdess", ["--num_workers", "0"], "num_workers must be at least 1"),
        ("manifest", [], "looked for a manifest"),
        ("ravdess", ["--sessions", "1"], "sessions can be chosen of iemocap only, not of ravdess"),
        ("iemocap", [], "is no IEMOCAP: give IEMOCAP_full_release, the folder of Session1"),
        ("meld", [], "is no MELD: give MELD.Raw"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(corpus, tmp_path, capsys, corpus_name, extra, message):
    options = ["--data_dir", str(corpus), "--output_dir", str(tmp_path / "out"), *extra]
    assert main([corpus_name, *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error
    assert not (tmp_path / "out").exists()


def test_output_that_cannot_be_a_folder(corpus, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["ravdess", "--data_dir", str(corpus), "--output_dir", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")


def test_mistakes_inside_a_corpus_are_one_line_too(tmp_path, capsys):
    release = make_iemocap(tmp_path / "iemocap", sessions="1235", codes=("neu",))
    raw = make_meld(tmp_path / "meld")
    text = (raw / "train_sent_emo.csv").read_text(encoding="utf-8")
    (raw / "train_sent_emo.csv").write_bytes(text.encode("cp1252"))
    for name, folder, message in (
        ("iemocap", release, "Session4 is missing in"),
        ("meld", raw, "train_sent_emo.csv is not UTF-8"),
    ):
        assert main([name, "--data_dir", str(folder), "--output_dir", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1 and message in error
        assert not (tmp_path / "out").exists()
    options = ["--data_dir", str(release), "--output_dir", str(tmp_path / "out"), "--sessions", "1", "2"]
    assert main(["iemocap", *options]) == 0
    printed = capsys.readouterr().out
    assert ["1", "2", "1085", "-1083"] in [line.split() for line in printed.splitlines()]


def test_foreign_files_are_not_overwritten(corpus, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("my notes")
    for folder, message in ((tmp_path / "mine", "README.md was not written by this command"), (corpus, "own folder")):
        before = sorted(folder.rglob("*"))
        assert main(["ravdess", "--data_dir", str(corpus), "--output_dir", str(folder)]) == 2
        assert message in capsys.readouterr().err and sorted(folder.rglob("*")) == before


def test_as_a_command(corpus, tmp_path):
    """Run as a user does, from the repository root: the table on stdout, the progress bar on stderr."""
    command = [sys.executable, "-m", "data_scripts.prepare", "ravdess", "--output_dir", str(tmp_path / "out")]
    good = subprocess.run([*command, "--data_dir", str(corpus)], cwd=ROOT, capture_output=True, text=True)
    assert good.returncode == 0 and good.stdout.startswith("ravdess: 3 utterances kept"), good.stderr
    assert "reading audio: 100%" in good.stderr and (tmp_path / "out" / "train.parquet").is_file()
    bad = subprocess.run([*command, "--data_dir", str(tmp_path / "no")], cwd=ROOT, capture_output=True, text=True)
    assert bad.returncode == 2 and bad.stdout == "" and "Traceback" not in bad.stderr
    assert bad.stderr.startswith("error: ") and bad.stderr.count("\n") == 1


# What the prepared folder holds


@pytest.fixture
def mixed(tmp_path):
    """A manifest with recordings of many kinds: 16 kHz mono ones, and such as must be converted."""
    folder = tmp_path / "mixed"
    write_wav(folder / "direct.wav")
    write_wav(folder / "direct.flac")
    write_wav(folder / "other rate.wav", rate=44100)
    soundfile.write(folder / "stereo.wav", np.stack([noise(0.2), noise(0.2, seed=1)], axis=1), 16000)
    write_wav(folder / "lossy.mp3")
    lines = [f"{path.name},{'sad' if path.suffix == '.wav' else 'happy'}" for path in sorted(folder.iterdir())]
    (folder / "manifest.csv").write_text("audio,emotion\n" + "\n".join(lines) + "\n")
    return folder


def test_only_what_is_not_16_khz_mono_is_converted(mixed, tmp_path):
    report = prepare_folder("manifest", mixed, tmp_path / "out", num_workers=2)
    rows = {row["id"]: row for row in load_prepared(tmp_path / "out")["train"]}
    assert report.kept == 5
    for name, row in rows.items():
        path = Path(row["audio"]["path"])
        assert path.is_absolute() and row["audio"]["bytes"] is None
        assert path.parent == ((mixed if name.startswith("direct") else tmp_path / "out" / "audio").resolve())
        samples, rate = decode_audio(row["audio"])
        wanted = load_audio(str(mixed / name))
        assert rate == 16000 and samples.shape == wanted.shape and abs(samples - wanted).max() <= 2**-15
        assert row["duration"] == pytest.approx(0.2, abs=0.05)


def test_embedded_audio_depends_on_no_other_file(mixed, tmp_path):
    wanted = {path.name: load_audio(str(path)) for path in mixed.iterdir() if path.suffix != ".csv"}
    prepare_folder("manifest", mixed, tmp_path / "out", embed_audio=True)
    shutil.rmtree(mixed)
    assert not (tmp_path / "out" / "audio").exists()
    for row in load_dataset(str(tmp_path / "out"))["train"]:
        assert row["audio"]["bytes"][:4] == b"fLaC" and "/" not in row["audio"]["path"]
        samples = load_audio(row["audio"])
        assert abs(samples - wanted[row["id"]]).max() <= 2**-15 and is_direct(row["audio"]["bytes"])


def test_bytes_of_a_parquet_manifest_stay_bytes(mixed, tmp_path):
    files = [mixed / "direct.wav", mixed / "stereo.wav"]
    audio = [{"path": path.name, "bytes": path.read_bytes()} for path in files]
    (tmp_path / "parquet").mkdir()
    table = pyarrow.table({"audio": audio, "emotion": ["sad", "happy"], "id": ["a", "b"]})
    pyarrow.parquet.write_table(table, tmp_path / "parquet" / "m.parquet")
    prepare_folder("manifest", tmp_path / "parquet", tmp_path / "out")
    first, second = load_prepared(tmp_path / "out")["train"]["audio"]
    assert first == audio[0] and second["path"] == "b.flac" and is_direct(second["bytes"])
    prepare_folder("manifest", tmp_path / "parquet", tmp_path / "out", embed_audio=True)
    embedded = load_prepared(tmp_path / "out")["train"]["audio"]
    assert [part["path"] for part in embedded] == ["a.flac", "b.flac"]
    assert all(part["bytes"][:4] == b"fLaC" for part in embedded)


def test_flac_keeps_16_bit_samples_exactly():
    every = np.arange(-32768, 32768, dtype=np.int16)
    decoded, rate = decode_audio(encode_flac(every.astype(np.float32) / 32768))
    assert rate == 16000 and np.array_equal(np.rint(decoded * 32768), every)
    clipped, _ = decode_audio(encode_flac(np.array([1.5, -1.5], np.float32)))
    assert clipped.tolist() == [32767 / 32768, -1.0]


def test_flac_names_are_safe_and_different():
    assert flac_name("Ses01F_impro01_F000") == "Ses01F_impro01_F000.flac"
    names = {flac_name(name) for name in ("a/b", "a_b", "a b", "../x", ".x", "x" * 300, "x" * 301)}
    assert len(names) == 7 and not any("/" in name or name.startswith(".") or len(name) > 140 for name in names)


def test_load_dataset_takes_the_tables_and_not_the_flacs(tmp_path):
    prepare_folder("meld", make_meld(tmp_path / "MELD.Raw"), tmp_path / "out")
    assert len(list((tmp_path / "out" / "audio").iterdir())) == 6
    loaded = load_dataset(str(tmp_path / "out"))
    assert {split: part.num_rows for split, part in loaded.items()} == {"train": 2, "validation": 2, "test": 2}
    assert loaded["test"].features == load_prepared(tmp_path / "out")["test"].features
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "license: gpl-3.0" in card and "meld: 6 utterances kept" in card and "path: validation.parquet" in card


# The second run


@pytest.fixture
def decoded(monkeypatch):
    """The names of the recordings that are decoded."""
    names = []
    original = recordings.decode_audio

    def counting(audio, **options):
        names.append(Path(audio["path"]).name)
        return original(audio, **options)

    monkeypatch.setattr(recordings, "decode_audio", counting)
    return names


@pytest.mark.parametrize("embed", [False, True])
def test_a_second_run_decodes_only_what_changed(mixed, tmp_path, decoded, embed):
    def run():
        decoded.clear()
        prepare_folder("manifest", mixed, tmp_path / "out", embed_audio=embed)
        state = {p.name: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.suffix in (".parquet", ".flac")}
        return sorted(decoded), state

    first, state = run()
    assert len(first) == 5
    assert run() == ([], state)
    write_wav(mixed / "other rate.wav", seconds=0.3, rate=44100)
    write_wav(mixed / "direct.wav", seconds=0.3)
    changed, after = run()
    assert changed == ["direct.wav", "other rate.wav"] and after != state
    durations = {row["id"]: row["duration"] for row in load_prepared(tmp_path / "out")["train"]}
    assert durations["direct.wav"] == durations["other rate.wav"] == pytest.approx(0.3)
    assert run() == ([], after)


def test_embedding_afterwards_and_back(mixed, tmp_path, decoded):
    prepare_folder("manifest", mixed, tmp_path / "out")
    decoded.clear()
    prepare_folder("manifest", mixed, tmp_path / "out", embed_audio=True)
    assert sorted(decoded) == ["direct.flac", "direct.wav"]  # of the others there was a FLAC
    prepare_folder("manifest", mixed, tmp_path / "out")
    assert len(list((tmp_path / "out" / "audio").iterdir())) == 3
    assert all(row["audio"]["bytes"] is None for row in load_prepared(tmp_path / "out")["train"])


def test_a_lost_or_damaged_flac_is_made_again(mixed, tmp_path, decoded):
    prepare_folder("manifest", mixed, tmp_path / "out")
    first, second, third = sorted((tmp_path / "out" / "audio").iterdir())
    whole = first.read_bytes()
    first.write_bytes(whole[:-10])
    second.unlink()
    decoded.clear()
    prepare_folder("manifest", mixed, tmp_path / "out")
    assert len(decoded) == 2 and first.read_bytes() == whole and second.is_file()


def test_what_is_no_longer_selected_goes_away(mixed, tmp_path):
    prepare_folder("manifest", mixed, tmp_path / "out")
    kept = tmp_path / "out" / "audio" / "mine.txt"
    kept.write_text("not ours")
    prepare_folder("manifest", mixed, tmp_path / "out", emotions=["happy"])
    assert sorted(path.name for path in kept.parent.iterdir()) == ["lossy.mp3.flac", "mine.txt"]


def test_hypotheses_outlive_a_second_run(mixed, tmp_path):
    out = tmp_path / "out"
    prepare_folder("manifest", mixed, out)

    def recognise(row):
        return {"hypothesis": f"words of {row['id']}", "asr_model": "tiny"}

    train = load_prepared(out)["train"]
    save_prepared(DatasetDict({"train": train.map(recognise, features=train.features)}), out)
    write_wav(mixed / "direct.wav", seconds=0.3)
    prepare_folder("manifest", mixed, out)
    rows = {row["id"]: row for row in load_prepared(out)["train"]}
    assert rows.pop("direct.wav")["hypothesis"] is None  # another recording now
    assert {name: (row["hypothesis"], row["asr_model"]) for name, row in rows.items()} == {
        name: (f"words of {name}", "tiny") for name in rows
    }


def test_errors_of_the_system_say_what_to_do():
    assert explain(OSError(28, "No space left on device", "x.flac")).startswith("the disk is full (x.flac): free")
    assert "the output folder" in explain(OSError("[Errno 28] Error writing bytes. No space left on device"))
    assert explain(PermissionError(13, "Permission denied", "a")).startswith("no permission for a: make it readable")
    assert explain(OSError("two\nlines")) == "two lines"


# The Hub


def test_push_needs_embedded_audio(mixed, tmp_path):
    prepare_folder("manifest", mixed, tmp_path / "out")
    with pytest.raises(CorpusError, match="only refers to its audio by path: prepare it with --embed_audio first"):
        push_to_hub(tmp_path / "out", "someone/corpus")


def test_a_new_dataset_is_private_and_holds_no_machine_paths(mixed, tmp_path, monkeypatch):
    calls = {}

    class FakeHub:
        def create_repo(self, name, **options):
            calls["create"] = options
            return type("Address", (str,), {"repo_id": name})(f"https://hub/{name}")

        def upload_folder(self, **options):
            calls["upload"] = options

    monkeypatch.setattr(preparation, "HfApi", FakeHub)
    prepare_folder("manifest", mixed, tmp_path / "out", embed_audio=True)
    assert push_to_hub(tmp_path / "out", "someone/corpus") == "https://hub/someone/corpus"
    assert calls["create"] == {"repo_type": "dataset", "private": True, "exist_ok": True}
    assert calls["upload"]["repo_id"] == "someone/corpus"
    assert not any(fnmatch(".prepare.jsonl", pattern) for pattern in calls["upload"]["allow_patterns"])
    for name in ("train.parquet", "report.json", "README.md"):
        assert str(tmp_path).encode() not in (tmp_path / "out" / name).read_bytes()


def test_a_push_that_fails_is_one_line(mixed, tmp_path, capsys, monkeypatch):
    options = ["--data_dir", str(mixed), "--output_dir", str(tmp_path / "out"), "--push_to_hub"]
    assert main(["manifest", *options, "someone/corpus"]) == 2  # the tests' environment is offline
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: the prepared folder is written, but not pushed")
    assert main(["manifest", *options, "not a repository!"]) == 2
    error = capsys.readouterr().err.splitlines()
    assert error[-1].startswith("error: the prepared folder is written, but not pushed to not a repository!: ")
    assert load_prepared(tmp_path / "out")["train"].num_rows == 5


def test_push_to_a_hub_and_load_from_it(mixed, tmp_path, shared_dir):
    """Against the loopback server of ../shared: pushed as a dataset, and loaded from there."""
    server = shared_dir / "tools" / "minihub.py"
    if not server.is_file():
        pytest.skip("no tools/minihub.py in ../shared")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(server), "--port", str(port), "--root", str(tmp_path / "hub"), "--token", "hf_local"]
    hub = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_OFFLINE")} | {
        "HF_ENDPOINT": f"http://127.0.0.1:{port}",
        "HF_TOKEN": "hf_local",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(tmp_path / "home"),
    }
    script = (
        "import sys\nfrom data_scripts.prepare.__main__ import main\nstatus = main(sys.argv[1:])\n"
        "from datasets import load_dataset\nrows = load_dataset('someone/corpus')['train']\n"
        "print('loaded', rows.num_rows, rows[0]['audio']['bytes'][:4], status)"
    )
    options = ["--data_dir", str(mixed), "--output_dir", str(tmp_path / "out"), "--push_to_hub", "someone/corpus"]
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        command = [sys.executable, "-c", script, "manifest", *options]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    finally:
        hub.terminate()
        hub.wait()
    assert done.returncode == 0, done.stderr
    assert "loaded 5 b'fLaC' 0" in done.stdout and "pushed to " in done.stdout
