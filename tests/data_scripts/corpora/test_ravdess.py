"""RAVDESS in its own layout: everything from the file's name, and every other file reported."""

import zipfile
from pathlib import Path

import pytest

from data_scripts import load_corpus
from data_scripts.copies import content_digest
from data_scripts.corpora import CorpusSelection
from data_scripts.corpora.ravdess import EMOTIONS, RELEASED_ZIP, voice
from data_scripts.errors import CorpusError
from data_scripts.prepare.folder import prepare_folder
from data_scripts.schema import corpus_features
from modeling_m4ser.audio_m4ser import load_audio
from tests.helpers import SHARED
from tests.helpers.layouts import drop_reasons, make_ravdess, write_bytes, write_wav, zip_ravdess


@pytest.fixture
def ravdess(tmp_path):
    """Two actors, every emotion and statement once."""
    return make_ravdess(tmp_path)


def test_rows(ravdess):
    corpus = load_corpus("ravdess", ravdess, num_workers=2)
    assert list(corpus.dataset) == ["train"]
    rows = corpus.dataset["train"]
    assert rows.features == corpus_features(EMOTIONS)
    assert len(rows) == 32
    assert list(rows["id"]) == sorted(rows["id"])
    last = rows[31]
    path = (ravdess / "Actor_02" / "03-01-08-01-02-01-02.wav").resolve()
    assert last.pop("content") == content_digest(load_audio(str(path)))
    assert last.pop("duration") == pytest.approx(0.8)
    assert last == {
        "id": "03-01-08-01-02-01-02",
        "audio": {"path": str(path), "bytes": None},
        "speaker": "02",
        "session": None,
        "emotion": EMOTIONS.index("surprised"),
        "transcript": "Dogs are sitting by the door.",
        "hypothesis": None,
        "asr_model": None,
    }
    counts = corpus.report.splits["train"]
    assert counts.emotions == dict.fromkeys(EMOTIONS, 4)
    assert counts.speakers == {"01": 16, "02": 16}
    assert counts.hours == pytest.approx(4 * 0.1 * 36 / 3600)
    assert (corpus.report.dropped, corpus.report.repaired) == ([], [])
    assert [voice(speaker) for speaker in ("01", "02", "23", "24")] == ["male", "female", "male", "female"]


def test_faulty_files_are_dropped_by_name(ravdess):
    folder = ravdess / "Actor_01"
    good = write_wav(folder / "03-01-05-02-01-01-01.wav")
    write_wav(folder / "03-01-05-02-01-01-01.flac")  # a twin of it
    write_wav(ravdess / "copy" / "Actor_01" / "03-01-01-01-01-01-01.wav")  # the mirror that holds everything twice
    write_wav(folder / "03-02-05-01-01-01-01.wav")  # song
    write_wav(folder / "02-01-05-01-01-01-01.wav")  # from the video
    for number in ("00", "09"):  # no such emotion
        write_wav(folder / f"03-01-{number}-01-01-01-01.wav")
    for number in ("00", "03"):  # no such statement
        write_wav(folder / f"03-01-05-01-{number}-01-01.wav")
    write_wav(folder / "take two.wav")
    (folder / "03-01-05-01-01-01-01.mp4").write_bytes(b"video")
    (folder / "._03-01-05-01-01-01-01.wav").write_bytes(b"\0\5\x16\7")
    (folder / "03-01-05-02-02-01-01.wav").write_bytes(b"")
    (folder / "03-01-05-02-02-02-01.wav").write_bytes(good.read_bytes()[:1000])
    (folder / "notes.txt").write_text("not a recording")
    write_wav(ravdess / "later" / "found" / "03-01-01-02-01-01-01.wav")
    write_wav(ravdess / "Actor_02" / "03-01-06-02-01-01-01.wav")
    corpus = load_corpus("ravdess", ravdess)
    found = drop_reasons(corpus.report)
    assert found == {
        "Actor_01/03-01-05-02-01-01-01.flac": "second copy of a recording",
        "copy/Actor_01/03-01-01-01-01-01-01.wav": "second copy of a recording",
        "Actor_01/03-02-05-01-01-01-01.wav": "song, not speech (vocal channel 02)",
        "Actor_01/02-01-05-01-01-01-01.wav": "not an audio-only recording (modality 01 or 02)",
        "Actor_01/03-01-00-01-01-01-01.wav": "not named as a RAVDESS recording",
        "Actor_01/03-01-09-01-01-01-01.wav": "not named as a RAVDESS recording",
        "Actor_01/03-01-05-01-00-01-01.wav": "not named as a RAVDESS recording",
        "Actor_01/03-01-05-01-03-01-01.wav": "not named as a RAVDESS recording",
        "Actor_01/take two.wav": "not named as a RAVDESS recording",
        "Actor_01/03-01-05-01-01-01-01.mp4": "not named as a RAVDESS recording",
        "Actor_01/._03-01-05-01-01-01-01.wav": "AppleDouble file of macOS (._*), neither text nor media",
        "03-01-05-02-02-01-01": found["03-01-05-02-02-01-01"],
        "03-01-05-02-02-02-01": found["03-01-05-02-02-02-01"],
    }
    assert found["03-01-05-02-02-01-01"].startswith("unreadable audio: the recording is empty (0 bytes)")
    assert found["03-01-05-02-02-02-01"].startswith("unreadable audio: the recording is truncated")
    assert corpus.report.kept == corpus.dataset["train"].num_rows == 35
    ids = corpus.dataset["train"]["id"][:]
    assert ids == sorted(ids)  # wherever a file lies
    speakers = dict(zip(ids, corpus.dataset["train"]["speaker"], strict=True))
    assert speakers["03-01-06-02-01-01-01"] == "01"
    reason = "in another actor's folder: the speaker is taken from the file name"
    assert corpus.report.repaired == [{"id": "Actor_02/03-01-06-02-01-01-01.wav", "reason": reason}]
    paths = [audio["path"] for audio in corpus.dataset["train"]["audio"]]
    assert str(good.resolve()) in paths
    assert not any("copy" in Path(path).parts for path in paths)


