"""Writing files whole, and what the user reads where that fails."""

import os

import pytest

from data_scripts.files import explain, find_full_disk, folder_name, replace_together, write_atomically


def names(folder):
    """What a folder holds."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_text_and_bytes_are_written_and_folders_made(tmp_path):
    write_atomically(tmp_path / "a" / "b" / "text", "naïve 漢\n")
    write_atomically(str(tmp_path / "a" / "bytes"), b"\0\xff")
    assert (tmp_path / "a/b/text").read_bytes() == "naïve 漢\n".encode()
    assert (tmp_path / "a/bytes").read_bytes() == b"\0\xff"
    write_atomically(tmp_path / "a" / "bytes", b"new")
    assert (tmp_path / "a/bytes").read_bytes() == b"new"
    assert names(tmp_path) == ["a/b/text", "a/bytes"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("w/o MSR & MIR", "w_o_MSR_MIR"),
        ("+ MSR & MIR", "MSR_MIR"),
        ("../..", "_"),
        ("noise 10 %", "noise_10"),
        ("é.1", "é.1"),
    ],
)
def test_any_name_becomes_that_of_one_folder(name, expected):
    assert folder_name(name) == expected


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("old")

    def failing(source, target):
        assert (tmp_path / "file").read_text() == "old"
        assert source == tmp_path / ".file.tmp"
        assert source.read_text() == "new"
        raise OSError("no")

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OSError, match="no"):
        write_atomically(tmp_path / "file", "new")
    assert names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_several_files_appear_together(tmp_path):
    (tmp_path / "a").write_text("old")
    with replace_together([tmp_path / "a", tmp_path / "sub" / "b"]) as (first, second):
        first.write_text("new a")
        second.write_text("new b")
        assert (tmp_path / "a").read_text() == "old"
        assert names(tmp_path) == [".a.tmp", "a", "sub/.b.tmp"]
    assert (tmp_path / "a").read_text() == "new a"
    assert names(tmp_path) == ["a", "sub/b"]


def test_if_one_of_several_fails_none_appears(tmp_path):
    (tmp_path / "a").write_text("old")

    def write_and_fail():
        with replace_together([tmp_path / "a", tmp_path / "b"]) as (first, second):
            first.write_text("new")
            second.write_text("new")
            raise KeyError

    with pytest.raises(KeyError):
        write_and_fail()
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_errors_of_the_system_say_what_to_do():
    assert explain(OSError(28, "No space left on device", "x.flac")).startswith("the disk is full (x.flac): free")
    assert "the output folder" in explain(OSError("[Errno 28] Error writing bytes. No space left on device"))
    assert explain(PermissionError(13, "Permission denied", "a")).startswith("no permission for a: make it readable")
    assert explain(OSError("two\nlines")) == "two lines"


def test_a_full_disk_is_found_behind_what_a_library_made_of_it():
    full = OSError(28, "No space left on device", "cache.arrow")
    try:
        try:
            raise full
        except OSError as error:
            raise ValueError("An error occurred while generating the dataset") from error
    except ValueError as error:
        outer = error
    assert find_full_disk(outer) is full
    wrapped = OSError("cannot write")
    wrapped.__cause__ = outer
    assert explain(wrapped).startswith("the disk is full (cache.arrow): ")
    assert find_full_disk(OSError(122, "Disk quota exceeded")) is not None
    assert find_full_disk(OSError(2, "No such file")) is None
    assert find_full_disk(ValueError("No space left")) is None
    assert find_full_disk(None) is None
