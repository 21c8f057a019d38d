"""Reading other people's folders: sorted, to a depth, and never past one that cannot be read."""

import os

import pytest

from data_scripts.corpora.folders import children, read_text, walk
from data_scripts.corpora.report import PreparationReport


@pytest.fixture
def folder(tmp_path):
    """A file and a folder on three levels, made in another order than the sorted one."""
    for name in ("b/d/e.txt", "b/c.txt", "a.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    return tmp_path


def places(folder, paths):
    """The paths relative to the folder."""
    return [path.relative_to(folder).as_posix() for path in paths]


def test_everything_is_found_sorted_to_a_depth_and_behind_no_closed_folder(folder):
    (folder / "b" / "d" / "up").symlink_to(folder)
    assert places(folder, children(folder)) == ["a.txt", "b"]
    every = ["a.txt", "b", "b/c.txt", "b/d", "b/d/e.txt", "b/d/up"]
    assert places(folder, walk(folder)) == every
    assert [len(list(walk(folder, depth))) for depth in (1, 2, 3)] == [2, 4, 6]
    assert places(folder, walk(folder, closed=["d"])) == every[:4]


def test_links_to_folders_elsewhere_are_followed_once(folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "deep").mkdir()
    (outside / "deep" / "1.wav").write_text("")
    for place, target in (
        (outside / "deep" / "up", outside),
        (folder / "one", outside / "deep"),
        (folder / "two", outside),
        (folder / "same", folder / "b"),
        (folder / "above", folder.parent),
        (folder / "gone", folder / "nowhere"),
    ):
        place.symlink_to(target)
    assert places(folder, walk(folder)) == [
        *("a.txt", "above", "b", "b/c.txt", "b/d", "b/d/e.txt", "gone", "one", "one/1.wav", "one/up"),
        *("one/up/deep", "same", "two"),
    ]


def test_a_folder_that_cannot_be_read_is_an_error(folder, monkeypatch):
    scandir = os.scandir

    def closed(path):
        if path == folder / "b" / "d":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(PermissionError):
        list(walk(folder))
    assert len(list(walk(folder, 2))) == 4


def test_text_in_another_encoding_is_read_and_noted(tmp_path):
    report = PreparationReport("toy")
    (tmp_path / "a").write_bytes("naïve".encode("utf-8-sig"))
    assert read_text(tmp_path / "a", "a", report) == "naïve"
    assert report.repaired == []
    (tmp_path / "a").write_bytes("it’s \x81".encode("cp1252", errors="ignore") + b"\x81")
    assert read_text(tmp_path / "a", "here", report) == "it’s �"
    assert report.repaired == [{"id": "here", "reason": "text file is not UTF-8: read as cp1252"}]
