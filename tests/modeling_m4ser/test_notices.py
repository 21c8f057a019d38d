"""Warnings come once for each kind and name, and once for the same content."""

import numpy as np

from modeling_m4ser.notices_m4ser import fingerprint, warn_once


def test_once_for_each_kind_and_name(caplog):
    for kind, name in (("cut", "notices/a"), ("cut", "notices/a"), ("cut", "notices/b"), ("off", "notices/a")):
        warn_once(kind, name, f"{kind} {name}")
    assert [record.getMessage() for record in caplog.records] == ["cut notices/a", "cut notices/b", "off notices/a"]
    assert caplog.records[0].levelname == "WARNING"


def test_another_name_of_the_same_content(caplog):
    for _ in range(2):
        warn_once("cut", "notices/file", "named", same="notices/content")
    warn_once("cut", "notices/content", "again")
    warn_once("off", "notices/content", "another kind")
    assert [record.getMessage() for record in caplog.records] == ["named", "another kind"]


def test_a_fingerprint_tells_contents_apart():
    samples = np.arange(8, dtype=np.float32)
    texts = ["so", "no", "\ud800"]
    prints = [fingerprint(samples), fingerprint(samples + 1), *map(fingerprint, texts)]
    assert len(set(prints)) == 5
    assert fingerprint(np.arange(16, dtype=np.float32)[::2] / 2) == prints[0], "views and copies are the same"
