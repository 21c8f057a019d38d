"""A corpus in memory: the same whatever the number of workers."""

from data_scripts import load_corpus
from tests.helpers.layouts import make_ravdess


def test_workers_change_nothing(tmp_path):
    ravdess = make_ravdess(tmp_path)
    (ravdess / "Actor_01" / "03-01-01-01-01-01-01.wav").write_bytes(b"broken")
    alone, together = (load_corpus("ravdess", ravdess, num_workers=number) for number in (1, 4))
    assert alone.dataset["train"].to_list() == together.dataset["train"].to_list()
    assert alone.report == together.report
    assert len(alone.report.dropped) == 1
