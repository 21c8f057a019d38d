"""Writing files whole, and what the user reads where that fails."""

import contextlib

import pytest

from data_scripts.files import explain, find_full_disk, folder_name, replace_together, write_atomically


def names(folder):
    """What a folder holds."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_text_and_bytes_are_written_and_folders_made(tmp_path):
    for content in ("naïve 漢\n", b"\0\xff"):
        write_atomically(tmp_path / "a" / "b", content)
        assert (tmp_path / "a" / "b").read_bytes() == (content if isinstance(content, bytes) else content.encode())
    assert names(tmp_path) == ["a/b"]


@pytest.mark.parametrize(
    ("name", "expected"), [("w/o MSR & MIR", "w_o_MSR_MIR"), ("../..", "_"), ("noise 10 %", "noise_10"), ("é.1", "é.1")]
)
def test_any_name_becomes_that_of_one_folder(name, expected):
    assert folder_name(name) == expected


@pytest.mark.parametrize("fails", [False, True])
def test_several_files_appear_together_or_not_at_all(tmp_path, fails):
    (tmp_path / "a").write_text("old")
    with (
        pytest.raises(KeyError) if fails else contextlib.nullcontext(),
        replace_together([tmp_path / "a", tmp_path / "sub" / "b"]) as (first, second),
    ):
        first.write_text("new a")
        second.write_text("new b")
        assert (tmp_path / "a").read_text() == "old"
        assert names(tmp_path) == [".a.tmp", "a", "sub/.b.tmp"]
        if fails:
            raise KeyError
    assert (tmp_path / "a").read_text() == ("old" if fails else "new a")
    assert names(tmp_path) == (["a"] if fails else ["a", "sub/b"])


def test_a_file_that_cannot_be_replaced_stays(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(OSError, match="a"):
        write_atomically(tmp_path / "a", "new")
    assert names(tmp_path) == []


def test_errors_of_the_system_say_what_to_do():
    assert "the output folder" in explain(OSError("[Errno 28] Error writing bytes. No space left on device"))
    assert explain(OSError("two\nlines")) == "two lines"
    assert explain(FileExistsError(17, "File exists", "out")).startswith("out: there is a file where a folder")


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
    while_closing = ValueError("the file is closed")
    while_closing.__context__ = outer  # raised in handling it
    assert find_full_disk(while_closing) is full
    assert find_full_disk(OSError(122, "Disk quota exceeded")) is not None
    assert find_full_disk(OSError(2, "No such file")) is None
    assert find_full_disk(ValueError("No space left")) is None
    assert find_full_disk(None) is None