def test_the_released_zip_gives_what_its_folder_gives(ravdess, tmp_path_factory):
    write_wav(ravdess / "Actor_01" / "03-02-05-01-01-01-01.wav")  # song
    place = tmp_path_factory.mktemp("zip")
    archive = zip_ravdess(ravdess, place / RELEASED_ZIP)
    folder, zipped = load_corpus("ravdess", ravdess), load_corpus("ravdess", archive)
    assert zipped.report.dropped == folder.report.dropped != []
    assert (
        zipped.dataset["train"].remove_columns("audio").to_list()
        == folder.dataset["train"].remove_columns("audio").to_list()
    )
    rows = [corpus.dataset["train"][5]["audio"] for corpus in (folder, zipped)]
    assert (load_audio(rows[0]["path"]) == load_audio(rows[1])).all()
    report = prepare_folder(CorpusSelection("ravdess", str(archive)), place / "out")
    assert report.kept == 32
    assert len(list((place / "out" / "audio").glob("03-01-*.flac"))) == 32
    assert {path.name for path in place.iterdir()} == {RELEASED_ZIP, "out"}


def test_a_zip_leads_nowhere_and_what_is_wrong_with_it_is_told(ravdess, tmp_path_factory):
    archive = zip_ravdess(ravdess / "Actor_01", tmp_path_factory.mktemp("zip") / "some.zip")
    with zipfile.ZipFile(archive, "a") as file:
        for name in (
            "../../out/03-01-03-02-01-01-07.wav",
            "__MACOSX/._03-01-01-01-01-01-01.wav",
            "03-01-04-02-01-01-09.wav",
        ):
            file.writestr(name, (ravdess / "Actor_01" / "03-01-01-01-01-01-01.wav").read_bytes())
    data = bytearray(archive.read_bytes())
    data[data.rindex(b"03-01-04-02-01-01-09.wav", 0, data.index(b"PK\x01\x02")) + 2000] ^= 1  # damaged on the way
    corpus = load_corpus("ravdess", write_bytes(archive, bytes(data)))
    assert drop_reasons(corpus.report) == {
        "__MACOSX/._03-01-01-01-01-01-01.wav": "AppleDouble file of macOS (._*), neither text nor media",
        "03-01-04-02-01-01-09": "unreadable audio: the recording cannot be read from the archive: "
        "Bad CRC-32 for file '03-01-04-02-01-01-09.wav'",
    }
    assert "07" in corpus.report.splits["train"].speakers
    archive.write_bytes(data[: len(data) // 2])
    with pytest.raises(CorpusError, match=f"some.zip is no whole zip archive .*: download {RELEASED_ZIP} again"):
        load_corpus("ravdess", archive)


@pytest.mark.slow
def test_the_real_ravdess_is_complete():
    if not (SHARED / "data" / "ravdess").is_dir():
        pytest.skip("no ../shared/data/ravdess beside the repository")
    corpus = load_corpus("ravdess", SHARED / "data" / "ravdess", num_workers=2)
    expected = {name: 64 if name == "neutral" else 128 for name in EMOTIONS}
    assert corpus.report.splits["train"].emotions == expected
    assert corpus.report.splits["train"].speakers == {f"{actor:02d}": 60 for actor in range(1, 17)}
    assert (corpus.report.kept, corpus.report.dropped, corpus.report.repaired) == (960, [], [])
